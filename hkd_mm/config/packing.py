# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The word ``packed``: from packed images to the stock pipeline and back.

Configs of this package say in their own text that images are packed. ``packed=False``
turns that into mmpretrain's pipeline with the steps that do the same, the parity
reference; ``packed=True`` turns a config of mmpretrain's pipeline into a packed one.
"""

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from hkd_mm.config import tree
from hkd_mm.config.overrides import PACKED
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name

_NUMBER = (int, float)


def batched(steps: list[dict]) -> list[dict]:
    """The augmentations of a ``PackedPreprocessor`` that do the same."""
    found = []
    for step in steps:
        given = {key: value for key, value in step.items() if key != 'type'}
        turn = _TURNS.get(type_name(step))
        new = turn(dict(given)) if turn is not None else None
        if new is None:
            options = ', '.join(f'{key}={value!r}' for key, value in given.items())
            raise UserError(
                f'packed=True has no batched form of {type_name(step)}({options}); '
                'name the augmentation yourself in a config with data_preprocessor='
                "dict(type='hkd_mm.PackedPreprocessor', augment=[...]), or set "
                'packed=False'
            )
        found.append(new)
    return found


def _flip(step: dict) -> dict | None:
    kinds = dict(horizontal='hkd_mm.HorizontalFlip', vertical='hkd_mm.VerticalFlip')
    direction = step.pop('direction', 'horizontal')
    prob = step.pop('prob', None)
    if step or direction not in kinds or not isinstance(prob, _NUMBER):
        return None
    return dict(type=kinds[direction], prob=prob)


def _jitter(step: dict) -> dict | None:
    step.pop('backend', None)
    known = {'brightness', 'contrast', 'saturation', 'hue'}
    if step.keys() <= known and all(isinstance(v, _NUMBER) for v in step.values()):
        return dict(type='hkd_mm.ColorJitter', **step)
    return None


def _rotate(step: dict) -> dict | None:
    low, high = step.pop('magnitude_range', None) or (None, None)
    level = step.pop('magnitude_level', 10) / step.pop('total_level', 10)
    prob, fill = step.pop('prob', 0.5), step.pop('pad_val', 128)
    fixed = dict(magnitude_std='inf', interpolation='bilinear')
    chance = step.pop('random_negative_prob', 0.5)
    if isinstance(fill, (list, tuple)) and len(set(fill)) == 1:
        fill = fill[0]  # stock: a bare number would fill blue alone
    if low != 0 or step != fixed or chance != 0.5 or not isinstance(fill, _NUMBER):
        return None
    return dict(type='hkd_mm.Rotate', degrees=high * level, prob=prob, fill=fill)


_TURNS: dict[str, Callable[[dict], dict | None]] = dict(
    RandomFlip=_flip, ColorJitter=_jitter, Rotate=_rotate
)


def stock(type: Any, **step: Any) -> dict:
    """The step of mmpretrain that does what one of a ``PackedPreprocessor`` does."""
    name = type_name(type)
    if name in ('HorizontalFlip', 'VerticalFlip'):
        direction = name.removesuffix('Flip').lower()
        return dict(type='RandomFlip', prob=step.get('prob', 0.5), direction=direction)
    if name == 'ColorJitter' and step.pop('prob', 1.0) == 1:
        return dict(type='ColorJitter', **step)
    if name == 'Rotate' and not set(step) - {'degrees', 'prob', 'fill'}:
        # 'inf' draws the angle uniformly; a bare fill colours blue alone
        return dict(
            type='Rotate',
            magnitude_level=10,
            magnitude_range=(0, step.get('degrees', 10)),
            magnitude_std='inf',
            prob=step.get('prob', 1.0),
            random_negative_prob=0.5,
            pad_val=(step.get('fill', 128),) * 3,
            interpolation='bilinear',
        )
    raise UserError(
        f'packed=False: {name} of data_preprocessor.augment has no counterpart in '
        "mmpretrain's pipeline; leave packed=False out, or name another augmentation"
    )


_CHANGES_IMAGES = ('packed.hair_removal', 'packed.top_up', 'packed.margin')
_NEUTRAL = ('LoadSkinImage', 'Resize', 'PackInputs')
_RESIZE = {'type', 'scale', 'interpolation', 'keep_ratio'}
_STATISTICS = ('mean', 'std', 'to_rgb', 'num_classes')
_OF_WORKERS = ('prefetch_factor', 'timeout')
_META_KEYS = ('sample_idx', 'sample_id', 'img_path', 'ori_shape', 'img_shape')
_STOCK_LOADER = dict(
    num_workers=2,
    persistent_workers=False,
    worker_init_fn=dict(type='hkd_mm.seed_worker'),
    collate_fn=dict(type='default_collate'),
)


def is_packed(cfg: Config) -> bool:
    """Whether any loader of a config reads packed images."""
    return any(True for _ in tree.packed_datasets(cfg))


def set_packed(cfg: Config, options: dict[str, Any]) -> None:
    """Carry out ``packed`` and take it out of the options, words and values."""
    value = options.pop('packed', None)
    if value is False:
        for name in [key for key in options if key.startswith('packed.')]:
            if name in _CHANGES_IMAGES and options[name]:
                raise UserError(
                    f'packed=False turns off what {name} asks for; leave one '
                    'of them out'
                )
            del options[name]  # where and how what is off would be kept
        unpack(cfg)
    elif value is True or any(name in PACKED for name in options):
        if not is_packed(cfg):
            pack(cfg, 'packed.augment' not in options)
        cfg.packed = True


def check_pipelines(cfg: Config) -> None:
    """Refuse a pipeline that packed images would not run."""
    if cfg.get('packed') and not is_packed(cfg):
        raise UserError(
            f'{cfg.filename}: packed = {cfg.packed!r} stands at the top, and '
            'no loader has a hkd_mm.PackedDataset; write the loaders so, as '
            'configs/_base_/datasets/skin_disease_116.py does, or give it '
            'with --cfg-options packed=True'
        )
    for loader, node in tree.packed_datasets(cfg):
        if cfg.get('packed') is False:
            raise UserError(
                f'{cfg.filename}: packed = False stands at the top, and {loader} has '
                'packed images; give it with --cfg-options packed=False'
            )
        for part in (node, node.get('dataset') or {}):
            if part.get('pipeline'):
                raise UserError(
                    f'{cfg.filename}: {loader} has packed images, which run no '
                    'pipeline; write random steps into data_preprocessor.augment '
                    "(dict(type='hkd_mm.HorizontalFlip', prob=0.5), ...), or begin "
                    'with what python tools/print_config.py CONFIG --cfg-options '
                    'packed=False prints of the config that it inherits'
                )


def unpack(cfg: Config) -> None:
    """Turn packed images and batched augmentation into the stock pipeline."""
    if not is_packed(cfg):
        cfg.packed = False
        return
    old = tree.preprocessor(cfg)
    if type_name(old) != 'PackedPreprocessor':
        raise UserError(
            'packed=False: images with masks are always packed; leave it out'
        )
    for loader, node in tree.packed_datasets(cfg):
        _unpack_loader(cfg, loader, node, old)
    new = {key: old[key] for key in _STATISTICS if key in old}
    _replace_preprocessor(cfg, new)
    model = cfg.get('model') or {}
    for network in (model, model.get('architecture')):
        if network and network.get('type') == 'hkd_mm.ImageClassifier':
            network['type'] = 'ImageClassifier'
    if model.get('teacher_cache'):
        model['teacher_cache'] = None  # views are those of packed images
    cfg.packed = False


def _unpack_loader(cfg: Config, loader: str, node: dict, preprocessing: dict) -> None:
    for key in ('hair_removal', 'top_up', 'margin'):
        if node.get(key) and (key, node[key]) != ('margin', 1):
            raise UserError(
                f'packed=False: {key} is of packed images, and this config '
                'needs it; leave packed=False out'
            )
    steps = stock_steps(node)
    if loader == 'train_dataloader':
        steps[2:2] = [stock(**step) for step in preprocessing.get('augment', [])]
    inner = dict(node['dataset'], pipeline=steps)
    for holder in (cfg[loader], *tree.dataset_chain(cfg[loader])):
        if tree.is_packed_dataset(holder['dataset']):
            holder['dataset'] = inner
            break
    collate = cfg[loader].get('collate_fn') or {}
    if type_name(collate) == 'packed_collate':
        cfg[loader].pop('collate_fn')
        cfg[loader].update(_STOCK_LOADER)


def stock_steps(node: dict) -> list[dict]:
    """Steps of mmpretrain that prepare images as a ``PackedDataset`` does."""
    scale, rule = (node.get('size', 116),) * 2, node.get('interpolation', 'area')
    return [
        dict(type='hkd_mm.LoadSkinImage'),
        dict(type='Resize', scale=scale, interpolation=rule),
        dict(type='PackInputs', meta_keys=_META_KEYS),
    ]


def pack(cfg: Config, augment: bool = True) -> None:
    """Turn mmpretrain's pipeline into packed images, in place."""
    _pack_preprocessor(cfg, augment)
    for name in tree.LOADERS:
        if cfg.get(name):
            _pack_loader(cfg[name], name == 'train_dataloader')
    for network in (cfg.model, cfg.model.get('architecture')):
        if network and network.type.removeprefix('mmpretrain.') == 'ImageClassifier':
            network.type = 'hkd_mm.ImageClassifier'
    hooks = [*(cfg.get('custom_hooks') or [])]
    named = (cfg.get('default_hooks') or {}).values()
    if not any(type_name(hook) == 'ViewHook' for hook in [*hooks, *named]):
        cfg.custom_hooks = [*hooks, dict(type='hkd_mm.ViewHook')]


