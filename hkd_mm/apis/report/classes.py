# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What becomes of each class: F1 and confusion."""

import numpy as np

from .charts import DIVERGING, heat_map
from .page import Chart, Section
from .runs import Material, Method


def mean_f1(method: Method, labels: np.ndarray) -> np.ndarray:
    """F1 of each class, mean over the seeds.

    Args:
        method: whose.
        labels: (N,) int.

    Returns:
        (C,) in [0, 1], NaN of a class without an image.
    """
    from sklearn.metrics import f1_score

    every = np.arange(method.scores.shape[2])
    found = [
        f1_score(labels, row, labels=every, average=None, zero_division=0)
        for row in method.chosen
    ]
    present = np.isin(every, labels)
    return np.where(present, np.mean(found, 0), np.nan)


def confusion(method: Method, labels: np.ndarray) -> np.ndarray:
    """Of the images of each class, the share given each class.

    Args:
        method: whose.
        labels: (N,) int.

    Returns:
        (C, C), true class by row, mean over the seeds; NaN of a class
        without an image.
    """
    from sklearn.metrics import confusion_matrix

    every = np.arange(method.scores.shape[2])
    total = sum(
        confusion_matrix(labels, row, labels=every) for row in method.chosen
    )
    sums = total.sum(1, keepdims=True)
    return np.where(sums > 0, total / np.maximum(sums, 1), np.nan)


def per_class(material: Material) -> Section:
    """The heat map of F1, methods by classes."""
    counts = np.bincount(material.labels, minlength=len(material.classes))
    values = np.array([mean_f1(m, material.labels) for m in material.methods])
    titles = [method.title for method in material.methods]
    made = heat_map(values, titles, material.classes, (0, 1))
    made.update_xaxes(side='top')
    made.update_layout(margin=dict(t=48, b=16))
    told = ', '.join(
        f'{name} {count}' for name, count in zip(material.classes, counts)
    )
    worst = material.classes[int(np.nanargmin(np.nanmean(values, 0)))]
    alt = (
        'F1 of each class (columns) for each method (rows), mean over the '
        f'seeds; the hardest class is {worst}. Test images: {told}.'
    )
    chart = Chart('f1', made, alt, 110 + 44 * len(titles))
    how = (
        'Bright is good; a column that is dark everywhere is a class that '
        'no method finds, a dark cell in a bright column one that a method '
        'has lost.'
    )
    return Section('f1', 'F1 by class', how, material.basis, [chart])


def confusions(material: Material) -> Section:
    """Confusion matrices side by side, and what distillation changes."""
    if not material.roles:
        return Section(
            'confusion',
            'Confusion',
            left_out='name nets with --teacher, --alone and --distilled',
        )
    found = {
        role: confusion(method, material.labels)
        for role, method in material.roles.items()
    }
    charts = [
        _matrix(material, role, 100 * matrix, (0, 100), 'Cividis', '.0f')
        for role, matrix in found.items()
    ]
    if 'distilled' in found and 'student alone' in found:
        change = 100 * (found['distilled'] - found['student alone'])
        reach = max(float(np.nanmax(np.abs(change))), 1.0)
        charts.append(
            _matrix(
                material,
                'distilled - student alone',
                change,
                (-reach, reach),
                DIVERGING,
                '+.0f',
            )
        )
    how = (
        'Rows are the true classes, numbers the per cent of their images '
        'that were given the class of the column, mean over the seeds; in '
        'the difference, on the diagonal more is better.'
    )
    return Section(
        'confusion', 'Confusion', how, material.basis, charts, tile=420
    )


def _matrix(
    material: Material, role: str, values, limits, scale, form: str
) -> Chart:
    names = material.classes
    made = heat_map(values, names, names, limits, scale, form)
    method = material.roles.get(role)
    title = role
    if method:
        own = method.title.lower().startswith(role)
        title = method.title if own else f'{role}: {method.title}'
    made.update_xaxes(title=dict(text='predicted'))
    made.update_yaxes(title=dict(text='true'))
    made.update_layout(margin=dict(l=48, r=8, t=8, b=56))
    kept = np.nanmean(np.diag(values))
    alt = f'{title}. Mean of the diagonal: {kept:{form}} per cent.'
    if method is None:
        alt = f'{title}, in per cent of the row; mean of the diagonal '
        alt += f'{kept:+.1f}.'
    slug = role.replace(' - ', '-minus-').replace(' ', '-')
    return Chart(f'confusion-{slug}', made, alt, 380)
