# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A runner whose name no other run of the process has."""

import logging
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

_OPENMMLAB = tuple(
    Path(find_spec(name).origin).parent
    for name in ('mmengine', 'mmcv', 'mmpretrain', 'mmrazor')
)
_NEWS = ('early_stopping_hook.py',)


class NamedRunner(Runner):
    """A runner under a name of its own.

    MMEngine keeps a logger, a hub and a visualizer per name and process, and
    makes the name of the config's and the second: two runs begun in one
    second would write into each other's folders. Its dumps and a line every few steps
    go to the log file and not to the console, see :func:`is_for_console`.
    """

    def __init__(
        self,
        *args: Any,
        experiment_name: str | None = None,
        cfg: Config | dict | None = None,
        **kwargs: Any,
    ) -> None:
        file = getattr(cfg, 'filename', None) or 'run'
        name = f'{experiment_name or Path(file).stem}_{uuid.uuid4().hex[:8]}'
        super().__init__(*args, experiment_name=name, cfg=cfg, **kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_for_console)
        return logger

    def build_dataloader(self, dataloader, *args: Any, **kwargs: Any):
        """Build a loader; one of training leaves a lone last image out.

        A network whose last map is 1 x 1 would stop there: BatchNorm expects more than
        one value per channel. Another image is left out every epoch.
        """
        build = super().build_dataloader
        loader = build(dataloader, *args, **kwargs)
        size = loader.batch_size or 1
        if (
            dataloader is not self._train_dataloader
            or loader.drop_last
            or size == 1
            or len(loader.sampler) % size != 1
        ):
            return loader
        self.logger.info(
            f'The last batch of an epoch (batch_size={size}) would be a '
            'single image, which BatchNorm cannot train on: left out'
        )
        settings = dict(dataloader, dataset=loader.dataset, drop_last=True)
        return build(settings, *args, **kwargs)


def is_for_console(record: logging.LogRecord) -> bool:
    """Whether a log line is shown while a run goes on.

    Lines of level INFO that OpenMMLab's packages write are not, but for why
    a run stops early. Warnings, errors, lines of hkd_mm and of hooks that a
    config adds are, and with ``log_level='DEBUG'`` those of that level.
    """
    if record.levelno != logging.INFO:
        return True
    path = Path(record.pathname)
    return path.name in _NEWS or not any(
        path.is_relative_to(package) for package in _OPENMMLAB
    )
