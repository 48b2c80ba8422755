# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Export a finished run to a folder that its student is used from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hkd_mm.errors import UserError
from hkd_mm.export.exporter import Exporter
from hkd_mm.inference.manifest_fields import Manifest

_PACKAGES = dict(
    onnx='onnx>=1.17,<2',
    onnxscript='onnxscript>=0.5',
    onnxruntime='onnxruntime>=1.20',
)


def require_packages(executorch: bool = False) -> None:
    """Refuse to begin without them.

    Raises:
        UserError: one is missing, or does not go with this torch.
    """
    for module, package in _PACKAGES.items():
        try:
            __import__(module)
        except ImportError:
            raise UserError(
                f'an export needs {module}, which is not installed; pip '
                f'install "{package}"'
            ) from None
    if executorch:
        from hkd_mm.export.executorch_file import require_executorch

        require_executorch()


def print_table(making: Exporter) -> None:
    """Print the files, and each class's recall; also of one refused."""
    console = Console()
    table = Table(title=f'validation, {len(making.val)} images')
    table.add_column('file')
    key, score = making.score
    for name in ('MB', 'max difference', score):
        table.add_column(name, justify='right')
    for kind, spec in making.files.items():
        figures = making.measured.get(kind)
        table.add_row(
            spec.path,
            f'{spec.bytes / 1e6:.2f}',
            _difference(making, kind),
            f'{100 * figures[key]:.2f}' if figures else '-',
        )
    console.print(table)
    if 'int8' in making.measured:
        console.print(_parts(making))
    if 'sure_by_class' in making.checks:
        console.print(_sure(making))


def _parts(making: Exporter) -> Table:
    table = Table(title=making.parts)
    table.add_column('')
    for name in ('fp32', 'int8', 'points'):
        table.add_column(name, justify='right')
    after = making.figures_by_part('int8')
    for name, value in making.figures_by_part('fp32').items():
        both = (value, after[name])
        cells = ['-' if one is None else f'{100 * one:.1f}' for one in both]
        points = '-'
        if None not in both:
            points = f'{100 * (after[name] - value):+.1f}'
        table.add_row(name, *cells, points)
    return table


def _sure(making: Exporter) -> Table:
    """Sure answers to images of each class, and sure ones that name it."""
    table = Table(title='sure answers on validation')
    table.add_column('class')
    for name in ('images', 'surely right', 'surely wrong', 'said surely'):
        table.add_column(name, justify='right')
    for name, found in making.checks['sure_by_class'].items():
        table.add_row(name, *map(str, found.values()))
    return table


def _difference(making: Exporter, kind: str) -> str:
    """Largest of a file, against what it was made of."""
    checks = making.checks
    if kind == 'int8':
        found = checks['int8']['max_logit_difference']
        return f'{found:.1e} (logits)'
    key = 'logits' if kind == 'fp32' else kind
    if key not in checks:
        return '-'
    what = 'scores' if kind.endswith('image') else 'logits'
    return f'{checks[key]["max"]:.1e} ({what})'


@dataclass(frozen=True)
class ExportOptions:
    """The words of the command line.

    Attributes:
        int8: write an int8 network as well.
        with_preprocessing: write graphs that take photographs.
        executorch: write a ``.pte`` for mobile devices.
        calibration_images: training images that int8 is calibrated on.
        weight_bits: of int8, 8 or 7, see :func:`.int8.quantise`.
        int8_limit: points of balanced accuracy, or of Dice, that int8 may
            lose.
        int8_recall_limit: points of one class's recall that int8 may lose.
        int8_strict: refuse losses above a limit that may be chance, too.
        sure_accuracy: that sure answers are to reach, in (0, 1).
        cfg_options: changes to the config of the run.
    """

    int8: bool = True
    with_preprocessing: bool = False
    executorch: bool = False
    calibration_images: int = 512
    weight_bits: int = 8
    int8_limit: float = 1.0
    int8_recall_limit: float = 5.0
    int8_strict: bool = False
    sure_accuracy: float = 0.9
    cfg_options: list[str] | dict = field(default_factory=list)


def main(run_dir: str, out: str | None, **options) -> None:
    """Export as the command line says."""
    export(run_dir, out, ExportOptions(**options))


def export(
    run_dir: str | Path,
    out: str | Path | None = None,
    wishes: ExportOptions | None = None,
    say: Callable[[str], None] = print,
) -> Manifest:
    """Make a folder that a student is used from, of a finished run.

    Training images calibrate, validation images measure; the test split is
    not read.

    Args:
        run_dir: work dir of the run.
        out: the folder; ``<run_dir>/export`` by default.
        wishes: what is to be in it.
        say: takes lines on what is done.

    Returns:
        The manifest, written last.

    Raises:
        UserError: anything that the user can mend, and a network that does not
            answer as the trained one; an earlier export is then left as it
            was.
    """
    wishes = wishes or ExportOptions()
    _check(wishes)
    require_packages(wishes.executorch)
    from hkd_mm.export.card import card_text
    from hkd_mm.export.folder import publish, staging
    from hkd_mm.inference.run_folder import read_run

    out = Path(out) if out else Path(run_dir) / 'export'
    run = read_run(run_dir, wishes.cfg_options)
    with staging(out) as place:
        making = _kind(run)(run, wishes, place, say)
        try:
            manifest = making.make()
        finally:
            if 'fp32' in making.measured:
                print_table(making)
        publish(place, out, manifest, card_text(manifest, run))
    say(f'wrote {out}')
    return manifest


def _kind(run) -> type:
    if run.dense:
        from hkd_mm.export.exporter import SegmentorMaking

        return SegmentorMaking
    from hkd_mm.export.exporter import ClassifierMaking

    return ClassifierMaking


def _check(wishes: ExportOptions) -> None:
    if wishes.calibration_images < 1:
        raise UserError(
            f'--calibration-images {wishes.calibration_images} must be 1 or '
            'more'
        )
    if not 0 < wishes.sure_accuracy < 1:
        raise UserError(
            f'--sure-accuracy {wishes.sure_accuracy:g} must lie between 0 '
            'and 1'
        )
    for name in ('int8_limit', 'int8_recall_limit'):
        value = getattr(wishes, name)
        if not np.isfinite(value) or value < 0:
            raise UserError(
                f'--{name.replace("_", "-")} {value:g} must be 0 or more '
                'points'
            )
