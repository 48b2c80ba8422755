# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Results of classifiers: by class, calibration, agreement with the teacher."""

from functools import partial

import numpy as np

from hkd_mm.evaluation import calibration
from hkd_mm.evaluation.agreement import agreement, agreement_by_class
from hkd_mm.evaluation.classification_scores import confusion_shares, f1_by_class
from hkd_mm.evaluation.operating_points import (
    FALSE_ALARMS,
    auroc_by_seed,
    mean_roc,
    sensitivity_at,
)
from hkd_mm.evaluation.selective import best_aurc, risk_coverage
from hkd_mm.evaluation.significance import bootstrap_interval, scores_by_seed
from hkd_mm.experiments.table_text import format_interval
from hkd_mm.report import page
from hkd_mm.report.data import ReportData

SPECIFICITIES = (0.90, 0.95)
_RESAMPLES = 500
_BINS = 10
_POINTS = 200  # drawn of a curve


def f1_section(data: ReportData) -> page.Section:
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
        [name, page.count_cell(images), *((f'{v:.2f}', float(v)) for v in column)]
        for name, images, column in zip(data.classes, counts, zip(*values))
    ]
    header = ['class', 'test images', *(method.title for method in data.methods)]
    table = page.Table('F1, mean over the seeds.', header, rows)
    made = page.class_map(data.methods, values, data.classes)
    chart = page.Chart('f1', made, alt, 110 + 44 * len(values))
    how = (
        'Bright is good; a column that is dark everywhere is a class that no method '
        'finds, a dark cell in a bright column one that a method has lost.'
    )
    return page.Section('f1', 'F1 by class', how, data.basis, [chart, table])


def confusion_section(data: ReportData) -> page.Section:
    """Confusion matrices side by side, and what distillation changes."""
    if not data.roles:
        reason = 'name networks with --teacher, --alone and --distilled'
        return page.Section('confusion', 'Confusion', left_out=reason)
    names, charts, found = data.classes, [], {}
    many = len(names) > page.MANY
    height = 110 + 18 * len(names) if many else max(380, 160 + 36 * len(names))
    for role, method in data.roles.items():
        found[role] = 100 * confusion_shares(data.labels, method.chosen, len(names))
        title = method.title
        if not title.lower().startswith(role):
            title = f'{role}: {title}'
        kept = np.nanmean(np.diag(found[role]))
        alt = f'{title}. Mean of the diagonal: {kept:.0f} per cent.'
        made = _matrix(names, found[role], (0, 100), 'Cividis', '.0f')
        name = f'confusion-{role.replace(" ", "-")}'
        charts.append(page.Chart(name, made, alt, height))
    if 'distilled' in found and 'student alone' in found:
        change = found['distilled'] - found['student alone']
        reach = max(float(np.nanmax(np.abs(change))), 1.0)
        made = _matrix(names, change, (-reach, reach), page.DIVERGING, '+.0f')
        alt = (
            'distilled - student alone, in per cent of the row; mean of the '
            f'diagonal {np.nanmean(np.diag(change)):+.1f}.'
        )
        charts.append(page.Chart('confusion-change', made, alt, height))
    how = (
        'Rows are the true classes, numbers the per cent of their images '
        'that were given the class of the column, mean over the seeds; in '
        'the difference, on the diagonal more is better.'
    )
    tile = None if many else max(420, charts[0].width)
    return page.Section('confusion', 'Confusion', how, data.basis, charts, tile=tile)


def _matrix(names: list[str], values, limits, scale, form: str):
    made = page.heat_map(values, names, names, limits, scale, form)
    made.update_xaxes(title=dict(text='predicted'))
    made.update_yaxes(title=dict(text='true'))
    made.update_layout(margin=dict(l=48, r=8, t=8, b=56))
    return made


def roc_section(data: ReportData) -> page.Section:
    """ROC of every class, and the class that matters most in a table."""
    order = np.unique(data.labels).tolist()
    if len(order) == 1:
        return page.Section('roc', 'ROC', left_out='the test split has one class')
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
    return page.Section('roc', 'ROC by class', how, basis, blocks)


