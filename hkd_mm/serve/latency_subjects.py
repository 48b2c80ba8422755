# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Networks that are timed, and the files that each runtime takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import init_default_scope

from hkd_mm.config.compose import compose_config
from hkd_mm.engine.run_files import STUDENT, finished_run
from hkd_mm.engine.student_export import student_config
from hkd_mm.engine.student_loading import load_student
from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import FILE, read_manifest
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.inference.student import named
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.registry import MODELS

_CALIBRATION = 4  # batches; scales decide nothing about time
_GRAPHS = dict(onnx='fp32', int8='int8')  # runtime -> kind of a manifest


@dataclass
class Subject:
    """A network and the files there are of it.

    Attributes:
        size: (H, W) of its images in pixels.
        torch: ``student.pth``, or a config whose weights are random; None of
            an exported folder that is alone, or beside other weights.
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
        """File that a runtime takes; None where there is none."""
        own = None if runtime in _GRAPHS else self.torch
        return self.graphs.get(runtime, own)

    def missing(self, runtimes: Sequence[str]) -> str | None:
        """Name the runtimes there is nothing for, and why, in a line."""
        absent = [name for name in runtimes if self.file(name) is None]
        if not absent:
            return None
        return f'{self.name}: no {", ".join(absent)}, for {self.lacks}'

    def bytes(self, runtime: str) -> int | None:
        """Length of that file; None of a config."""
        file = self.file(runtime)
        if file is None or file.suffix == '.py':
            return None
        return file.stat().st_size


def read_subject(text: str) -> Subject:
    """Find the network of ``PATH`` or ``NAME=PATH``.

    The path is that of a work dir, an exported folder, or a config.
    """
    name, text = named(text)
    path = Path(text)
    if path.suffix == '.py':
        return Subject(name or path.stem, _input_size(path), path)
    if (path / FILE).is_file():
        return _exported(name, path)
    if not (path / STUDENT).is_file():
        raise UserError(
            f'{text} is no network to time; give a work dir with {STUDENT}, '
            'an exported folder, or a config'
        )
    name = name or path.name
    if (path / 'export' / FILE).is_file():
        return _exported(name, path / 'export')
    run = finished_run(path)
    return Subject(name, _input_size(run.config), run.student, path)


def _input_size(config: Path) -> tuple[int, int]:
    side = compose_config(str(config)).input_size
    return side, side


def _exported(name: str, folder: Path) -> Subject:
    """An export, with the run around it."""
    manifest = read_manifest(folder)
    graphs = {
        runtime: manifest.file_of(folder, kind)
        for runtime, kind in _GRAPHS.items()
        if kind in manifest.files
    }
    subject = Subject(name or manifest.name, manifest.input.size, graphs=graphs)
    run = folder.resolve().parent
    weights = run / STUDENT
    if manifest.made_of(weights):
        subject.torch, subject.folder = weights, run
    elif weights.is_file():
        subject.lacks = (
            f'{folder} was not made of {weights} as it is now (export the run again)'
        )
    else:
        subject.lacks = f'there is no {STUDENT} above {folder}'
    return subject


def make_graphs(subject: Subject, runtimes: Sequence[str], folder: Path) -> None:
    """Write the graphs that are asked for and not there.

    Their int8 scales come from noise: good for time, not for answers.
    """
    missing = set(_GRAPHS).intersection(runtimes) - set(subject.graphs)
    if not missing or subject.torch is None:
        return
    from hkd_mm.export.export_run import require_packages

    require_packages()
    import onnx

    from hkd_mm.export.int8 import quantise
    from hkd_mm.export.onnx_graphs import export_network, save

    if 'onnx' not in subject.graphs:
        fp32 = subject.graphs['onnx'] = folder / f'{subject.name}.onnx'
        save(export_network(_as_run(subject)), fp32)
    if 'int8' in missing:
        fp32 = subject.graphs['onnx']
        rng = np.random.default_rng(0)
        channels = onnx.load(fp32).graph.input[0].type.tensor_type.shape.dim[1]
        shape = (_CALIBRATION, 4, channels.dim_value, *subject.size)
        noise = iter(rng.standard_normal(shape, np.float32))
        subject.graphs['int8'] = folder / f'{subject.name}_int8.onnx'
        quantise(fp32, subject.graphs['int8'], noise)


def _as_run(subject: Subject):
    """What the export of a graph asks of a run."""
    network = load_network(str(subject.torch))
    channels = getattr(network, 'in_channels', 3)
    with torch.inference_mode():
        blank = torch.zeros(1, channels, *subject.size)
        outputs = network(blank, mode='tensor').shape[1]
    colour = 'RGB' if channels == 3 else 'grey'
    spec = InputSpec(subject.size, 'area', colour, (0.0,) * 3, (1.0,) * 3)
    classes = [str(i) for i in range(outputs)]
    return SourceRun(subject.torch.parent, None, network, {}, classes, spec, False)


def load_network(file: str):
    """Build a network in evaluation, of a ``student.pth`` or a config."""
    if Path(file).suffix == '.pth':
        return load_student(file)[0]
    init_default_scope('mmpretrain')
    return MODELS.build(student_config(compose_config(file).model)).eval()
