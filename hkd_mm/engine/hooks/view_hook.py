# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tell the data preprocessor which view to make."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from hkd_mm.registry import HOOKS


@HOOKS.register_module()
class ViewHook(Hook):
    """Hand the epoch to a preprocessor that makes views of images.

    Runs before each epoch, so that a resumed run goes on with the views of
    the uninterrupted one. Other preprocessors are left alone.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner) -> None:
        """Set ``runner.epoch``."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        preprocessor = getattr(model, 'data_preprocessor', None)
        if hasattr(preprocessor, 'set_epoch'):
            preprocessor.set_epoch(runner.epoch)
