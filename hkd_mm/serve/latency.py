# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Time networks, runtime by runtime, in turns."""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hkd_mm.errors import UserError
from hkd_mm.io.progress import default_workers
from hkd_mm.serve.latency_rounds import (
    Subject,
    Timing,
    TurnsProgress,
    make_graphs,
    measure,
    read_subject,
)
from hkd_mm.serve.latency_worker import RUNTIMES, Job
from hkd_mm.version import __version__

# title, teacher, student in seconds: what papers say of theirs
PAPERS = (
    ('U-Net, ResNet-152 -> ResNet-18, CT of the lung', 4.63, 1.62),
    ('Res2Net-101 -> ShuffleNetV2 (DSP-KD, table 6), 224 x 224', 0.297, 0.023),
)


def rows_of(
    timings: Sequence[Timing], subjects: dict[str, Subject]
) -> list[dict[str, Any]]:
    """One row a timing.

    ``times_faster`` is against ``baseline``: the first network in the first
    runtime that was timed, with the same batch and threads.
    """
    first: dict[tuple, Timing] = {}
    for timing in timings:
        if not timing.error:
            setting = timing.job.batch, timing.job.threads
            first.setdefault(setting, timing)
    rows = []
    for timing in timings:
        job = timing.job
        row: dict[str, Any] = dict(
            network=job.network,
            runtime=job.runtime,
            batch=job.batch,
            threads=job.threads,
            size=list(job.size),
        )
        if timing.error:
            row['error'] = timing.error
        else:
            baseline = first[job.batch, job.threads]
            row.update(
                median_ms=1e3 * timing.median,
                p99_ms=1e3 * timing.p99,
                times_faster=timing.times_faster(baseline),
                baseline=[baseline.job.network, baseline.job.runtime],
                calls=timing.calls,
                peak_bytes=timing.memory,
                file_bytes=subjects[job.network].bytes(job.runtime),
            )
        rows.append(row)
    return rows


def baselines(
    rows: Sequence[dict[str, Any]], wanted: tuple[str, str]
) -> Iterator[str]:
    """Say what *times faster* is against, a line for each that was taken.

    Args:
        rows: of :func:`rows_of`.
        wanted: network and runtime that were named first.
    """
    settings: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if 'error' not in row:
            told = settings.setdefault(tuple(row['baseline']), [])
            told.append(f'batch {row["batch"]}, threads {row["threads"]}')
    for (network, runtime), where in settings.items():
        line = f'times faster: than {network} in {runtime}'
        if len(settings) > 1:
            line += f' ({"; ".join(dict.fromkeys(where))})'
        if (network, runtime) != wanted:
            line += f', for {" in ".join(wanted)} was not timed'
        yield line


def print_rows(rows: list[dict[str, Any]], console: Console) -> None:
    """One table; then what papers say of theirs."""
    table = Table(title='milliseconds of a batch')
    for i, name in enumerate(
        (
            'network',
            'runtime',
            'batch',
            'threads',
            'median',
            'p99',
            'times faster',
            'peak MB',
            'file MB',
        )
    ):
        table.add_column(name, justify='right' if i > 1 else 'left')
    for row in rows:
        cells = [row['network'], row['runtime'], row['batch'], row['threads']]
        if 'error' in row:
            cells += ['-'] * 5
        else:
            cells += [
                _number(row['median_ms']),
                _number(row['p99_ms']),
                _number(row['times_faster']),
                _megabytes(row['peak_bytes']),
                _megabytes(row['file_bytes']),
            ]
        table.add_row(*map(str, cells))
    console.print(table)
    for title, teacher, student in PAPERS:
        console.print(
            f'a paper: {title}: {teacher} s -> {student} s, '
            f'{teacher / student:.1f} times faster'
        )


def _number(value: float) -> str:
    """Three digits that count."""
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def _megabytes(count: int | None) -> str:
    return '-' if count is None else _number(count / 1e6)


