# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Top-level words of the command line and what each of them sets.

A config file says what runs: whatever a word such as ``batch_size`` stands for is
written at its nested places there, and ``--cfg-options batch_size=32`` sets all of
these. Words that exchange whole parts of a config are :mod:`.compose`'s.
"""

import ast
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict

from hkd_mm.config.schema import WORDS, arguments, class_of_type, names_of_type, takes
from hkd_mm.config.tree import (
    LOADERS,
    TEACHERS,
    dataset_chain,
    datasets,
    dicts,
    hooks,
    is_binary_segmentor,
    is_ours,
    mixes,
    number_of_classes,
    packed_datasets,
    preprocessor,
)
from hkd_mm.errors import UserError
from hkd_mm.io.schema import plain, validate
from hkd_mm.io.signatures import type_name


class NoPlaceError(UserError):
    """An option that a config has no place for."""


class Target(NamedTuple):
    """One place that a word sets: ``group[key] = value``."""

    group: dict
    key: str
    value: Any


Targets = Iterator[Target]

_SIZED = dict(
    Resize='scale',
    CenterCrop='crop_size',
    RandomCrop='crop_size',
    RandomResizedCrop='scale',
    ResizeEdge='scale',
    EfficientNetRandomCrop='scale',
    EfficientNetCenterCrop='crop_size',
)
_CACHE = dict(num_views=10)  # what teacher_cache=True means
# Images and split, which a teacher shares: it must not know the test images.
DATA = (
    'data_root ann_file image_col label_col group_cols split_col classes split_file '
    'split_ratios split_seed input_size'
).split()
_SHARED = [*DATA, 'class_weight']  # silent where a nested value takes their place


def _of_dataset(key: str) -> Callable[[Config, Any], Targets]:
    def targets(cfg: Config, value: Any) -> Targets:
        for node in datasets(cfg):
            if key in node or is_ours(node) or key == 'data_root':
                yield Target(node, key, value)

    return targets


def dataset_type(cfg: Config, value: str) -> Targets:
    """Set the class of every dataset of this package."""
    for node in datasets(cfg):
        if is_ours(node):
            yield Target(node, 'type', value)


def unlabelled_root(cfg: Config, value: str | None) -> Targets:
    """Train on images without labels; validation and test keep theirs."""
    chain = [*dataset_chain(cfg.get('train_dataloader'))]
    if any(type_name(node) == 'PackedMasks' for node in chain):
        return
    for node in chain[-1:]:
        if is_ours(node) and takes(node, 'unlabelled_root'):
            yield Target(node, 'unlabelled_root', value)


def classes(cfg: Config, value: Any) -> Targets:
    """Set the class names, and the size of every head to their number."""
    from hkd_mm.datasets.class_folders import class_names

    value = class_names(value)
    yield from _of_dataset('classes')(cfg, value)
    if value is not None:
        yield from num_classes(cfg, len(value))


def num_classes(cfg: Config, number: int) -> Targets:
    """Set the size of every head, and of mixed labels."""
    model = cfg.get('model')
    for node in [*dicts(model), *dicts(cfg.get('data_preprocessor'))]:
        if number == 2 and is_binary_segmentor(node):
            continue
        if type_name(node) == 'TimmClassifier' or node.get('num_classes', -1) > 0:
            yield Target(node, 'num_classes', number)


def input_size(cfg: Config, value: int) -> Targets:
    """Set the side of the images for data, model and teacher."""
    for _, node in packed_datasets(cfg):
        yield Target(node, 'size', value)
    pipelines = [node.get('pipeline') for node in datasets(cfg)]
    pipelines += [cfg.get(f'{name}_pipeline') for name in ('train', 'test')]
    for step in dicts(pipelines):
        key = _SIZED.get(type_name(step))
        if key in step:
            square = isinstance(step[key], (list, tuple))
            side = type(step[key])((value, value)) if square else value
            yield Target(step, key, side)
    node = preprocessor(cfg)
    if node.get('input_size') is not None:
        yield Target(node, 'input_size', value)
    model = cfg.get('model') or {}
    if 'architecture' in model and is_ours(model):
        yield Target(model, 'input_size', value)


def batch_size(cfg: Config, value: int) -> Targets:
    """Set the batch of every loader without a batch sampler of its own."""
    for name in LOADERS:
        if cfg.get(name) and 'batch_sampler' not in cfg[name]:
            yield Target(cfg[name], 'batch_size', value)


def sampler(cfg: Config, value: str | None) -> Targets:
    """Draw the training images shuffled, or the classes equally often."""
    loader = cfg.get('train_dataloader') or {}
    new = dict(type='hkd_mm.BalancedSampler')
    if not value:
        new = dict(type='DefaultSampler', shuffle=True)
    if type_name(loader.get('sampler')) in ('DefaultSampler', 'BalancedSampler'):
        yield Target(loader, 'sampler', new)


def max_epochs(cfg: Config, value: int) -> Targets:
    """Set the epochs, and the end or share of every schedule that ends with them."""
    loop = cfg.get('train_cfg') or {}
    old = loop.get('max_epochs')
    if old is None:
        return  # a loop of iterations
    yield Target(loop, 'max_epochs', value)
    for step in dicts(cfg.get('param_scheduler')):
        begin = step.get('begin', 0)
        if not step.get('by_epoch', True):
            continue
        if step.get('milestones'):
            moved = [max(round(m * value / old), 1) for m in step.milestones]
            yield Target(step, 'milestones', moved)
        if step.get('end') == old and not _warms_up(step):
            yield Target(step, 'end', max(value, begin + 1))
        for key in ('T_max', 'total_steps'):
            if key in step and step[key] in (old - begin, old):
                yield Target(step, key, max(value - begin, 1))


def _warms_up(step: dict) -> bool:
    return type_name(step) == 'LinearLR' and step.get('start_factor', 1 / 3) < 1


def _of_hook(kind: str, *keys: str) -> Callable[[Config, Any], Targets]:
    def targets(cfg: Config, value: Any) -> Targets:
        for node in hooks(cfg):
            if type_name(node).endswith(kind):
                yield from (Target(node, key, value) for key in keys)

    return targets


def pretrained(cfg: Config, value: bool) -> Targets:
    """Start every network but a teacher from ImageNet weights, or not.

    Without them a schedule gets a warm-up of 5 % of the epochs and gradients are
    clipped: the first steps of random weights diverge at a rate that suits pretrained
    ones.
    """
    found = [
        n
        for n in dicts(cfg.get('model'), skip=TEACHERS)
        if isinstance(n.get('pretrained'), bool) or type_name(n) == 'TimmClassifier'
    ]
    for node in found:
        yield Target(node, 'pretrained', value)
    if found and not value and cfg.get('param_scheduler'):
        yield from _from_scratch(cfg)


def _from_scratch(cfg: Config) -> Targets:
    steps, wrapper = cfg.param_scheduler, cfg.optim_wrapper
    if any(_warms_up(step) for step in dicts(steps)) or 'optimizer' not in wrapper:
        return  # several optimizers have schedules of their own
    steps = list(steps) if isinstance(steps, (list, tuple)) else [steps]
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs') or 1
    warm = dict(
        type='LinearLR',
        start_factor=0.01,
        begin=0,
        end=max(round(epochs * 0.05), 1),
        by_epoch=True,
        convert_to_iter_based=True,
    )
    yield Target(cfg, 'param_scheduler', [warm, *steps])
    if 'clip_grad' not in wrapper:
        yield Target(wrapper, 'clip_grad', dict(max_norm=5.0))


def class_weight(cfg: Config, value: Any) -> Targets:
    """Weigh the classes in every loss that is computed and takes weights."""
    model = cfg.get('model') or {}
    skip = [*TEACHERS, 'peers']
    if not model.get('calculate_student_loss', False):
        skip.append('architecture')
    scope = cfg.get('default_scope', 'mmpretrain')
    for node in dicts(model, tuple(skip)):
        if type_name(node) == 'CrossEntropyLoss' or (
            is_ours(node)
            and 'Loss' in type_name(node)
            and 'class_weight' in names_of_type(node['type'], scope)[0]
        ):
            yield Target(node, 'class_weight', value)


def mask_threshold(cfg: Config, value: float) -> Targets:
    """Set the probability above which a pixel belongs to the mask."""
    classes = cfg.get('classes')
    several = isinstance(classes, (list, tuple)) and len(classes) > 2
    for node in dicts([cfg.get('val_evaluator'), cfg.get('test_evaluator')]):
        if type_name(node) != 'SegmentationMetric':
            continue
        if several and value != 0.5:
            raise UserError(
                f'mask_threshold={value!r} is for one class against the background; of '
                f'{len(classes)} classes the most probable one counts: leave it out'
            )
        yield Target(node, 'threshold', value)


def seed(cfg: Config, value: int | None) -> Targets:
    """Set the seed of the training; the split keeps its own."""
    if cfg.get('randomness') is None:
        cfg.randomness = dict()
    yield Target(cfg.randomness, 'seed', value)


def teacher_cache(cfg: Config, value: Any) -> Targets:
    """Keep the teacher's outputs on the disk, or run it in every step."""
    model = cfg.get('model') or {}
    if not takes(model, 'teacher_cache') or not model.get('teacher'):
        return
    old = model.get('teacher_cache')
    new = (old or dict(_CACHE)) if value is True else value or None
    yield Target(model, 'teacher_cache', new)


