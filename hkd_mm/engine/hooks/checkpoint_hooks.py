# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checkpoints that survive a kill and fit the model they are loaded into."""

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop
from torch import nn

from hkd_mm.engine.memory import match_memory_order
from hkd_mm.engine.run_data import check_resumed, preparation, split_hash
from hkd_mm.engine.run_summary import bare_model
from hkd_mm.errors import UserError
from hkd_mm.io import checkpoints
from hkd_mm.io.atomic_files import remove_parts
from hkd_mm.models.arguments import Count, checked
from hkd_mm.registry import HOOKS

_STUDENT = 'architecture.'
_OF_OPTIMIZERS = {'momentum', 'betas', 'alpha', 'rho'}  # tell them apart


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Hold every loaded checkpoint against the model and the data.

    mmengine loads with ``strict=False`` and only logs what did not fit. Here

    - a distillation checkpoint loads into the plain student and a plain
      student into a distillation (its connectors keep their start values),
      also from a file of another program;
    - everything else that is missing, unknown or of another shape is refused;
    - a training starts from weights of the same classes in the same order, and
      so do its networks from ``teacher_ckpt`` and ``student_ckpt``;
    - a run is resumed on the split, with the preparation of the images and with the
      optimizer that it was begun with, or not at all;
    - momenta of a resumed run take the memory order of the weights.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        name, meta = str(runner._load_from or 'the checkpoint'), checkpoint.get('meta')
        if isinstance(runner._train_loop, BaseLoop):  # a test looks itself
            checkpoints.check_classes(meta or {}, _classes(runner), name)
        if runner._resume:
            dataset = runner.train_dataloader.dataset
            preprocessor = bare_model(runner.model).data_preprocessor
            check_resumed(checkpoint, dataset, preprocessor, name)
            _check_optimizer(runner, checkpoint, name)
        model = bare_model(runner.model)
        checkpoint['state_dict'] = _fitting(model, checkpoint, name, runner._resume)

    def before_run(self, runner) -> None:
        """Compare the classes of the networks that a training builds on."""
        model = bare_model(runner.model)
        networks = getattr(model, 'teacher', None)
        metas = getattr(networks, 'metas', [getattr(model, 'teacher_meta', {})])
        for meta in metas if isinstance(runner._train_loop, BaseLoop) else ():
            name = getattr(model, 'teacher_ckpt', None) or 'of a teacher'
            checkpoints.check_classes(meta, _classes(runner), name)
        path = getattr(model, 'student_ckpt', None)
        if path and isinstance(runner._train_loop, BaseLoop):
            meta = checkpoints.safe_load(path).get('meta') or {}
            checkpoints.check_classes(meta, _classes(runner), path)

    def before_train(self, runner) -> None:
        wrapper = runner.optim_wrapper
        for one in getattr(wrapper, 'optim_wrappers', {'': wrapper}).values():
            match_memory_order(one.optimizer)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        dataset = runner.train_dataloader.dataset
        prepared = preparation(dataset, bare_model(runner.model).data_preprocessor)
        checkpoint['meta'].update(split_hash=split_hash(dataset), preparation=prepared)


def _classes(runner) -> tuple[str, ...] | None:
    return getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes')


def _check_optimizer(runner, checkpoint: dict[str, Any], name: str) -> None:
    """A run goes on with its own optimizer."""
    there, here = (
        ', '.join(  # what each group goes by, and of how many weights
            f'{" ".join(sorted(_OF_OPTIMIZERS & group.keys()))} {len(group["params"])}'
            for group in state.get('param_groups', ())
        )
        for state in (checkpoint['optimizer'], runner.optim_wrapper.state_dict())
    )
    if there != here:
        raise UserError(
            f'{name} was trained by another optimizer ({there}, this config has '
            f'{here}); set optim_wrapper back, or begin again without --resume in '
            'another --work-dir'
        )


def _fitting(
    model: nn.Module, checkpoint: dict[str, Any], name: str, whole: bool
) -> dict[str, Any]:
    """The weights by a model's names for them; ``whole`` with those of connectors."""
    own = model.state_dict()
    prefix = _STUDENT if hasattr(model, 'architecture') else ''
    stored = checkpoint['state_dict'].items()
    state = {key.removeprefix('module.'): value for key, value in stored}
    if whole or (prefix and any(key.startswith(prefix) for key in state)):
        checkpoints.check_match(state, own, name, 'model', '' if whole else prefix)
        return state
    student = {key: value for key, value in own.items() if key.startswith(prefix)}
    student = {key.removeprefix(prefix): value for key, value in student.items()}
    found = checkpoints.matching_weights(checkpoint, student, name, 'model')
    return {prefix + key: value for key, value in found.items()}


class _LateRemoval:
    """A file backend whose ``remove`` waits until :meth:`flush`."""

    def __init__(self, backend) -> None:
        self._backend = backend
        self._pending: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._pending.append(path)

    def flush(self, keep: set[str]) -> None:
        for path in set(self._pending) - keep:
            if self._backend.isfile(path):
                self._backend.remove(path)
        self._pending.clear()


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that deletes an old file after writing the new one.

    Upstream deletes first, so that a kill in between leaves no best
    checkpoint, or with ``max_keep_ckpts=1`` none at all. Besides,

    - files are written through the ``atomic`` backend;
    - half-written files of a killed run are cleared away at the start;
    - a resumed run first validates the epoch it resumes from, so that its
      best checkpoint is that of an uninterrupted run;
    - a best checkpoint that is gone on resuming gives way to the next one,
      and that is said.
    """

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault('backend_args', dict(backend='atomic'))
        for key in ('interval', 'max_keep_ckpts'):
            if kwargs.get(key, -1) != -1:  # -1: none
                checked(Count, key, kwargs[key], type(self).__name__)
        super().__init__(**kwargs)

    def before_train(self, runner) -> None:
        if is_main_process() and os.path.isdir(runner.work_dir):
            remove_parts(runner.work_dir)
        self._forget_missing_best(runner)
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend)
        if self.by_epoch and runner.epoch > 0:
            self._validate_resumed(runner)

    def _forget_missing_best(self, runner) -> None:
        """Drop the record of best checkpoints that are gone."""
        hub = runner.message_hub
        for key in [k for k in hub.runtime_info if k.startswith('best_ckpt')]:
            path = hub.get_info(key)
            beside = os.path.join(runner.work_dir, os.path.basename(path))
            if os.path.isfile(beside):  # the folder may have been moved
                hub.update_info(key, beside)
            elif not os.path.isfile(path):
                runner.logger.warning(
                    f'The best checkpoint {path} is gone; the best one from '
                    'here on takes its place'
                )
                hub.pop_info(key)
                hub.pop_info(key.replace('best_ckpt', 'best_score'))

    def _validate_resumed(self, runner) -> None:
        """Validate the epoch that the resumed checkpoint ends with.

        A checkpoint is written before its epoch is validated. Not in
        ``before_train_epoch``: a validation draws from generators seeded there.
        """
        loop, epoch = runner.train_loop, runner.epoch
        if (
            runner.val_loop is None
            or epoch < loop.val_begin
            or (epoch % loop.val_interval and epoch != loop.max_epochs)
        ):
            return
        runner.logger.info(f'Validating the resumed epoch {epoch}')
        last = os.path.join(self.out_dir, self.filename_tmpl.format(epoch))
        # a new best is then noted in the resumed checkpoint as well
        self.last_ckpt = last if os.path.isfile(last) else None
        runner.val_loop.run()

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_outdated()

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.flush(
            {self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best}
        )
