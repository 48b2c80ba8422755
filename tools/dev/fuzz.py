#!/usr/bin/env python3
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Try every reader and schema on generated junk: a value or a one-line error.

    python tools/dev/fuzz.py --minutes 10 --seed 0

Each target of ``_fuzz_targets.py`` gets examples of Hypothesis in a process of
its own. Found are tracebacks, errors of several lines, hangs, crashes of the
process (also for memory), and documents that a schema forbids and a reader
takes. Each kind is reported once, with the example; the exit code is 1 if
there is any.
"""

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

LIMIT_S = 20  # of one example on a processor
BUSY = 15  # times that by the clock: a busy machine makes no hang
MEMORY = 12 << 30  # address space of a process; torch alone maps 4 GiB


class TooLong(BaseException):
    """An example took too long."""


@contextmanager
def time_limit(seconds: float):
    """Raise ``TooLong`` in the block after this time, ``BUSY`` times of the clock."""

    def ring(*_):
        raise TooLong

    clocks = [
        (signal.SIGPROF, signal.ITIMER_PROF),
        (signal.SIGALRM, signal.ITIMER_REAL),
    ]
    before = [signal.signal(number, ring) for number, _ in clocks]
    for factor, (_, clock) in zip((1, BUSY), clocks):
        signal.setitimer(clock, factor * seconds)
    try:
        yield
    finally:
        for old, (number, clock) in zip(before, clocks):
            signal.setitimer(clock, 0)
            signal.signal(number, old)


def judge(call, forbidden: bool, limit: float = LIMIT_S) -> str | None:
    """Call a reader; the kind of fault, None where it behaved.

    Args:
        call: reads what was generated.
        forbidden: the reader has to refuse it.
        limit: seconds until it counts as a hang.
    """
    from hkd_mm.errors import UserError

    try:
        with time_limit(limit):
            call()
    except UserError as error:
        text = str(error)
        return 'an error of several lines' if '\n' in text.strip() else None
    except SystemExit as error:
        return None if error.code in (0, 1, 2) else f'exit code {error.code}'
    except TooLong:
        return 'hang'
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if '/hkd_mm/' in frame.filename] or frames
        where = f'{Path(ours[-1].filename).name}:{ours[-1].lineno}'
        return f'traceback: {type(error).__name__} at {where}: {str(error)[:200]}'
    return 'a forbidden document is taken' if forbidden else None


def run_target(name: str, seed: int, seconds: float, material: Path, out: Path):
    """Body of a target's process: leaves ``<name>.jsonl`` in ``out``."""
    import hypothesis
    from _fuzz_targets import TARGETS
    from hypothesis import HealthCheck, Phase
    from hypothesis import strategies as st

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    end, counts = time.monotonic() + seconds, Counter()
    note = out / f'{name}.current'
    work = Path(tempfile.mkdtemp(dir=out))

    def one(data):
        folder = work / str(counts['tried'])
        folder.mkdir()
        try:
            case = TARGETS[name](data.draw, material, folder)
            if case is None:  # nothing to be changed this way
                return
            note.write_text(case.shown, errors='backslashreplace')
            counts['tried'] += 1
            fault = judge(case.call, case.forbidden)
            if fault is not None:
                with open(out / f'{name}.jsonl', 'a') as file:
                    line = dict(target=name, fault=fault, example=case.shown)
                    file.write(f'{json.dumps(line)}\n')
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    options = dict(
        max_examples=25,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    warnings.simplefilter('ignore')
    logging.disable()
    sink = open(os.devnull, 'w')
    with redirect_stdout(sink), redirect_stderr(sink):
        rounds = 0
        while time.monotonic() < end:
            test = hypothesis.settings(**options)(hypothesis.given(st.data())(one))
            hypothesis.seed(seed + 1000 * rounds)(test)()
            rounds += 1
    (out / f'{name}.tried').write_text(str(counts['tried']))
    note.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def run_noting(*argv) -> None:
    """``run_target``, which leaves its own failure in ``<name>.failed``."""
    try:
        run_target(*argv)
    except BaseException:
        (argv[-1] / f'{argv[0]}.failed').write_text(traceback.format_exc())
        raise


def watch(process, name: str, out: Path, seconds: float) -> list[dict]:
    """Wait for a target; what it found, a hang or crash of it included."""
    note = out / f'{name}.current'
    started = time.monotonic()
    while process.is_alive():
        process.join(1)
        last = note.stat().st_mtime if note.exists() else time.time()
        stuck = time.time() - last > (BUSY + 5) * LIMIT_S
        if stuck or time.monotonic() - started > seconds + 2 * BUSY * LIMIT_S:
            process.kill()
            process.join()
            return [dict(target=name, fault='hang', example=_read(note))]
    if process.exitcode:
        fault = f'crash: exit code {process.exitcode}'
        return [dict(target=name, fault=fault, example=_read(note))]
    return []


def _read(path: Path) -> str:
    return path.read_text(errors='replace') if path.exists() else '(none)'


def fuzz(targets: list[str], seconds: float, seed: int, out: Path, jobs: int = 2):
    """Run targets side by side.

    Args:
        seconds: of each target.
        out: folder for what they find.

    Returns:
        Examples tried of each target, and one finding a kind.
    """
    from _fuzz_targets import make_material

    material = make_material(out / 'material')
    # imported once, before the processes part; it counts for no example
    import hkd_mm.experiments.study
    import hkd_mm.inference.run_folder
    import hkd_mm.report.report
    import hkd_mm.training.trainer  # noqa: F401

    context = multiprocessing.get_context('fork')
    waiting, running, found = list(targets), {}, []
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            argv = (name, seed, seconds, material, out)
            running[name] = context.Process(target=run_noting, args=argv)
            running[name].start()
        name = next(iter(running))
        found += watch(running.pop(name), name, out, seconds)
    tried = {
        name: int((out / f'{name}.tried').read_text())
        for name in targets
        if (out / f'{name}.tried').exists()
    }
    for name in targets:
        path = out / f'{name}.jsonl'
        if path.exists():
            found += map(json.loads, path.read_text().splitlines())
    kinds = {(one['target'], one['fault']): one for one in reversed(found)}
    return tried, list(reversed(kinds.values()))


def main(argv=None) -> int:
    """Run and print; 1 if anything was found."""
    from _fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=10, help='of all targets')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--targets', nargs='+', choices=TARGETS, default=[*TARGETS])
    parser.add_argument('--out', type=Path, help='keep examples and findings here')
    args = parser.parse_args(argv)
    out = args.out or Path(tempfile.mkdtemp(prefix='fuzz_'))
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():  # of an earlier run; the material stays
        if path.is_file():
            path.unlink()
        elif path.name != 'material':
            shutil.rmtree(path)
    seconds = 60 * args.minutes * 2 / max(2, len(args.targets))
    tried, found = fuzz(args.targets, seconds, args.seed, out)
    for name in args.targets:
        print(f'{name:24} {tried.get(name, 0):6} examples')
    for one in found:
        print(f'\n{one["target"]}: {one["fault"]}\n    {one["example"][:600]}')
    print(f'\n{sum(tried.values())} examples, {len(found)} kinds of faults')
    if args.out is None:
        shutil.rmtree(out, ignore_errors=True)
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())