def teacher_input_size(cfg: Config, value: int) -> Targets:
    """Show the teacher the views at its own size, of images packed as large."""
    node = preprocessor(cfg)
    stores = [n for loader, n in packed_datasets(cfg) if loader == 'train_dataloader']
    teacher = (cfg.get('model') or {}).get('teacher')
    if stores and teacher and takes(node, 'teacher_size'):
        side = stores[0]['size']
        yield Target(node, 'teacher_size', value)
        yield Target(node, 'input_size', side)
        margin = max(value / side, stores[0].get('margin', 1.0))
        yield Target(stores[0], 'margin', margin)


def loss_balance(cfg: Config, value: Any) -> Targets:
    """Measure the force of each part of the loss and set its factor, or not."""
    kind = str((cfg.get('model') or {}).get('type', ''))
    if hasattr(class_of_type(kind, 'mmpretrain'), 'loss_factors'):
        ratio = 1.0 if value is True else value
        hook = dict(type='hkd_mm.LossBalanceHook', ratio=ratio) if ratio else None
        yield Target(cfg.default_hooks, 'loss_balance', hook)


def augment(cfg: Config, value: Any) -> Targets:
    """Turn the batched augmentation off, or name its operations."""
    node = preprocessor(cfg)
    if type_name(node) in ('PackedPreprocessor', 'PackedMaskPreprocessor'):
        new = node.get('augment', []) if value is True else value or []
        yield Target(node, 'augment', new)
        if mixes(new) and not node.get('num_classes'):
            model = cfg.get('model') or {}
            network = model.get('architecture', model)
            yield Target(node, 'num_classes', number_of_classes(network))


