# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How well each image, and each patient, is marked."""

import numpy as np

from .charts import figure, heat_map, line, wrapped
from .page import Chart, Section, Table
from .runs import Material, Method

_MOST = 24  # patients of a heat map that one can still read
_POOR = 0.5  # Dice below which a mark is of little use


def slices(material: Material) -> Section:
    """Spread of the Dice over images, and how many are marked badly."""
    charts = [_spread(material), _table(material)]
    how = (
        'A mean hides how it comes about: the box holds the middle half of '
        'the images, the line in it is the median. Images without anything '
        'to see have a Dice of 1 where nothing is marked, else 0.'
    )
    return Section('slices', 'Images', how, material.basis, charts)


def _spread(material: Material) -> Chart:
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


def _table(material: Material) -> Table:
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


def mean_by_patient(material: Material, method: Method) -> dict[str, float]:
    """Patient -> mean Dice over images and seeds."""
    dice = method.figures['dice'].mean(0)
    groups = np.array(material.groups)
    return {
        name: float(dice[groups == name].mean()) for name in np.unique(groups)
    }


def by_patient(material: Material) -> Section:
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
