# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every file of a run or study, damaged in every way: a value, or one line."""

import copy
import json
import os
import random
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hkd_mm.datasets.records import Record
from hkd_mm.datasets.split_file import find_split
from hkd_mm.engine import environment
from hkd_mm.engine.environment import collect_environment, environment_of
from hkd_mm.engine.run_summary import History
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import figure, read_history, read_report
from hkd_mm.experiments.run_sweep import _print_result
from hkd_mm.experiments.study import Plan, Study, StudyRow, read_plan, write_plan
from hkd_mm.experiments.sweep_file import read_sweep
from hkd_mm.experiments.sweep_report import write_report
from hkd_mm.experiments.trial_queue import TrialQueue, open_study
from hkd_mm.io.checkpoints import latest_intact_checkpoint
from hkd_mm.io.tables import write_table
from hkd_mm.models.teacher_cache import CacheFile
from hkd_mm.report import run_places
from hkd_mm.report.data import read_predictions
from hkd_mm.training.run_notes import read_begun, read_finished, read_stages
from hkd_mm.training.test_record import check_earlier

FIGURES = dict(balanced_accuracy=0.5, top1=0.5)
TEST = dict(FIGURES, provenance=dict(checkpoint='student.pth', files={}))
METRICS = dict(training_minutes=2.0, epochs=3, seed=0, best=FIGURES, last=FIGURES)
HISTORY = [dict(epoch=1, train=dict(loss=1.0), val=dict(top1=0.5, x=None), seconds=2.0)]
STATE = dict(
    fingerprint=dict(data=dict(root='a')),
    stages=['teacher'],
    result=dict(checkpoint='best.pth', fingerprint=dict(data=dict(root='a'))),
)
RECORDS = [
    Record(f'{label}/{i}', f'{label}/{i}.png', label)
    for label in 'ab'
    for i in range(9)
]
SWEEP = """
config = {config!r}
space = dict(lr=[0.1, 0.2], pair=['x'])
sampler = 'grid'
"""


