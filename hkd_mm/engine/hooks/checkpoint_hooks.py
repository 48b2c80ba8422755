# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checkpoints that survive a kill and fit the model they are loaded into."""

import os
from collections import OrderedDict
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from torch import nn

from hkd_mm.engine.memory import match_memory_order
from hkd_mm.engine.run_data import check_resumed_split, split_hash
from hkd_mm.engine.run_summary import bare_model
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import remove_parts
from hkd_mm.registry import HOOKS

_STUDENT = 'architecture.'


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Hold every loaded checkpoint against the model; note the split.

    mmengine loads with ``strict=False`` and only logs what did not fit: a
    resumed or tested run would go on with random weights. Here

    - a distillation checkpoint loads into the plain student and a plain
      student into a distillation (its connectors keep their start values);
    - everything else that is missing, unknown or of another shape is refused;
    - a run is resumed on the split it was trained on, or not at all;
    - momenta of a resumed run take the memory order of the weights;
    - a saved checkpoint's ``meta`` gets the ``split_hash`` of the training
      data, so that a teacher can be held against the student's split.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Rename the student's weights if need be, and compare.

        Raises:
            UserError: the checkpoint belongs to another network or another
                number of classes.
        """
        model = bare_model(runner.model)
        name = runner._load_from or 'the checkpoint'
        if runner._resume:
            _check_resumable(runner, checkpoint, str(name))
        state = OrderedDict(
            (key.removeprefix('module.'), value)
            for key, value in checkpoint['state_dict'].items()
        )
        state = _renamed(model, state, whole=runner._resume)
        _check(model, state, str(name), connectors=runner._resume)
        checkpoint['state_dict'] = state

    def before_train(self, runner) -> None:
        wrapper = runner.optim_wrapper
        for one in getattr(wrapper, 'optim_wrappers', {'': wrapper}).values():
            match_memory_order(one.optimizer)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        split = split_hash(runner.train_dataloader.dataset)
        if split is not None:
            checkpoint['meta']['split_hash'] = split


def _check_resumable(runner, checkpoint: dict[str, Any], name: str) -> None:
    """A run goes on from its own checkpoints, on its own split."""
    missing = [k for k in ('optimizer', 'message_hub') if k not in checkpoint]
    meta = checkpoint.get('meta') or {}
    if missing or 'epoch' not in meta:
        raise UserError(
            f'{name} holds weights only and cannot be resumed from; '
            'give an epoch_N.pth of this run, or start from the '
            'weights with --cfg-options load_from=FILE'
        )
    check_resumed_split(meta, runner.train_dataloader.dataset, name)


def _renamed(model: nn.Module, state: OrderedDict, whole: bool) -> OrderedDict:
    """Add or take off the student's prefix where only one side has it."""
    distils = hasattr(model, 'architecture')
    prefixed = any(key.startswith(_STUDENT) for key in state)
    if distils and not prefixed and not whole:
        return OrderedDict((_STUDENT + k, v) for k, v in state.items())
    if not distils and prefixed:
        return OrderedDict(
            (key[len(_STUDENT) :], value)
            for key, value in state.items()
            if key.startswith(_STUDENT)
        )
    return state


def _check(model: nn.Module, state: OrderedDict, name: str, connectors: bool) -> None:
    own = model.state_dict()
    needed = [
        key
        for key in own
        if connectors or not hasattr(model, 'architecture') or key.startswith(_STUDENT)
    ]
    missing = [key for key in needed if key not in state]
    unknown = [key for key in state if key not in own]
    if missing or unknown:
        raise UserError(
            f'checkpoint {name} is of another network: {len(missing)} weights '
            f'missing {missing[:2]}, {len(unknown)} unknown {unknown[:2]}; '
            'give the checkpoint that belongs to this config'
        )
    wrong = [key for key in state if own[key].shape != state[key].shape]
    if wrong:
        key = wrong[-1]
        mine, theirs = tuple(own[key].shape), tuple(state[key].shape)
        classes = (
            f'it was trained for {theirs[0]} classes and the config has {mine[0]}'
            if len(wrong) <= 2 and mine
            else f'{len(wrong)} weights differ in shape'
        )
        raise UserError(
            f'checkpoint {name} does not fit: {classes} ({key}: {theirs} in '
            f'the file, {mine} in the network); give the checkpoint that '
            'belongs to this config'
        )


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
        """Drop the record of best checkpoints that are not there any more."""
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

        A checkpoint is written before its epoch is validated, so what hooks learn from
        that validation is not in it. Here and not in ``before_train_epoch``, since a
        validation draws from the random generators that are seeded there.
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
