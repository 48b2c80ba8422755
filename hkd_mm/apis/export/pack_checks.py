# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Whether what is packed is what was exported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import Manifest
from hkd_mm.inference.student import read_student
from hkd_mm.inference.values import normalised

from .checks import same_logits

WEIGHTS = 'student.safetensors'


def check_weights(weights: Path, exported: Path, manifest: Manifest) -> None:
    """Hold the weights of a run against those that were exported.

    Args:
        weights: ``student.pth``.
        exported: folder of the export.
        manifest: of the export.

    Raises:
        UserError: the run was trained again since, or is another.
    """
    if not manifest.made_of(weights):
        raise UserError(
            f'{exported} was not made of {weights} as it is now; export the '
            'run again'
        )


def check_packed(
    out: Path, manifest: Manifest, say: Callable[[str], None]
) -> None:
    """Load what was packed, as whoever is given it will.

    Args:
        out: the packed folder.
        manifest: of it.
        say: told where there is nothing to hold the weights against.

    Raises:
        UserError: the weights and the float32 graph answer differently.
    """
    spec = manifest.input
    rng = np.random.default_rng(0)
    shape = (1, spec.channels, *spec.size)
    images = normalised(rng.integers(0, 2**spec.bits, shape), spec)
    nets = ['torch', 'onnx'] if 'fp32' in manifest.files else ['torch']
    found = [
        read_student(out, net, 'fp32', manifest.task)
        .load(None, 'cpu')
        .logits(images)
        for net in nets
    ]
    if len(found) == 1:
        say(f'warning: no float32 graph to hold {WEIGHTS} against')
        return
    same_logits(
        *found,
        f'{manifest.files["fp32"].path} does not answer as {WEIGHTS} does',
        'export the run again',
    )
