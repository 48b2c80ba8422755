# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Registry of all metrics: title, direction and format of each."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A figure of ``metrics.json`` and ``test.json``.

    Args:
        title: in tables and at axes.
        larger_is_better: else the smaller value wins.
        format: of a single value, not of a mean +- sd.
    """

    title: str
    larger_is_better: bool = True
    format: str = '.4f'


# of hkd_mm.ClinicalMetric, all images together
OVERALL = dict(
    balanced_accuracy=Metric('balanced accuracy'),
    top1=Metric('accuracy'),
    top5=Metric('top-5 accuracy'),
    macro_f1=Metric('macro F1'),
    weighted_f1=Metric('weighted F1'),
    macro_precision=Metric('macro precision'),
    macro_specificity=Metric('macro specificity'),
    macro_auroc=Metric('macro AUROC'),
    ece=Metric('ECE', larger_is_better=False),
)
# ... and of each class, as ``<class>/f1``
PER_CLASS = dict(
    precision=Metric('precision'),
    sensitivity=Metric('sensitivity'),
    specificity=Metric('specificity'),
    f1=Metric('F1'),
    auroc=Metric('AUROC'),
    support=Metric('images', format='d'),
)
# of hkd_mm.SegmentationMetric: means over images, and over patients
OF_SLICES = dict(
    dice=Metric('Dice'),
    iou=Metric('IoU'),
    sensitivity=Metric('sensitivity'),
    precision=Metric('precision'),
    hd95=Metric('95 % Hausdorff distance', larger_is_better=False),
)
OF_MASKS = {
    **OF_SLICES,
    **{
        f'patient_{key}': metric._replace(title=f'{metric.title} of a patient')
        for key, metric in OF_SLICES.items()
    },
}
# of the network and its training; milliseconds of one image, a batch of 1
OF_NETS = dict(
    parameters=Metric('parameters / M', False, '.5g'),
    gflops=Metric('GFLOPs', False, '.5g'),
    milliseconds=Metric('ms an image', False, '.5g'),
)
METRICS = {**OVERALL, **OF_MASKS, **OF_NETS, 'minutes': Metric('minutes', False, '.1f')}

MAIN = dict(classification='balanced_accuracy', segmentation='dice')
CLASS_SUMMARY = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc')
MASK_SUMMARY = ('dice', 'patient_dice', 'iou', 'hd95')
COMPARED_OF_MASKS = ('dice', 'iou')  # every image has them
TESTABLE = ('balanced_accuracy', 'top1', *COMPARED_OF_MASKS)


def title_of(key: str) -> str:
    """Title of a metric; ``mel/f1`` becomes ``F1 of mel``."""
    name, _, figure = key.rpartition('/')
    if name:
        metric = PER_CLASS.get(figure) or OF_MASKS.get(figure)
        return f'{metric.title if metric else figure} of {name}'
    return METRICS[key].title if key in METRICS else key


def format_value(key: str, value: float) -> str:
    """A single value as its metric is written; a fraction of class figures."""
    return f'{value:{METRICS[key].format if key in METRICS else ".4f"}}'
