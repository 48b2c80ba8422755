# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The table of all methods."""

from collections.abc import Iterable

from ..study.outcome import Outcome
from ..study.words import (
    difference_told,
    interval_told,
    one_class_told,
    plus_minus,
    row_title,
    unknown_told,
)
from .differences import SURE, difference_charts
from .page import Section, Table
from .runs import Material

_OF_CLASSES = dict(
    balanced_accuracy='balanced accuracy',
    top1='accuracy',
    macro_f1='macro F1',
    macro_auroc='macro AUROC',
)
_OF_MASKS = dict(
    dice='Dice',
    patient_dice='Dice of a patient',
    iou='IoU',
    sensitivity='sensitivity',
    precision='precision',
    hd95='95 % Hausdorff distance',
)
METRICS = {**_OF_CLASSES, **_OF_MASKS}


def comparison(material: Material) -> Section:
    """All methods with what they reach and what that differs from."""
    metric = METRICS[material.compared_by]
    shown = _OF_MASKS if material.of_masks else _OF_CLASSES
    titles = {method.name: method.title for method in material.methods}
    baselines = [name for name in material.baselines if name in titles]
    header = [
        'method',
        *shown.values(),
        f'95 % interval ({metric})',
        *(f'against {titles[name]}' for name in baselines),
        'minutes',
    ]
    rows = [
        _row(method.outcome, shown, baselines) for method in material.methods
    ]
    unit = material.unit.removeprefix('whole ')
    others = material.methods[0].outcome.tells_of_others
    how = 'Mean +- sample sd over the seeds' + (
        f'; the interval is a bootstrap over {material.unit}.'
        if others
        else f'. All images are of one {material.whose[:-1]}, so there is '
        'neither an interval nor a test of differences.'
    )
    if material.unknown:
        how += f' {unknown_told(material.whose)}'
    if baselines and others:
        how += (
            f' Differences are paired over seeds and {unit}, with 95 % '
            "intervals and p after Holm's correction: a difference counts "
            f'where p is below {SURE}.'
        )
        if min(len(method.folders) for method in material.methods) == 1:
            how += (
                ' With one seed they are of these nets alone: nothing is '
                'known of what another seed would give.'
            )
    basis = material.basis
    if material.unfinished:
        basis += f' Not finished, left out: {", ".join(material.unfinished)}.'
    basis += one_class_told([method.outcome for method in material.methods])
    marked = {
        place
        for place, method in enumerate(material.methods)
        if method is material.distilled
    }
    table = Table('Click on a heading to sort.', header, rows, marked)
    blocks = [table, *difference_charts(material)]
    return Section('comparison', 'Comparison', how, basis, blocks)


def _row(
    outcome: Outcome, metrics: Iterable[str], baselines: list[str]
) -> list:
    cells = [row_title(outcome)]
    for key in metrics:
        if all(key in test for test in outcome.tests):
            mean, sd = outcome.test(key)
            cells.append((plus_minus(mean, sd), mean))
        else:
            cells.append('')
    cells.append((interval_told(outcome.interval), outcome.interval[0]))
    for name in baselines:
        found = outcome.against.get(name)
        told = difference_told(outcome, name)
        cells.append((told, found.mean) if found else '')
    return [*cells, (f'{outcome.minutes:.1f}', outcome.minutes)]
