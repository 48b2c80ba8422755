# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a sweep found: ``sweep.json``, ``table.md`` and its winner."""

import statistics
from typing import Any

from typing_extensions import TypedDict

from hkd_mm.experiments import run_folders
from hkd_mm.experiments.outdated import without_data_root
from hkd_mm.experiments.sweep_file import Sweep
from hkd_mm.experiments.table_text import format_figure, format_setting
from hkd_mm.experiments.trial_queue import TrialQueue, params_of
from hkd_mm.experiments.trial_runner import RESULT
from hkd_mm.io.markup import markdown as as_text
from hkd_mm.io.markup import markdown_table
from hkd_mm.io.schema import read_as
from hkd_mm.metric_names import CLASS_SUMMARY, MASK_SUMMARY

JSON, TABLE = 'sweep.json', 'table.md'


class _Trial(TypedDict, extra_items=Any):
    number: int
    state: str
    params: dict[str, Any]
    reason: str | None


class _Winner(_Trial, extra_items=Any):
    test: dict[str, float] | None


class SweepReport(TypedDict, extra_items=Any):
    """What readers of ``sweep.json`` need; it holds more."""

    trials: list[_Trial]
    winner: _Winner | None
    selection: str


class _Result(TypedDict, total=False, extra_items=Any):
    """What a trial has left."""

    values: list[float]
    epochs: list[int | None]
    minutes: float
    reason: str


def is_over(queue: TrialQueue) -> bool:
    """Whether all trials have ended, the winner is tested, all is written."""
    written = run_folders.read_if_whole(SweepReport, queue.work_dir / JSON)
    if queue.is_incomplete() or written is None:
        return False
    best = queue.best()
    return len(written['trials']) == len(queue.trials) and (
        best is None or tested_figures(queue, best.number) is not None
    )


def tested_figures(queue: TrialQueue, number: int) -> dict[str, float] | None:
    """Metric -> mean over the seeds on the test split; None before that."""
    folders = [queue.run_folder(number, s) for s in queue.sweep.seeds]
    paths = [folder / run_folders.TESTED[0] for folder in folders]
    if not all(path.is_file() for path in paths):
        return None
    found = [run_folders.read_report(path) for path in paths]
    means = {
        key: statistics.mean(run_folders.figure(report, key) for report in found)
        for key in dict.fromkeys((*CLASS_SUMMARY, *MASK_SUMMARY, queue.sweep.metric))
    }
    return {key: value for key, value in means.items() if value == value}


def write_report(queue: TrialQueue, options: list[str]) -> None:
    """Write ``sweep.json`` and ``table.md`` into the work dir."""
    from hkd_mm.engine.environment import collect_environment

    sweep, winner = queue.sweep, queue.best()
    tests = (queue.work_dir / 'runs').glob(f'*_seed*/{run_folders.TESTED[0]}')
    numbers = {path.parent.name.partition('_')[0] for path in tests}
    tested = sorted(int(number) for number in numbers if number.isdecimal())
    found = dict(
        sweep=sweep.path.name,
        title=sweep.title,
        selection=rule(sweep, tested),
        metric=sweep.metric,
        sampler=sweep.sampler,
        pruner=sweep.pruner,
        seeds=list(sweep.seeds),
        options=sweep.options,
        cfg_options=without_data_root(options),
        trials=[_as_dict(queue, trial) for trial in queue.trials],
        winner=winner
        and dict(
            _as_dict(queue, winner),
            config=sweep.config_of(winner.params).name,
            test=tested_figures(queue, winner.number),
        ),
        tested_trials=tested,  # more than one: the sweep grew after a test
        environment=collect_environment(),
    )
    run_folders.write_text(queue.work_dir / TABLE, markdown(sweep, found))
    run_folders.write_json(queue.work_dir / JSON, found)


def _as_dict(queue: TrialQueue, trial: Any) -> dict[str, Any]:
    path = queue.folder(trial.number) / RESULT
    remedy = '; remove it: the trial counts without, its table has less of it'
    result = read_as(_Result, path, remedy) if path.is_file() else {}
    return dict(
        number=trial.number,
        state=trial.state.name.lower(),
        params=params_of(trial),
        value=trial.value if trial.state.name == 'COMPLETE' else None,
        **{key: result.get(key) for key in ('values', 'epochs', 'minutes', 'reason')},
    )


def rule(sweep: Sweep, tested: list[int]) -> str:
    """How the winner was chosen; ``tested`` trials read the test split."""
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


def markdown(sweep: Sweep, found: dict[str, Any]) -> str:
    """``table.md``: a map of two varied lists, all trials, the winner."""
    names = list(sweep.space)
    rows = [['trial', *names, sweep.metric, 'minutes', '']]
    for trial in found['trials']:
        state, values = trial['state'], trial['values'] or []
        spread = f' +- {statistics.stdev(values):.3f}' if values[1:] else ''
        settings = [format_setting(trial['params'].get(name, '')) for name in names]
        value = format_figure(trial['value']) + spread
        minutes = format_figure(trial['minutes'], 1)
        ended = f'failed: {trial["reason"]}' if state == 'fail' else state
        rows.append([str(trial['number']), *settings, value, minutes, ended])
    title = f'# {as_text(sweep.title)}\n'
    parts = [title, *_map(sweep, found), markdown_table(rows)]
    winner = found['winner']
    if winner:
        test = winner['test'] or {}
        parts.append(
            f'\nWinner: trial {winner["number"]}, {sweep.metric} '
            f'{format_figure(winner["value"])} on validation. On the test split: '
            + ', '.join(f'{k} {format_figure(v)}' for k, v in test.items())
            + '.\n'
        )
    return '\n'.join([*parts, found['selection'] + '\n'])


def _map(sweep: Sweep, found: dict[str, Any]) -> list[str]:
    if len(sweep.space) != 2 or sweep.ranges:
        return []
    (down, rows), (across, columns) = sweep.space.items()
    values = {
        (trial['params'].get(down), trial['params'].get(across)): trial['value']
        for trial in found['trials']
    }
    table = [[f'{down} \\ {across}', *map(format_setting, columns)]]
    for row in rows:
        cells = [format_figure(values.get((row, c))) for c in columns]
        table.append([format_setting(row), *cells])
    return [markdown_table(table)]
