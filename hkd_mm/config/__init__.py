# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a config file and command-line options to the config that runs."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, compose='compose_config load_config', config_text='config_text'
)
