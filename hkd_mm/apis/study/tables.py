# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The table of a study, for a terminal, for Markdown and for programs."""

import csv
import io
from pathlib import Path
from typing import Any

from hkd_mm.engine.atomic_backend import AtomicBackend
from hkd_mm.engine.report.history import to_json

from .outcome import Outcome
from .plan import OF_NETS, Study
from .words import (
    are_unknown,
    caption,
    difference_told,
    interval_told,
    plus_minus,
    row_title,
    title_of,
)

# of figures that are no fractions
_FORMS = dict(dict.fromkeys(OF_NETS, '.5g'), minutes='.1f')


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


def markdown(study: Study, outcomes: list[Outcome]) -> str:
    """The table as Markdown, with ``mean +- sd``, and its caption."""
    header = _header(study)
    lines = [header, ['---'] * len(header)]
    lines += [_cells(study, outcome) for outcome in outcomes]
    table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    return f'{table}\n{caption(study, outcomes)}\n'


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


def _cells(study: Study, outcome: Outcome) -> list[str]:
    paper = outcome.row.paper
    return [
        row_title(outcome),
        *(plus_minus(*outcome.test(key)) for key in study.metrics),
        interval_told(outcome.interval),
        f'{outcome.minutes:.1f}',
        *(
            f'{paper[key]:{_FORMS.get(key, ".4f")}}' if key in paper else ''
            for key in _of_papers(study)
        ),
        *(difference_told(outcome, name) for name in study.baselines),
    ]


def _test_split(outcomes: list[Outcome]) -> dict[str, Any]:
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
