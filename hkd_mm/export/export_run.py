# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Export a finished run to a folder that its student is used from."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from hkd_mm.errors import UserError
from hkd_mm.experiments.table_text import make_table
from hkd_mm.export.options import NAMES, ExportOptions
from hkd_mm.inference.manifest import FILE, Manifest, write_manifest
from hkd_mm.lazy import require

CARD = 'README.md'
_PART = re.compile(r'\.(\d+)\.part')
_PACKAGES = dict(
    onnx='onnx>=1.17,<2', onnxscript='onnxscript>=0.5', onnxruntime='onnxruntime>=1.20'
)


def main(run_dir: str, out: str | None, **options) -> None:
    """Export as the command line says."""
    export(run_dir, out, ExportOptions(**options))


def export(
    run_dir: str | Path,
    out: str | Path | None = None,
    options: ExportOptions | None = None,
    report: Callable[[str], None] = print,
) -> Manifest:
    """Make a folder that a student is used from, of a finished run.

    That is ``<run_dir>/export`` by default. Training images calibrate, validation
    images measure; the test split is not read. A network that does not answer as the
    trained one is refused by a ``UserError``, as is what the user can fix; an earlier
    export is then left as it was.
    """
    options = options or ExportOptions()
    require_packages(options.executorch)
    from hkd_mm.export.card import card_text
    from hkd_mm.export.export_tasks import ClassifierExporter, SegmentorExporter
    from hkd_mm.inference.run_folder import read_run

    out = Path(out) if out else Path(run_dir) / 'export'
    run = read_run(run_dir, options.cfg_options)
    kind = SegmentorExporter if run.dense else ClassifierExporter
    with _staging(out) as staged:
        exporter = kind(run, options, staged, report)
        try:
            manifest = exporter.make()
        finally:
            if 'fp32' in exporter.measured:
                _print_tables(exporter)
        (staged / CARD).write_text(card_text(manifest, run), encoding='utf-8')
        for name in (FILE, *NAMES.values()):  # the manifest goes first, comes last
            (out / name).unlink(missing_ok=True)
        for name in [*(spec.path for spec in manifest.files.values()), CARD]:
            with open(staged / name, 'rb') as file:
                os.fsync(file.fileno())
            os.replace(staged / name, out / name)
        write_manifest(manifest, out)
    report(f'wrote {out}')
    return manifest


def require_packages(executorch: bool = False) -> None:
    """Refuse to begin without the packages of an export."""
    for module, package in _PACKAGES.items():
        require(module, 'an export', f'"{package}"')
    if executorch:
        from hkd_mm.export.onnx_writer import require_executorch

        require_executorch()


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Make a hidden folder to write to; remove it, and those of killed exports."""
    for above in out.absolute().parents:
        if above.is_dir() and (above / FILE).exists():
            raise UserError(f'--out {out} is inside the export {above}; give another')
    new, staged = not out.exists(), out / f'.{os.getpid()}.part'
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob('.*.part'):
            found = _PART.fullmatch(left.name)
            if left.is_dir() and found and not _alive(int(found[1])):
                shutil.rmtree(left)
        staged.mkdir()
    except OSError as error:
        raise UserError(
            f'--out {out} cannot be written ({error.strerror}); give another folder'
        ) from None
    try:
        yield staged
    finally:
        shutil.rmtree(staged)
        if new and not any(out.iterdir()):
            out.rmdir()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _print_tables(exporter) -> None:
    """Print the files, and figures of each class; also of one refused."""
    key, score = exporter.score
    console, rows = Console(), []
    for kind, spec in exporter.files.items():
        found = exporter.checks.get('logits' if kind == 'fp32' else kind, {})
        # from what the file was made of
        most = found.get('max', found.get('max_logit_difference'))
        apart = '-' if most is None else f'{most:.1e}'
        value = exporter.measured[kind][key] if kind in exporter.measured else None
        reached = '-' if value is None else f'{100 * value:.2f}'
        rows.append([spec.path, f'{spec.bytes / 1e6:.2f}', apart, reached])
    columns = ('file', 'MB', 'max difference', score)
    console.print(make_table(f'validation, {len(exporter.val)} images', columns, rows))
    if 'int8' in exporter.measured:
        before, after = exporter.by_part['fp32'], exporter.by_part['int8']
        rows = []
        for name in before:
            pair = before[name], after[name]
            cells = ['-' if v is None else f'{100 * v:.1f}' for v in pair]
            lost = '-' if None in pair else f'{100 * (pair[1] - pair[0]):+.1f}'
            rows.append([name, *cells, lost])
        columns = ('', 'fp32', 'int8', 'points')
        console.print(make_table(exporter.parts, columns, rows))
    if by_class := exporter.checks.get('confident_by_class'):
        title = 'confident answers on validation'
        columns = ('class', 'images', 'correct', 'wrong', 'predicted')
        rows = ((name, *map(str, found.values())) for name, found in by_class.items())
        console.print(make_table(title, columns, rows))
