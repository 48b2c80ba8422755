# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A network in torch; imports the training side when it is used.

The one module of this package that does. Weights are read without running
code that could hide in them, and of the network that they name only registered
parts are built, see :mod:`hkd_mm.engine.student_loading`. The config of a work
dir is Python and runs when the work dir is read.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError

STUDENT = 'student.pth'


class TorchBackend:
    """Compute logits of prepared images; several threads may call it.

    Args:
        network: a plain classifier or segmentor, in evaluation.
        swapped: it takes BGR.
        threads: of torch, which has one number for the whole process.
        device: of torch; None takes the GPU where there is one.

    Raises:
        UserError: there is no such device.
    """

    def __init__(
        self,
        network: Any,
        swapped: bool,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        if device is None:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        try:
            self._network = network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'device {device!r}: {reason}') from None
        self._device, self._swapped = device, swapped

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32, RGB or grey -> (N, classes, ...) float32."""
        import torch

        with torch.inference_mode():
            ready = torch.from_numpy(images).to(self._device)
            ready = ready.flip(1) if self._swapped else ready
            logits = self._network(ready, mode='tensor')
        return logits.float().cpu().numpy()


def load_weights(path: str | os.PathLike) -> tuple[Any, bool]:
    """Load the network of an exported folder.

    Args:
        path: ``.safetensors``, whose header says what network it is.

    Returns:
        The network, and whether it takes BGR.
    """
    _check_packages()
    from hkd_mm.engine.student_loading import (
        load_student,
        statistics_of,
        takes_bgr,
    )

    if Path(path).suffix != '.safetensors':
        raise UserError(f'{path}: weights are read from .safetensors only')
    network, meta = load_student(path)
    return network, takes_bgr(network, statistics_of(meta))


def read_unexported(path: Path) -> Any:
    """Read a finished run: its work dir, or the ``student.pth`` in it.

    Returns:
        A :class:`hkd_mm.inference.run_folder.SourceRun`.
    """
    folder = path.parent if path.name == STUDENT else path
    if not (folder / STUDENT).is_file():
        raise UserError(
            f'{path} holds neither manifest.json nor {STUDENT}; give a '
            'folder of tools/export.py, or the work dir of a finished run'
        )
    _check_packages()
    from hkd_mm.inference.run_folder import read_run

    return read_run(folder)


def _check_packages() -> None:
    try:
        import torch  # noqa: F401

        import hkd_mm.registry  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'the torch backend needs what training needs ({error}); with '
            'an exported folder, backend="onnx" does without'
        ) from None
