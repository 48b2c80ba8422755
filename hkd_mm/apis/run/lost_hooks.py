# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A list in a config replaces that of its base: hooks are easily lost."""

from logging import Logger

from mmengine.config import Config

from ..config.nets import config_root

# put in anyway
_ENSURED = tuple(
    f'hkd_mm.{name}Hook' for name in ('EpochSeed', 'Compile', 'Progress')
)
_OF_OURS = ('patience', 'channels_last', 'compiled')  # of default_runtime.py


def warn_of_lost_hooks(cfg: Config, logger: Logger) -> None:
    """One line where a config has none of the hooks of every run.

    A config that never had them is somebody else's, and left alone; so is
    one that keeps some and leaves others out.
    """
    if any(key not in cfg for key in _OF_OURS):
        return
    runtime = config_root() / '_base_/default_runtime.py'
    every = [hook['type'] for hook in Config.fromfile(runtime).custom_hooks]
    every = [name for name in every if name not in _ENSURED]
    kept = {hook['type'] for hook in cfg.get('custom_hooks') or []}
    if not kept & set(every):
        names = ', '.join(name.removeprefix('hkd_mm.') for name in every)
        logger.warning(
            f'custom_hooks of the config replaces those of every run ({names} '
            'are gone); write custom_hooks = _base_.custom_hooks + [...]'
        )
