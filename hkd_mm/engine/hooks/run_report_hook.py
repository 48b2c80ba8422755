# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a run leaves in its work dir beside config, log and checkpoints."""

import os
import time
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import Hook

from hkd_mm.engine import run_summary, student_export
from hkd_mm.engine.environment import collect_environment
from hkd_mm.engine.run_data import image_input, training_input
from hkd_mm.engine.run_figures import save_confusion, save_curves
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.files import to_json
from hkd_mm.registry import HOOKS


@HOOKS.register_module()
class RunReportHook(Hook):
    """Leave a complete record of a run, also of one that was resumed.

    ``environment.json`` at the start; ``history.json`` after every epoch; at the end
    ``metrics.json`` (see :func:`summarise`), ``curves.png``, ``confusion_matrix.png``
    of the best validation and ``student.pth``, the plain mmpretrain student of the best
    checkpoint (the last one where there was no validation). The ``meta`` of every
    checkpoint gets ``input`` (see :func:`.run_data.image_input`), ``student`` (the
    config of the plain student) and ``data_preprocessor``.
    """

    # before CheckpointHook, whose before_train may validate
    priority = 'LOW'

    def before_train(self, runner) -> None:
        self.history = run_summary.History(Path(runner.work_dir) / 'history.json')
        self.input_size: tuple[int, int] | None = None
        if not is_main_process():
            return
        if runner.epoch > 0:
            # a run may be resumed into another folder
            there = Path(runner._load_from or '').parent / 'history.json'
            self.history.load(runner.epoch, runner.logger.warning, there)
        AtomicBackend().put_text(
            to_json(collect_environment()),
            Path(runner.work_dir) / 'environment.json',
        )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        meta, data = checkpoint['meta'], runner.train_dataloader.dataset
        preprocessor = run_summary.bare_model(runner.model).data_preprocessor
        if runner.val_loop is None:
            meta['input'] = training_input(data, preprocessor)
        else:  # how images are prepared for the model that is validated
            data = runner.val_loop.dataloader.dataset
            meta['input'] = image_input(data, preprocessor)
        config, own = runner.cfg.get('model'), runner.cfg.get('data_preprocessor')
        if config is not None:
            meta['student'] = student_export.student_config(config, own)
        if own is not None:
            meta['data_preprocessor'] = student_export.plain_preprocessor(own)

    def before_train_epoch(self, runner) -> None:
        self._sums: dict[str, torch.Tensor | float] = {}
        self._steps = self._images = 0
        self._clock = time.perf_counter()

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        for name, value in (outputs or {}).items():
            value = value.detach() if torch.is_tensor(value) else value
            self._sums[name] = self._sums.get(name, 0) + value
        self._steps += 1
        self._images += len(data_batch['inputs'])
        self.input_size = _image_shape(runner, data_batch['inputs'][0])

    @master_only
    def after_train_epoch(self, runner) -> None:
        losses = {n: float(total) / self._steps for n, total in self._sums.items()}
        self.history.add(
            runner.epoch + 1,
            train=losses,
            lr=float(next(iter(runner.optim_wrapper.get_lr().values()))[0]),
            images=self._images * get_world_size(),
            seconds=time.perf_counter() - self._clock,
        )

    def before_val_epoch(self, runner) -> None:
        self._val_clock = time.perf_counter()

    @master_only
    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if not hasattr(self, 'history'):
            return  # a validation on its own
        found = (metrics or {}).items()
        scalars = {n: value for n, value in found if isinstance(value, (int, float))}
        fields = dict(val=scalars, val_seconds=time.perf_counter() - self._val_clock)
        for metric in runner.val_loop.evaluator.metrics:
            last = getattr(metric, 'last', None)
            if last is not None and 'confusion' in last:
                fields['confusion'] = last['confusion'].tolist()
        self.history.add(runner.epoch, **fields)

    @master_only
    def after_train(self, runner) -> None:
        folder = Path(runner.work_dir)
        if self.input_size is None:  # no step was left to train
            sample = runner.train_dataloader.dataset[0]
            self.input_size = _image_shape(runner, sample['inputs'])
        report = run_summary.summarise(runner, self.history, self.input_size)
        runner.message_hub.update_info('run_report', report)
        AtomicBackend().put_text(to_json(report), folder / 'metrics.json')
        best = (report['best'] or {}).get('epoch')
        save_curves(self.history.ordered(), folder / 'curves.png', best)
        if matrix := self.history.records.get(best, {}).get('confusion'):
            meta = getattr(runner.train_dataloader.dataset, 'metainfo', {})
            classes = meta.get('classes') or [*map(str, range(len(matrix)))]
            title = f'validation, epoch {best}'
            save_confusion(matrix, classes, folder / 'confusion_matrix.png', title)
        source = run_summary.best_checkpoint(runner)
        source = source or run_summary.last_checkpoint(runner)
        if source is None:
            runner.logger.warning('No checkpoint was saved, so there is no student.pth')
            return
        student_export.export_student(source, folder / 'student.pth')
        name = os.path.basename(source)
        runner.logger.info(f'The plain student of {name} is {folder / "student.pth"}')


def _image_shape(runner, image: torch.Tensor) -> tuple[int, int]:
    """Height and width of what the network is given."""
    side = getattr(runner.train_dataloader.dataset, 'size', None)
    if side is not None:  # packed with a margin, cropped on the device
        return side, side
    return tuple(image.shape[-2:])