def _steps(loader: dict) -> list[dict]:
    pipeline = tree.innermost_dataset(loader).get('pipeline', [])
    return [step for step in pipeline if type_name(step) not in _NEUTRAL]


def _pack_loader(loader: dict, training: bool) -> None:
    *_, holder, inner = loader, *tree.dataset_chain(loader)
    if not training and _steps(loader):
        raise UserError(
            f'packed=True cannot do {_steps(loader)[0]["type"]} of an evaluation '
            'pipeline; images are only resized there. Set packed=False'
        )
    resize = _resize(inner)
    inner = {key: inner[key] for key in inner if key != 'pipeline'}
    holder['dataset'] = dict(type='hkd_mm.PackedDataset', **resize, dataset=inner)
    # not update(), which would keep arguments of the old function
    loader['collate_fn'] = dict(type='hkd_mm.packed_collate')
    loader.update(num_workers=0, persistent_workers=False)
    for name in _OF_WORKERS:
        loader.pop(name, None)


def _resize(dataset: dict) -> dict:
    pipeline = dataset.get('pipeline', [])
    kinds = {type_name(step): step for step in pipeline}
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
    return dict(size=sides.pop(), interpolation=step.get('interpolation', 'bilinear'))


def _pack_preprocessor(cfg: Config, augment: bool) -> None:
    old = tree.preprocessor(cfg)
    left = set(old) - {'type', *_STATISTICS}
    if left:
        raise UserError(
            f'packed=True: data_preprocessor.{sorted(left)[0]} has no batched '
            'counterpart; mix images with hkd_mm.Mixup in '
            'data_preprocessor.augment, or set packed=False'
        )
    new = dict(
        type='hkd_mm.PackedPreprocessor',
        mean=old.get('mean') or [0.0, 0.0, 0.0],
        std=old.get('std') or [1.0, 1.0, 1.0],
        to_rgb=old.get('to_rgb', False),
    )
    if 'num_classes' in old:
        new['num_classes'] = old['num_classes']
    if cfg.get('train_dataloader') and augment:
        new['augment'] = batched(_steps(cfg.train_dataloader))
    if tree.mixes(new.get('augment')):
        network = cfg.model.get('architecture', cfg.model)
        new.setdefault('num_classes', tree.number_of_classes(network))
    _replace_preprocessor(cfg, new)


def _replace_preprocessor(cfg: Config, new: dict) -> None:
    if (cfg.get('model') or {}).get('data_preprocessor'):
        cfg.model.data_preprocessor = new
    else:
        cfg._cfg_dict.pop('data_preprocessor', None)
        cfg.data_preprocessor = new
