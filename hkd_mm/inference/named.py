# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``NAME=PATH`` of a command line."""

import os


def named(text: str) -> tuple[str, str]:
    """Take a name and a path apart.

    Args:
        text: ``NAME=PATH``, or a path, which may have ``=`` in it: what
            exists as a whole is a path, else the first ``=`` ends the name.

    Returns:
        The name, empty where there is none, and the path.
    """
    name, equals, path = text.partition('=')
    if not equals or os.path.exists(text):
        return '', text
    return name, path
