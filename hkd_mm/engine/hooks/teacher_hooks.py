# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hooks that check, rank and cache teachers."""

from collections.abc import Iterator

import numpy as np
import torch
from mmengine.hooks import Hook

from hkd_mm.engine.run_summary import bare_model
from hkd_mm.errors import UserError
from hkd_mm.evaluation import significance
from hkd_mm.evaluation.segmentation_metric import SegmentationMetric
from hkd_mm.evaluation.segmentation_scores import threshold_of
from hkd_mm.io.locks import as_rank_0
from hkd_mm.models.arguments import Arguments, Count
from hkd_mm.models.recorders.network_recorders import labels_of
from hkd_mm.models.teacher_cache import open_teacher_cache
from hkd_mm.registry import HOOKS
from hkd_mm.structures.mask_samples import MaskPredictions
from hkd_mm.structures.packed_samples import teacher_images

_CHANCE = 1.5  # times chance: below it a teacher has nothing to teach
_BATCH = 64


@HOOKS.register_module()
class TeacherCheckHook(Arguments, Hook):
    """Log the teacher's accuracy on a few images before training.

    A teacher at chance (the wrong checkpoint, the wrong class order, other input
    statistics) distils noise and nothing else would tell. The figures also go to the
    message hub as ``teacher_check``. A teacher without a checkpoint is refused, and one
    that answers with NaN.
    """

    # spread evenly over the validation split (the training split where there is none,
    # or where the teacher has images of its own size): data are often sorted by class
    num_images: Count = 256

    @torch.no_grad()
    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        if not hasattr(model, 'teacher'):
            return
        if getattr(model, 'missing_ckpts', None):
            raise UserError(
                f'{model.missing_ckpts[0]} is None, so the teacher has random '
                'weights; set it to the file of a trained one, or use '
                'tools/train.py, which trains the teacher first'
            )
        loader = _loader(runner, model)
        chosen = spread(self.num_images, loader.dataset)
        predictions, labels, masks = [], [], []
        for data in _batches(model, loader, chosen):
            logits = _teacher_logits(model, data)
            if not torch.isfinite(logits).all():
                raise UserError(
                    'the teacher answers with NaN or infinity; give another file as '
                    f'model.teacher_ckpt (now {getattr(model, "teacher_ckpt", None)}), '
                    'or the mean and std that it was trained with'
                )
            if logits.dim() == 4:
                masks.append((logits, data['data_samples']))
                continue
            predictions += logits.argmax(1).tolist()
            labels += labels_of(data['data_samples']).tolist()
        if masks:
            self._report_masks(runner, masks)
        elif getattr(loader.dataset, 'unlabelled', False):
            runner.logger.info('Teacher check: these images have no labels')
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
        runner.message_hub.update_info('teacher_check', dict(dice=dice, images=count))
        figures = f'Dice {dice:.3f} on {count} images'
        runner.logger.info(f'Teacher check: {figures}')
        if dice <= idle:
            runner.logger.warning(
                'THE TEACHER MARKS NO BETTER THAN ONE WHO MARKS NOTHING OR EVERYTHING '
                f'({figures}; that has {idle:.3f}): check model.teacher_ckpt and the '
                'mean, std and window it was trained with'
            )

    def _report(
        self, runner, predictions: list, labels: list, num_classes: int
    ) -> None:
        given = np.array(labels), np.array(predictions), np.ones(len(labels))
        accuracy = significance.accuracy(*given)
        balanced = significance.balanced_accuracy(*given)
        chance = 1 / num_classes
        found = dict(accuracy=accuracy, balanced_accuracy=balanced, images=len(labels))
        runner.message_hub.update_info('teacher_check', found)
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


def spread(count: int, dataset) -> np.ndarray:
    """Indices of so many samples, spread evenly."""
    return np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)


def samples_of(dataset, indices: np.ndarray) -> list | dict:
    """What a loader gives to its collate function."""
    if hasattr(dataset, '__getitems__'):
        return dataset.__getitems__(indices.tolist())
    return [dataset[i] for i in indices]


