# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The switch ``packed`` and its details, as configs and options name them."""

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError

from .loaders import LOADERS

# Name -> what it is an argument of.
OPTIONS = dict(
    margin='dataset',
    store_dir='dataset',
    in_memory='dataset',
    verify='dataset',
    hair_removal='dataset',
    top_up='dataset',
    augment='preprocessor',
    num_views='preprocessor',
    seed='preprocessor',
)
OF_TRAINING = ('margin', 'top_up')  # not of the loaders of evaluation


def is_packed(cfg: Config) -> bool:
    """Whether the config asks for it: True or a dict, be it empty."""
    return cfg.get('packed') not in (None, False)


def take_switch(cfg: Config, options: list[str] | dict[str, Any]):
    """Let ``packed=True`` and ``packed.<name>=...`` stand side by side.

    Args:
        cfg: its ``packed`` is switched, a dict there is kept.
        options: top-level ones, as texts or a dict.

    Returns:
        The options that are left to merge; none on a packed that is off.
    """
    if isinstance(options, dict):
        named = {key: str(value) for key, value in options.items()}
    else:
        named = {text: text.partition('=')[2].strip() for text in options}
    off = any(named[o] == 'False' for o in named if _key(o) == 'packed')
    details = any(_key(option).startswith('packed.') for option in named)
    if off:
        cfg.packed = False
    elif details and not isinstance(cfg.get('packed'), dict):
        cfg.packed = dict()
    kept = isinstance(cfg.get('packed'), dict)
    hair = any(_key(o).startswith('packed.hair_removal.') for o in named)
    if kept and hair and isinstance(cfg.packed.get('hair_removal'), bool):
        cfg.packed.hair_removal = dict()

    def drop(option: str) -> bool:
        if _key(option) == 'packed':
            return off or (kept and named[option] == 'True')
        return off and _key(option).startswith('packed.')

    left = [option for option in options if not drop(option)]
    if isinstance(options, dict):
        return {key: options[key] for key in left}
    return left


def _key(option: str) -> str:
    return option.partition('=')[0].strip()


def check_packed(cfg: Config) -> None:
    """Refuse what is neither a switch nor a dict of known options."""
    value = cfg.get('packed')
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, dict):
        raise UserError(f'packed={value!r} must be True or False')
    for name in value:
        if name not in OPTIONS:
            raise UserError(
                f'packed has no "{name}"; known there: {", ".join(OPTIONS)}'
            )
    from hkd_mm.datasets.packed.hair_removal import hair_settings
    from hkd_mm.datasets.packed.top_up import target_of

    hair_settings(value.get('hair_removal'))
    target_of(value.get('top_up'))


def of_inner_dataset(cfg: Config) -> Callable[[str], bool]:
    """Whether an option's key means the dataset that is to be wrapped.

    ``test_dataloader.dataset.split`` does, ``test_dataloader.dataset.verify``
    means the wrapper.
    """
    outer = {'size', 'interpolation', 'dataset', 'type'}
    outer |= {name for name, kind in OPTIONS.items() if kind == 'dataset'}

    def chosen(key: str) -> bool:
        loader, dataset, name = (key.split('.') + ['', ''])[:3]
        return (
            loader in LOADERS
            and dataset == 'dataset'
            and name.strip() not in outer
            and not is_wrapper(cfg[loader].dataset)
        )

    return chosen


def is_wrapper(dataset: dict) -> bool:
    """Whether a dataset config is that of a ``PackedDataset``, or masks."""
    kind = str(dataset.get('type', ''))
    return kind.endswith(('PackedDataset', 'PackedMasks'))
