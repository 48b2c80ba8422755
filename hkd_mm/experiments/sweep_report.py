# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables of a sweep, live and final, and its winner.

A line for each change of a trial, and every 30 s one on the whole.
"""

import statistics
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from hkd_mm.engine.run_files import TESTED
from hkd_mm.evaluation.metric_names import CLASS_SUMMARY, MASK_SUMMARY
from hkd_mm.experiments.search_space import Choices
from hkd_mm.experiments.sweep_file import Sweep
from hkd_mm.experiments.sweep_storage import without_places
from hkd_mm.experiments.trial_queue import TrialQueue, params_of
from hkd_mm.experiments.trial_runner import (
    RESULT,
    read_json,
    write_json,
    write_text,
)
from hkd_mm.io.progress import EVERY, how_far, left_of_runs


def markdown(sweep: Sweep, found: dict[str, Any]) -> str:
    """``table.md``: a map of two varied lists, all trials, the winner."""
    names = list(sweep.space)
    rows = [['trial', *names, sweep.metric, 'minutes', '']]
    for trial in found['trials']:
        rows.append(
            [
                str(trial['number']),
                *(brief(trial['params'].get(name, '')) for name in names),
                figure(trial['value']) + _spread(trial['values']),
                figure(trial['minutes'], 1),
                trial['state']
                if trial['state'] != 'fail'
                else f'failed: {trial["reason"]}',
            ]
        )
    parts = [f'# {sweep.title}\n', *_map(sweep, found), _table(rows)]
    winner = found['winner']
    if winner:
        test = winner['test'] or {}
        parts.append(
            f'\nWinner: trial {winner["number"]}, {sweep.metric} '
            f'{figure(winner["value"])} on validation. On the test split: '
            + ', '.join(f'{k} {figure(v)}' for k, v in test.items())
            + '.\n'
        )
    return '\n'.join([*parts, found['selection'] + '\n'])


def _map(sweep: Sweep, found: dict[str, Any]) -> list[str]:
    lists = list(sweep.space.items())
    if len(lists) != 2 or not all(isinstance(e, Choices) for _, e in lists):
        return []
    (down, rows), (across, columns) = lists
    cells = {
        (trial['params'].get(down), trial['params'].get(across)): trial
        for trial in found['trials']
    }
    table = [[f'{down} \\ {across}', *map(brief, columns.values)]]
    for row in rows.values:
        table.append(
            [
                brief(row),
                *(
                    figure(cells.get((row, column), {}).get('value'))
                    for column in columns.values
                ),
            ]
        )
    return [_table(table)]


def _table(rows: list[list[str]]) -> str:
    lines = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return ''.join(
        f'| {" | ".join(_cell(c) for c in line)} |\n' for line in lines
    )


def _cell(text: str) -> str:
    return text.replace('|', '\\|').replace('\n', ' ')


def _spread(values: list[float] | None) -> str:
    """Sample standard deviation over the seeds."""
    many = values is not None and len(values) > 1
    return f' +- {statistics.stdev(values):.3f}' if many else ''


def figure(value: float | None, digits: int = 3) -> str:
    """A number for a table; nothing where there is none."""
    return '' if value is None else f'{value:.{digits}f}'


def brief(value: Any) -> str:
    """A value of the space; drawn numbers have more digits than one reads."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def listed(params: dict[str, Any]) -> str:
    """The values of a trial in one line."""
    return ', '.join(f'{name}={brief(v)}' for name, v in params.items())


JSON, TABLE = 'sweep.json', 'table.md'


def winner_of(sweep: Sweep, trials: list) -> Any:
    """The best trial that came to its end, the earlier of equals; or None."""
    sign = 1 if sweep.maximised else -1
    done = [trial for trial in trials if trial.state.name == 'COMPLETE']
    return max(done, key=lambda t: (sign * t.value, -t.number), default=None)


