# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The top-level value ``packed``: any config of ours on the fast path.

``packed=True`` wraps the dataset of every loader in a ``PackedDataset`` (the
size and interpolation of its pipeline's Resize are kept), turns the random
steps of the training pipeline into their batched counterparts in a
``PackedPreprocessor``, and takes the worker processes away. ``packed=dict(
margin=1.15, num_views=10)`` says more, see :data:`OPTIONS`.
"""

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError

from .augment_steps import batched
from .places import LOADERS

# Name -> what it is an argument of. ``margin`` is for training only.
OPTIONS = dict(
    margin='dataset',
    store_dir='dataset',
    in_memory='dataset',
    verify='dataset',
    augment='preprocessor',
    num_views='preprocessor',
    seed='preprocessor',
)
_NEUTRAL = ('LoadSkinImage', 'Resize', 'PackInputs')
_RESIZE = {'type', 'scale', 'interpolation', 'keep_ratio'}
_STATISTICS = ('mean', 'std', 'to_rgb', 'num_classes')
_OF_WORKERS = ('prefetch_factor', 'timeout')


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
            and not _is_packed(cfg[loader].dataset)
        )

    return chosen


def apply_packed(cfg: Config) -> None:
    """Carry ``packed`` out, in place; what is packed already is left alone.

    Raises:
        UserError: the config holds a step without a batched counterpart.
    """
    if not is_packed(cfg):
        return
    options = dict(cfg.packed) if isinstance(cfg.packed, dict) else {}
    _pack_preprocessor(cfg, options)
    for name in LOADERS:
        if cfg.get(name):
            _pack_loader(cfg[name], options, name == 'train_dataloader')
    for net in (cfg.model, cfg.model.get('architecture')):
        if net and net.type.removeprefix('mmpretrain.') == 'ImageClassifier':
            net.type = 'hkd_mm.ImageClassifier'
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(hook.get('type') == 'hkd_mm.ViewHook' for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type='hkd_mm.ViewHook')]


def own_augmentation(cfg: Config) -> list[dict] | None:
    """The augmentation of a packed config where its pipeline says another.

    None where both agree, or the config is not packed.
    """
    node = _preprocessor(cfg)
    if node.get('type') != 'hkd_mm.PackedPreprocessor':
        return None
    found = [dict(step) for step in node.get('augment', [])]
    try:
        same = found == batched(_steps(cfg.train_dataloader))
    except UserError:
        same = False
    return None if same else found


def _is_packed(dataset: dict) -> bool:
    return str(dataset.get('type', '')).endswith('PackedDataset')


def _innermost(loader: dict) -> tuple[dict, dict]:
    """(what holds the innermost dataset, that dataset)."""
    holder = loader
    while 'dataset' in holder['dataset']:
        holder = holder['dataset']
    return holder, holder['dataset']


def _steps(loader: dict) -> list[dict]:
    """The steps of a pipeline that change pixels at random or by rule."""
    return [
        step
        for step in _innermost(loader)[1].get('pipeline', [])
        if step['type'].rsplit('.', 1)[-1] not in _NEUTRAL
    ]


def _pack_loader(loader: dict, options: dict, training: bool) -> None:
    holder, inner = _innermost(loader)
    if _is_packed(holder):
        return
    if not training and _steps(loader):
        raise UserError(
            f'packed=True cannot do {_steps(loader)[0]["type"]} of an '
            'evaluation pipeline; images are only resized there. Set '
            'packed=False'
        )
    packed = dict(type='hkd_mm.PackedDataset', **_resize(inner))
    for name, kind in OPTIONS.items():
        if kind == 'dataset' and name in options:
            if name != 'margin' or training:
                packed[name] = options[name]
    holder['dataset'] = dict(packed, dataset=inner)
    loader.update(
        num_workers=0,
        persistent_workers=False,
        collate_fn=dict(type='hkd_mm.packed_collate'),
    )
    for name in _OF_WORKERS:
        loader.pop(name, None)


def _resize(dataset: dict) -> dict:
    """Size and interpolation of the pipeline's Resize."""
    pipeline = dataset.get('pipeline', [])
    kinds = {step['type'].rsplit('.', 1)[-1]: step for step in pipeline}
    step = kinds.get('Resize', {})
    scale = step.get('scale')
    sides = set(scale) if isinstance(scale, (list, tuple)) else {scale}
    if (
        'LoadSkinImage' not in kinds
        or len(sides) != 1
        or None in sides
        or set(step) - _RESIZE
        or step.get('keep_ratio')
    ):
        raise UserError(
            'packed=True takes pipelines that begin with hkd_mm.LoadSkinImage '
            'and a Resize to a square; this one has '
            + (', '.join(s['type'] for s in pipeline) or 'no step')
            + f' with scale={scale}. Set packed=False'
        )
    return dict(
        size=sides.pop(), interpolation=step.get('interpolation', 'bilinear')
    )


def _preprocessor(cfg: Config) -> dict:
    own = cfg.model.get('data_preprocessor')
    return own if own else cfg.get('data_preprocessor') or {}


def _pack_preprocessor(cfg: Config, options: dict) -> None:
    old = _preprocessor(cfg)
    if old.get('type') == 'hkd_mm.PackedPreprocessor':
        return
    left = set(old) - {'type', *_STATISTICS}
    if left:
        raise UserError(
            f'packed=True: data_preprocessor.{sorted(left)[0]} has no batched '
            'counterpart; mix images with packed=dict(augment=[...]), or set '
            'packed=False'
        )
    new = dict(
        type='hkd_mm.PackedPreprocessor',
        mean=old.get('mean') or [0.0, 0.0, 0.0],
        std=old.get('std') or [1.0, 1.0, 1.0],
        to_rgb=old.get('to_rgb', False),
    )
    if 'num_classes' in old:
        new['num_classes'] = old['num_classes']
    for name, kind in OPTIONS.items():
        if kind == 'preprocessor' and name in options:
            new[name] = options[name]
    if cfg.get('train_dataloader'):
        _, inner = _innermost(cfg.train_dataloader)
        if 'augment' not in new:
            new['augment'] = batched(_steps(cfg.train_dataloader))
        if options.get('margin', 1) > 1:
            new['input_size'] = _resize(inner)['size']
    if cfg.model.get('data_preprocessor'):
        cfg.model.data_preprocessor = new
    else:
        cfg.data_preprocessor = new
