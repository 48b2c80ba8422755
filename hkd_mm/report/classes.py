# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Results by class: F1, confusion, operating points."""

from functools import partial

import numpy as np

from hkd_mm.evaluation.classification_scores import (
    confusion_shares,
    f1_by_class,
)
from hkd_mm.evaluation.operating_points import (
    FALSE_ALARMS,
    auroc_by_seed,
    mean_roc,
    sensitivity_at,
)
from hkd_mm.evaluation.significance import bootstrap_interval, scores_by_seed
from hkd_mm.experiments.table_text import format_interval
from hkd_mm.report.charts import (
    DIVERGING,
    MANY,
    class_map,
    curve,
    figure,
    heat_map,
    is_shown,
)
from hkd_mm.report.data import ReportData
from hkd_mm.report.page import Chart, Section, Table, count_cell, mean_sd_cell

SPECIFICITIES = (0.90, 0.95)
_RESAMPLES = 500


def f1_section(data: ReportData) -> Section:
    """Heat map of F1, methods by classes."""
    count = len(data.classes)
    counts = np.bincount(data.labels, minlength=count)
    values = [f1_by_class(data.labels, method.chosen, count) for method in data.methods]
    worst = data.classes[int(np.nanargmin(np.nanmean(values, 0)))]
    alt = (
        'F1 of each class (columns) for each method (rows), mean over the '
        f'seeds; the hardest class is {worst}.'
    )
    rows = [
        [name, count_cell(images), *((f'{v:.2f}', float(v)) for v in column)]
        for name, images, column in zip(data.classes, counts, zip(*values))
    ]
    header = ['class', 'test images', *(method.title for method in data.methods)]
    table = Table('F1, mean over the seeds.', header, rows)
    made = class_map(data.methods, values, data.classes)
    chart = Chart('f1', made, alt, 110 + 44 * len(values))
    how = (
        'Bright is good; a column that is dark everywhere is a class that '
        'no method finds, a dark cell in a bright column one that a method '
        'has lost.'
    )
    return Section('f1', 'F1 by class', how, data.basis, [chart, table])


def confusion_section(data: ReportData) -> Section:
    """Confusion matrices side by side, and what distillation changes."""
    if not data.roles:
        return Section(
            'confusion',
            'Confusion',
            left_out='name networks with --teacher, --alone and --distilled',
        )
    names, charts, found = data.classes, [], {}
    many = len(names) > MANY
    height = 110 + 18 * len(names) if many else 380
    for role, method in data.roles.items():
        found[role] = 100 * confusion_shares(data.labels, method.chosen, len(names))
        title = method.title
        if not title.lower().startswith(role):
            title = f'{role}: {title}'
        kept = np.nanmean(np.diag(found[role]))
        alt = f'{title}. Mean of the diagonal: {kept:.0f} per cent.'
        made = _matrix(names, found[role], (0, 100), 'Cividis', '.0f')
        name = f'confusion-{role.replace(" ", "-")}'
        charts.append(Chart(name, made, alt, height))
    if 'distilled' in found and 'student alone' in found:
        change = found['distilled'] - found['student alone']
        reach = max(float(np.nanmax(np.abs(change))), 1.0)
        made = _matrix(names, change, (-reach, reach), DIVERGING, '+.0f')
        alt = (
            'distilled - student alone, in per cent of the row; mean of the '
            f'diagonal {np.nanmean(np.diag(change)):+.1f}.'
        )
        charts.append(Chart('confusion-change', made, alt, height))
    how = (
        'Rows are the true classes, numbers the per cent of their images '
        'that were given the class of the column, mean over the seeds; in '
        'the difference, on the diagonal more is better.'
    )
    tile = None if many else 420
    return Section('confusion', 'Confusion', how, data.basis, charts, tile=tile)


def _matrix(names: list[str], values, limits, scale, form: str):
    made = heat_map(values, names, names, limits, scale, form)
    made.update_xaxes(title=dict(text='predicted'))
    made.update_yaxes(title=dict(text='true'))
    made.update_layout(margin=dict(l=48, r=8, t=8, b=56))
    return made


def roc_section(data: ReportData) -> Section:
    """ROC of every class, and the class that matters most in a table."""
    order = [
        index
        for index in range(len(data.classes))
        if 0 < (data.labels == index).sum() < len(data.labels)
    ]
    if not order:
        return Section('roc', 'ROC', left_out='the test split has one class')
    order.sort(key=lambda index: index != data.positive)
    blocks: list = [_roc(data, order)]
    basis = data.basis
    if data.positive in order:
        blocks.append(_operating_points(data, data.positive))
        count = int((data.labels == data.positive).sum())
        basis += f' {count} test images are {data.classes[data.positive]}.'
    how = (
        'The further a curve bends to the upper left, the better a class is '
        'separated from all others. The table gives the sensitivity that the '
        'curve reaches where 90 or 95 per cent of the other images raise no '
        'alarm; its thresholds are read off the test curve, so they compare '
        'networks and are no operating point for use.'
    )
    return Section('roc', 'ROC by class', how, basis, blocks)


def _roc(data: ReportData, order: list[int]) -> Chart:
    methods = [m for m in data.methods if is_shown(data, m)]
    hover = 'false alarms %{x:.1%}, found %{y:.1%}'
    traces, choices = [], {}
    for index in order:
        start = len(traces)
        for method in methods:
            roc = mean_roc(data.labels == index, method.scores[:, :, index])
            traces.append(curve(data, method, FALSE_ALARMS, roc, hover))
        choices[data.classes[index]] = list(range(start, len(traces)))
    made = figure(traces, '1 - specificity (false alarms)', 'sensitivity (found)')
    made.update_xaxes(range=[0, 1], tickformat='.0%')
    made.update_yaxes(range=[0, 1.01], tickformat='.0%')
    alt = 'ROC curve of one class against all others, mean over the seeds.'
    return Chart('roc', made, alt, 460, choices)


def _operating_points(data: ReportData, index: int) -> Table:
    name, truth = data.classes[index], (data.labels == index).astype(int)
    header = ['method', f'AUROC {name}']
    for specificity in SPECIFICITIES:
        header += [f'sensitivity at {specificity:.0%} specificity']
        header += ['95 % interval']
    rows = []
    for method in data.methods:
        scores = method.scores[:, :, index]
        row = [method.title, mean_sd_cell(auroc_by_seed(truth, scores))]
        for specificity in SPECIFICITIES:
            score = partial(sensitivity_at, specificity=specificity)
            ends = bootstrap_interval(truth, scores, data.groups, score, _RESAMPLES)
            row.append(mean_sd_cell(scores_by_seed(truth, scores, score)))
            row.append((format_interval(ends), ends[0]))
        rows.append(row)
    caption = (
        f'{name} against the rest, mean +- sd over the seeds; intervals from '
        f'a bootstrap over {data.unit}.'
    )
    return Table(caption, header, rows)
