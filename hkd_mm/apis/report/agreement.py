# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How often a student says what its teacher says."""

import numpy as np

from ..study.outcome import spread
from ..study.words import plus_minus
from .charts import heat_map
from .page import Chart, Section, Table
from .runs import Material, Method


def same_by_class(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, count: int
) -> np.ndarray:
    """Share of equal predictions among the images of each class.

    Args:
        labels: (N,) int.
        one: (N,) int, predicted classes.
        other: (N,) int, likewise.
        count: of classes, C.

    Returns:
        (C,) in [0, 1], NaN of a class without an image.
    """
    total = np.bincount(labels, minlength=count)
    same = np.bincount(labels, one == other, count)
    return np.where(total > 0, same / np.maximum(total, 1), np.nan)


def agreement(material: Material) -> Section:
    """Shares by class as a heat map, kappa in a table."""
    teacher = material.teacher
    students = [m for m in material.methods if m is not teacher]
    if teacher is None or not students:
        return Section(
            'agreement', 'Agreement with the teacher',
            left_out='name the teacher with --teacher',
        )  # fmt: skip
    shares = [_shares(material, student, teacher) for student in students]
    titles = [student.title for student in students]
    made = heat_map(np.array(shares), titles, material.classes, (0, 1))
    made.update_xaxes(side='top')
    made.update_layout(margin=dict(t=48, b=16))
    chart = Chart(
        'agreement',
        made,
        f'Share of test images of each true class for which a student and '
        f'{teacher.title} predict the same class; mean over the seeds.',
        100 + 44 * len(titles),
    )
    header = ['method', 'same prediction', "Cohen's kappa"]
    header += ['same where the teacher is right', '... and where it is wrong']
    rows = [_row(material, student, teacher) for student in students]
    table = Table('All classes, mean +- sd over the seeds.', header, rows)
    how = (
        'A student that has learnt from its teacher agrees with it more than '
        'the student alone does, above all where the teacher is right; '
        'agreement with its errors is what distillation hands down, too. '
        'Each seed is held against the teacher of the same seed.'
    )
    return Section(
        'agreement',
        'Agreement with the teacher',
        how,
        material.basis,
        [chart, table],
    )


def _shares(
    material: Material, student: Method, teacher: Method
) -> np.ndarray:
    count = len(material.classes)
    return np.mean(
        [
            same_by_class(material.labels, one, other, count)
            for one, other in _pairs(student, teacher)
        ],
        0,
    )


def _pairs(student: Method, teacher: Method):
    """Predictions of each seed and of its teacher, the last one if fewer."""
    last = len(teacher.chosen) - 1
    return [
        (row, teacher.chosen[min(seed, last)])
        for seed, row in enumerate(student.chosen)
    ]


def _row(material: Material, student: Method, teacher: Method) -> list:
    from sklearn.metrics import cohen_kappa_score

    same, kappa, right, wrong = [], [], [], []
    for one, other in _pairs(student, teacher):
        equal = one == other
        knows = other == material.labels
        same.append(float(equal.mean()))
        kappa.append(float(cohen_kappa_score(one, other)))
        right.append(float(equal[knows].mean()) if knows.any() else np.nan)
        wrong.append(float(equal[~knows].mean()) if (~knows).any() else np.nan)
    told = [spread(values) for values in (same, kappa, right, wrong)]
    return [student.title, *((plus_minus(*one), one[0]) for one in told)]
