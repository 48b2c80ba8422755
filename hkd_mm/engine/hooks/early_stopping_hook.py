# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Early stopping that counts ties and remembers across a resume."""

import operator

from mmengine.hooks import EarlyStoppingHook

from hkd_mm.registry import HOOKS

_KEY = 'early_stopping'


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook`` whose count is part of the checkpoint.

    Only a score that is better by more than ``min_delta`` is a gain; upstream
    takes an equal one for a gain at ``min_delta=0`` and never stops on a
    plateau. Two methods are added, for upstream starts counting anew, without
    its best score, whenever a run is resumed. A checkpoint is written before
    the validation of its epoch: a resumed run counts on from the one before.

    Args:
        kwargs: ``monitor``, ``rule``, ``min_delta``, ``patience`` and the
            others of mmengine's hook. ``patience`` counts validations.
    """

    # "No better than" of the scores, where upstream has "worse than".
    rule_map = dict(greater=operator.ge, less=operator.le)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Store the count and the best score."""
        checkpoint[_KEY] = dict(
            wait_count=self.wait_count, best_score=float(self.best_score)
        )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take them back; weights of other runs (``load_from``) have none."""
        stored = checkpoint.get(_KEY)
        if stored and runner._resume:
            self.wait_count = stored['wait_count']
            self.best_score = stored['best_score']
