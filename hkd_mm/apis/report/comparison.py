# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The table of all methods."""

from collections.abc import Iterable

from ..study.outcome import Outcome
from ..study.tables import plus_minus
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
    whose = material.whose
    how = (
        'Mean +- sample sd over the seeds; the interval is a bootstrap over '
        f'whole {whose}; differences are paired over seeds and {whose}, with '
        "95 % intervals and p after Holm's correction: a difference counts "
        'where p is below 0.05.'
    )
    basis = material.basis
    if material.unfinished:
        basis += f' Not finished, left out: {", ".join(material.unfinished)}.'
    marked = {
        place
        for place, method in enumerate(material.methods)
        if method is material.distilled
    }
    table = Table('Click on a heading to sort.', header, rows, marked)
    return Section('comparison', 'Comparison', how, basis, [table])


def _row(
    outcome: Outcome, metrics: Iterable[str], baselines: list[str]
) -> list:
    low, high = outcome.interval
    cells = [outcome.row.title]
    for key in metrics:
        if all(key in test for test in outcome.tests):
            mean, sd = outcome.test(key)
            cells.append((plus_minus(mean, sd), mean))
        else:
            cells.append('')
    cells.append((f'[{low:.3f}, {high:.3f}]', low))
    for name in baselines:
        found = outcome.against.get(name)
        if found is None:
            cells.append('')
            continue
        text = (
            f'{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], '
            f'p {outcome.adjusted[name]:.3f}'
        )
        cells.append((text, found.mean))
    return [*cells, (f'{outcome.minutes:.1f}', outcome.minutes)]
