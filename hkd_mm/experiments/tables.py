# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables of a study: for a terminal, for Markdown and for programs."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from hkd_mm.engine.run_summary import to_json
from hkd_mm.evaluation.metric_names import (
    COMPARED_OF_MASKS,
    OF_NETS,
    format_value,
    title_of,
)
from hkd_mm.experiments.outcome import MethodResult
from hkd_mm.experiments.plan import Study
from hkd_mm.io.atomic_files import AtomicBackend


def caption(study: Study, outcomes: list[MethodResult]) -> str:
    """What the figures are of, and how far they reach."""
    first = outcomes[0]
    seeds = len(first.predictions.chosen)
    folds = len(first.tests) // seeds
    told = format_image_count(*first.predictions.named_groups, whose(study))
    spread = 'one seed'
    if len(first.tests) > 1:
        spread = f'mean +- sample sd over {seeds} seed{"s" * (seeds > 1)}'
        spread += f' x {folds} folds' * (folds > 1)
    text = (
        f'Test split, {told}, read once a run; {spread}; checkpoints chosen '
        'on validation.'
    )
    unknown = are_unknown(*first.predictions.named_groups)
    unit = 'images' if unknown else whose(study)
    if first.has_multiple_groups:
        text += (
            f' The 95 % interval is over other {unit}, the networks staying '
            'the same.'
        )
    else:
        text += (
            f' All images are of one {unit[:-1]}, so there is neither an '
            'interval nor a test of differences.'
        )
    if unknown:
        text += f' {unknown_groups_note(whose(study))}'
    if any(outcome.against for outcome in outcomes):
        text += format_differences(study, unit, seeds, folds)
    if any(outcome.row.paper for outcome in outcomes):
        text += " The paper's figures are of its own images" + (
            ' and of other networks.' if study.size else '.'
        )
    text += unit_name(outcomes) + one_class_note(outcomes)
    missing = len(study.rows) - len(outcomes)
    if missing:
        text += f' {missing} rows are not done yet.'
    return text


def whose(study: Study) -> str:
    """What images are grouped by."""
    return 'patients' if study.compared_by in COMPARED_OF_MASKS else 'lesions'


def are_unknown(sample_ids: list[str], groups: list[str]) -> bool:
    """Whether no lesion or patient is known: each image is its own."""
    return list(sample_ids) == list(groups)


def format_image_count(
    sample_ids: list[str], groups: list[str], of: str
) -> str:
    """``300 images of 155 lesions``, or ``300 images, lesions unknown``.

    Args:
        sample_ids: N names.
        groups: N lesions or patients, the image itself where none is known.
        of: ``lesions`` or ``patients``.
    """
    if are_unknown(sample_ids, groups):
        return f'{len(groups)} images, {of} unknown'
    count = len(set(groups))
    return f'{len(groups)} images of {count} {of if count > 1 else of[:-1]}'


def unknown_groups_note(of: str) -> str:
    """A sentence on what follows where no lesion or patient is known."""
    return (
        f'With {of} unknown each image counts for itself, and images of one '
        f'{of[:-1]} may be in training and in test: figures may be too good '
        'and intervals too narrow.'
    )


def format_differences(
    study: Study, unit: str, seeds: int, folds: int = 1
) -> str:
    """A sentence on the differences to the baselines.

    Args:
        study: that compares.
        unit: that they are paired over beside the seeds, in the plural.
        seeds: number of them.
        folds: number of them; 0 or 1 for none.
    """
    text = (
        f' Differences in {title_of(study.compared_by)}, paired over seeds '
        f'and {unit}, with 95 % intervals; p after Holm'
        + (', over all folds together.' if folds > 1 else '.')
    )
    if seeds == 1:
        text += (
            ' They are of these networks alone: one seed does not tell what '
            'another would give.'
        )
    return text


def unit_name(outcomes: list[MethodResult]) -> str:
    """A sentence on the unit of distances; empty where there are none."""
    tests = [test for outcome in outcomes for test in outcome.tests]
    units = {test['hd95_unit'] for test in tests if 'hd95_unit' in test}
    told = dict(mm='mm', pixel="pixels of the network's images")
    named = ' or '.join(told[unit] for unit in sorted(units))
    return f' Distances in {named}.' if named else ''


def row_title(outcome: MethodResult) -> str:
    """Title of a row, marked where a run of it predicts one class only."""
    return outcome.row.title + ' *' * bool(outcome.one_class_runs)


def one_class_note(outcomes: list[MethodResult]) -> str:
    """The footnote to that mark; empty where there is none."""
    found = [
        f'{outcome.row.title} in {outcome.one_class_runs} of '
        f'{len(outcome.tests)}'
        for outcome in outcomes
        if outcome.one_class_runs
    ]
    if not found:
        return ''
    return (
        ' * ONE CLASS ONLY: predicts one class for every test image, '
        f'{"; ".join(found)} runs.'
    )