def rule(sweep: Sweep, tested: list[int]) -> str:
    """How the winner was chosen, in words.

    Args:
        sweep: whose.
        tested: the trials that ever read the test split.
    """
    most = 'highest' if sweep.maximised else 'lowest'
    many = len(sweep.seeds) > 1
    mean = f', mean of {len(sweep.seeds)} seeds' if many else ''
    each = ' with each seed' if many else ''
    if len(tested) > 1:
        read = (
            f'for {len(tested)} trials ({", ".join(map(str, tested))}), each '
            f'the winner when it was read, once{each}'
        )
    else:
        read = f'for the winner alone, once{each}' if tested else 'by no trial'
    return (
        f'The winner has the {most} {sweep.metric} on the validation split, '
        f'at the checkpoint that validation chose{mean}; of equal trials the '
        f'earlier one. The test split was read {read}. The best of many '
        'validation figures is too good by chance; the test figures are not.'
    )


def write_report(sweep: Sweep, queue: TrialQueue, options: list[str]) -> None:
    """Write ``sweep.json`` and ``table.md`` into the work dir.

    Args:
        sweep: whose.
        queue: of its trials.
        options: of the command line.
    """
    from hkd_mm.engine.environment import collect_environment

    trials = queue.study.get_trials(deepcopy=False)
    winner = winner_of(sweep, trials)
    tested = sorted(
        {int(p.parent.name[:4]) for p in _runs(queue).glob(f'*/{TESTED[0]}')}
    )
    found = dict(
        sweep=sweep.path.name,
        title=sweep.title,
        selection=rule(sweep, tested),
        metric=sweep.metric,
        sampler=sweep.sampler,
        pruner=sweep.pruner,
        seeds=list(sweep.seeds),
        options=sweep.options,
        cfg_options=without_places(options),
        trials=[_as_dict(queue, trial) for trial in trials],
        winner=None
        if winner is None
        else dict(
            _as_dict(queue, winner),
            config=sweep.config(winner.params).name,
            test=tested_figures(sweep, queue, winner.number),
        ),
        tested_trials=tested,  # more than one: the sweep grew after a test
        environment=collect_environment(),
    )
    place = queue.work_dir
    write_text(place / TABLE, markdown(sweep, found))
    write_json(place / JSON, found)


def _runs(queue: TrialQueue) -> Path:
    return queue.work_dir / 'runs'


def is_over(sweep: Sweep, queue: TrialQueue) -> bool:
    """Whether all trials have ended, the winner is tested and all is told."""
    written = read_json(queue.work_dir / JSON)
    if queue.unfinished() or written is None:
        return False
    trials = queue.study.get_trials(deepcopy=False)
    best = winner_of(sweep, trials)
    return len(written['trials']) == len(trials) and (
        best is None or tested_figures(sweep, queue, best.number) is not None
    )


def tested_figures(
    sweep: Sweep, queue: TrialQueue, number: int
) -> dict[str, float] | None:
    """Metric -> mean over the seeds on the test split; None before that."""
    found = []
    for seed in sweep.seeds:
        path = queue.run_folder(number, seed) / TESTED[0]
        if not path.is_file():
            return None
        found.append(read_json(path) or {})
    return {
        key: statistics.mean(report[key] for report in found)
        for key in dict.fromkeys((*CLASS_SUMMARY, *MASK_SUMMARY, sweep.metric))
        if all(key in report for report in found)
    }


def _as_dict(queue: TrialQueue, trial: Any) -> dict[str, Any]:
    told = read_json(queue.folder(trial.number) / RESULT) or {}
    return dict(
        number=trial.number,
        state=trial.state.name.lower(),
        params=params_of(trial),
        value=trial.value if trial.state.name == 'COMPLETE' else None,
        values=told.get('values'),
        epochs=told.get('epochs'),
        minutes=told.get('minutes'),
        reason=told.get('reason'),
    )


_BEST = 12  # finished trials that a live table has room for