def _of_store(key: str):
    of_training = key in ('margin', 'top_up')

    def targets(cfg: Config, value: Any) -> Targets:
        found = [*packed_datasets(cfg)]
        for loader, node in found:
            if (loader == 'train_dataloader' or not of_training) and takes(node, key):
                yield Target(node, key, value)
        if key == 'top_up' and value is not None:
            # the copies are to differ, the photographs need not
            for step in preprocessor(cfg).get('augment', []):
                if type_name(step) == 'RandAugment' and 'copies_only' not in step:
                    yield Target(step, 'copies_only', True)
        if key == 'margin' and value > 1 and found:
            yield Target(preprocessor(cfg), 'input_size', found[0][1]['size'])

    return targets


def _of_views(key: str):
    def targets(cfg: Config, value: Any) -> Targets:
        node = preprocessor(cfg)
        idle = key == 'partners' and not mixes(node.get('augment'))
        if type_name(node).startswith('Packed') and takes(node, key) and not idle:
            yield Target(node, key, value)

    return targets


def _itself(word: str):
    """A word that is read where it stands."""
    return lambda cfg, value: iter([Target(cfg, word, value)])


class Override(NamedTuple):
    """A word, the places that it sets, and what a config needs for it."""

    targets: Callable[[Config, Any], Targets]
    needs: str


