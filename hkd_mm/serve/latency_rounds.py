# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Networks that are timed, in workers that take turns."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from hkd_mm.config.compose import compose_config
from hkd_mm.engine.run_files import finished_run
from hkd_mm.errors import UserError
from hkd_mm.inference.manifest import read_manifest
from hkd_mm.inference.manifest_fields import FILE
from hkd_mm.inference.student import named
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.io.progress import Progress
from hkd_mm.serve.latency_worker import Job, load_network, work


@dataclass
class Timing:
    """What was measured of a job.

    Attributes:
        job: which.
        rounds: times of the calls of each round, in seconds.
        memory: peak of its process, in bytes.
        error: why there is nothing, else empty.
    """

    job: Job
    rounds: list[list[float]]
    memory: int = 0
    error: str = ''

    @property
    def median(self) -> float:
        """Of all calls, in seconds."""
        return median(self._all)

    @property
    def p99(self) -> float:
        """99th percentile of all calls, in seconds."""
        return float(np.percentile(self._all, 99))

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self._all)

    @property
    def _all(self) -> list[float]:
        return [seconds for times in self.rounds for seconds in times]

    def times_faster(self, other: 'Timing') -> float:
        """Than another job: the median over the rounds' ratios."""
        pairs = zip(other.rounds, self.rounds, strict=True)
        return median(median(theirs) / median(own) for theirs, own in pairs)


def measure(
    jobs: list[Job],
    rounds: int,
    seconds: float,
    calls: int,
    say: Callable[[str], None],
    progress: 'TurnsProgress',
) -> list[Timing]:
    """Time jobs side by side: in every round each has a turn.

    Only the one whose turn it is computes. The order goes on by one from
    round to round.

    Args:
        jobs: processes of their own, all there at once.
        rounds: turns of each.
        seconds: that a turn lasts at least.
        calls: that a turn has at least.
        say: takes a line for each job that fails.
        progress: of all jobs, with these among them.
    """
    timings = [Timing(job, []) for job in jobs]
    progress.begin_group()
    with ExitStack() as started:
        alive = []
        for timing in timings:
            worker = started.enter_context(_Worker(timing.job))
            timing.error = worker.begun()
            if timing.error:
                job = timing.job
                say(f'{job.network}, {job.runtime}: {timing.error}')
            else:
                alive.append((worker, timing))
            progress.started(timing.job, rounds if timing.error else 0)
        for number in range(rounds):
            first = number % max(1, len(alive))
            for worker, timing in alive[first:] + alive[:first]:
                timing.rounds.append(worker.ask((seconds, calls)))
                progress.advance()
        for worker, timing in alive:
            timing.memory = worker.ask(None)
    return timings


class TurnsProgress(Progress):
    """Progress of groups of jobs; knows that a group takes time to start.

    Args:
        groups: sizes, in jobs.
        rounds: turns of a job.
    """

    def __init__(self, groups: list[int], rounds: int) -> None:
        super().__init__('timing', sum(groups) * rounds, 'turns')
        self._jobs = sum(groups)
        self._to_start = self._jobs
        self._starting = self._turning = 0.0  # seconds

    def begin_group(self) -> None:
        """Begin to start the jobs of a group."""
        self._clock = time.monotonic()

    def started(self, job: Job, skipped: int) -> None:
        """Count a job that is ready.

        Args:
            job: which.
            skipped: turns that it will not have, as it cannot be timed.
        """
        self._to_start -= 1
        self._starting += self._lap()
        self.done += skipped
        self._first += skipped
        self.update(self.done, f'{job.network} in {job.runtime} is ready')

    def advance(self, count: int = 1, note: str = '') -> None:
        """Count turns that have just ended."""
        self._turning += self._lap()
        super().advance(count, note)

    def seconds_left(self) -> float | None:
        """Estimate the rest from what a start and a turn took so far."""
        turns = self.done - self._first
        started = self._jobs - self._to_start
        if not turns or not started:
            return None
        return (
            self._turning / turns * (self.total - self.done)
            + self._starting / started * self._to_start
        )

    def _lap(self) -> float:
        before, self._clock = self._clock, time.monotonic()
        return self._clock - before


class _Worker:
    """A process that is ended with the block."""

    def __init__(self, job: Job) -> None:
        self._job = job
        context = multiprocessing.get_context('spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(theirs, job), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> '_Worker':
        return self

    def __exit__(self, *_) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def begun(self) -> str:
        """Wait until it is ready; why it is not, else empty."""
        try:
            return self._pipe.recv()
        except EOFError:
            return self._ended()

    def ask(self, message):
        """What it answers.

        Raises:
            UserError: its process is gone.
        """
        try:
            self._pipe.send(message)
            return self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise UserError(
                f'{self._job.network}, {self._job.runtime}: {self._ended()}; '
                'time fewer networks or a smaller --batch at once'
            ) from None

    def _ended(self) -> str:
        self._process.join()
        return (
            f'its process ended with {self._process.exitcode} while it was '
            'timed (out of memory?)'
        )


_CALIBRATION = 4  # batches; scales decide nothing about time
_GRAPHS = dict(onnx='fp32', int8='int8')  # runtime -> kind of a manifest


@dataclass
class Subject:
    """A network and what there is of it.

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
            config; see :func:`hkd_mm.inference.student.named`.

    Raises:
        UserError: there is no network in it.
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
            f'{path} is no network to time; give a work dir with student.pth, '
            'an exported folder, or a config'
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
        UserError: packages are missing, or there is no network to write.
    """
    wanted = [name for name in _GRAPHS if name in runtimes]
    missing = [name for name in wanted if name not in subject.graphs]
    if not missing or subject.torch is None:
        return
    from hkd_mm.export.export_run import require_packages

    require_packages()
    import onnx

    from hkd_mm.export.graphs import export_network, save
    from hkd_mm.export.int8 import quantise

    fp32 = subject.graphs.get('onnx')
    if fp32 is None:
        fp32 = place / f'{subject.name}.onnx'
        save(export_network(_as_run(subject)), fp32)
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

    from hkd_mm.inference.run_folder import SourceRun

    network = load_network(str(subject.torch))
    blank = torch.zeros(1, getattr(network, 'in_channels', 3), *subject.size)
    with torch.inference_mode():
        outputs = network(blank, mode='tensor').shape[1]
    zeros, ones = (0.0,) * 3, (1.0,) * 3
    spec = InputSpec(subject.size, 'area', 'RGB', zeros, ones)
    classes = [str(i) for i in range(outputs)]
    return SourceRun(
        subject.torch.parent, None, network, {}, classes, spec, False
    )
