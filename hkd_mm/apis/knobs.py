# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Top-level values of a config and the places that follow them.

A base file writes ``batch_size = 64`` and uses it in three loaders; whoever
then changes ``batch_size`` in a child config or on the command line changes
the name only. :func:`propagate` carries each value to its places:

=============  =============================================================
data_root      ``data_root`` of every loader's dataset
classes        ``classes`` of every dataset; every ``num_classes`` of the
               model and of ``data_preprocessor`` becomes their number
split_file     ``split_file`` of every dataset
split_ratios   ``split_ratios`` of every dataset
split_seed     ``seed`` of every dataset
input_size     the size of every Resize, CenterCrop and crop in the
               pipelines; ``model.input_size`` of a distillation
batch_size     ``batch_size`` of every loader
max_epochs     ``train_cfg.max_epochs``; ``T_max`` and ``end`` of schedulers
               that lasted to the end
patience       ``patience`` of the early stopping hook
pretrained     ``pretrained`` of every net but a teacher's, whose weights are
               ``model.teacher_ckpt``
class_weight   ``class_weight`` of every loss that takes one (its words are
               turned into numbers by ``data_summary.resolve_class_weight``)
seed           ``randomness.seed``; the split keeps its own
device         auto, cpu or cuda; read by the tools
teacher        name of a net under configs/_base_/models for ``model.teacher``
student        the same for ``model.architecture``
=============  =============================================================

