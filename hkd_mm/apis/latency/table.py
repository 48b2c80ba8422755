# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What was timed, as a table and as JSON."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hkd_mm.version import __version__

from .rounds import Timing
from .subjects import Subject

# title, teacher, student in seconds: what papers say of theirs
PAPERS = (
    ('U-Net, ResNet-152 -> ResNet-18, CT of the lung', 4.63, 1.62),
    ('Res2Net-101 -> ShuffleNetV2 (DSP-KD, table 6), 224 x 224', 0.297, 0.023),
)


def rows_of(
    timings: Sequence[Timing], subjects: dict[str, Subject]
) -> list[dict[str, Any]]:
    """One row a timing.

    ``times_faster`` is against ``baseline``: the first net in the first
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
            net=job.net,
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
                baseline=[baseline.job.net, baseline.job.runtime],
                calls=timing.calls,
                peak_bytes=timing.memory,
                file_bytes=subjects[job.net].bytes(job.runtime),
            )
        rows.append(row)
    return rows


def baselines(
    rows: Sequence[dict[str, Any]], wanted: tuple[str, str]
) -> Iterator[str]:
    """Say what *times faster* is against, a line for each that was taken.

    Args:
        rows: of :func:`rows_of`.
        wanted: net and runtime that were named first.
    """
    settings: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if 'error' not in row:
            told = settings.setdefault(tuple(row['baseline']), [])
            told.append(f'batch {row["batch"]}, threads {row["threads"]}')
    for (net, runtime), where in settings.items():
        line = f'times faster: than {net} in {runtime}'
        if len(settings) > 1:
            line += f' ({"; ".join(dict.fromkeys(where))})'
        if (net, runtime) != wanted:
            line += f', for {" in ".join(wanted)} was not timed'
        yield line


def print_rows(rows: list[dict[str, Any]], console: Console) -> None:
    """One table; then what papers say of theirs."""
    table = Table(title='milliseconds of a batch')
    for i, name in enumerate(
        (
            'net',
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
        cells = [row['net'], row['runtime'], row['batch'], row['threads']]
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
    own = [r for r in rows if r['net'] == subject.name and 'error' not in r]
    if subject.folder is None or not own:
        return
    own.sort(key=lambda r: (r['batch'], r['threads'], r['runtime'] != 'onnx'))
    path = subject.folder / 'latency.json'
    path.write_text(json.dumps(own[0], indent=1) + '\n', encoding='utf-8')