def write_rows(rows: list[dict[str, Any]], path: Path, command: str) -> None:
    """All of it as JSON, with the machine it was measured on."""
    machine = dict(
        processor=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        system=platform.system(),
        torch=_version('torch'),
        onnxruntime=_version('onnxruntime'),
        hkd_mm=__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    told = dict(command=command, machine=machine, rows=rows)
    path.write_text(json.dumps(told, indent=1) + '\n', encoding='utf-8')


def _version(package: str) -> str | None:
    """None where it is not installed: then it was not timed either."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_for_report(rows: list[dict[str, Any]], subject: Subject) -> None:
    """Leave in a run what ``tools/report.py`` asks: its smallest setting.

    That is batch and threads as small as they were measured, in ONNX float32
    where that was, else in the first runtime.
    """
    own = [
        r for r in rows if r['network'] == subject.name and 'error' not in r
    ]
    if subject.folder is None or not own:
        return
    own.sort(key=lambda r: (r['batch'], r['threads'], r['runtime'] != 'onnx'))
    path = subject.folder / 'latency.json'
    path.write_text(json.dumps(own[0], indent=1) + '\n', encoding='utf-8')


def main(out: str | None, **options) -> None:
    """Time as the command line says; write the rows to ``out``."""
    rows = latency(**options)
    if out:
        command = ' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        write_rows(rows, Path(out), command)


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

    Every network and runtime is a process of its own. Those of one batch and
    number of threads are there at once and take turns, so that ratios hold
    on a machine whose speed goes up and down.

    Args:
        networks: ``PATH`` or ``NAME=PATH`` each, see :func:`.read_subject`;
            the first is what the others are compared with.
        runtimes: of ``RUNTIMES``; all by default.
        batches: images at once; 1 and 32 by default.
        threads: of the operators; 1 and all cores by default.
        rounds: turns of each.
        seconds: that a turn lasts at least; it has two calls at least.
        for_report: leave ``latency.json`` in the run of each network.

    Returns:
        A row for each network, runtime, batch and number of threads:
        ``median_ms``, ``p99_ms``, ``times_faster`` (than ``baseline``, the
        first network in the first runtime that was timed), ``peak_bytes`` of
        the process, ``file_bytes``; or ``error``.

    Raises:
        UserError: a network cannot be read, there is nothing to time, or
            packages are missing.
    """
    subjects = [read_subject(text) for text in networks]
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f'two networks are called {name}; write NAME=PATH for one'
            )
    runtimes = list(runtimes or RUNTIMES)
    threads = threads or sorted({1, default_workers()})
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # a log file has no width
        console = Console(width=110, soft_wrap=True, highlight=False)
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as place:
        _make_all(subjects, runtimes, Path(place), console.print)
        groups = [
            _jobs(subjects, runtimes, batch, number)
            for batch in batches or [1, 32]
            for number in threads
        ]
        with TurnsProgress([len(g) for g in groups], rounds) as progress:
            for jobs in groups:
                timings += measure(
                    jobs, rounds, seconds, 2, console.print, progress
                )
        rows = rows_of(timings, {s.name: s for s in subjects})
    print_rows(rows, console)
    for line in baselines(rows, (names[0], runtimes[0])):
        console.print(line)
    if for_report:
        for subject in subjects:
            write_for_report(rows, subject)
            if subject.lacks:
                console.print(
                    f'{subject.name}: no latency.json, for {subject.lacks}'
                )
    return rows


def _make_all(
    subjects: list[Subject],
    runtimes: list[str],
    place: Path,
    say: Callable[[str], None],
) -> None:
    """Make the graphs that are not there; tell what cannot be timed."""
    for subject in subjects:
        make_graphs(subject, runtimes, place)
        if told := subject.missing(runtimes):
            say(told)
    if not any(s.file(name) for s in subjects for name in runtimes):
        raise UserError(
            f'nothing to time in {", ".join(runtimes)}; give other '
            '--runtimes, or the work dirs of the runs'
        )


def _jobs(
    subjects: list[Subject], runtimes: list[str], batch: int, threads: int
) -> list[Job]:
    return [
        Job(
            subject.name,
            runtime,
            os.fspath(subject.file(runtime)),
            batch,
            threads,
            subject.size,
        )
        for subject in subjects
        for runtime in runtimes
        if subject.file(runtime) is not None
    ]
