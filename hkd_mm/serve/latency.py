# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Time networks, runtime by runtime, in turns."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hkd_mm.config.compose import compose_config
from hkd_mm.engine.environment import collect_environment
from hkd_mm.engine.run_files import STUDENT, finished_run
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import write_json
from hkd_mm.experiments.table_text import make_table
from hkd_mm.inference.manifest import FILE, read_manifest
from hkd_mm.inference.run_folder import SourceRun, load_network
from hkd_mm.inference.student import named
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.io.progress import Progress, default_workers
from hkd_mm.serve.latency_rounds import RUNTIMES, Job, Timing, measure

_CALIBRATION = 4  # batches; scales decide nothing about time
_GRAPHS = dict(onnx='fp32', int8='int8')  # runtime -> kind of a manifest


@dataclass
class Subject:
    """A network and the files there are of it."""

    name: str
    size: tuple[int, int]  # (H, W) of its images in pixels
    torch: Path | None = None  # student.pth, or a config: then weights are random
    folder: Path | None = None
    graphs: dict[str, Path] = field(default_factory=dict)
    lacks: str = ''  # why there is no ``torch``

    def file(self, runtime: str) -> Path | None:
        own = None if runtime in _GRAPHS else self.torch
        return self.graphs.get(runtime, own)

    def missing(self, runtimes: Sequence[str]) -> str | None:
        absent = [name for name in runtimes if self.file(name) is None]
        if not absent:
            return None
        return f'{self.name}: no {", ".join(absent)}, for {self.lacks}'

    def bytes(self, runtime: str) -> int | None:
        file = self.file(runtime)
        known = file is not None and file.suffix != '.py'
        return file.stat().st_size if known else None


def read_subject(text: str) -> Subject:
    """Find the network of ``PATH`` or ``NAME=PATH``: a run, an export, or a config."""
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
    side = compose_config(str(config)).get('input_size')
    if not isinstance(side, int):
        raise UserError(f'{config} has no input_size; give a config of a network')
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
    """Write the graphs that are missing; int8 scales come from noise, good for time."""
    missing = set(_GRAPHS).intersection(runtimes) - set(subject.graphs)
    if not missing or subject.torch is None:
        return
    from hkd_mm.export.export_run import require_packages

    require_packages()
    import onnx

    from hkd_mm.export.onnx_writer import export_network, quantise, save

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
    network = load_network(str(subject.torch))
    channels = getattr(network, 'in_channels', 3)
    with torch.inference_mode():
        blank = torch.zeros(1, channels, *subject.size)
        outputs = network(blank, mode='tensor').shape[1]
    colour = 'RGB' if channels == 3 else 'grey'
    spec = InputSpec(subject.size, 'area', colour, (0.0,) * 3, (1.0,) * 3)
    classes = [str(i) for i in range(outputs)]
    return SourceRun(subject.torch.parent, None, network, {}, classes, spec, False)


def main(out: str | None, **options) -> None:
    """Time as the command line says; write the rows to ``out``."""
    if out and (Path(out).is_dir() or not Path(out).absolute().parent.is_dir()):
        raise UserError(f'--out {out}: give a file in a folder that is there')
    rows = latency(**options)
    if out:
        command = ' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        machine = collect_environment()
        write_json(Path(out), dict(command=command, machine=machine, rows=rows))


def latency(
    networks: list[str],
    runtimes: list[str] | None = None,
    batches: list[int] | None = None,
    threads: list[int] | None = None,
    rounds: int = 5,
    seconds: float = 1.0,
    for_report: bool = False,
) -> list[dict[str, Any]]:
    """Time networks in several runtimes, in turns, and print a table.

    Every network and runtime is a process of its own. Those of one batch and number of
    threads are there at once and take turns, so that ratios hold on a machine whose
    speed goes up and down. The arguments are the options of ``tools/latency.py``.
    Returned is a row for each network, runtime, batch and number of threads:
    ``median_ms``, ``p99_ms``, ``times_faster`` (than ``baseline``), ``peak_bytes`` of
    the process, ``file_bytes``; or ``error``.
    """
    subjects = {}
    for subject in map(read_subject, networks):
        if subject.name in subjects:
            raise UserError(
                f'two networks are called {subject.name}; write NAME=PATH for one'
            )
        subjects[subject.name] = subject
    runtimes = list(runtimes or RUNTIMES)
    width = None if sys.stdout.isatty() else 110  # of a log file
    console = Console(width=width, soft_wrap=True, highlight=False)
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects.values():
            make_graphs(subject, runtimes, Path(folder))
            if absent := subject.missing(runtimes):
                console.print(absent)
        groups = [
            _jobs(subjects, runtimes, batch, number)
            for batch in batches or [1, 32]
            for number in threads or sorted({1, default_workers()})
        ]
        turns = rounds * sum(map(len, groups))
        if not turns:
            raise UserError(
                f'nothing to time in {", ".join(runtimes)}; give other '
                '--runtimes, or the work dirs of the runs'
            )
        with Progress('timing', turns, 'turns') as progress:
            for jobs in groups:
                timings += measure(jobs, rounds, seconds, 2, console.print, progress)
        rows = rows_of(timings, subjects)
    _print_rows(rows, console)
    for line in baselines(rows, (next(iter(subjects)), runtimes[0])):
        console.print(line)
    if for_report:
        _write_reports(rows, subjects.values(), console.print)
    return rows


