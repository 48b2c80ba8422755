# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Open, fill and read the teacher cache of a run."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from hkd_mm.registry import HOOKS


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Keep the cache of a ``FrozenTeacherDistill`` in step with the epochs.

    Opens it before the first epoch, tells it the view of each (which
    ``hkd_mm.ViewHook`` has set) and hands it to the disk after each. Models
    without a cache are left alone.
    """

    def before_train(self, runner) -> None:
        """Open the cache, see ``open_teacher_cache``."""
        model = _of(runner)
        if getattr(model, 'teacher_cache', None) is not None:
            from hkd_mm.models.teacher_cache import open_teacher_cache

            loader = runner.train_dataloader
            open_teacher_cache(
                model, loader.dataset, runner.logger, loader.batch_size
            )
            cache, epochs = model.teacher_cache, runner.max_epochs
            if cache.is_open and epochs <= cache.num_views:
                runner.logger.info(
                    f'Teacher cache: {epochs} epochs show none of '
                    f'{cache.num_views} views twice, so it is filled for '
                    'other runs of this teacher; teacher_cache=False '
                    'trains the same without it'
                )

    def before_train_epoch(self, runner) -> None:
        """Start the view of this epoch."""
        model = _of(runner)
        cache = getattr(model, 'teacher_cache', None)
        if cache is None or not cache.is_open:
            return
        view = model.data_preprocessor.view
        read = cache.start_view(
            view,
            runner.train_dataloader.dataset.index,
            next(model.parameters()).device,
        )
        runner.logger.info(
            f'Teacher cache: view {view} is {"read" if read else "filled"}'
        )

    def after_train_epoch(self, runner) -> None:
        """Hand what was written to the disk."""
        cache = getattr(_of(runner), 'teacher_cache', None)
        if cache is not None and cache.is_open:
            cache.file.flush()


def _of(runner):
    model = runner.model
    return model.module if is_model_wrapper(model) else model
