# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How the figures of a study are called and written."""

import math

from .outcome import Outcome
from .plan import COMPARED_OF_MASKS, Study

_TITLES = dict(
    balanced_accuracy='balanced accuracy',
    top1='accuracy',
    top5='top-5 accuracy',
    macro_f1='macro F1',
    weighted_f1='weighted F1',
    macro_auroc='macro AUROC',
    macro_precision='macro precision',
    macro_specificity='macro specificity',
    dice='Dice',
    patient_dice='Dice of a patient',
    iou='IoU',
    hd95='95 % Hausdorff distance',
    parameters='parameters / M',
    gflops='GFLOPs',
    milliseconds='ms an image',
)


def caption(study: Study, outcomes: list[Outcome]) -> str:
    """What the figures are of, and how far they reach."""
    first = outcomes[0]
    seeds = len(first.predictions.chosen)
    folds = len(first.tests) // seeds
    told = images_told(*first.predictions.named_groups, whose(study))
    spread = 'one seed'
    if len(first.tests) > 1:
        spread = f'mean +- sample sd over {seeds} seed{"s" * (seeds > 1)}'
        spread += f' x {folds} folds' * (folds > 1)
    text = (
        f'Test split, {told}, read once a run; {spread}; checkpoints chosen '
        'on validation.'
    )
    unknown = are_unknown(*first.predictions.named_groups)
    unit = 'images' if unknown else whose(study)
    if first.tells_of_others:
        text += (
            f' The 95 % interval is over other {unit}, the nets staying the '
            'same.'
        )
    else:
        text += (
            f' All images are of one {unit[:-1]}, so there is neither an '
            'interval nor a test of differences.'
        )
    if unknown:
        text += f' {unknown_told(whose(study))}'
    if any(outcome.against for outcome in outcomes):
        text += differences_told(study, unit, seeds, folds)
    if any(outcome.row.paper for outcome in outcomes):
        text += " The paper's figures are of its own images" + (
            ' and of other nets.' if study.size else '.'
        )
    text += unit_told(outcomes) + one_class_told(outcomes)
    missing = len(study.rows) - len(outcomes)
    if missing:
        text += f' {missing} rows are not done yet.'
    return text


def whose(study: Study) -> str:
    """What images are grouped by."""
    return 'patients' if study.compared_by in COMPARED_OF_MASKS else 'lesions'


def are_unknown(sample_ids: list[str], groups: list[str]) -> bool:
    """Whether no lesion or patient is known: each image is its own."""
    return list(sample_ids) == list(groups)


def images_told(sample_ids: list[str], groups: list[str], of: str) -> str:
    """``300 images of 155 lesions``, or ``300 images, lesions unknown``.

    Args:
        sample_ids: N names.
        groups: N lesions or patients, the image itself where none is known.
        of: ``lesions`` or ``patients``.
    """
    if are_unknown(sample_ids, groups):
        return f'{len(groups)} images, {of} unknown'
    count = len(set(groups))
    return f'{len(groups)} images of {count} {of if count > 1 else of[:-1]}'


def unknown_told(of: str) -> str:
    """A sentence on what follows where no lesion or patient is known."""
    return (
        f'With {of} unknown each image counts for itself, and images of one '
        f'{of[:-1]} may be in training and in test: figures may be too good '
        'and intervals too narrow.'
    )


def differences_told(
    study: Study, unit: str, seeds: int, folds: int = 1
) -> str:
    """A sentence on the differences to the baselines.

    Args:
        study: that compares.
        unit: that they are paired over beside the seeds, in the plural.
        seeds: number of them.
        folds: number of them; 0 or 1 for none.
    """
    text = (
        f' Differences in {title_of(study.compared_by)}, paired over seeds '
        f'and {unit}, with 95 % intervals; p after Holm'
        + (', over all folds together.' if folds > 1 else '.')
    )
    if seeds == 1:
        text += (
            ' They are of these nets alone: one seed does not tell what '
            'another would give.'
        )
    return text


def unit_told(outcomes: list[Outcome]) -> str:
    """A sentence on the unit of distances; empty where there are none."""
    tests = [test for outcome in outcomes for test in outcome.tests]
    units = {test['hd95_unit'] for test in tests if 'hd95_unit' in test}
    told = dict(mm='mm', pixel="pixels of the net's images")
    named = ' or '.join(told[unit] for unit in sorted(units))
    return f' Distances in {named}.' if named else ''


def row_title(outcome: Outcome) -> str:
    """Title of a row, marked where a run of it predicts one class only."""
    return outcome.row.title + ' *' * bool(outcome.one_class_runs)


def one_class_told(outcomes: list[Outcome]) -> str:
    """The footnote to that mark; empty where there is none."""
    found = [
        f'{outcome.row.title} in {outcome.one_class_runs} of '
        f'{len(outcome.tests)}'
        for outcome in outcomes
        if outcome.one_class_runs
    ]
    if not found:
        return ''
    return (
        ' * ONE CLASS ONLY: predicts one class for every test image, '
        f'{"; ".join(found)} runs.'
    )


def title_of(metric: str) -> str:
    """What a reader calls a metric; ``mel/f1`` becomes ``F1 of mel``."""
    name, _, figure = metric.rpartition('/')
    if name:
        return (
            f'{figure.replace("f1", "F1").replace("auroc", "AUROC")} of {name}'
        )
    return _TITLES.get(metric, metric)


def plus_minus(mean: float, sd: float) -> str:
    """``0.383 +- 0.056``; the mean alone of one seed, nothing of none."""
    if math.isnan(mean):
        return ''
    return f'{mean:.3f}' + ('' if math.isnan(sd) else f' +- {sd:.3f}')


def interval_told(interval: tuple[float, float]) -> str:
    """``[0.351, 0.422]``; nothing where it is not known."""
    low, high = interval
    return '' if math.isnan(low) else f'[{low:.3f}, {high:.3f}]'


def difference_told(outcome: Outcome, baseline: str) -> str:
    """``+0.053 [-0.060, +0.165], p 1.000``; nothing of no difference."""
    found = outcome.against.get(baseline)
    if found is None:
        return ''
    told = p_told(outcome.adjusted[baseline])
    return f'{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {told}'


def p_told(p: float) -> str:
    """``p 0.044``; a bound where three digits show none."""
    return 'p < 0.001' if p < 0.001 else f'p {p:.3f}'
