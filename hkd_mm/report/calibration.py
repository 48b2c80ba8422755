# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Calibration, risk at coverage, and agreement with the teacher."""

import numpy as np
from plotly import graph_objects as go

from hkd_mm.evaluation.agreement import agreement, agreement_by_class
from hkd_mm.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    tempered,
)
from hkd_mm.evaluation.selective import best_aurc, risk_coverage
from hkd_mm.report.charts import GREY, LEGEND_BELOW, class_map, curve, figure
from hkd_mm.report.data import ReportData, ReportMethod
from hkd_mm.report.page import Chart, Section, Table, mean_sd_cell

_BINS = 10
_POINTS = 200  # drawn of a curve


def calibration_section(data: ReportData) -> Section:
    """Reliability diagrams and a table of the errors."""
    before, after, rows = {}, {}, []
    for method in data.methods:
        before[method.name] = method.scores
        row = [method.title, *_errors(method.scores, data.labels)]
        if method.val_scores is None:
            rows.append([*row, 'no validation scores', '', ''])
            continue
        temperatures = [
            fit_temperature(scores, method.val_labels) for scores in method.val_scores
        ]
        scaled = after[method.name] = np.stack(
            [tempered(s, t) for s, t in zip(method.scores, temperatures)]
        )
        errors = _errors(scaled, data.labels)
        rows.append([*row, mean_sd_cell(temperatures), *errors])
    blocks: list = [_reliability(data, 'before temperature scaling', before)]
    if after:
        blocks.append(_reliability(data, 'after temperature scaling', after))
    header = ['method', 'ECE', 'log loss', 'temperature', 'ECE after']
    header.append('log loss after')
    blocks.append(Table('Calibration errors, mean +- sd.', header, rows))
    how = (
        'On the diagonal, of the images with a confidence of 80 per cent 80 '
        'per cent are right; below it a network is too confident. One '
        'temperature a network is fitted on the validation split and applied '
        'to the test split; ECE has 15 bins, the diagram 10.'
    )
    basis = ' '.join([data.basis, *map('{}.'.format, data.problems)])
    return Section('calibration', 'Calibration', how, basis, blocks, tile=420)


def _errors(scores: np.ndarray, labels: np.ndarray) -> list:
    return [
        mean_sd_cell([error(one, labels) for one in scores])
        for error in (expected_calibration_error, log_loss)
    ]


def _reliability(data: ReportData, when: str, scores: dict) -> Chart:
    diagonal = go.Scatter(
        x=[0, 1],
        y=[0, 1],
        mode='lines',
        line=dict(color=GREY, dash='dot', width=1),
        showlegend=False,
        hoverinfo='skip',
    )
    traces = [diagonal]
    for method in data.methods:
        if method.name not in scores:
            continue
        every = scores[method.name]
        labels = np.tile(data.labels, len(every))
        found = reliability(np.concatenate(list(every)), labels, _BINS)
        hover = 'confidence %{x:.2f}, accuracy %{y:.2f}, %{customdata} predictions'
        options = dict(customdata=found.counts, mode='lines+markers')
        traces.append(
            curve(
                data, method, found.confidence, found.accuracy, hover,
                **options,
            )
        )  # fmt: skip
    made = figure(traces, 'confidence', 'accuracy', legend=LEGEND_BELOW)
    made.update_xaxes(range=[0, 1])
    made.update_yaxes(range=[0, 1])
    alt = f'Accuracy against confidence {when}, all seeds together.'
    return Chart(f'reliability-{when.split()[0]}', made, alt, 440)


def risk_section(data: ReportData) -> Section:
    """Risk-coverage curves, and a table of the areas."""
    traces, rows = [], []
    for method in data.methods:
        curves = [risk_coverage(s, data.labels) for s in method.scores]
        coverage, risks = curves[0][0], np.array([risk for _, risk in curves])
        count = len(coverage)
        kept = np.linspace(0.02 * (count - 1), count - 1, _POINTS)
        kept = np.unique(kept.astype(int))
        hover = 'most confident %{x:.0%}: error %{y:.1%}'
        traces.append(curve(data, method, coverage[kept], risks.mean(0)[kept], hover))
        best = [best_aurc(risk[-1], count) for risk in risks]
        cells = [risks.mean(1), risks.mean(1) - best]
        cells.append(risks[:, (count - 1) // 2])
        rows.append([method.title, *map(mean_sd_cell, cells)])
    made = figure(traces, 'share of images answered', 'error rate of those')
    made.update_xaxes(tickformat='.0%')
    made.update_yaxes(tickformat='.0%', rangemode='tozero')
    alt = (
        'Error rate of the images that a network is most confident of, '
        'against their share; mean over the seeds.'
    )
    header = ['method', 'AURC', 'excess AURC']
    header.append('error on the more confident half')
    blocks = [
        Chart('risk-coverage', made, alt),
        Table('Areas, mean +- sd; less is better.', header, rows),
    ]
    how = (
        'Lower is better: the curve gives the error of a network that '
        'answers only the images it is most confident of and leaves the '
        'others to a doctor. AURC is the mean height; the excess over a '
        'perfect order separates the confidence from the accuracy.'
    )
    return Section('risk', 'Risk and coverage', how, data.basis, blocks)


def agreement_section(data: ReportData) -> Section:
    """Shares by class as a heat map, kappa in a table."""
    teacher, title = data.teacher, 'Agreement with the teacher'
    students = [m for m in data.methods if m is not teacher]
    if teacher is None or not students:
        return Section('agreement', title, left_out='name the teacher with --teacher')
    shares, rows = [], []
    for student in students:
        pairs = _pairs(student, teacher)
        by_class = [
            agreement_by_class(data.labels, *pair, len(data.classes)) for pair in pairs
        ]
        shares.append(np.mean(by_class, 0))
        found = zip(*(agreement(data.labels, *pair) for pair in pairs))
        rows.append([student.title, *map(mean_sd_cell, found)])
    chart = Chart(
        'agreement',
        class_map(students, shares, data.classes),
        f'Share of test images of each true class for which a student and '
        f'{teacher.title} predict the same class; mean over the seeds.',
        100 + 44 * len(students),
    )
    header = ['method', 'same prediction', "Cohen's kappa"]
    header += ['same where the teacher is right', '... and where it is wrong']
    table = Table('All classes, mean +- sd over the seeds.', header, rows)
    how = (
        'A student that has learnt from its teacher agrees with it more than '
        'the student alone does, above all where the teacher is right; '
        'distillation hands down agreement with its errors, too. Each seed '
        'is compared with the teacher of the same seed.'
    )
    return Section('agreement', title, how, data.basis, [chart, table])


def _pairs(student: ReportMethod, teacher: ReportMethod) -> list[tuple]:
    """Predictions of each seed and of its teacher, the last one if fewer."""
    last = len(teacher.chosen) - 1
    return [
        (row, teacher.chosen[min(seed, last)])
        for seed, row in enumerate(student.chosen)
    ]
