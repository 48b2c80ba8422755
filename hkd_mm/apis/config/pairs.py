# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The same method on another pair: ``pair=demo`` on the command line.

A pair is a file of ``configs/_base_/pairs/``: teacher, student, images,
schedule. A config that inherits one and adds its losses can inherit another.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from hkd_mm.errors import UserError

_PAIRS = '_base_/pairs'


@contextmanager
def exchanged_pair(path: str | os.PathLike, pair: str) -> Iterator[None]:
    """Read ``path`` with another pair in place of the one it inherits.

    mmengine has no hook between a file and its bases, so the function that
    lists the bases of a file is replaced while the context lasts.

    Args:
        path: a config that inherits a file of ``_base_/pairs``, itself or
            through other configs.
        pair: the stem of another.

    Raises:
        UserError: there is no such pair, or the config inherits none.
    """
    target = _pair_file(pair)
    listed = Config._get_base_files
    exchanged = []

    def base_files(filename: str) -> list[str]:
        found = listed(filename)
        own = [name for name in found if Path(name).parent.name == 'pairs']
        exchanged.extend(own)
        return [str(target) if name in own else name for name in found]

    Config._get_base_files = staticmethod(base_files)
    try:
        yield
    except UserError as error:
        if not exchanged:
            raise
        raise UserError(
            f'pair={pair} does not go with {path}, which builds on a value '
            f'of the pair that it inherits ({error}); take another pair, or '
            'a config of configs/zoo'
        ) from error
    finally:
        Config._get_base_files = staticmethod(listed)
    if not exchanged:
        raise UserError(
            f'pair={pair}: {path} does not inherit a file of configs/{_PAIRS},'
            ' so there is no pair to exchange; take a config of configs/zoo'
        )


def _pair_file(pair: str) -> Path:
    from .nets import config_root

    folder = config_root() / _PAIRS
    if not (folder / f'{pair}.py').is_file():
        known = ', '.join(sorted(file.stem for file in folder.glob('*.py')))
        raise UserError(f'pair={pair}: known in configs/{_PAIRS}: {known}')
    return folder / f'{pair}.py'