def _roc(data: ReportData, order: list[int]) -> page.Chart:
    methods = [m for m in data.methods if page.is_shown(data, m)]
    hover = 'false alarms %{x:.1%}, found %{y:.1%}'
    traces, choices = [], {}
    for index in order:
        start = len(traces)
        for method in methods:
            roc = mean_roc(data.labels == index, method.scores[:, :, index])
            traces.append(page.curve(data, method, FALSE_ALARMS, roc, hover))
        choices[data.classes[index]] = list(range(start, len(traces)))
    made = page.figure(traces, '1 - specificity (false alarms)', 'sensitivity (found)')
    made.update_xaxes(range=[0, 1], tickformat='.0%')
    made.update_yaxes(range=[0, 1.01], tickformat='.0%')
    alt = 'ROC curve of one class against all others, mean over the seeds.'
    return page.Chart('roc', made, alt, 460, choices)


def _operating_points(data: ReportData, index: int) -> page.Table:
    name, truth = data.classes[index], (data.labels == index).astype(int)
    header = ['method', f'AUROC {name}']
    for specificity in SPECIFICITIES:
        header += [f'sensitivity at {specificity:.0%} specificity', '95 % interval']
    rows = []
    for method in data.methods:
        scores = method.scores[:, :, index]
        row = [method.title, page.mean_sd_cell(auroc_by_seed(truth, scores))]
        for specificity in SPECIFICITIES:
            score = partial(sensitivity_at, specificity=specificity)
            ends = bootstrap_interval(truth, scores, data.groups, score, _RESAMPLES)
            row.append(page.mean_sd_cell(scores_by_seed(truth, scores, score)))
            row.append((format_interval(ends), ends[0]))
        rows.append(row)
    caption = (
        f'{name} against the rest, mean +- sd over the seeds; intervals from '
        f'a bootstrap over {data.unit}.'
    )
    return page.Table(caption, header, rows)


def calibration_section(data: ReportData) -> page.Section:
    """Reliability diagrams and a table of the errors."""
    before, after, rows = {}, {}, []
    for method in data.methods:
        before[method.name] = method.scores
        row = [method.title, *_errors(method.scores, data.labels)]
        if method.val_scores is None:
            rows.append([*row, 'no validation scores', '', ''])
            continue
        temperatures = [
            calibration.fit_temperature(scores, method.val_labels)
            for scores in method.val_scores
        ]
        scaled = after[method.name] = np.stack(
            [calibration.tempered(s, t) for s, t in zip(method.scores, temperatures)]
        )
        errors = _errors(scaled, data.labels)
        rows.append([*row, page.mean_sd_cell(temperatures), *errors])
    blocks: list = [_reliability(data, 'before temperature scaling', before)]
    if after:
        blocks.append(_reliability(data, 'after temperature scaling', after))
    header = ['method', 'ECE', 'log loss', 'temperature', 'ECE after', 'log loss after']
    blocks.append(page.Table('Calibration errors, mean +- sd.', header, rows))
    how = (
        'On the diagonal, of the images with a confidence of 80 per cent 80 '
        'per cent are right; below it a network is too confident. One '
        'temperature a network is fitted on the validation split and applied '
        'to the test split; ECE has 15 bins, the diagram 10.'
    )
    basis = ' '.join([data.basis, *map('{}.'.format, data.problems)])
    return page.Section('calibration', 'Calibration', how, basis, blocks, tile=420)


def _errors(scores: np.ndarray, labels: np.ndarray) -> list:
    measures = (calibration.expected_calibration_error, calibration.log_loss)
    return [
        page.mean_sd_cell(error(one, labels) for one in scores) for error in measures
    ]


