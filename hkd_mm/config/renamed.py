# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names of configs that have changed; refused with the new one.

An entry stays for one release.
"""

from typing import Any

from hkd_mm.config.tree import dicts
from hkd_mm.errors import UserError

RENAMED = {
    # registered names, the type of a component
    'hkd_mm.VanishedMasksHook': 'hkd_mm.MasksLostByResizeHook',
    # keys of a config and of --cfg-options
    'earlier_stage_config': 'previous_stage_config',
}


def check_renamed(config: dict[str, Any], source: object) -> None:
    """Refuse an old name among the keys and types of a config.

    Args:
        source: the file, or what else names it, for the message.
    """
    for node in dicts(config):
        kind = node.get('type')
        for name in (*node, *([kind] if isinstance(kind, str) else ())):
            if name in RENAMED:
                raise UserError(
                    f'{source}: {name} is now called {RENAMED[name]}; write that'
                )
