# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Is the right teacher loaded? Asked once, before the first step."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from hkd_mm.errors import UserError
from hkd_mm.evaluation.segmentation_checks import threshold_of
from hkd_mm.registry import HOOKS
from hkd_mm.structures.mask_samples import MaskPredictions

_CHANCE = 1.5  # times chance: below it a teacher has nothing to teach
_BATCH = 64


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Log the teacher's accuracy on a few images before training.

    A teacher at chance (the wrong checkpoint, the wrong class order, other
    input statistics) distils noise and nothing else would tell. The figures
    also go to the message hub as ``teacher_check``. A teacher without a
    checkpoint is refused.

    Args:
        num_images: how many images to look at, spread evenly over the
            validation split (the training split where a run has no
            validation), since data sets are often sorted by class.
    """

    def __init__(self, num_images: int = 256) -> None:
        self.num_images = num_images

    @torch.no_grad()
    def before_train(self, runner) -> None:
        """Run the teacher and compare its predictions with the labels."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        if not hasattr(model, 'teacher'):
            return
        if getattr(model, 'missing_ckpts', None):
            raise UserError(
                f'{model.missing_ckpts[0]} is None, so the teacher has random '
                'weights; set it to the file of a trained one, or use '
                'tools/train.py, which trains the teacher first'
            )
        loader = (runner.val_loop or runner.train_loop).dataloader
        count = min(self.num_images, len(loader.dataset))
        chosen = np.linspace(0, len(loader.dataset) - 1, count).astype(int)
        predictions, labels, masks = [], [], []
        for part in np.array_split(chosen, -(-count // _BATCH)):
            batch = loader.collate_fn(samples_of(loader.dataset, part))
            data = model.data_preprocessor(batch, training=False)
            logits = model.teacher(
                model.convert_input(data['inputs']), mode='tensor'
            )
            if logits.dim() == 4:
                masks.append((logits, data['data_samples']))
                continue
            predictions += logits.argmax(1).tolist()
            labels += _labels(data['data_samples'])
        if masks:
            self._report_masks(runner, masks)
        else:
            self._report(runner, predictions, labels, logits.shape[1])

    def _report_masks(self, runner, batches: list[tuple]) -> None:
        """Of a teacher that gives every pixel a class."""
        # pixels count as in the figures of the student
        threshold = threshold_of(runner.val_loop and runner.val_loop.evaluator)
        dice = _dice(batches, threshold)
        empty = [(torch.full_like(x, -1e4), samples) for x, samples in batches]
        full = [(-x, samples) for x, samples in empty]
        idle = max(_dice(empty, threshold), _dice(full, threshold))
        count = sum(len(samples) for _, samples in batches)
        runner.message_hub.update_info(
            'teacher_check', dict(dice=dice, images=count)
        )
        figures = f'Dice {dice:.3f} on {count} images'
        runner.logger.info(f'Teacher check: {figures}')
        if dice <= idle:
            runner.logger.warning(
                f'THE TEACHER MARKS NO BETTER THAN ONE WHO MARKS NOTHING OR '
                f'EVERYTHING ({figures}; that has {idle:.3f}): check '
                'model.teacher_ckpt and the mean, std and window it was '
                'trained with'
            )

    def _report(
        self,
        runner,
        predictions: list[int],
        labels: list[int],
        num_classes: int,
    ) -> None:
        hits = np.equal(predictions, labels)
        counts = np.bincount(labels)
        present = counts > 0
        recalls = np.bincount(labels, hits)[present] / counts[present]
        accuracy, balanced = float(hits.mean()), float(recalls.mean())
        chance = 1 / num_classes
        runner.message_hub.update_info(
            'teacher_check',
            dict(
                accuracy=accuracy,
                balanced_accuracy=balanced,
                images=len(labels),
            ),
        )
        figures = (
            f'accuracy {accuracy:.3f}, balanced accuracy '
            f'{balanced:.3f} on {len(labels)} images'
        )
        runner.logger.info(f'Teacher check: {figures}')
        if balanced < _CHANCE * chance:
            runner.logger.warning(
                f'THE TEACHER IS NEAR CHANCE ({figures}; chance is '
                f'{chance:.3f}): check model.teacher_ckpt, the order of the '
                'classes and the mean and std it was trained with'
            )


def samples_of(dataset, indices: np.ndarray) -> list | dict:
    """What a loader gives to its collate function."""
    if hasattr(dataset, '__getitems__'):
        return dataset.__getitems__(indices.tolist())
    return [dataset[i] for i in indices]


def _labels(samples) -> list[int]:
    if hasattr(samples, 'gt_labels'):  # a packed batch
        return samples.gt_labels.tolist()
    return [int(sample.gt_label) for sample in samples]


def _dice(batches: list[tuple], threshold: float) -> float:
    """As ``hkd_mm.SegmentationMetric`` has it: the mean over the images."""
    from hkd_mm.evaluation.segmentation_metric import SegmentationMetric

    metric = SegmentationMetric(threshold, hd95=False)
    for logits, samples in batches:
        predictions = MaskPredictions(logits, samples)
        metric.process([], [predictions])
    return metric.compute_metrics(metric.results)['dice']
