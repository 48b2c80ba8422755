# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Curves of the trainings, and scores of segmented images."""

from itertools import cycle

import numpy as np
from plotly import graph_objects as go

from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import EpochRecord, read_history
from hkd_mm.metric_names import title_of
from hkd_mm.report import page
from hkd_mm.report.data import ReportData, ReportMethod

_COLOURS = (page.GREY, '#2f93d8', '#d55e00', '#009e73', '#cc79a7', '#e69f00')
_DASHES = ('solid', 'dash', 'dot', 'dashdot', 'longdash', 'solid')
_MOST = 24  # patients of a heat map that one can still read
_POOR = 0.5  # Dice below which a mask is of little use


Histories = dict[ReportMethod, list[list[EpochRecord]]]


def loss_parts(histories: list[list[dict]]) -> dict[str, np.ndarray]:
    """Parts of the loss, name -> (E,) means over the seeds; NaN where not finite."""
    seeds = [[e.get('train', {}) for e in history] for history in histories]
    names = dict.fromkeys(n for s in seeds for e in s for n in e if 'loss' in n)
    length = min(map(len, seeds))
    return {
        name: np.mean(
            np.array([[e.get(name) for e in s[:length]] for s in seeds], float), axis=0
        )
        for name in names
    }


def training_section(data: ReportData) -> page.Section:
    """Losses of one method at a time, and validation of all of them."""
    histories = {}
    for method in sorted(data.methods, key=lambda m: m is not data.distilled):
        try:
            found = [read_history(folder) for folder in method.folders]
        except UserError as error:
            return page.Section('training', 'Training', left_out=str(error))
        if all(found):
            histories[method] = found
    if not histories:
        return page.Section(
            'training', 'Training', left_out='no run left a history.json'
        )
    how = (
        'A part of the loss that stays flat teaches nothing; validation that '
        'falls while the loss falls is overfitting. The parts of a '
        'distillation carry their weights already.'
    )
    basis = (
        'Losses of the training split and metrics of the validation split, mean over '
        'the seeds; the checkpoint tested is the best of validation.'
    )
    blocks = [_losses(histories), _validation(data, histories)]
    return page.Section('training', 'Training', how, basis, blocks, tile=420)


def _losses(histories: Histories) -> page.Chart:
    traces, choices = [], {}
    for method, found in histories.items():
        start = len(traces)
        for (name, values), (colour, dash) in zip(
            loss_parts(found).items(), cycle(zip(_COLOURS, _DASHES))
        ):
            trace = go.Scatter(
                x=list(range(1, len(values) + 1)),
                y=[float(f'{value:.5g}') for value in values],
                name=page.label(name.removeprefix('distill.')),
                mode='lines+markers',
                marker=dict(size=4),
                line=dict(color=colour, dash=dash, width=2),
            )
            traces.append(trace)
        choices[method.title] = list(range(start, len(traces)))
    made = _by_epoch(traces, 'loss', showlegend=True)
    made.update_yaxes(type='log')
    alt = 'Training loss of one method and its parts, by epoch.'
    return page.Chart('losses', made, alt, 420, choices)


def _by_epoch(traces: list[go.Scatter], y: str, **layout):
    made = page.figure(traces, 'epoch', y, legend=page.LEGEND_BELOW, **layout)
    few = max((max(trace.x, default=0) for trace in traces), default=0) <= 10
    return made.update_xaxes(dtick=1 if few else None)


def _validation(data: ReportData, histories: Histories) -> page.Chart:
    metric, name = data.compared_by, title_of(data.compared_by)
    traces = []
    for role, method in data.roles.items():
        for seed, history in enumerate(histories.get(method, ())):
            points = [
                (entry['epoch'], round(value, 4))
                for entry in history
                if isinstance(value := entry.get('val', {}).get(metric), int | float)
            ]
            trace = go.Scatter(
                x=[epoch for epoch, _ in points],
                y=[value for _, value in points],
                name=role,
                legendgroup=role,
                showlegend=seed == 0,
                mode='lines',
                line=dict(color=page.ROLE_COLOURS[role], width=1.5),
                hovertemplate=f'seed {seed}, epoch %{{x}}: %{{y:.3f}}',
            )
            traces.append(trace)
    made = _by_epoch(traces, name)
    alt = f'Validation by epoch, {name}, a line a seed.'
    return page.Chart('validation', made, alt, 420)


def slices_section(data: ReportData) -> page.Section:
    """Spread of the Dice over images, and the share of poor masks."""
    traces, rows = [], []
    for method in data.methods:
        dice = method.figures['dice']
        trace = go.Box(
            y=np.round(dice.ravel(), 4),
            name=page.label(method.title),
            marker=dict(color=page.line(data, method)['color']),
            boxmean=True,
        )
        traces.append(trace)
        mean = dice.mean(0)
        quarters = np.percentile(mean, (25, 50, 75)).tolist()
        poor = float((mean < _POOR).mean())
        cells = [(f'{value:.3f}', value) for value in quarters]
        rows.append([method.title, *cells, (f'{poor:.1%}', poor)])
    made = page.figure(traces, '', 'Dice', showlegend=False)
    made.update_yaxes(range=[-0.02, 1.02])
    header = ['method', 'first quarter', 'median', 'third quarter']
    header.append(f'images below {_POOR}')
    blocks = [
        page.Chart('slices', made, 'Dice of each image, all seeds, a box a method.'),
        page.Table('Dice of an image, mean over the seeds.', header, rows),
    ]
    how = (
        'A mean hides how it comes about: the box holds the middle half of '
        'the images, the line in it is the median. Images without anything '
        'to see have a Dice of 1 where the mask is empty, else 0.'
    )
    return page.Section('slices', 'Images', how, data.basis, blocks)


def patients_section(data: ReportData) -> page.Section:
    """A column a patient; of many those that methods disagree on most."""
    found = [data.dice_by_patient(method) for method in data.methods]
    names = list(found[0])
    values = np.array([list(one.values()) for one in found])
    how = (
        'Here the mean over the images; in the comparison the pixels of a '
        'patient are pooled. A method that is better on one patient alone '
        'may be lucky; one that is better on most is better.'
    )
    shown = np.arange(len(names))
    if len(names) > _MOST:
        shown = np.sort(np.argsort(-values.std(0), kind='stable')[:_MOST])
        how += f' Of {len(names)} patients the {_MOST} that methods differ on most.'
    made = page.heat_map(
        values[:, shown],
        [method.title for method in data.methods],
        [names[index] for index in shown],
    )
    alt = "Mean of the Dice of a patient's images, by method."
    chart = page.Chart('patients', made, alt, 120 + 44 * len(data.methods))
    return page.Section('patients', 'Patients', how, data.basis, [chart])
