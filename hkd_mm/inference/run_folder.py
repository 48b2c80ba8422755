# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A finished run as a student: its network, classes and input."""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn

from hkd_mm.config.compose import compose_config
from hkd_mm.config.tree import (
    dataset_chain,
    innermost_dataset,
    packed_datasets,
)
from hkd_mm.config.value_checks import pixel_threshold
from hkd_mm.engine.run_files import finished_run
from hkd_mm.engine.student_loading import describe_network
from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import sha256
from hkd_mm.io.input_spec import InputSpec
from hkd_mm.io.signatures import type_name

_STEPS = ('LoadSkinImage', 'Resize', 'PackInputs')


def check_loaders(cfg: Config) -> None:
    """Refuse a config without the loaders that an export reads.

    Raises:
        UserError: one is missing.
    """
    if not cfg.get('val_dataloader') or not cfg.get('train_dataloader'):
        raise UserError(
            'an export needs val_dataloader and train_dataloader in the config'
        )


def classifier_spec(cfg: Config, statistics: dict, swapped: bool) -> InputSpec:
    """Of a run on photographs.

    Args:
        cfg: of the run.
        statistics: its data preprocessor.
        swapped: the network takes BGR.

    Raises:
        UserError: photographs are prepared in another way than reading and
            one resize by area.
    """
    check_loaders(cfg)
    mean = statistics.get('mean') or [0.0] * 3
    std = statistics.get('std') or [1.0] * 3
    return _spec(_resize(cfg), 'RGB', mean, std, swapped)


def segmentor_spec(
    cfg: Config, statistics: dict, swapped: bool, channels: int
) -> InputSpec:
    """Of a run on packed images with masks.

    Args:
        cfg: of the run.
        statistics: its data preprocessor.
        swapped: the network takes BGR.
        channels: of the network.

    Raises:
        UserError: the validation images are not ``hkd_mm.PackedMasks`` at
            the size that the network takes, or not of its channels.
    """
    check_loaders(cfg)
    packed = cfg.val_dataloader['dataset']
    kind = type_name(packed)
    if kind != 'PackedMasks':
        raise UserError(
            'an export of a segmentor repeats hkd_mm.PackedMasks; the '
            f'val_dataloader of the run has {kind or "no data set"}'
        )
    known = inspect.signature(DATASETS.get(packed['type'])).parameters
    side, margin, interpolation = (
        packed.get(name, known[name].default)
        for name in ('size', 'margin', 'interpolation')
    )
    asked = statistics.get('input_size') or side
    if interpolation != 'area' or margin != 1 or asked != side:
        raise UserError(
            'an export of a segmentor repeats images packed by area, without '
            'a margin, at the size that the network takes; the val_dataloader '
            f'of the run has interpolation={interpolation!r}, '
            f'margin={margin}, size={side}, and its input_size is {asked}'
        )
    bits = _setting(innermost_dataset(cfg.val_dataloader), 'bits')
    found = _setting(innermost_dataset(cfg.val_dataloader), 'channels')
    if found != channels:
        raise UserError(
            f'the images of val_dataloader have {found} channels and the '
            f'network takes {channels}'
        )
    window = statistics.get('window')
    return _spec(
        (side, side),
        'RGB' if channels == 3 else 'grey',
        statistics['mean'],
        statistics['std'],
        swapped,
        bits=bits,
        window=None if window is None else tuple(map(float, window)),
    )


def _packed_side(node: dict) -> tuple[int, int]:
    known = inspect.signature(DATASETS.get(node['type'])).parameters
    side, margin, interpolation = (
        node.get(name, known[name].default)
        for name in ('size', 'margin', 'interpolation')
    )
    if interpolation != 'area' or margin != 1:
        raise UserError(
            'an export repeats images packed by area, without a margin; the '
            f'val_dataloader of the run has interpolation={interpolation!r}, '
            f'margin={margin}'
        )
    return side, side


def _setting(node: dict, name: str) -> Any:
    """Of a data set's config, else of its class."""
    if node.get(name) is not None:
        return node[name]
    return getattr(DATASETS.get(node['type']), name)


def _spec(
    size: tuple[int, int],
    colour: str,
    mean: list[float],
    std: list[float],
    swapped: bool,
    **more,
) -> InputSpec:
    if swapped:
        mean, std = mean[::-1], std[::-1]
    return InputSpec(
        size,
        'area',
        colour,
        tuple(map(float, mean)),
        tuple(map(float, std)),
        **more,
    )