def _jobs(
    subjects: dict[str, Subject], runtimes: list[str], batch: int, threads: int
) -> list[Job]:
    return [
        Job(name, runtime, str(file), batch, threads, subject.size)
        for name, subject in subjects.items()
        for runtime in runtimes
        if (file := subject.file(runtime)) is not None
    ]


def rows_of(
    timings: Sequence[Timing], subjects: dict[str, Subject]
) -> list[dict[str, Any]]:
    """Make one row a timing; baselines have the same batch and threads."""
    first: dict[tuple, Timing] = {}
    rows = []
    for timing in timings:
        job = timing.job
        row = {key: value for key, value in asdict(job).items() if key != 'file'}
        rows.append(row)
        if timing.error:
            row['error'] = timing.error
            continue
        baseline = first.setdefault((job.batch, job.threads), timing)
        row.update(
            median_ms=1e3 * float(np.median(timing.times)),
            p99_ms=1e3 * float(np.percentile(timing.times, 99)),
            times_faster=timing.times_faster(baseline),
            baseline=[baseline.job.network, baseline.job.runtime],
            calls=len(timing.times),
            peak_bytes=timing.memory,
            file_bytes=subjects[job.network].bytes(job.runtime),
        )
    return rows


def baselines(rows: Sequence[dict[str, Any]], wanted: tuple[str, str]) -> Iterator[str]:
    """Name what *times faster* is against, and why it is not ``wanted``."""
    settings: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if 'error' not in row:
            setting = f'batch {row["batch"]}, threads {row["threads"]}'
            settings.setdefault(tuple(row['baseline']), {})[setting] = None
    for (network, runtime), where in settings.items():
        line = f'times faster: than {network} in {runtime}'
        if len(settings) > 1:
            line += f' ({"; ".join(where)})'
        if (network, runtime) != wanted:
            line += f', for {" in ".join(wanted)} was not timed'
        yield line


def _print_rows(rows: list[dict[str, Any]], console: Console) -> None:
    keys = ('network', 'runtime', 'batch', 'threads')
    figures = ('median', 'p99', 'times faster', 'peak MB', 'file MB')
    cells = []
    for row in rows:
        values = map(row.get, ('median_ms', 'p99_ms', 'times_faster'))
        sizes = (row.get(key) for key in ('peak_bytes', 'file_bytes'))
        values = [*values, *(size and size / 1e6 for size in sizes)]
        cells.append([*(str(row[key]) for key in keys), *map(_number, values)])
    console.print(make_table('milliseconds of a batch', keys + figures, cells, left=2))


def _number(value: float | None) -> str:
    """Format three digits that count."""
    if value is None:
        return '-'
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def _write_reports(
    rows: list[dict[str, Any]],
    subjects: Sequence[Subject],
    report: Callable[[str], None],
) -> None:
    """Leave the smallest batch and threads in each run, for ``tools/report.py``.

    In ONNX float32 where that was measured, else in the first runtime.
    """
    for subject in subjects:
        if subject.lacks:
            report(f'{subject.name}: no latency.json, for {subject.lacks}')
        own = [
            row for row in rows if row['network'] == subject.name and 'error' not in row
        ]
        if subject.folder is not None and own:
            own.sort(key=lambda row: row['runtime'] != 'onnx')
            own.sort(key=lambda row: (row['batch'], row['threads']))
            write_json(subject.folder / 'latency.json', own[0])
