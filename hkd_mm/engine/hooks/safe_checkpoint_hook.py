# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Checkpoints that a kill at any moment leaves fit for resuming."""

import os

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from hkd_mm.registry import HOOKS

from ..atomic_backend import remove_parts


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

    Args:
        kwargs: those of ``mmengine.hooks.CheckpointHook``.
    """

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault('backend_args', dict(backend='atomic'))
        super().__init__(**kwargs)

    def before_train(self, runner) -> None:
        """Clear the folder and make up for what a kill prevented."""
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

        A checkpoint is written before its epoch is validated, so what hooks
        learn from that validation is not in it. Here and not in
        ``before_train_epoch``, since a validation draws from the random
        generators that are seeded there.
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

    def _save_checkpoint_with_step(
        self, runner, step: int, meta: dict
    ) -> None:
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
