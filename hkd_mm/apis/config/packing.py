# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The top-level value ``packed``: any config of ours on the fast path.

``packed=True`` wraps the dataset of every loader in a ``PackedDataset`` (the
size and interpolation of its pipeline's Resize are kept), turns the random
steps of the training pipeline into their batched counterparts in a
``PackedPreprocessor``, and takes the worker processes away. ``packed=dict(
margin=1.15, num_views=10)`` says more, see :mod:`.packed_options`.
"""

from mmengine.config import Config

from hkd_mm.errors import UserError

from .augment_steps import batched
from .loaders import LOADERS
from .nets import number_of_classes
from .packed_options import OF_TRAINING, OPTIONS, is_packed, is_wrapper

_MIXING = ('Mixup', 'CutMix')
_NEUTRAL = ('LoadSkinImage', 'Resize', 'PackInputs')
_RESIZE = {'type', 'scale', 'interpolation', 'keep_ratio'}
_STATISTICS = ('mean', 'std', 'to_rgb', 'num_classes')
_OF_WORKERS = ('prefetch_factor', 'timeout')


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
    if is_wrapper(holder):
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
            if name not in OF_TRAINING or training:
                packed[name] = options[name]
    holder['dataset'] = dict(packed, dataset=inner)
    # not update(), which would keep arguments of the old function
    loader['collate_fn'] = dict(type='hkd_mm.packed_collate')
    loader.update(num_workers=0, persistent_workers=False)
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


def _of_copies(step: dict) -> dict:
    """RandAugment for the copies alone, where nothing else is said."""
    if str(step.get('type', '')).removeprefix('hkd_mm.') != 'RandAugment':
        return step
    return dict(dict(copies_only=True), **step)


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
        if options.get('top_up') is not None:
            new['augment'] = [_of_copies(step) for step in new['augment']]
        if options.get('margin', 1) > 1:
            new['input_size'] = _resize(inner)['size']
    if any(
        step['type'].rsplit('.', 1)[-1] in _MIXING
        for step in new.get('augment', [])
    ):
        net = cfg.model.get('architecture', cfg.model)
        new.setdefault('num_classes', number_of_classes(net))
    if cfg.model.get('data_preprocessor'):
        cfg.model.data_preprocessor = new
    else:
        cfg.data_preprocessor = new
