# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Options that are refused before torch is imported."""

import os
from typing import Any

from hkd_mm.config.compose import read_config
from hkd_mm.config.options import (
    lookup,
    refuse_name,
    split_options,
    split_text,
)
from hkd_mm.config.overrides import EXCHANGES
from hkd_mm.io.signatures import constructor_arguments


def check_early(config: str, options: list[str] | dict[str, Any] | None) -> None:
    """Refuse mistakes in options that need nothing but the config file.

    Top-level words that nothing knows or that have a value of the wrong kind, and names
    that no constructor of this package takes. What this does not see, a missing file
    among it, :func:`.compose.compose_config` sees later.

    Raises:
        UserError: as of ``compose_config``, with the same words.
    """
    if not options or not os.path.isfile(config):
        return
    cfg = read_config(config)
    words, dotted = split_options(options, cfg)
    if any(word in EXCHANGES for word in words) or isinstance(dotted, dict):
        return  # parts of the config will be others
    keys = [split_text(text)[0] for text in dotted]
    for key in keys:
        _, node, missing = lookup(cfg, key)
        if not missing or not isinstance(node, dict):
            continue
        head = key[: -len('.'.join(missing))] + missing[0]
        kind = node.get('type')
        if not isinstance(kind, str) or f'{head}.type' in keys:
            continue
        found = constructor_arguments(kind)
        if found is None or found.is_open or 'dataset' in node:
            continue
        known = {*node, *found.names, 'type', '_delete_'}
        if missing[0] not in known:
            refuse_name(key, missing, known)
