# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The nets that are timed, and their graphs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import read_manifest
from hkd_mm.inference.manifest_fields import FILE, InputSpec
from hkd_mm.inference.named import named

from ..config.compose import compose_config
from ..run.run_files import finished_run
from .worker import load_net

_CALIBRATION = 4  # batches; scales decide nothing about time
_GRAPHS = dict(onnx='fp32', int8='int8')  # runtime -> kind of a manifest


@dataclass
class Subject:
    """A net and what there is of it.

    Attributes:
        name: in the table.
        size: (H, W) of its images in pixels.
        torch: ``student.pth``, or a config whose weights are random; None
            where an exported folder lies alone, or beside other weights.
        folder: work dir of the run.
        graphs: runtime -> ``.onnx``.
        lacks: why there is no ``torch``.
    """

    name: str
    size: tuple[int, int]
    torch: Path | None = None
    folder: Path | None = None
    graphs: dict[str, Path] = field(default_factory=dict)
    lacks: str = ''

    def file(self, runtime: str) -> Path | None:
        """What a runtime runs; None where there is nothing for it."""
        return self.graphs.get(runtime) or (
            None if runtime in _GRAPHS else self.torch
        )

    def missing(self, runtimes: Sequence[str]) -> str | None:
        """Which runtimes there is nothing for, and why; in a line."""
        absent = [name for name in runtimes if self.file(name) is None]
        if not absent:
            return None
        return f'{self.name}: no {", ".join(absent)}, for {self.lacks}'

    def bytes(self, runtime: str) -> int | None:
        """Of that file; a config has none."""
        file = self.file(runtime)
        if file is None or file.suffix == '.py':
            return None
        return file.stat().st_size


def read_subject(text: str) -> Subject:
    """One word of the command line.

    Args:
        text: ``PATH`` or ``NAME=PATH``: a work dir, an exported folder, or a
            config; see :func:`hkd_mm.inference.named.named`.

    Raises:
        UserError: there is no net in it.
    """
    name, path = named(text)
    place = Path(path)
    if place.suffix == '.py':
        cfg = compose_config(place)
        size = (cfg.input_size, cfg.input_size)
        return Subject(name or place.stem, size, place)
    if (place / FILE).is_file():
        return _exported(name, place)
    if not (place / 'student.pth').is_file():
        raise UserError(
            f'{path} is no net to time; give a work dir with student.pth, an '
            'exported folder, or a config'
        )
    if (place / 'export' / FILE).is_file():
        return _exported(name or place.name, place / 'export')
    run = finished_run(place)
    cfg = compose_config(str(run.config))
    size = (cfg.input_size, cfg.input_size)
    return Subject(name or place.name, size, run.student, place)


def _exported(name: str, folder: Path) -> Subject:
    """An export, with the run that it lies in."""
    manifest = read_manifest(folder)
    graphs = {
        runtime: manifest.file_of(folder, kind)
        for runtime, kind in _GRAPHS.items()
        if kind in manifest.files
    }
    run = folder.resolve().parent
    weights = run / 'student.pth'
    there = manifest.made_of(weights)
    lacks = (
        f'{folder} was not made of {weights} as it is now (export the run '
        'again)'
        if weights.is_file()
        else f'no student.pth lies above {folder}'
    )
    return Subject(
        name or manifest.name,
        manifest.input.size,
        weights if there else None,
        run if there else None,
        graphs,
        '' if there else lacks,
    )


def make_graphs(
    subject: Subject, runtimes: Sequence[str], place: Path
) -> None:
    """Write the graphs that are asked for and not there.

    Their int8 scales come from noise: good for time, not for answers.

    Args:
        subject: changed in place.
        runtimes: that are to be timed.
        place: folder for the files.

    Raises:
        UserError: packages are missing, or there is no net to write.
    """
    wanted = [name for name in _GRAPHS if name in runtimes]
    missing = [name for name in wanted if name not in subject.graphs]
    if not missing or subject.torch is None:
        return
    from ..export.requirements import require_packages

    require_packages()
    import onnx

    from ..export.int8 import quantise
    from ..export.net_graph import export_net, save

    fp32 = subject.graphs.get('onnx')
    if fp32 is None:
        fp32 = place / f'{subject.name}.onnx'
        save(export_net(_as_run(subject)), fp32)
        subject.graphs['onnx'] = fp32
    if 'int8' in missing:
        rng = np.random.default_rng(0)
        channels = onnx.load(fp32).graph.input[0].type.tensor_type.shape.dim[1]
        shape = (4, channels.dim_value, *subject.size)
        noise = (
            rng.standard_normal(shape, np.float32) for _ in range(_CALIBRATION)
        )
        int8 = place / f'{subject.name}_int8.onnx'
        quantise(fp32, int8, noise)
        subject.graphs['int8'] = int8


def _as_run(subject: Subject):
    """What the export of a graph asks of a run."""
    import torch

    from ..export.source_run import SourceRun

    net = load_net(str(subject.torch))
    blank = torch.zeros(1, getattr(net, 'in_channels', 3), *subject.size)
    with torch.inference_mode():
        outputs = net(blank, mode='tensor').shape[1]
    zeros, ones = (0.0,) * 3, (1.0,) * 3
    spec = InputSpec(subject.size, 'area', 'RGB', zeros, ones)
    classes = [str(i) for i in range(outputs)]
    return SourceRun(subject.torch.parent, None, net, {}, classes, spec, False)
