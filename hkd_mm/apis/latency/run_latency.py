# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/latency.py`` does."""

import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from hkd_mm.errors import UserError
from hkd_mm.parallel import default_workers

from .rounds import Timing, TurnsProgress, measure
from .subjects import Subject, make_graphs, read_subject
from .table import (
    baselines,
    print_rows,
    rows_of,
    write_for_report,
    write_rows,
)
from .worker import RUNTIMES, Job


def main(args: Namespace) -> None:
    """Time as the command line says."""
    rows = latency(
        args.nets,
        args.runtimes,
        args.batch,
        args.threads,
        args.rounds,
        args.seconds,
        args.for_report,
    )
    if args.out:
        command = ' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        write_rows(rows, Path(args.out), command)


def latency(
    nets: list[str],
    runtimes: list[str] | None = None,
    batches: list[int] | None = None,
    threads: list[int] | None = None,
    rounds: int = 5,
    seconds: float = 1.0,
    for_report: bool = False,
) -> list[dict[str, Any]]:
    """Time nets in several runtimes, in turns, and print a table.

    Every net and runtime is a process of its own. Those of one batch and
    number of threads are there at once and take turns, so that ratios hold
    on a machine whose speed goes up and down.

    Args:
        nets: ``PATH`` or ``NAME=PATH`` each, see :func:`.read_subject`; the
            first is what the others are compared with.
        runtimes: of ``RUNTIMES``; all by default.
        batches: images at once; 1 and 32 by default.
        threads: of the operators; 1 and all cores by default.
        rounds: turns of each.
        seconds: that a turn lasts at least; it has two calls at least.
        for_report: leave ``latency.json`` in the run of each net.

    Returns:
        A row for each net, runtime, batch and number of threads:
        ``median_ms``, ``p99_ms``, ``times_faster`` (than ``baseline``, the
        first net in the first runtime that was timed), ``peak_bytes`` of the
        process, ``file_bytes``; or ``error``.

    Raises:
        UserError: a net cannot be read, there is nothing to time, or
            packages are missing.
    """
    subjects = [read_subject(text) for text in nets]
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f'two nets are called {name}; write NAME=PATH for one'
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
