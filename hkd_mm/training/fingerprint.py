# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What decides the weights of a training: may one run stand for another?"""

import hashlib
import json
import os
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from hkd_mm.config.data_summary import DataSummary, build_listing
from hkd_mm.config.packing import batched
from hkd_mm.config.tree import dataset_chain, hooks, is_packed_dataset, preprocessor
from hkd_mm.errors import UserError
from hkd_mm.io.files import sha256
from hkd_mm.io.schema import plain
from hkd_mm.io.signatures import type_name

# Everything in the parts of a config that are looked at (see ``of``) counts,
# but for what follows: where a run computes, how fast, and what it reports.
# The top-level words are not looked at: they stand at their places. So are
# work_dir, device, launcher, env_cfg, log_level, visualizer, the test loader,
# and the batch size of validation, and a resume of the same training.
_IGNORED = dict(
    train_dataloader=(
        'num_workers persistent_workers prefetch_factor timeout pin_memory '
        'worker_init_fn collate_fn dataset batch_size'
    ),
    # where the images are; which ones they are is in ``data``
    dataset=(
        'type data_root data_prefix ann_file split_file split_ratios seed '
        'split classes metainfo pipeline lazy_init serialize_data '
        'image_col label_col group_cols split_col unlabelled_root'
    ),
    # size and interpolation are ``input.resize``
    packed='type dataset size interpolation store_dir in_memory verify',
    sampler='seed',
    # --amp, and how one update is computed; see _optim_wrapper
    optim_wrapper='type dtype loss_scale',
    optimizer='fused foreach',
    randomness='deterministic',
    # ``input``; files are told by what is in them; sizes of a dry forward
    model='data_preprocessor input_size teacher_ckpt student_ckpt',
    teacher_cache='dir budget_gb check tolerance',
    loss_balance='factors',  # they follow from the rest
    hooks=(
        'DeferredLogHook RuntimeInfoHook IterTimerHook LoggerHook ParamSchedulerHook '
        'SafeCheckpointHook CheckpointHook DistSamplerSeedHook EpochSeedHook '
        'TeacherCheckHook GuardRailsHook TeacherCacheHook FiniteLossHook ProgressHook '
        'RunReportHook CompileHook ViewHook CheckpointGuardHook ClassFusionHook '
        'WindowCheckHook MasksLostByResizeHook DistillDiagnosticsHook'
    ),
)
_IGNORED = {name: frozenset(text.split()) for name, text in _IGNORED.items()}

