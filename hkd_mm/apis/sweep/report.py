# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a sweep came to: the trials, the winner, its test figures."""

import statistics
from pathlib import Path
from typing import Any

from ..run.run_files import TESTED
from .files import read_json, write_json, write_text
from .plan import Sweep
from .settings import without_places
from .tables import markdown
from .training import RESULT
from .trial_queue import TrialQueue, params_of

JSON, TABLE = 'sweep.json', 'table.md'
_TOLD = (  # of these, what the test has
    *('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc'),
    *('dice', 'iou', 'hd95', 'patient_dice'),
)


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
    from hkd_mm.engine.report.environment import collect_environment

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
        for key in dict.fromkeys((*_TOLD, sweep.metric))
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