def format_mean_sd(mean: float, sd: float) -> str:
    """``0.383 +- 0.056``; the mean alone of one seed, nothing of none."""
    if math.isnan(mean):
        return ''
    return f'{mean:.3f}' + ('' if math.isnan(sd) else f' +- {sd:.3f}')


def format_interval(interval: tuple[float, float]) -> str:
    """``[0.351, 0.422]``; nothing where it is not known."""
    low, high = interval
    return '' if math.isnan(low) else f'[{low:.3f}, {high:.3f}]'


def format_difference(outcome: MethodResult, baseline: str) -> str:
    """``+0.053 [-0.060, +0.165], p 1.000``; nothing of no difference."""
    found = outcome.against.get(baseline)
    if found is None:
        return ''
    told = format_p_value(outcome.adjusted[baseline])
    return f'{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {told}'


def format_p_value(p: float) -> str:
    """``p 0.044``; a bound where three digits show none."""
    return 'p < 0.001' if p < 0.001 else f'p {p:.3f}'


def write_tables(
    study: Study,
    outcomes: list[MethodResult],
    out: Path,
    facts: dict[str, Any],
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
        facts,
        caption=caption(study, outcomes),
        test=_test_split(outcomes),
        rows=[_as_dict(study, outcome) for outcome in outcomes],
    )
    files = {
        'table.md': markdown(study, outcomes),
        'results.json': to_json(results),
        'predictions.csv': _predictions(outcomes),
    }
    for name, text in files.items():
        AtomicBackend().put_text(text, str(out / name))


def markdown(study: Study, outcomes: list[MethodResult]) -> str:
    """The table as Markdown, with ``mean +- sd``, and its caption."""
    header = _header(study)
    lines = [header, ['---'] * len(header)]
    lines += [_cells(study, outcome) for outcome in outcomes]
    table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    return f'{table}\n{caption(study, outcomes)}\n'


def terminal(study: Study, outcomes: list[MethodResult]):
    """The table as a ``rich.table.Table``."""
    from rich.table import Table

    table = Table(title=study.title)
    for index, name in enumerate(_header(study)):
        table.add_column(name, justify='right' if index else 'left')
    for outcome in outcomes:
        table.add_row(*_cells(study, outcome))
    table.caption = caption(study, outcomes)
    return table


def _of_papers(study: Study) -> list[str]:
    """What any row's paper has, in the order of the columns."""
    wanted = (*study.metrics, 'minutes')
    return [key for key in wanted if any(key in r.paper for r in study.rows)]


def _header(study: Study) -> list[str]:
    titles = {row.name: row.title for row in study.rows}
    return [
        'network',
        *(title_of(key) for key in study.metrics),
        f'{title_of(study.compared_by)}, 95 % interval',
        'minutes',
        *(f'paper: {title_of(key)}' for key in _of_papers(study)),
        *(f'against {titles[name]}' for name in study.baselines),
    ]


def _cells(study: Study, outcome: MethodResult) -> list[str]:
    paper = outcome.row.paper
    return [
        row_title(outcome),
        *(format_mean_sd(*outcome.test(key)) for key in study.metrics),
        format_interval(outcome.interval),
        f'{outcome.minutes:.1f}',
        *(
            format_value(key, paper[key]) if key in paper else ''
            for key in _of_papers(study)
        ),
        *(format_difference(outcome, name) for name in study.baselines),
    ]


def _test_split(outcomes: list[MethodResult]) -> dict[str, Any]:
    """What was tested on: images, groups, and which split it is part of."""
    first = outcomes[0].predictions
    hashes = {r.get('split_hash') for o in outcomes for r in o.reports}
    return dict(
        images=len(first.sample_ids),
        groups=None
        if are_unknown(*first.named_groups)
        else len(set(first.groups)),
        split_hashes=sorted(filter(None, hashes)),
        checkpoint='the best on validation',
    )


def _as_dict(study: Study, outcome: MethodResult) -> dict[str, Any]:
    return dict(
        name=outcome.row.name,
        title=outcome.row.title,
        config=outcome.row.config.name,
        options=outcome.row.options,
        epochs=outcome.epochs,
        seeds=len(outcome.predictions.chosen),
        minutes=outcome.minutes,
        network=outcome.reports[0].get('student'),
        validation={
            key: outcome.validation(key)
            for key in study.metrics
            if key not in OF_NETS
        },
        test={key: outcome.test(key) for key in study.metrics},
        one_class_runs=outcome.one_class_runs,
        paper=outcome.row.paper,
        interval=outcome.interval,
        test_runs=outcome.tests,
        against={
            name: dict(
                difference._asdict(),
                seeds=difference.seeds,
                p_holm=outcome.adjusted[name],
            )
            for name, difference in outcome.against.items()
        },
    )


def _predictions(outcomes: list[MethodResult]) -> str:
    """A line an image: its class, and what each network chose."""
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