_WORDS = {
    'data.split_hash': 'split (images, labels or parts)',
    'data.content': 'content of the image files',
    'input.resize.scale': 'input size',
    'schedule.train_cfg.max_epochs': 'max_epochs',
    'schedule.train_cfg.max_iters': 'max_iters',
    'schedule.batch_size': 'batch size of all processes',
    'schedule.randomness.seed': 'seed',
    'start.load_from': 'weights it starts from',
    'start.resumed_from': 'run it was resumed from',
}
_NEUTRAL = ('LoadSkinImage', 'Resize', 'PackInputs')
_SAMPLED = 256  # image files whose sizes are looked at
_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class RunFingerprint:
    """Compare trainings by everything that decides their weights.

    ``parts`` are section -> name -> plain JSON value; sections are ``data``, ``input``,
    ``schedule``, ``model``, ``selection`` of the best checkpoint, ``start``.
    """

    parts: dict[str, Any]

    @classmethod
    def of(cls, cfg: Config, summary: DataSummary) -> 'RunFingerprint':
        """Compute it for a training that starts, in all processes together."""
        return cls(dict(data=plain(_data(cfg, summary)), **settings(cfg)))

    @property
    def digest(self) -> str:
        text = json.dumps(self.parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def resumed(self, earlier: 'RunFingerprint | None') -> 'RunFingerprint':
        """The fingerprint of this training, resumed: the earlier one where both agree.

        Else one that equals no fingerprint of a training from the beginning.
        """
        if earlier is not None and not self.difference(earlier):
            return earlier
        begun = 'unknown' if earlier is None else earlier.digest
        start = dict(self.parts['start'], resumed_from=begun)
        return RunFingerprint(dict(self.parts, start=start))

    def difference(self, other: 'RunFingerprint') -> str | None:
        found = _first_difference(self.parts, other.parts)
        if found is None:
            return None
        path, here, there = found
        section, _, rest = path.partition('.')
        name = path if section == 'model' else rest or section
        if section in ('input', 'selection'):
            name = path.replace('.', ' ', 1)
        name = _WORDS.get(path, name)
        return f'{name} {_short(here)} here, {_short(there)} there'


def settings(cfg: Config) -> dict[str, Any]:
    """All sections of a :class:`RunFingerprint` but ``data``."""
    return plain(
        dict(
            input=_input(cfg, 'train_dataloader'),
            schedule=_schedule(cfg),
            model=_model(cfg.model.to_dict()),
            selection=_selection(cfg),
            start=dict(load_from=_content(cfg.get('load_from'))),
        )
    )


def _data(cfg: Config, summary: DataSummary) -> dict[str, Any]:
    dataset = build_listing(cfg, 'train_dataloader')
    found = dict(
        split_hash=summary.split_hash,
        classes=list(summary.classes),
        content=_file_sizes(dataset),
    )
    ignored = _IGNORED['dataset']
    if summary.split_hash is None:  # nothing else says which images these are
        ignored -= {'data_root', 'ann_file', 'data_prefix'}
    if others := getattr(dataset, 'unlabelled_hash', None):
        found['unlabelled'] = others
    inner = _chain(cfg.train_dataloader)[-1]
    found['dataset'] = _without(inner, ignored)
    return found


def _file_sizes(dataset) -> str | None:
    """Hash of the sizes of some image files; None where they are gone (packed).

    A split hash knows ids and labels: a copy at another resolution has the same.
    """
    step = max(1, -(-len(dataset) // _SAMPLED))
    try:
        sizes = [
            os.stat(dataset.get_data_info(index)['img_path']).st_size
            for index in range(0, len(dataset), step)
        ]
    except (OSError, KeyError):
        return None
    return hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


def _chain(loader: dict) -> list[dict]:
    return [_without(node, {'dataset'}) for node in dataset_chain(loader)]


def _input(cfg: Config, loader: str) -> dict[str, Any]:
    """Resizing, augmentation and normalisation, stock and packed alike."""
    chain = _chain(cfg[loader])
    steps = list(chain[-1].get('pipeline') or [])
    packed = next((node for node in chain if is_packed_dataset(node)), None)
    preprocessing = dict(preprocessor(cfg))
    resize = next((dict(step) for step in steps if type_name(step) == 'Resize'), {})
    if packed is not None:
        resize = dict(
            scale=packed.get('size', resize.get('scale')),
            interpolation=packed.get('interpolation'),
        )
    resize.pop('type', None)
    sides = resize.get('scale')
    if isinstance(sides, (list, tuple)) and len(set(sides)) == 1:
        resize['scale'] = sides[0]
    resize.setdefault('interpolation', 'bilinear')
    augment = [step for step in steps if type_name(step) not in _NEUTRAL]
    if packed is None:
        try:
            augment = batched(augment)
        except UserError:
            pass  # a step without a batched form counts as it is written
    else:
        augment = list(preprocessing.pop('augment', None) or [])
    extra = _without(packed or {}, _IGNORED['packed'])
    return dict(
        resize=resize,
        augmentation=augment,
        packed={
            key: value
            for key, value in extra.items()
            if value not in (None, False) and (key, value) != ('margin', 1)
        },
        normalisation=_normalisation(preprocessing, resize.get('scale')),
    )


def _normalisation(preprocessor: dict, size: Any) -> dict[str, Any]:
    found = dict(preprocessor)
    kind = type_name(found.pop('type', 'ClsDataPreprocessor'))
    if kind not in ('ClsDataPreprocessor', 'PackedPreprocessor'):
        found['type'] = kind
    found.pop('num_classes', None)
    if found.get('partners') == 'batch':
        del found['partners']
    for key in ('num_views', 'input_size'):
        if found.get(key) in (None, size):
            found.pop(key, None)
    found['mean'] = list(found.get('mean') or [0.0])
    found['std'] = list(found.get('std') or [1.0])
    found['to_rgb'] = bool(found.get('to_rgb', False))
    return found


def _schedule(cfg: Config) -> dict[str, Any]:
    loader = cfg.train_dataloader
    wrappers = [n for n in _chain(loader)[:-1] if not is_packed_dataset(n)]
    found = _without(loader, _IGNORED['train_dataloader'])
    sampler = found.get('sampler')
    if isinstance(sampler, dict):
        found['sampler'] = _without(sampler, _IGNORED['sampler'])
    batch = loader.get('batch_size')
    loop = dict(cfg.train_cfg)
    loop.pop('val_interval', None)  # in ``selection``
    counted = [
        _without(hook, _IGNORED['loss_balance'])
        for hook in hooks(cfg)
        if type_name(hook) not in _IGNORED['hooks']
    ]
    scaled = cfg.get('auto_scale_lr') or {}
    steps = cfg.get('param_scheduler')
    return dict(
        found,
        batch_size=batch * get_world_size() if batch else batch,
        wrappers=wrappers,
        train_cfg=loop,
        optim_wrapper=_optim_wrapper(cfg.optim_wrapper.to_dict()),
        param_scheduler=[steps] if isinstance(steps, dict) else steps or [],
        auto_scale_lr=scaled.get('base_batch_size') if scaled.get('enable') else None,
        randomness=_without(cfg.get('randomness') or {}, _IGNORED['randomness']),
        sync_bn=cfg.get('sync_bn') or None,
        hooks=counted,
    )


def _optim_wrapper(wrapper: dict) -> dict[str, Any]:
    kind = wrapper.get('type', 'OptimWrapper')
    found = _without(wrapper, _IGNORED['optim_wrapper'])
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        found['type'] = kind
    if 'optimizer' in found:
        found['optimizer'] = _without(found['optimizer'], _IGNORED['optimizer'])
    return found


def _model(model: dict) -> dict[str, Any]:
    found = _without(model, _IGNORED['model'])
    for key in ('teacher_ckpt', 'student_ckpt'):
        if key in model:
            found[key] = _content(model[key])
    if model.get('teacher_cache'):
        found['teacher_cache'] = _without(
            model['teacher_cache'], _IGNORED['teacher_cache']
        )
    return _known_by_content(found)


def _known_by_content(node: Any) -> Any:
    """Files of weights by what is in them; one name for one classifier."""
    if isinstance(node, (list, tuple)):
        return [_known_by_content(part) for part in node]
    if not isinstance(node, dict):
        return node
    found = {key: _known_by_content(value) for key, value in node.items()}
    for key in ('checkpoint', 'ckpt', 'file'):
        if isinstance(found.get(key), str):
            found[key] = _content(found[key])
    if type_name(found) == 'ImageClassifier':  # the packed one is our own
        found['type'] = 'ImageClassifier'
    return found


def _selection(cfg: Config) -> dict[str, Any]:
    """How the checkpoint is chosen that others build on."""
    if not cfg.get('val_cfg') and cfg.get('val_dataloader') is None:
        return dict(save_best=None)
    hook = cfg.default_hooks.get('checkpoint') or {}
    return dict(
        save_best=hook.get('save_best'),
        rule=hook.get('rule'),
        val_interval=cfg.train_cfg.get('val_interval', 1),
        evaluator=cfg.get('val_evaluator'),
        resize=_input(cfg, 'val_dataloader')['resize'],
    )


def _content(path: Any) -> Any:
    """Hash of a file of weights; anything else as it is."""
    if not isinstance(path, str) or not os.path.isfile(path):
        return path
    return sha256(path)[:16]


def _without(group: dict, ignored: Set[str]) -> dict[str, Any]:
    return {key: v for key, v in group.items() if key not in ignored}


def _first_difference(
    here: Any, there: Any, path: str = ''
) -> tuple[str, Any, Any] | None:
    for key, one, two in _pairs(here, there) or ():
        below = f'{path}.{key}'.lstrip('.')
        if one == two or (below == 'data.content' and None in (one, two)):
            continue
        found = _first_difference(one, two, below)
        if found or _pairs(one, two) is None:
            return found or (below, one, two)
    return None


def _pairs(here: Any, there: Any) -> list[tuple[Any, Any, Any]] | None:
    """What stands at the same place of two dicts, or lists of one length."""
    if isinstance(here, dict) and isinstance(there, dict):
        return [(key, here.get(key), there.get(key)) for key in {**here, **there}]
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        return [(i, *two) for i, two in enumerate(zip(here, there))]
    return None


def _short(value: Any) -> str:
    if value is None:
        return 'none'
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) == 64 and set(text) <= set('0123456789abcdef'):
        return text[:8]  # of a hash
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'
