# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The finished run that is exported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import InputSpec, sha256

from ..config.compose import compose_config
from ..config.thresholds import pixel_threshold
from ..run.run_files import finished_run
from ..run.runtime import describe_net
from .input_specs import classifier_spec, segmentor_spec


@dataclass
class SourceRun:
    """What is read of a work dir.

    Attributes:
        folder: the work dir.
        cfg: its config, with the options of the command line.
        net: the plain student, in evaluation.
        meta: of ``student.pth``.
        classes: in the order of the net's outputs.
        spec: what the net is fed.
        swapped: the net itself takes BGR.
        weights_sha256: hash of ``student.pth``.
    """

    folder: Path
    cfg: Config
    net: nn.Module
    meta: dict[str, Any]
    classes: list[str]
    spec: InputSpec
    swapped: bool
    weights_sha256: str = ''

    @property
    def architecture(self) -> str:
        """Name of the net."""
        return describe_net(self.meta['student'])

    @property
    def dense(self) -> bool:
        """Whether it gives every pixel a class."""
        return getattr(self.net, 'dense', False)

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
        return sum(weight.numel() for weight in self.net.parameters())

    @property
    def hairs_removed(self) -> bool:
        """Whether the net was trained on images without hairs."""
        node = self.cfg.train_dataloader['dataset']
        while 'dataset' in node:
            if node.get('hair_removal'):
                return True
            node = node['dataset']
        return False

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
    from hkd_mm.engine.checkpoint import classes_of
    from hkd_mm.engine.student_loading import load_student

    folder, config, weights = finished_run(folder)
    cfg = compose_config(str(config), cfg_options)
    net, meta = load_student(weights)
    classes = classes_of(meta)
    if not classes:
        raise UserError(f'{weights} does not name its classes; train it again')
    statistics = meta['student'].get('data_preprocessor') or {}
    statistics = statistics or meta.get('data_preprocessor') or {}
    dense = getattr(net, 'dense', False)
    swapped = not statistics.get('to_rgb', dense)
    spec = (
        segmentor_spec(cfg, statistics, swapped, net.in_channels)
        if dense
        else classifier_spec(cfg, statistics, swapped)
    )
    _check_size(folder, meta, spec)
    return SourceRun(
        folder, cfg, net, meta, list(classes), spec, swapped, sha256(weights)
    )


def _check_size(folder: Path, meta: dict, spec: InputSpec) -> None:
    trained = (meta.get('input') or {}).get('size')
    if trained is not None and list(trained) != list(spec.size):
        raise UserError(
            f'{folder} was trained on images of {trained[0]} x {trained[1]} '
            f'pixels, and with these --cfg-options they have {spec.size[0]} x '
            f'{spec.size[1]}; leave out what changes it'
        )
