# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How far a long job is, on a terminal and in a file."""

import io
import re
import sys

import pytest

from hkd_mm.io import progress as module
from hkd_mm.io.progress import Progress, about, how_far, left_of_runs, tracked


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
    return now


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0.4, '0 s'), (89.7, '90 s'), (720, '12 min'), (12_600, '3.5 h')],
)
def test_durations_are_rounded(seconds, text):
    assert about(seconds) == text


def test_the_time_left_stands_last_and_goes_at_the_end():
    assert how_far(7, 120, 90.2) == '7 of 120, about 90 s left'
    assert how_far(7, 9, 5, 'runs', 'one') == '7 of 9 runs, one, about 5 s left'
    assert how_far(0, 9, None, 'runs') == '0 of 9 runs'
    assert how_far(9, 9, 0.0) == '9 of 9'


def test_a_file_gets_a_line_every_30_s_and_a_last_one(clock):
    stream = io.StringIO()
    with Progress('packing', 10, 'images', stream=stream) as progress:
        for _ in range(10):
            clock[0] += 12
            progress.advance()
    assert stream.getvalue().splitlines() == [
        'packing: 3 of 10 images, about 84 s left',
        'packing: 6 of 10 images, about 48 s left',
        'packing: 9 of 10 images, about 12 s left',
        'packing: 10 of 10 images in 2 min',
    ]


def test_a_short_or_broken_job_writes_no_last_line(clock):
    stream = io.StringIO()
    with Progress('packing', 2, stream=stream) as progress:
        clock[0] += 20
        progress.advance(2)
    assert stream.getvalue() == ''
    with (
        pytest.raises(KeyError),
        Progress('packing', 2, stream=stream) as progress,
    ):
        clock[0] += 40
        progress.advance()
        raise KeyError
    assert stream.getvalue() == 'packing: 1 of 2, about 40 s left\n'


def test_what_was_done_before_is_no_part_of_the_speed(clock):
    progress = Progress('training', 100, 'steps', done=80)
    with progress:
        clock[0] += 10
        progress.update(90)
        assert progress.text() == 'training: 90 of 100 steps, about 10 s left'


def test_a_terminal_gets_a_bar_that_stays_in_place(clock, monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    stream = Terminal()
    with Progress('packing [all]', 4, 'images', stream=stream) as progress:
        assert progress.in_place
        for _ in range(4):
            clock[0] += 1
            progress.advance()
    told = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', stream.getvalue())
    for line in (
        'packing [all]: 1 of 4 images, about 3 s left',
        'packing [all]: 4 of 4 images',
    ):
        assert line in told
    assert '\x1b[2K' in stream.getvalue()  # taken away at the end


def test_without_rich_a_terminal_gets_lines(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rich.progress', None)
    stream = Terminal()
    with Progress('predicting', 4, 'images', stream=stream) as progress:
        clock[0] += 31
        progress.advance(2)
    assert stream.getvalue().startswith('predicting: 2 of 4 images, about 31 s left\n')


def test_items_are_passed_on_and_counted(clock, capsys):
    def slow():
        for item in 'abc':
            clock[0] += 20
            yield item

    assert list(tracked(slow(), 'reading', 3, 'files')) == ['a', 'b', 'c']
    assert capsys.readouterr().err.splitlines() == [
        'reading: 2 of 3 files, about 20 s left',
        'reading: 3 of 3 files in 60 s',
    ]


@pytest.mark.parametrize(
    ('finished', 'running', 'waiting', 'side_by_side', 'seconds'),
    [
        ([], [5], 3, 1, None),
        ([10, 20], [], 4, 1, 60),
        ([10, 20], [5, 5], 4, 2, (10 + 10 + 60) / 2),
        ([10], [2], 0, 4, 8),  # one run is not divided among four
        ([10], [25], 0, 1, 0),  # longer than the mean: any time now
    ],
)
def test_runs_side_by_side_take_the_mean_of_the_finished_ones(
    finished, running, waiting, side_by_side, seconds
):
    assert left_of_runs(finished, running, waiting, side_by_side) == seconds
