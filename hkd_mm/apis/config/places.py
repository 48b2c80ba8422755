# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Where in a config the values live that follow a top-level one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from hkd_mm.errors import UserError

from .loaders import LOADERS

_SIZED = dict(
    Resize='scale',
    CenterCrop='crop_size',
    RandomCrop='crop_size',
    RandomResizedCrop='scale',
    ResizeEdge='scale',
    EfficientNetRandomCrop='scale',
    EfficientNetCenterCrop='crop_size',
)
_SHUFFLED = dict(type='DefaultSampler', shuffle=True)
_FREE_LOSSES = ('CrossEntropyLoss',)  # mmpretrain's losses with the argument


class Place(NamedTuple):
    """One value that follows a knob.

    Args:
        group: the dict that holds it.
        key: its name there.
        form: knob value -> value at this place.
        create: write it also where the group lacks the key.
        none: what stands there when the knob is None or not written.
    """

    group: dict
    key: str
    form: Callable[[Any], Any] = lambda value: value
    create: bool = False
    none: Any = None


def dicts(node: Any, skip: tuple[str, ...] = ()) -> Iterator[dict]:
    """Every dict of a nested config, outermost first, but under ``skip``."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in skip:
                yield from dicts(value, skip)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from dicts(value, skip)


def datasets(cfg: Config) -> Iterator[dict]:
    """The innermost dataset config of every loader."""
    for name in LOADERS:
        node = (cfg.get(name) or {}).get('dataset')
        while isinstance(node, dict):
            if 'dataset' not in node:
                yield node
            node = node.get('dataset')


def _is_ours(node: dict) -> bool:
    return str(node.get('type', '')).startswith('hkd_mm.')


def of_dataset(key: str) -> Callable[[Config], Iterator[Place]]:
    """Finder of one argument of every dataset, ours or with that key."""

    def places(cfg: Config) -> Iterator[Place]:
        for node in datasets(cfg):
            yield Place(node, key, create=key == 'data_root' or _is_ours(node))

    return places


def dataset_type(cfg: Config) -> Iterator[Place]:
    """``type`` of every dataset of ours."""
    for node in datasets(cfg):
        if _is_ours(node):
            yield Place(node, 'type')


def classes(cfg: Config) -> Iterator[Place]:
    """``classes`` of the datasets; the sizes of heads are set at once."""
    yield from of_dataset('classes')(cfg)
    number = _num_classes(cfg.get('classes'))
    if number is None:
        return
    for node in [
        *dicts(cfg.get('model')),
        *dicts(cfg.get('data_preprocessor')),
    ]:
        timm = str(node.get('type', '')).endswith('TimmClassifier')
        if number == 2 and one_against_background(node):
            continue
        if timm or node.get('num_classes', -1) > 0:
            node['num_classes'] = number


def one_against_background(node: dict) -> bool:
    """Whether a net gives each pixel one logit, for two classes."""
    kind = str(node.get('type', ''))
    return kind.endswith('SMPSegmentor') and node.get('num_classes', 1) == 1


def _num_classes(classes: Any) -> int | None:
    if classes is None:
        return None
    if isinstance(classes, str):
        path = Path(classes).expanduser()
        if not path.is_file():
            raise UserError(
                f'classes={classes!r} is neither a list such as '
                '[A,B] nor a file with one class name a line'
            )
        return len([x for x in path.read_text().splitlines() if x.strip()])
    return len(classes)


def input_size(cfg: Config) -> Iterator[Place]:
    """Sizes in the pipelines, and of the dry forward of a distillation."""
    pipelines = [node.get('pipeline') for node in datasets(cfg)]
    pipelines += [cfg.get(f'{name}_pipeline') for name in ('train', 'test')]
    for step in dicts(pipelines):
        key = _SIZED.get(str(step.get('type', '')).rsplit('.', 1)[-1])
        if key in step:
            yield Place(step, key, _square(type(step[key])))
    for name in LOADERS:
        for node in dicts((cfg.get(name) or {}).get('dataset')):
            kind = str(node.get('type', ''))
            if kind.endswith(('PackedDataset', 'PackedMasks')):
                yield Place(node, 'size', create=True)
    model = cfg.get('model') or {}
    for node in (cfg.get('data_preprocessor'), model.get('data_preprocessor')):
        if node and node.get('input_size') is not None:
            yield Place(node, 'input_size')
    if 'architecture' in model and _is_ours(model):
        yield Place(model, 'input_size', create=True)


def _square(kind: type) -> Callable[[int], Any]:
    if kind in (list, tuple):
        return lambda side: kind((side, side))
    return int


def batch_size(cfg: Config) -> Iterator[Place]:
    """Every loader that has no batch sampler of its own."""
    for name in LOADERS:
        if cfg.get(name) and 'batch_sampler' not in cfg[name]:
            yield Place(cfg[name], 'batch_size', create=True)


def sampler(cfg: Config) -> Iterator[Place]:
    """The training loader: shuffled, or the classes drawn alike."""
    if cfg.get('train_dataloader'):
        yield Place(cfg.train_dataloader, 'sampler', _sampler, none=_SHUFFLED)


def _sampler(word: str | None) -> dict:
    if word not in (None, 'balanced'):
        raise UserError(
            f'sampler={word!r} must be balanced (classes are drawn alike) or '
            'None (shuffled)'
        )
    return dict(type='hkd_mm.BalancedSampler') if word else dict(_SHUFFLED)


def max_epochs(cfg: Config) -> Iterator[Place]:
    """The training loop and the ends of the schedulers."""
    if cfg.get('train_cfg'):
        yield Place(cfg.train_cfg, 'max_epochs')
    for step in dicts(cfg.get('param_scheduler')):
        if not step.get('by_epoch', True):
            continue
        begin = step.get('begin', 0)
        yield Place(step, 'end', lambda v, b=begin: max(v, b + 1))
        for key in ('T_max', 'total_steps'):
            yield Place(step, key, lambda v, b=begin: max(v - b, 1))


def patience(cfg: Config) -> Iterator[Place]:
    """Early stopping."""
    for hook in dicts(cfg.get('custom_hooks')):
        if str(hook.get('type', '')).endswith('EarlyStoppingHook'):
            yield Place(hook, 'patience', create=True)


def compiled(cfg: Config) -> Iterator[Place]:
    """Both nets of the compile hook."""
    for hook in dicts(cfg.get('custom_hooks')):
        if str(hook.get('type', '')).endswith('CompileHook'):
            yield Place(hook, 'student', create=True)
            yield Place(hook, 'teacher', create=True)


def pretrained(cfg: Config) -> Iterator[Place]:
    """Every net but a teacher."""
    for net in dicts(cfg.get('model'), skip=('teacher', 'teachers')):
        if isinstance(net.get('pretrained'), bool):
            yield Place(net, 'pretrained')
        elif str(net.get('type', '')).endswith('TimmClassifier'):
            yield Place(net, 'pretrained', create=True)


def class_weight(cfg: Config) -> Iterator[Place]:
    """Every loss that is computed and takes weights."""
    from .schema import names_of_type

    model = cfg.get('model') or {}
    skip = ['teacher', 'teachers', 'peers']
    if not model.get('calculate_student_loss', False):
        skip.append('architecture')
    scope = cfg.get('default_scope', 'mmpretrain')
    for node in dicts(model, tuple(skip)):
        kind = node.get('type')
        if isinstance(kind, str) and (
            kind.rsplit('.', 1)[-1] in _FREE_LOSSES
            or (
                _is_ours(node)
                and 'Loss' in kind
                and 'class_weight' in names_of_type(kind, scope)[0]
            )
        ):
            yield Place(node, 'class_weight', create=True)


def seed(cfg: Config) -> Iterator[Place]:
    """The seed of the training, not of the split."""
    if cfg.get('randomness') is None:
        cfg.randomness = dict()
    yield Place(cfg.randomness, 'seed', create=True)


def nowhere(cfg: Config) -> Iterator[Place]:
    """No place: the tools read these values themselves."""
    del cfg
    return iter(())