_DATA = 'a dataset of hkd_mm'
_PACKED = 'packed images (hkd_mm.PackedDataset)'
_STORED = ('margin', 'store_dir', 'in_memory', 'verify', 'hair_removal')
OVERRIDES: dict[str, Override] = dict(
    # data
    **{
        key: Override(_of_dataset(key), _DATA)
        for key in (
            'data_root ann_file image_col label_col group_cols split_col split_file '
            'split_ratios'
        ).split()
    },
    dataset_type=Override(dataset_type, _DATA),
    unlabelled_root=Override(unlabelled_root, f'{_DATA}, of classes'),
    classes=Override(classes, _DATA),
    split_seed=Override(_of_dataset('seed'), _DATA),
    input_size=Override(input_size, 'a resize or packed images'),
    teacher_input_size=Override(
        teacher_input_size, 'packed images and one teacher, which is frozen'
    ),
    batch_size=Override(batch_size, 'a loader without a batch_sampler'),
    sampler=Override(sampler, 'a training loader with a Default- or BalancedSampler'),
    augment=Override(augment, 'a hkd_mm.PackedPreprocessor'),
    # training
    max_epochs=Override(max_epochs, 'train_cfg'),
    patience=Override(
        _of_hook('EarlyStoppingHook', 'patience'), 'an EarlyStoppingHook'
    ),
    pretrained=Override(pretrained, 'a network with published ImageNet weights'),
    class_weight=Override(class_weight, 'a loss with class_weight: CrossEntropyLoss'),
    mask_threshold=Override(
        mask_threshold, 'a hkd_mm.SegmentationMetric, which counts pixels of masks'
    ),
    seed=Override(seed, 'randomness'),
    teacher_cache=Override(teacher_cache, 'one frozen teacher (FrozenTeacherDistill)'),
    loss_balance=Override(
        loss_balance, 'a distiller with losses of one student (FrozenTeacherDistill)'
    ),
    # machine
    channels_last=Override(_itself('channels_last'), ''),
    compiled=Override(
        _of_hook('CompileHook', 'student', 'teacher'), 'a hkd_mm.CompileHook'
    ),
    device=Override(_itself('device'), ''),
)
PACKED = {
    f'packed.{key}': Override(targets, _PACKED)
    for key, targets in dict(
        {key: _of_store(key) for key in _STORED},
        augment=augment,
        top_up=_of_store('top_up'),  # changes what augment has set
        num_views=_of_views('num_views'),
        seed=_of_views('seed'),
    ).items()
}
PACKED['packed.partners'] = Override(
    _of_views('partners'), 'packed images that hkd_mm.Mixup or hkd_mm.CutMix mixes'
)
# Words that exchange parts of a config, see compose.py.
EXCHANGES = ('pair', 'packed', 'teacher', 'student', 'network')


def override(word: str) -> Override:
    """The row of a word, ``packed.<name>`` included."""
    return OVERRIDES.get(word) or PACKED[word]


def apply_override(cfg: Config, word: str, value: Any) -> None:
    """Set every place of a word, and the top-level value."""
    row = override(word)
    if word == 'classes':
        from hkd_mm.datasets.class_folders import class_names

        value = class_names(value)
    targets = list(row.targets(cfg, value))
    if not targets:
        raise NoPlaceError(_no_place(word, value))
    for group, key, new in targets:
        if group is not cfg or key != word:
            # copied, so that what was given is not changed later
            group[key] = ConfigDict(copied=new)['copied']
    if '.' not in word and word not in ('teacher_cache', 'loss_balance', 'augment'):
        cfg[word] = value


