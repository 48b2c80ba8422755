# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Curves of the trainings, and scores of segmented slices."""

import numpy as np

from hkd_mm.report.charts import ROLE_COLOURS, figure, heat_map, line, wrapped
from hkd_mm.report.data import Method, ReportData, read_history
from hkd_mm.report.page import Chart, Section, Table

_COLOURS = ('#8a8f98', '#2f93d8', '#d55e00', '#009e73', '#cc79a7', '#e69f00')
_DASHES = ('solid', 'dash', 'dot', 'dashdot', 'longdash', 'solid')


def loss_parts(histories: list[list[dict]]) -> dict[str, np.ndarray]:
    """Every part of the loss, epoch by epoch, mean over the seeds.

    Args:
        histories: ``history.json`` of each seed; of unequal ones the epochs
            that all have.

    Returns:
        Name -> (E,) floats; the epochs of a part that is not there are NaN.
    """
    length = min(map(len, histories))
    names = dict.fromkeys(
        name
        for history in histories
        for entry in history
        for name in entry.get('train', {})
        if 'loss' in name
    )
    return {
        name: np.mean(
            [
                [entry.get('train', {}).get(name, np.nan)
                 for entry in history[:length]]
                for history in histories
            ],
            axis=0,
        )
        for name in names
    }  # fmt: skip


def training(material: ReportData) -> Section:
    """Losses of one method at a time, and validation of all of them."""
    told = {}
    for method in material.methods:
        histories = [read_history(folder) for folder in method.folders]
        if all(histories):
            told[method.name] = histories
    if not told:
        return Section(
            'training', 'Training', left_out='no run left a history.json'
        )
    methods = [m for m in material.methods if m.name in told]
    first = material.distilled
    methods.sort(key=lambda method: method is not first)
    blocks = [
        _losses(methods, told),
        _validation(material, methods, told),
    ]
    how = (
        'A part of the loss that stays flat teaches nothing; validation that '
        'falls while the loss falls is overfitting. The parts of a '
        'distillation carry their weights already.'
    )
    basis = (
        'Losses of the training split and metrics of the validation split, '
        'mean over the seeds; the checkpoint tested is the best of '
        'validation.'
    )
    return Section('training', 'Training', how, basis, blocks, tile=420)


def _losses(methods: list[Method], told: dict) -> Chart:
    from plotly import graph_objects as go

    traces, choices = [], {}
    for method in methods:
        start = len(traces)
        for place, (name, values) in enumerate(
            loss_parts(told[method.name]).items()
        ):
            traces.append(
                go.Scatter(
                    x=list(range(1, len(values) + 1)),
                    y=[float(f'{value:.5g}') for value in values],
                    name=name.removeprefix('distill.'),
                    mode='lines+markers',
                    marker=dict(size=4),
                    line=dict(
                        color=_COLOURS[place % len(_COLOURS)],
                        dash=_DASHES[place % len(_DASHES)],
                        width=2,
                    ),
                )
            )
        choices[method.title] = list(range(start, len(traces)))
    made = figure(
        traces,
        'epoch',
        'loss',
        legend=dict(orientation='h', y=-0.2, yanchor='top'),
        showlegend=True,
    )
    made.update_yaxes(type='log')
    alt = 'Training loss of one method and its parts, by epoch.'
    return Chart('losses', made, alt, 420, choices)


def _validation(
    material: ReportData, methods: list[Method], told: dict
) -> Chart:
    from plotly import graph_objects as go

    metric = material.compared_by
    traces = []
    for role, method in material.roles.items():
        for seed, history in enumerate(told.get(method.name, ())):
            points = [
                (entry['epoch'], entry['val'][metric])
                for entry in history
                if entry.get('val') and metric in entry['val']
            ]
            traces.append(
                go.Scatter(
                    x=[epoch for epoch, _ in points],
                    y=[round(value, 4) for _, value in points],
                    name=role,
                    legendgroup=role,
                    showlegend=seed == 0,
                    mode='lines',
                    line=dict(color=ROLE_COLOURS[role], width=1.5),
                    hovertemplate=f'seed {seed}, epoch %{{x}}: %{{y:.3f}}',
                )
            )
    name = metric.replace('_', ' ')
    made = figure(
        traces,
        'epoch',
        name,
        legend=dict(orientation='h', y=-0.2, yanchor='top'),
    )
    alt = f'{name.capitalize()} on validation by epoch, a line a seed.'
    return Chart('validation', made, alt, 420)


_MOST = 24  # patients of a heat map that one can still read
_POOR = 0.5  # Dice below which a mark is of little use


def slices(material: ReportData) -> Section:
    """Spread of the Dice over images, and how many are marked badly."""
    charts = [_spread(material), _table(material)]
    how = (
        'A mean hides how it comes about: the box holds the middle half of '
        'the images, the line in it is the median. Images without anything '
        'to see have a Dice of 1 where nothing is marked, else 0.'
    )
    return Section('slices', 'Images', how, material.basis, charts)


def _spread(material: ReportData) -> Chart:
    from plotly import graph_objects as go

    traces = [
        go.Box(
            y=np.round(method.figures['dice'].ravel(), 4),
            name=wrapped(method.title),
            marker=dict(color=line(material, method)['color']),
            boxmean=True,
        )
        for method in material.methods
    ]
    alt = 'Dice of each image, all seeds, a box a method.'
    made = figure(traces, '', 'Dice', showlegend=False)
    made.update_yaxes(range=[-0.02, 1.02])
    return Chart('slices', made, alt, 420)


def _table(material: ReportData) -> Table:
    rows = []
    for method in material.methods:
        dice = method.figures['dice'].mean(0)
        quarters = np.percentile(dice, (25, 50, 75))
        poor = float((dice < _POOR).mean())
        cells = [(f'{value:.3f}', float(value)) for value in quarters]
        rows.append([method.title, *cells, (f'{poor:.1%}', poor)])
    header = ['method', 'first quarter', 'median', 'third quarter']
    header.append(f'images below {_POOR}')
    return Table('Dice of an image, mean over the seeds.', header, rows)


def mean_by_patient(material: ReportData, method: Method) -> dict[str, float]:
    """Patient -> mean Dice over images and seeds."""
    dice = method.figures['dice'].mean(0)
    groups = np.array(material.groups)
    return {
        name: float(dice[groups == name].mean()) for name in np.unique(groups)
    }


def by_patient(material: ReportData) -> Section:
    """A column a patient; of many those that methods disagree on most."""
    found = [mean_by_patient(material, one) for one in material.methods]
    names = list(found[0])
    values = np.array([[one[name] for name in names] for one in found])
    shown = np.arange(len(names))
    if len(names) > _MOST:
        shown = np.sort(np.argsort(-values.std(0), kind='stable')[:_MOST])
    made = heat_map(
        values[:, shown],
        [method.title for method in material.methods],
        [names[place] for place in shown],
        (0.0, 1.0),
    )
    alt = "Mean of the Dice of a patient's images, by method."
    some = (
        f' Of {len(names)} patients the {_MOST} that methods differ on most.'
        if len(names) > _MOST
        else ''
    )
    how = (
        'Here the mean over the images; in the comparison the pixels of a '
        'patient are pooled. A method that is better on one patient alone '
        f'may be lucky; one that is better on most is better.{some}'
    )
    height = 120 + 44 * len(material.methods)
    return Section(
        'patients',
        'Patients',
        how,
        material.basis,
        [Chart('patients', made, alt, height)],
    )