class ProgressTable:
    """Shows the trials while they run; a context.

    Args:
        queue: whose trials.
    """

    def __init__(self, queue: TrialQueue) -> None:
        from rich.console import Console

        self.queue, self.sweep = queue, queue.sweep
        self.console = Console()
        self._shown: dict[int, str] = {}
        self._live: Any = None
        self._told = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> 'ProgressTable':
        if self.console.is_terminal:
            from rich.live import Live

            self._live = self._stack.enter_context(
                Live(console=self.console, auto_refresh=False)
            )
        self.update(quiet=True)
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def update(self, quiet: bool = False) -> None:
        """Look again.

        Args:
            quiet: print no lines on what was so before.
        """
        trials = self.queue.study.get_trials(deepcopy=False)
        if self._live is not None:
            self._live.update(self.table(trials), refresh=True)
            return
        for trial in trials:
            line = self.line(trial)
            if line and line != self._shown.get(trial.number):
                self._shown[trial.number] = line
                if not quiet:
                    print(line, flush=True)
        if not quiet and time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            print(self.head(trials), flush=True)

    def line(self, trial: Any) -> str:
        """What is new of a trial, in plain words; nothing while it waits."""
        state = trial.state.name
        if state == 'WAITING':
            return ''
        if state == 'RUNNING':
            said = listed(params_of(trial))
        elif state == 'COMPLETE':
            said = f'{self.sweep.metric} {figure(trial.value)} on validation'
        elif state == 'PRUNED':
            said = f'pruned after epoch {trial.last_step}'
        else:
            said = f'failed: {trial.user_attrs.get("reason", "no reason")}'
        return f'trial {trial.number}: {said}'

    def head(self, trials: list) -> str:
        """How many are done, the time left, and the best so far."""
        states = [trial.state.name for trial in trials]
        total = max(self.sweep.trials, len(trials))
        done = sum(trial.state.is_finished() for trial in trials)
        text = how_far(done, total, _seconds_left(trials, total), 'trials')
        for name, word in (
            ('RUNNING', 'running'),
            ('PRUNED', 'pruned'),
            ('FAIL', 'failed'),
        ):
            if name in states:
                text += f', {states.count(name)} {word}'
        best = winner_of(self.sweep, trials)
        if best is not None:
            text += f'; best: {figure(best.value)}, trial {best.number}'
        return text

    def table(self, trials: list) -> Any:
        """Trials under way, then the best ones, as a rich table."""
        from rich.table import Table

        table = Table(title=self.sweep.title, caption=self.head(trials))
        names = list(self.sweep.space)
        for name in ('trial', *(n.rsplit('.', 1)[-1] for n in names)):
            table.add_column(name)
        for name in ('epoch', self.sweep.metric, 'state'):
            table.add_column(name)
        for trial in self.chosen(trials):
            params, step = params_of(trial), trial.last_step
            seen = trial.intermediate_values.get(step)
            value = seen if trial.value is None else trial.value
            table.add_row(
                str(trial.number),
                *(brief(params.get(name, '')) for name in names),
                '' if step is None else str(step),
                figure(value),
                trial.state.name.lower(),
            )
        return table

    def chosen(self, trials: list) -> list:
        """Those that there is room for."""
        sign = -1 if self.sweep.maximised else 1
        running = [t for t in trials if t.state.name == 'RUNNING']
        done = [t for t in trials if t.state.name == 'COMPLETE']
        done.sort(key=lambda t: (sign * t.value, t.number))
        others = [t for t in trials if t.state.name in ('PRUNED', 'FAIL')]
        return [*running, *done, *others][: len(running) + _BEST]


def _seconds_left(trials: list, total: int) -> float | None:
    """At the mean of the trials that ran, as many at once as run now."""
    now = datetime.now()  # Optuna notes local times
    running = [t for t in trials if t.state.name == 'RUNNING']
    return left_of_runs(
        [
            t.duration.total_seconds()
            for t in trials
            if t.state.name in ('COMPLETE', 'PRUNED') and t.duration
        ],
        [(now - t.datetime_start).total_seconds() for t in running],
        total - len(running) - sum(t.state.is_finished() for t in trials),
        max(1, len(running)),
    )