A place that the config itself set to something else than the base's value is
left alone, and a dotted ``--cfg-options`` key wins over all of this.
"""
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from hkd_mm.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_SIZED = dict(Resize='scale', CenterCrop='crop_size', RandomCrop='crop_size',
              RandomResizedCrop='scale', ResizeEdge='scale',
              EfficientNetRandomCrop='scale',
              EfficientNetCenterCrop='crop_size')
_FREE_LOSSES = ('CrossEntropyLoss', )  # mmpretrain's losses with the argument


class Place(NamedTuple):
    """One value that follows a knob.

    Args:
        group: the dict that holds it.
        key: its name there.
        form: knob value -> value at this place.
        create: write it also where the group lacks the key.
    """

    group: dict
    key: str
    form: Callable[[Any], Any] = lambda value: value
    create: bool = False


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


def _of_dataset(key: str) -> Callable[[Config], Iterator[Place]]:

    def places(cfg: Config) -> Iterator[Place]:
        for node in datasets(cfg):
            yield Place(node, key, create=key == 'data_root'
                        or _is_ours(node))
    return places


def _classes(cfg: Config) -> Iterator[Place]:
    yield from _of_dataset('classes')(cfg)
    number = _num_classes(cfg.get('classes'))
    if number is None:
        return
    for node in [*dicts(cfg.get('model')), *dicts(
            cfg.get('data_preprocessor'))]:
        timm = str(node.get('type', '')).endswith('TimmClassifier')
        if timm or node.get('num_classes', -1) > 0:
            node['num_classes'] = number


def _num_classes(classes: Any) -> int | None:
    if classes is None:
        return None
    if isinstance(classes, str):
        path = Path(classes).expanduser()
        if not path.is_file():
            raise UserError(f'classes={classes!r} is neither a list such as '
                            '[A,B] nor a file with one class name a line')
        return len([x for x in path.read_text().splitlines() if x.strip()])
    return len(classes)


def _input_size(cfg: Config) -> Iterator[Place]:
    pipelines = [node.get('pipeline') for node in datasets(cfg)]
    pipelines += [cfg.get(f'{name}_pipeline') for name in ('train', 'test')]
    for step in dicts(pipelines):
        key = _SIZED.get(str(step.get('type', '')).rsplit('.', 1)[-1])
        if key in step:
            pair = isinstance(step[key], (list, tuple))
            yield Place(step, key, (lambda v, kind=type(step[key]):
                                    kind((v, v))) if pair else int)
    model = cfg.get('model') or {}
    if 'architecture' in model and _is_ours(model):
        yield Place(model, 'input_size', create=True)


def _batch_size(cfg: Config) -> Iterator[Place]:
    for name in LOADERS:
        if cfg.get(name) and 'batch_sampler' not in cfg[name]:
            yield Place(cfg[name], 'batch_size', create=True)


def _max_epochs(cfg: Config) -> Iterator[Place]:
    if cfg.get('train_cfg'):
        yield Place(cfg.train_cfg, 'max_epochs')
    for step in dicts(cfg.get('param_scheduler')):
        if not step.get('by_epoch', True):
            continue
        begin = step.get('begin', 0)
        yield Place(step, 'end', lambda v, b=begin: max(v, b + 1))
        yield Place(step, 'T_max', lambda v, b=begin: max(v - b, 1))


def _patience(cfg: Config) -> Iterator[Place]:
    for hook in dicts(cfg.get('custom_hooks')):
        if str(hook.get('type', '')).endswith('EarlyStoppingHook'):
            yield Place(hook, 'patience', create=True)


def _pretrained(cfg: Config) -> Iterator[Place]:
    for net in dicts(cfg.get('model'), skip=('teacher', )):
        if isinstance(net.get('pretrained'), bool):
            yield Place(net, 'pretrained')
        elif str(net.get('type', '')).endswith('TimmClassifier'):
            yield Place(net, 'pretrained', create=True)


def _class_weight(cfg: Config) -> Iterator[Place]:
    from .config_schema import names_of_type
    model = cfg.get('model') or {}
    skip = ['teacher']
    if not model.get('calculate_student_loss', False):
        skip.append('architecture')
    scope = cfg.get('default_scope', 'mmpretrain')
    for node in dicts(model, tuple(skip)):
        kind = node.get('type')
        if isinstance(kind, str) and (
                kind.rsplit('.', 1)[-1] in _FREE_LOSSES
                or (_is_ours(node) and 'Loss' in kind
                    and 'class_weight' in names_of_type(kind, scope)[0])):
            yield Place(node, 'class_weight', create=True)


def _seed(cfg: Config) -> Iterator[Place]:
    if cfg.get('randomness') is None:
        cfg.randomness = dict()
    yield Place(cfg.randomness, 'seed', create=True)


def _nowhere(cfg: Config) -> Iterator[Place]:
    del cfg
    return iter(())


KNOBS: dict[str, Callable[[Config], Iterator[Place]]] = dict(
    data_root=_of_dataset('data_root'), classes=_classes,
    split_file=_of_dataset('split_file'),
    split_ratios=_of_dataset('split_ratios'),
    split_seed=_of_dataset('seed'), input_size=_input_size,
    batch_size=_batch_size, max_epochs=_max_epochs, patience=_patience,
    pretrained=_pretrained, class_weight=_class_weight, seed=_seed,
    device=_nowhere, teacher=_nowhere, student=_nowhere)


def propagate(cfg: Config,
              base: dict[str, list],
              names: Iterable[str] = tuple(KNOBS)) -> None:
    """Carry knobs to their places, in place.

    Args:
        cfg: with options on knobs merged.
        base: knob -> its values in the config file and its bases; a place
            that equals none of them was set on purpose and is left alone.
        names: the knobs to carry.
    """
    for name in names:
        if name not in cfg:
            continue
        for place in list(KNOBS[name](cfg)):
            old = place.group.get(place.key)
            if place.key not in place.group:
                follows = place.create
            elif name in base:
                follows = old is None or any(
                    _same(old, place.form, value) for value in base[name])
            else:
                follows = True
            if follows:
                place.group[place.key] = place.form(cfg[name])


def _same(old: Any, form: Callable[[Any], Any], base: Any) -> bool:
    if base is None:
        return old is None
    new = form(base)
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return list(old) == list(new)
    return old == new