def _batches(model, loader, indices: np.ndarray) -> Iterator[dict]:
    """Yield images of a loader's dataset as an evaluation prepares them."""
    for part in np.array_split(indices, -(-len(indices) // _BATCH)):
        batch = loader.collate_fn(samples_of(loader.dataset, part))
        yield model.data_preprocessor(batch, training=False)


def _loader(runner, model):
    """Of images to look at with the teacher; those of its own size train."""
    own = getattr(model.data_preprocessor, 'teacher_size', None)
    loop = runner.train_loop if own else runner.val_loop or runner.train_loop
    return loop.dataloader


def _teacher_logits(model, data: dict) -> torch.Tensor:
    images = teacher_images(data['inputs'], data['data_samples'])
    return model.teacher(model.convert_input(images), mode='tensor')


def _dice(batches: list[tuple], threshold: float) -> float:
    """As ``hkd_mm.SegmentationMetric`` has it: the mean over the images."""
    metric = SegmentationMetric(threshold, hd95=False)
    for logits, samples in batches:
        predictions = MaskPredictions(logits, samples)
        metric.process([], [predictions])
    return metric.compute_metrics(metric.results)['dice']


@HOOKS.register_module()
class ClassFusionHook(Hook):
    """Measure the class weights of ``fusion='class'`` before training.

    The weight of a teacher for a class is its recall of that class on the
    validation split (the training split where a run has no validation, which
    flatters a teacher that was trained on it). Nothing is measured where the
    config gives ``class_weights``.
    """

    priority = 'HIGH'  # before a cache of what the teachers say is opened

    @torch.no_grad()
    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        teacher = getattr(model, 'teacher', None)
        fusion = getattr(teacher, 'model', None)
        if not getattr(fusion, 'wants_class_weights', False):
            return
        loader = _loader(runner, model)
        rows = np.arange(len(loader.dataset))
        hits = total = 0
        for data in _batches(model, loader, rows):
            labels = labels_of(data['data_samples'])
            images = teacher_images(data['inputs'], data['data_samples'])
            scores = torch.stack(teacher.scores(images))  # (K, N, C)
            truth = torch.nn.functional.one_hot(labels, scores.size(2)).float()
            right = (scores.argmax(2) == labels).float()  # (K, N)
            hits, total = hits + right @ truth, total + truth.sum(0)
        recall = hits / total.clamp(min=1)
        fusion.set_class_weights(recall)
        for index, row in enumerate(recall.tolist()):
            runner.logger.info(
                f'Class fusion: recall of model.teachers.{index} on '
                f'{len(rows)} images: ' + ', '.join(f'{share:.3f}' for share in row)
            )


@HOOKS.register_module()
class TeacherRankingHook(Hook):
    """Tell :class:`hkd_mm.CurriculumSampler` how confident the teacher is.

    Confidence is the probability of the class that the teacher predicts, on
    the image as in validation, without augmentation.
    """

    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        loader = runner.train_dataloader
        if getattr(model, 'teacher', None) is None:
            raise UserError(
                'TeacherRankingHook: this run has no teacher to rank the '
                'images; leave the hook out'
            )
        if not hasattr(loader.sampler, 'rank_by'):
            raise UserError(
                'TeacherRankingHook: train_dataloader.sampler must be '
                f'hkd_mm.CurriculumSampler, not {type(loader.sampler).__name__}'
            )
        # that of one process: others may differ in the last bit
        confidence = as_rank_0(teacher_confidence(model, runner))
        loader.sampler.rank_by(confidence)
        runner.logger.info(
            f'Curriculum: {len(confidence)} training images, confidence of '
            f'the teacher from {confidence.max():.3f} down to '
            f'{confidence.min():.3f}, median {np.median(confidence):.3f}'
        )


@torch.no_grad()
def teacher_confidence(model, runner) -> np.ndarray:
    """(N,) float32 in [0, 1] of the teacher's own predictions on training images."""
    loader = runner.train_dataloader
    dataset = loader.dataset
    augmented = getattr(dataset, 'pipeline', None)
    if augmented is None and not hasattr(dataset, 'store'):
        raise UserError(
            f'TeacherRankingHook: {type(dataset).__name__} hides the '
            'pipeline of its images, so they cannot be shown without '
            'augmentation; use the plain data set or packed=True'
        )
    if augmented is not None:
        loop = runner.val_loop or runner.test_loop
        if loop is None:
            raise UserError(
                'TeacherRankingHook: without val_dataloader and test_dataloader '
                'there is no pipeline without augmentation to show the teacher the '
                'images with'
            )
        dataset.pipeline = loop.dataloader.dataset.pipeline
    try:
        found = [
            _teacher_logits(model, data).float().softmax(1).amax(1).cpu()
            for data in _batches(model, loader, np.arange(len(dataset)))
        ]
    finally:
        if augmented is not None:
            dataset.pipeline = augmented
    return torch.cat(found).numpy()


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Keep the cache of a ``FrozenTeacherDistill`` in step with the epochs.

    Opens it before the first epoch, tells it the view of each (of
    ``hkd_mm.ViewHook``) and hands it to the disk after each.
    """

    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        if getattr(model, 'teacher_cache', None) is None:
            return
        loader = runner.train_dataloader
        open_teacher_cache(model, loader.dataset, runner.logger, loader.batch_size)
        cache, epochs = model.teacher_cache, runner.max_epochs
        if cache.is_open and not cache.average and epochs <= cache.num_views:
            runner.logger.info(
                f'Teacher cache: {epochs} epochs show none of {cache.num_views} views '
                'twice, so it is filled for other runs of this teacher; '
                'teacher_cache=False trains the same without it'
            )

    def before_train_epoch(self, runner) -> None:
        model = bare_model(runner.model)
        cache = getattr(model, 'teacher_cache', None)
        if cache is None or not cache.is_open:
            return
        view = model.data_preprocessor.view
        index = runner.train_dataloader.dataset.index
        read = cache.start_view(view, index, next(model.parameters()).device)
        how = 'read' if read else 'filled'
        runner.logger.info(f'Teacher cache: view {view} is {how}')

    def after_train_epoch(self, runner) -> None:
        cache = getattr(bare_model(runner.model), 'teacher_cache', None)
        if cache is not None and cache.is_open:
            cache.file.flush()