def saved(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def predictions(folder: Path) -> Path:
    header = ['sample_id', 'lesion_id', 'label', 'prediction', 'score_a', 'score_b']
    rows = [[f'{i}', 'l', 'a', 'b', 0.25, 0.75] for i in range(3)]
    write_table(folder / 'predictions.csv', header, rows)
    return folder / 'predictions.csv'


def split(folder: Path) -> Path:
    draw_split(folder)
    return folder / 'split.json'


def draw_split(folder: Path) -> dict:
    return find_split(RECORDS, 'data', str(folder / 'split.json'), '80:10:10', 0)


def cache(folder: Path) -> CacheFile:
    arrays = dict(logits=((3,), 'float32'))
    return CacheFile(folder / 'cache', dict(teacher='a'), arrays, 2, 5)


def cache_header(folder: Path) -> Path:
    cache(folder).write(0, np.array([1]), dict(logits=np.ones((1, 3), np.float32)))
    return folder / 'cache/header.json'


def queue(folder: Path) -> TrialQueue:
    config = str(saved(folder / 'config.py', 'lr = 0.1\n'))
    sweep = read_sweep(saved(folder / 's.py', SWEEP.format(config=config)))
    found = TrialQueue(sweep, open_study(sweep, folder), folder)
    found.fill()
    return found


def journal(folder: Path) -> Path:
    with ExitStack() as held:
        found = queue(folder)
        found.study.tell(found.take(held), 0.5)
        found.take(held)  # and was killed
    return folder / 'journal.log'


def use_queue(folder: Path) -> None:
    found = queue(folder)
    found.fill(retry_failed=True)
    write_report(found, [])
    with ExitStack() as held:
        while trial := found.take(held):
            found.study.tell(trial, 0.5)


def sweep_report(folder: Path) -> Path:
    journal(folder)
    write_report(queue(folder), [])
    return folder / 'sweep.json'


def print_result(folder: Path) -> None:
    quiet = SimpleNamespace(
        console=SimpleNamespace(is_terminal=False), print=str, summary=str
    )
    _print_result(SimpleNamespace(work_dir=folder), quiet)


def result(folder: Path) -> Path:
    journal(folder)
    facts = dict(number=0, params={}, values=[0.5], epochs=[3], minutes=1.0, reason='x')
    return saved(folder / 'trials/0000/result.json', facts)


def plan(folder: Path) -> Path:
    rows = (StudyRow('a', 'A', Path('a.py')),)
    study = Study(Path('s.py'), 'S', rows, (), 'balanced_accuracy')
    write_plan(Plan(study, 2), folder)
    return folder / 'plan.json'


def earlier_test(folder: Path) -> None:
    check_earlier(str(folder / 'test.json'), dict(checkpoint='student.pth'))


def figure_of_test(folder: Path) -> float:
    return figure(read_report(folder / 'test.json'), 'top1')


def seeds_of(folder: Path) -> list:
    saved(folder / 'other/metrics.json', dict(METRICS, seed=3))
    return run_places._by_seed('x', [folder, folder / 'other'])


def load_history(folder: Path) -> dict:
    history = History(folder / 'history.json')
    history.load(3, lambda line: None)
    return history.records


def named(name: str, value: Any) -> Callable[[Path], Path]:
    return lambda folder: saved(folder / name, value)


# what is damaged, and who reads it
READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = dict(
    begun=(named('run_state.json', STATE), read_begun),
    finished=(named('run_state.json', STATE), read_finished),
    stages=(named('run_state.json', STATE), read_stages),
    resumed_history=(named('history.json', HISTORY), load_history),
    history=(named('history.json', HISTORY), read_history),
    metrics=(named('metrics.json', METRICS), lambda f: read_report(f / 'metrics.json')),
    seeds=(named('metrics.json', METRICS), seeds_of),
    test=(named('test.json', TEST), figure_of_test),
    earlier_test=(named('test.json', TEST), earlier_test),
    latency=(
        named('latency.json', dict(median_ms=2.0)),
        lambda f: read_report(f / 'latency.json'),
    ),
    environment=(named('environment.json', collect_environment()), environment_of),
    predictions=(predictions, lambda f: read_predictions(f / 'predictions.csv')),
    predictions_test=(
        lambda f: predictions(f) and saved(f / 'test.json', TEST),
        lambda f: read_predictions(f / 'predictions.csv'),
    ),
    split=(split, draw_split),
    cache=(cache_header, cache),
    journal=(journal, use_queue),
    sweep_id=(lambda f: journal(f).with_name('sweep_id'), use_queue),
    sweep=(sweep_report, print_result),
    result=(result, use_queue),
    plan=(plan, read_plan),
    last_checkpoint=(named('last_checkpoint', 'epoch_1.pth'), latest_intact_checkpoint),
)
WHOLE = [b'', b'{', b'null', b'[]', b'{}', b'5', b'"text"', b'NaN', b'[' * 5000]
WHOLE += [b'\xff\xfe\0x', b'{"a": ' * 5000, b'[{"epoch": 1e999}]', b'\n', b'a,b\n1\n']
VALUES = [None, 5, -1, True, 0.5, float('nan'), float('inf'), 'x', '', '\ud800', [], {}]
VALUES += [[[]], {'x': 1}, '../../x', 10**400]


MOST = 60  # of the changes of a file, drawn by a seed


def places(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """Of every value within a document."""
    items = document.items() if isinstance(document, dict) else ()
    items = enumerate(document) if isinstance(document, list) else items
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(document: Any, place: tuple, value: Any, remove: bool = False) -> Any:
    document = copy.deepcopy(document)
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return document


def damages(content: bytes) -> Iterator[bytes]:
    """The content cut, and with one value or line of it changed."""
    for share in (0.3, 0.6, 0.99):
        yield content[: int(share * len(content))]
    lines = content.splitlines(keepends=True)
    for number, part in enumerate([content] if content[1:2] == b'\n' else lines):
        try:
            document = json.loads(part)
        except ValueError:
            continue
        before, after = b''.join(lines[:number]), b''.join(lines[number + 1 :])
        before, after = (b'', b'') if part is content else (before, after)
        for place in places(document):
            found = [changed(document, place, value) for value in VALUES]
            found.append(changed(document, place, None, remove=True))
            for one in found:
                yield before + json.dumps(one).encode() + b'\n' + after
    for number in range(len(lines)):
        yield b''.join([*lines[:number], *lines[number + 1 :]])
        yield b''.join([*lines[:number], lines[number], *lines[number:]])
        yield b''.join([*lines[:number], b'x,\xff"\n', *lines[number:]])


class Hang(BaseException):
    """A reader does not end."""


@pytest.fixture
def in_time():
    def ring(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def scratch():
    """A folder in memory, where there is one."""
    shm = '/dev/shm'
    with tempfile.TemporaryDirectory(dir=shm if os.path.isdir(shm) else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize('name', READERS)
def test_a_damaged_file_is_a_value_or_one_line(name, scratch, in_time, monkeypatch):
    monkeypatch.setattr(environment, 'collect_environment', dict)  # asks git
    monkeypatch.setattr(os, 'fsync', lambda handle: None)
    warnings.simplefilter('ignore')
    write, read = READERS[name]
    kept, folder = scratch / 'kept', scratch / 'run'
    kept.mkdir()
    path = write(kept)
    content, below = path.read_bytes(), path.relative_to(kept)
    faults: dict[str, str] = {}

    def judge(shown: str, damage: Callable[[Path], Any]) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        (folder / below).unlink()
        damage(folder / below)
        try:
            read(folder)
        except UserError as error:
            if not 10 < len(str(error)) < 2000:
                faults.setdefault(f'message {str(error)[:100]!r}', shown)
            return 'refused'
        except Exception as error:
            faults.setdefault(f'{type(error).__name__}: {error}'[:150], shown)
        return 'read'

    assert judge('nothing', lambda path: path.write_bytes(content)) == 'read'
    judge('a folder', lambda path: path.mkdir())
    judge('a pipe', os.mkfifo)
    judge('no file', lambda path: None)
    changes = [*damages(content)]
    chosen = random.Random(0).sample(changes, min(len(changes), MOST))
    for one in (*WHOLE, *chosen):
        judge(repr(one[-300:]), lambda path: path.write_bytes(one))  # noqa: B023
    assert not faults, '\n'.join(f'{k}\n    {v}' for k, v in faults.items())