def _no_place(word: str, value: Any) -> str:
    return (
        f'{word}={value!r} would change nothing: it needs {override(word).needs}, '
        'and this config has none; leave it out'
    )


def check_top_level(cfg: Config) -> None:
    """Refuse a file whose top-level words its nested values contradict."""
    for word in ('teacher', 'student', 'network', 'pair'):
        if isinstance(cfg.get(word), str):
            raise UserError(
                f'{cfg.filename}: {word} = {cfg[word]!r} stands at the top '
                'and reaches nothing; write what it stands for at its nested '
                f'place, or give it with --cfg-options {word}={cfg[word]}'
            )
    own, used = _names(cfg.filename)
    # others are inherited, and a nested value has taken their place
    stated = {*_SHARED, *own}
    for word, value, targets in _contradicted(cfg, stated - used):
        if word not in stated:
            continue
        if not targets and word in used:  # a variable of the file
            continue
        if not targets:
            raise UserError(
                f'{cfg.filename}: {_no_place(word, value)} or write {word} = None'
            )
        group, key, _ = targets[0]
        raise UserError(
            f'{cfg.filename}: {word} = {value!r} stands at the top and reaches '
            f'nothing, as {key}={group.get(key)!r} stands where it would go; write one '
            f'value at both, or give it with --cfg-options {word}=...'
        )


def settle_top_level(cfg: Config) -> None:
    """Let top-level words follow nested values that dotted keys have set, or go."""
    for word, _, targets in list(_contradicted(cfg)):
        values = [group.get(key) for group, key, _ in targets[:1]]
        cfg._cfg_dict.pop(word)
        if values:
            cfg[word] = values[0]
            if any(word == other for other, *_ in _contradicted(cfg)):
                cfg._cfg_dict.pop(word)


def _names(path: str | None) -> tuple[set[str], set[str]]:
    """Names that a config file itself assigns at its top, and those that it uses."""
    if not path or not path.endswith('.py'):
        return set(), set()
    try:
        tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    except (OSError, SyntaxError):
        return set(), set()
    assigned = [
        target
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    ]
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in read if isinstance(node.ctx, ast.Load)}
    return {node.id for node in assigned if isinstance(node, ast.Name)}, used


def _contradicted(
    cfg: Config, checked: Set[str] = frozenset()
) -> Iterator[tuple[str, Any, list[Target]]]:
    """Words whose places have other values.

    Args:
        checked: words whose value has to be of the right kind; of the others it may be
            a variable's.
    """
    for word, row in OVERRIDES.items():
        value = cfg.get(word)
        if value is None:
            continue
        try:
            validate(WORDS, {word: plain(value, 'replace')}, f'config {cfg.filename}')
        except UserError:
            if word in checked:
                raise
            continue
        targets = list(row.targets(cfg, value))
        if not targets and not value:  # False or empty: nothing asked
            continue
        # the training loader comes first; another test set may be meant
        stated = targets[:1] if word in _SHARED else targets
        if not any(_agrees(target) for target in stated):
            yield word, value, targets


def _agrees(target: Target) -> bool:
    group, key, value = target
    old = group.get(key)
    if isinstance(old, (list, tuple)) and isinstance(value, (list, tuple)):
        return list(old) == list(value)
    if isinstance(old, dict) and isinstance(value, dict):
        return all(old.get(name) == part for name, part in value.items())
    if key not in group and value not in (None, False) and group.get('type'):
        kind = class_of_type(str(group['type']), 'mmpretrain')
        old = arguments(kind)[0].get(key, (None, None))[1] if kind else None
    return old == value or (key not in group and value in (None, False))


def words() -> list[str]:
    """All words of the command line, sorted."""
    return sorted({*OVERRIDES, *PACKED, *EXCHANGES})