def _reliability(data: ReportData, when: str, scores: dict) -> page.Chart:
    traces = []
    for method in data.methods:
        if method.name not in scores:
            continue
        every = scores[method.name]
        labels = np.tile(data.labels, len(every))
        found = calibration.reliability(np.concatenate(list(every)), labels, _BINS)
        hover = 'confidence %{x:.2f}, accuracy %{y:.2f}, %{customdata} predictions'
        options = dict(customdata=found.counts, mode='lines+markers')
        points = found.confidence, found.accuracy
        traces.append(page.curve(data, method, *points, hover, **options))
    made = page.figure(traces, 'confidence', 'accuracy', legend=page.LEGEND_BELOW)
    diagonal = dict(x0=0, y0=0, x1=1, y1=1, layer='below')
    made.add_shape(diagonal, line=dict(color=page.GREY, dash='dot', width=1))
    made.update_xaxes(range=[0, 1])
    made.update_yaxes(range=[0, 1])
    alt = f'Accuracy against confidence {when}, all seeds together.'
    return page.Chart(f'reliability-{when.split()[0]}', made, alt, 440)


def risk_section(data: ReportData) -> page.Section:
    """Risk-coverage curves, and a table of the areas."""
    traces, rows = [], []
    for method in data.methods:
        curves = [risk_coverage(s, data.labels) for s in method.scores]
        coverage, risks = curves[0][0], np.array([risk for _, risk in curves])
        count = len(coverage)
        kept = np.linspace(0.02 * (count - 1), count - 1, _POINTS)
        kept = np.unique(kept.astype(int))
        hover = 'most confident %{x:.0%}: error %{y:.1%}'
        traces.append(
            page.curve(data, method, coverage[kept], risks.mean(0)[kept], hover)
        )
        best = [best_aurc(risk[-1], count) for risk in risks]
        cells = [risks.mean(1), risks.mean(1) - best, risks[:, (count - 1) // 2]]
        rows.append([method.title, *map(page.mean_sd_cell, cells)])
    made = page.figure(traces, 'share of images answered', 'error rate of those')
    made.update_xaxes(tickformat='.0%')
    made.update_yaxes(tickformat='.0%', rangemode='tozero')
    alt = (
        'Error rate of the images that a network is most confident of, '
        'against their share; mean over the seeds.'
    )
    header = ['method', 'AURC', 'excess AURC', 'error on the more confident half']
    blocks = [
        page.Chart('risk-coverage', made, alt),
        page.Table('Areas, mean +- sd; less is better.', header, rows),
    ]
    how = (
        'Lower is better: the curve gives the error of a network that '
        'answers only the images it is most confident of and leaves the '
        'others to a doctor. AURC is the mean height; the excess over a '
        'perfect order separates the confidence from the accuracy.'
    )
    return page.Section('risk', 'Risk and coverage', how, data.basis, blocks)


def agreement_section(data: ReportData) -> page.Section:
    """Shares by class as a heat map, kappa in a table."""
    teacher, title = data.teacher, 'Agreement with the teacher'
    students = [m for m in data.methods if m is not teacher]
    if teacher is None or not students:
        return page.Section(
            'agreement', title, left_out='name the teacher with --teacher'
        )
    shares, rows = [], []
    theirs, last = teacher.chosen, len(teacher.chosen) - 1
    for student in students:
        # a seed and its teacher, the last one if there are fewer
        chosen = enumerate(student.chosen)
        pairs = [(row, theirs[min(seed, last)]) for seed, row in chosen]
        by_class = [
            agreement_by_class(data.labels, *pair, len(data.classes)) for pair in pairs
        ]
        shares.append(np.mean(by_class, 0))
        found = zip(*(agreement(data.labels, *pair) for pair in pairs))
        rows.append([student.title, *map(page.mean_sd_cell, found)])
    chart = page.Chart(
        'agreement',
        page.class_map(students, shares, data.classes),
        f'Share of test images of each true class for which a student and '
        f'{teacher.title} predict the same class; mean over the seeds.',
        100 + 44 * len(students),
    )
    header = ['method', 'same prediction', "Cohen's kappa"]
    header += ['same where the teacher is right', '... and where it is wrong']
    table = page.Table('All classes, mean +- sd over the seeds.', header, rows)
    how = (
        'A student that has learnt from its teacher agrees with it more than '
        'the student alone does, above all where the teacher is right; '
        'distillation hands down agreement with its errors, too. Each seed '
        'is compared with the teacher of the same seed.'
    )
    return page.Section('agreement', title, how, data.basis, [chart, table])
