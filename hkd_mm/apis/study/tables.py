# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The table of a study, for a terminal, for Markdown and for programs."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from hkd_mm.engine.atomic_backend import AtomicBackend
from hkd_mm.engine.report.history import to_json

from .outcome import Outcome
from .plan import COMPARED_OF_MASKS, OF_NETS, Study

_TITLES = dict(
    balanced_accuracy='balanced accuracy',
    top1='accuracy',
    top5='top-5 accuracy',
    macro_f1='macro F1',
    weighted_f1='weighted F1',
    macro_auroc='macro AUROC',
    macro_precision='macro precision',
    macro_specificity='macro specificity',
    dice='Dice',
    patient_dice='Dice of a patient',
    iou='IoU',
    hd95='95 % Hausdorff distance',
    parameters='parameters / M',
    gflops='GFLOPs',
    milliseconds='ms an image',
)
_SHORT = dict(f1='F1', auroc='AUROC')


def write_tables(
    study: Study, outcomes: list[Outcome], out: Path, facts: dict[str, Any]
) -> None:
    """Write ``table.md``, ``results.json`` and ``predictions.csv``.

    Args:
        study: whose.
        outcomes: finished rows, at least one.
        out: folder.
        facts: what else ``results.json`` says of the study.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = dict(
        facts, rows=[_as_dict(study, outcome) for outcome in outcomes]
    )
    files = {
        'table.md': markdown(study, outcomes),
        'results.json': to_json(results) + '\n',
        'predictions.csv': _predictions(outcomes),
    }
    for name, text in files.items():
        AtomicBackend().put_text(text, str(out / name))


def markdown(study: Study, outcomes: list[Outcome]) -> str:
    """The table as Markdown, ``mean +- sd`` over the seeds."""
    header = _header(study)
    lines = [header, ['---'] * len(header)]
    lines += [_cells(study, outcome) for outcome in outcomes]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def terminal(study: Study, outcomes: list[Outcome]):
    """The table as a ``rich.table.Table``."""
    from rich.table import Table

    table = Table(title=study.title)
    for index, name in enumerate(_header(study)):
        table.add_column(name, justify='right' if index else 'left')
    for outcome in outcomes:
        table.add_row(*_cells(study, outcome))
    table.caption = caption(study, outcomes)
    return table


def caption(study: Study, outcomes: list[Outcome]) -> str:
    """What the figures are, in a sentence or two."""
    first = outcomes[0]
    seeds = len(first.predictions.chosen)
    folds = len(first.tests) // seeds
    images = len(first.predictions.sample_ids)
    lesions = len(set(first.predictions.groups))
    whose = 'patients' if study.compared_by in COMPARED_OF_MASKS else 'lesions'
    text = (
        f'Test split, {images} images of {lesions} {whose}, read once a run; '
        f'mean +- sample sd over {seeds} seed{"s" * (seeds > 1)}'
        + (f' x {folds} folds' if folds > 1 else '')
        + '; checkpoints chosen on validation.'
    )
    if study.baselines:
        text += (
            f' Differences in {title_of(study.compared_by)}, paired over '
            f'seeds and {whose}, with 95 % intervals; p after Holm'
            + (', over all folds together.' if folds > 1 else '.')
        )
    text += unit_told(outcomes)
    missing = len(study.rows) - len(outcomes)
    if missing:
        text += f' {missing} rows are not done yet.'
    return text


def unit_told(outcomes: list[Outcome]) -> str:
    """A sentence on the unit of distances; empty where there are none."""
    tests = [test for outcome in outcomes for test in outcome.tests]
    units = {test['hd95_unit'] for test in tests if 'hd95_unit' in test}
    told = dict(mm='mm', pixel="pixels of the net's images")
    named = ' or '.join(told[unit] for unit in sorted(units))
    return f' Distances in {named}.' if named else ''


def title_of(metric: str) -> str:
    """What a reader calls a metric; ``mel/f1`` becomes ``F1 of mel``."""
    name, _, figure = metric.rpartition('/')
    if name:
        return (
            f'{figure.replace("f1", "F1").replace("auroc", "AUROC")} of {name}'
        )
    return _TITLES.get(metric, metric)


def _of_papers(study: Study) -> list[str]:
    """What any row's paper has, in the order of the columns."""
    wanted = (*study.metrics, 'minutes')
    return [key for key in wanted if any(key in r.paper for r in study.rows)]


def _header(study: Study) -> list[str]:
    titles = {row.name: row.title for row in study.rows}
    return [
        'network',
        *(title_of(key) for key in study.metrics),
        'minutes',
        *(f'paper: {title_of(key)}' for key in _of_papers(study)),
        *(f'against {titles[name]}' for name in study.baselines),
    ]


def _cells(study: Study, outcome: Outcome) -> list[str]:
    paper = outcome.row.paper
    return [
        outcome.row.title,
        *(plus_minus(*outcome.test(key)) for key in study.metrics),
        f'{outcome.minutes:.1f}',
        *(
            f'{paper[key]:{".1f" if key == "minutes" else ".4f"}}'
            if key in paper
            else ''
            for key in _of_papers(study)
        ),
        *(_against(outcome, name) for name in study.baselines),
    ]


def plus_minus(mean: float, sd: float) -> str:
    """``0.383 +- 0.056``; the mean alone of one seed, nothing of none."""
    if math.isnan(mean):
        return ''
    return f'{mean:.3f}' + ('' if math.isnan(sd) else f' +- {sd:.3f}')


def _against(outcome: Outcome, baseline: str) -> str:
    found = outcome.against.get(baseline)
    if found is None:
        return ''
    p = outcome.adjusted[baseline]
    return (
        f'{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p {p:.3f}'
    )


def _as_dict(study: Study, outcome: Outcome) -> dict[str, Any]:
    return dict(
        name=outcome.row.name,
        title=outcome.row.title,
        config=outcome.row.config.name,
        options=outcome.row.options,
        epochs=outcome.epochs,
        seeds=len(outcome.predictions.chosen),
        minutes=outcome.minutes,
        net=outcome.reports[0].get('student'),
        validation={
            key: outcome.validation(key)
            for key in study.metrics
            if key not in OF_NETS
        },
        test={key: outcome.test(key) for key in study.metrics},
        paper=outcome.row.paper,
        interval=outcome.interval,
        test_runs=outcome.tests,
        against={
            name: dict(difference._asdict(), p_holm=outcome.adjusted[name])
            for name, difference in outcome.against.items()
        },
    )


def _predictions(outcomes: list[Outcome]) -> str:
    """A line an image: its class, and what each net chose."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    first = outcomes[0].predictions
    columns = {
        f'{outcome.row.name}_seed{seed}': chosen
        for outcome in outcomes
        for seed, chosen in enumerate(outcome.predictions.chosen)
    }
    writer.writerow(['sample_id', 'lesion_id', 'label', *columns])
    writer.writerows(
        zip(first.sample_ids, first.groups, first.labels, *columns.values())
    )
    return stream.getvalue()
