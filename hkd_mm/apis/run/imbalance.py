# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Rare classes are drawn more often or weigh more, rarely both."""

from logging import Logger

from mmengine.config import Config

from ..config.data_summary import weighs_classes


def warn_if_balanced_twice(cfg: Config, logger: Logger) -> None:
    """One line where the sampler and a loss both make up for imbalance."""
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    drawn = str(sampler.get('type', '')).endswith('BalancedSampler')
    if drawn and weighs_classes(cfg):
        logger.warning(
            'sampler=balanced and class_weight are both on: rare classes '
            'count twice, once drawn and once weighed; most want one of them'
        )