def _resize(cfg: Config) -> tuple[int, int]:
    """(H, W) of the validation's resize, if that is all it does."""
    for loader, node in packed_datasets(cfg):
        if loader == 'val_dataloader':
            return _packed_side(node)
    pipeline = innermost_dataset(cfg.val_dataloader).get('pipeline') or []
    steps = {type_name(step): step for step in pipeline}
    other = [name for name in steps if name not in _STEPS]
    if other or not {'LoadSkinImage', 'Resize'} <= set(steps):
        raise UserError(
            'an export repeats hkd_mm.LoadSkinImage and Resize; the '
            'val_dataloader of the run has '
            f'{", ".join(other or steps) or "no step"}'
        )
    resize = steps['Resize']
    kind = resize.get('interpolation', 'bilinear')
    scale = resize.get('scale')
    if kind != 'area' or resize.get('keep_ratio') or scale is None:
        raise UserError(
            "an export resizes with interpolation='area' to one size; the "
            f'val_dataloader of the run has {dict(resize)}'
        )
    wide, high = (scale, scale) if isinstance(scale, int) else scale
    return int(high), int(wide)


@dataclass
class SourceRun:
    """What is read of a work dir.

    Attributes:
        folder: the work dir.
        cfg: its config, with the options of the command line.
        network: the plain student, in evaluation.
        meta: of ``student.pth``.
        classes: in the order of the network's outputs.
        spec: what the network is fed.
        swapped: the network itself takes BGR.
        weights_sha256: hash of ``student.pth``.
    """

    folder: Path
    cfg: Config
    network: nn.Module
    meta: dict[str, Any]
    classes: list[str]
    spec: InputSpec
    swapped: bool
    weights_sha256: str = ''

    @property
    def architecture(self) -> str:
        """Name of the network."""
        return describe_network(self.meta['student'])

    @property
    def dense(self) -> bool:
        """Whether it gives every pixel a class."""
        return getattr(self.network, 'dense', False)

    @property
    def pixel_threshold(self) -> float:
        """Of a segmentor: from which probability on a pixel is of a class.

        Raises:
            UserError: validation has no metric of masks.
        """
        found = pixel_threshold(self.cfg.get('val_evaluator'))
        if found is None:
            raise UserError(
                'an export of a segmentor needs hkd_mm.SegmentationMetric in '
                'val_evaluator, whose threshold it takes'
            )
        return found

    @property
    def parameters(self) -> int:
        """Number of its weights."""
        return sum(weight.numel() for weight in self.network.parameters())

    @property
    def hairs_removed(self) -> bool:
        """Whether the network was trained on images without hairs."""
        chain = dataset_chain(self.cfg.train_dataloader)
        return any(node.get('hair_removal') for node in chain)

    def notes(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; empty where it is not there."""
        try:
            text = (self.folder / name).read_text(encoding='utf-8')
            found = json.loads(text)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def read_run(
    folder: str | Path, cfg_options: list[str] | dict | None = None
) -> SourceRun:
    """Read a work dir and build its student.

    Args:
        folder: of a finished training.
        cfg_options: changes to its config, such as ``data_root=PATH``.

    Raises:
        UserError: it holds no finished run, the options change the size of
            its images, or these are prepared in a way that an export cannot
            repeat.
    """
    from hkd_mm.engine.student_loading import load_student
    from hkd_mm.io.checkpoints import classes_of

    folder, config, weights = finished_run(folder)
    cfg = compose_config(str(config), cfg_options)
    network, meta = load_student(weights)
    classes = classes_of(meta)
    if not classes:
        raise UserError(f'{weights} does not name its classes; train it again')
    statistics = meta['student'].get('data_preprocessor') or {}
    statistics = statistics or meta.get('data_preprocessor') or {}
    dense = getattr(network, 'dense', False)
    swapped = not statistics.get('to_rgb', dense)
    spec = (
        segmentor_spec(cfg, statistics, swapped, network.in_channels)
        if dense
        else classifier_spec(cfg, statistics, swapped)
    )
    _check_size(folder, meta, spec)
    return SourceRun(
        folder,
        cfg,
        network,
        meta,
        list(classes),
        spec,
        swapped,
        sha256(weights),
    )


def _check_size(folder: Path, meta: dict, spec: InputSpec) -> None:
    trained = (meta.get('input') or {}).get('size')
    if trained is not None and list(trained) != list(spec.size):
        raise UserError(
            f'{folder} was trained on images of {trained[0]} x {trained[1]} '
            f'pixels, and with these --cfg-options they have {spec.size[0]} x '
            f'{spec.size[1]}; leave out what changes it'
        )
