# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A finished run as a student: its network, classes and input."""

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from hkd_mm.config.compose import compose_config
from hkd_mm.config.tree import dataset_chain, is_packed_dataset
from hkd_mm.config.value_checks import pixel_threshold
from hkd_mm.engine import student_loading
from hkd_mm.engine.run_files import finished_run
from hkd_mm.engine.student_export import student_config
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import classes_of
from hkd_mm.io.files import sha256
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.io.signatures import type_name
from hkd_mm.registry import MODELS

_STEPS = ('LoadSkinImage', 'Resize', 'PackInputs')


@dataclass
class SourceRun:
    """What is read of a work dir."""

    folder: Path
    cfg: Config  # with the options of the command line
    network: nn.Module  # the plain student, in evaluation
    meta: dict[str, Any]  # of ``student.pth``
    classes: list[str]  # in the order of the outputs
    spec: InputSpec
    swapped: bool  # the network itself takes BGR
    weights_sha256: str = ''

    @property
    def architecture(self) -> str:
        return student_loading.describe_network(self.meta['student'])

    @property
    def dense(self) -> bool:
        """Whether it gives every pixel a class."""
        return getattr(self.network, 'dense', False)

    @property
    def pixel_threshold(self) -> float:
        found = pixel_threshold(self.cfg.get('val_evaluator'))
        if found is None:
            raise UserError(
                'an export of a segmentor needs hkd_mm.SegmentationMetric in '
                'val_evaluator, whose threshold it takes'
            )
        return found

    @property
    def hairs_removed(self) -> bool:
        chain = dataset_chain(self.cfg.get('train_dataloader'))
        return any(node.get('hair_removal') for node in chain)


def read_run(
    folder: str | Path, cfg_options: list[str] | dict | None = None
) -> SourceRun:
    """Read a work dir and build its student, if an export can repeat its images."""
    folder, config, weights = finished_run(folder)
    cfg = compose_config(str(config), cfg_options)
    network, meta = student_loading.load_student(weights)
    classes = classes_of(meta)
    if not classes:
        raise UserError(f'{weights} does not name its classes; train it again')
    if not cfg.get('val_dataloader') or not cfg.get('train_dataloader'):
        raise UserError(
            'an export needs val_dataloader and train_dataloader in the config'
        )
    statistics = student_loading.statistics_of(meta)
    swapped = student_loading.takes_bgr(network, statistics)
    if getattr(network, 'dense', False):
        spec = _segmentor_spec(cfg, statistics, network.in_channels)
    else:
        spec = _spec(_size(cfg), 'RGB', statistics)
    if swapped:
        spec = replace(spec, mean=spec.mean[::-1], std=spec.std[::-1])
    trained = (meta.get('input') or {}).get('size')
    if trained is not None and tuple(trained) != spec.size:
        raise UserError(
            f'{folder} was trained on images of {trained[0]} x {trained[1]} '
            f'pixels, and with these --cfg-options they have {spec.size[0]} x '
            f'{spec.size[1]}; leave out what changes it'
        )
    return SourceRun(
        folder, cfg, network, meta, list(classes), spec, swapped, sha256(weights)
    )


def _spec(size: tuple[int, int], colour: str, statistics: dict, **more) -> InputSpec:
    mean = statistics.get('mean') or [0.0] * 3
    std = statistics.get('std') or [1.0] * 3
    mean, std = (tuple(map(float, values)) for values in (mean, std))
    return InputSpec(size, 'area', colour, mean, std, **more)


def _segmentor_spec(cfg: Config, statistics: dict, channels: int) -> InputSpec:
    chain = list(dataset_chain(cfg.get('val_dataloader')))
    packed, stored = chain[0], chain[-1]
    if type_name(packed) != 'PackedMasks':
        raise UserError(
            'an export of a segmentor repeats hkd_mm.PackedMasks; the '
            f'val_dataloader of the run has {type_name(packed)}'
        )
    size = _packed_size(packed, statistics.get('input_size'))
    found = _setting(stored, 'channels')
    if found != channels:
        raise UserError(
            f'the images of val_dataloader have {found} channels and the '
            f'network takes {channels}'
        )
    window = statistics.get('window')
    return _spec(
        size,
        'RGB' if channels == 3 else 'grey',
        statistics,
        bits=_setting(stored, 'bits'),
        window=window and tuple(map(float, window)),
    )


def _setting(node: dict, name: str) -> Any:
    """Value in a data set's config, else of its class."""
    if node.get(name) is not None:
        return node[name]
    return getattr(DATASETS.get(node['type']), name)


def _size(cfg: Config) -> tuple[int, int]:
    """(H, W) of the validation's resize, if that is all it does."""
    chain = list(dataset_chain(cfg.get('val_dataloader')))
    for node in chain:
        if is_packed_dataset(node):
            return _packed_size(node)
    pipeline = chain[-1].get('pipeline') or []
    steps = {type_name(step): step for step in pipeline}
    other = [name for name in steps if name not in _STEPS]
    if other or not {'LoadSkinImage', 'Resize'} <= set(steps):
        raise UserError(
            'an export repeats hkd_mm.LoadSkinImage and Resize; the val_dataloader of '
            f'the run has {", ".join(other or steps) or "no step"}'
        )
    resize = steps['Resize']
    interpolation = resize.get('interpolation', 'bilinear')
    scale = resize.get('scale')
    if interpolation != 'area' or resize.get('keep_ratio') or scale is None:
        raise UserError(
            "an export resizes with interpolation='area' to one size; the "
            f'val_dataloader of the run has {dict(resize)}'
        )
    wide, high = (scale, scale) if isinstance(scale, int) else scale
    return int(high), int(wide)


def _packed_size(node: dict, taken: int | None = None) -> tuple[int, int]:
    """(H, W) of packed images, which the network takes as they are, or ``taken``."""
    known = inspect.signature(DATASETS.get(node['type'])).parameters
    side, margin, interpolation = (
        node.get(name, known[name].default)
        for name in ('size', 'margin', 'interpolation')
    )
    if interpolation != 'area' or margin != 1 or side != (taken or side):
        raise UserError(
            'an export repeats images packed by area, without a margin, at '
            'the size that the network takes; the val_dataloader of the run '
            f'has interpolation={interpolation!r}, margin={margin}, '
            f'size={side}, and the network takes {taken or side}'
        )
    return side, side


def load_network(file: str):
    """Build a network in evaluation, of a ``student.pth`` or a config."""
    if Path(file).suffix == '.pth':
        return student_loading.load_student(file)[0]
    init_default_scope('mmpretrain')
    return MODELS.build(student_config(compose_config(file).model)).eval()
