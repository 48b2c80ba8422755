# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The table of a study: for a terminal, for Markdown and for programs."""

from pathlib import Path
from typing import Any

from rich.table import Table

from hkd_mm.experiments import table_text
from hkd_mm.experiments.outcome import MethodResult
from hkd_mm.experiments.run_folders import write_json, write_text
from hkd_mm.experiments.study import Study
from hkd_mm.io.markup import markdown as as_text
from hkd_mm.io.markup import markdown_table
from hkd_mm.io.tables import write_table
from hkd_mm.metric_names import COMPARED_OF_MASKS, OF_NETS, format_value, title_of


def caption(study: Study, outcomes: list[MethodResult]) -> str:
    """Describe what the figures are of, and how far they reach."""
    first = outcomes[0]
    named_groups = first.predictions.sample_ids, first.predictions.groups
    groups = 'patients' if study.compared_by in COMPARED_OF_MASKS else 'lesions'
    unknown = table_text.are_unknown(*named_groups)
    unit = 'images' if unknown else groups
    most = max(outcomes, key=lambda outcome: len(outcome.predictions.chosen))
    seeds = len(most.predictions.chosen)
    folds = len(most.tests) // seeds
    count = table_text.format_image_count(*named_groups, groups)
    spread = 'one seed'
    if len(most.tests) > 1:
        spread = f'mean +- sample sd over {seeds} seed{"s" * (seeds > 1)}'
        spread += f' x {folds} folds' * (folds > 1)
    text = (
        f'Test split, {count}, read once a run; {spread}; checkpoints chosen '
        'on validation.'
    )
    text += (
        f' The 95 % interval is over other {unit}, the networks staying the same.'
        if first.has_multiple_groups
        else f' All images are of one {unit[:-1]}, so there is neither an interval '
        'nor a test of differences.'
    )
    if unknown:
        text += f' {table_text.unknown_groups_note(groups)}'
    if any(outcome.against for outcome in outcomes):
        text += (
            f' Differences in {title_of(study.compared_by)}, paired over '
            f'seeds and {unit}, with 95 % intervals; p after Holm'
            + (', over all folds together.' if folds > 1 else '.')
        )
        if seeds == 1:
            text += (
                ' They are of these networks alone: one seed does not tell '
                'what another would give.'
            )
    if any(outcome.row.paper for outcome in outcomes):
        text += " The paper's figures are of its own images" + (
            ' and of other networks.' if study.size else '.'
        )
    text += table_text.unit_name(outcomes) + table_text.one_class_note(outcomes)
    missing = len(study.rows) - len(outcomes)
    return text + (f' {missing} rows are not done yet.' if missing else '')


def write_tables(
    study: Study, outcomes: list[MethodResult], out: Path, facts: dict[str, Any]
) -> None:
    """Write ``table.md``, ``results.json`` with ``facts``, and predictions."""
    first = outcomes[0].predictions
    unknown = table_text.are_unknown(first.sample_ids, first.groups)
    hashes = {r.get('split_hash') for o in outcomes for r in o.reports}
    test = dict(
        images=len(first.sample_ids),
        groups=None if unknown else len(set(first.groups)),
        split_hashes=sorted(filter(None, hashes)),
        checkpoint='the best on validation',
    )
    rows = [_as_dict(study, outcome) for outcome in outcomes]
    results = dict(facts, caption=caption(study, outcomes), test=test, rows=rows)
    write_text(out / 'table.md', markdown(study, outcomes))
    write_json(out / 'results.json', results)
    columns = {
        f'{outcome.row.name}_seed{seed}': chosen
        for outcome in outcomes
        for seed, chosen in enumerate(outcome.predictions.chosen)
    }
    write_table(
        out / 'predictions.csv',
        ['sample_id', 'lesion_id', 'label', *columns],
        zip(first.sample_ids, first.groups, first.labels, *columns.values()),
    )


def markdown(study: Study, outcomes: list[MethodResult]) -> str:
    """The table as Markdown, with ``mean +- sd``, and its caption."""
    table = markdown_table(_cells(study, outcomes))
    return f'{table}\n{as_text(caption(study, outcomes))}\n'


def terminal(study: Study, outcomes: list[MethodResult]) -> Table:
    """The table for a terminal."""
    header, *rows = _cells(study, outcomes)
    below = caption(study, outcomes)
    return table_text.make_table(study.title, header, rows, caption=below)


def _cells(study: Study, outcomes: list[MethodResult]) -> list[list[str]]:
    titles = {row.name: row.title for row in study.rows}
    papers = [  # what any row's paper has
        key
        for key in (*study.metrics, 'minutes')
        if any(key in row.paper for row in study.rows)
    ]
    header = [
        'network',
        *(title_of(key) for key in study.metrics),
        f'{title_of(study.compared_by)}, 95 % interval',
        'minutes',
        *(f'paper: {title_of(key)}' for key in papers),
        *(f'against {titles[name]}' for name in study.baselines),
    ]
    return [header] + [
        [
            table_text.row_title(outcome),
            *(table_text.format_mean_sd(*outcome.test(key)) for key in study.metrics),
            table_text.format_interval(outcome.interval),
            f'{outcome.minutes:.1f}',
            *(
                format_value(key, outcome.row.paper[key])
                if key in outcome.row.paper
                else ''
                for key in papers
            ),
            *(table_text.format_difference(outcome, name) for name in study.baselines),
        ]
        for outcome in outcomes
    ]


def _as_dict(study: Study, outcome: MethodResult) -> dict[str, Any]:
    measured = [key for key in study.metrics if key not in OF_NETS]
    return dict(
        name=outcome.row.name,
        title=outcome.row.title,
        config=outcome.row.config.name,
        options=outcome.row.options,
        epochs=outcome.reports[0].get('epochs'),
        seeds=len(outcome.predictions.chosen),
        minutes=outcome.minutes,
        network=outcome.reports[0].get('student'),
        validation={key: outcome.validation(key) for key in measured},
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
