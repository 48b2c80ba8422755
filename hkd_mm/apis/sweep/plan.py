# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a sweep is made of, as its file says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .expressions import as_text, fill, names_in
from .space import Space

METHOD = 'method'  # what the choice among ``configs`` is called
SAMPLERS = ('grid', 'tpe', 'random')
PRUNERS = ('median', 'hyperband')
_OF_CLASSES = (  # what hkd_mm.ClinicalMetric says of all images together
    'balanced_accuracy',
    'top1',
    'top5',
    'macro_f1',
    'weighted_f1',
    'macro_precision',
    'macro_specificity',
    'macro_auroc',
    'ece',
)
_OF_SLICES = ('dice', 'iou', 'sensitivity', 'precision', 'hd95')
_OF_MASKS = (  # what hkd_mm.SegmentationMetric says
    *_OF_SLICES,
    *(f'patient_{name}' for name in _OF_SLICES),
)
METRIC_GROUPS = dict(classes=_OF_CLASSES, masks=_OF_MASKS)
METRICS = (*_OF_CLASSES, *_OF_MASKS)
LOWER_IS_BETTER = ('ece', 'hd95', 'patient_hd95')


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Args:
        path: of the file.
        title: of the table.
        configs: method -> config file; one without a choice.
        space: name -> what it may be.
        options: of every run, as ``--cfg-options``; in texts ``{work_dir}``
            stands for the sweep's folder, ``{name}`` and arithmetic with it
            for a value of the space.
        sampler: one of SAMPLERS.
        sampler_seed: what tpe and random draw from.
        metric: of the validation split, at the chosen checkpoint.
        pruner: ``type`` and its arguments; None lets every trial end.
        trials: how many.
        seeds: that each trial is trained with.
    """

    path: Path
    title: str
    configs: dict[str, Path]
    space: Space
    options: dict[str, Any]
    sampler: str
    sampler_seed: int
    metric: str
    pruner: dict[str, Any] | None
    trials: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """For folders and storages."""
        return self.path.stem

    @property
    def maximised(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric not in LOWER_IS_BETTER

    def config(self, params: dict[str, Any]) -> Path:
        """The config file of a trial."""
        return self.configs[params.get(METHOD, next(iter(self.configs)))]

    def common(self, work_dir: Path) -> dict[str, str]:
        """Options without a value of the space: key -> text."""
        known = dict(work_dir=str(work_dir))
        return {
            key: fill(value, known)
            for key, value in self.options.items()
            if names_in(value) <= known.keys()
        }

    def varied(self, params: dict[str, Any], work_dir: Path) -> dict[str, str]:
        """Options that the values of a trial decide: key -> text."""
        known = dict(params, work_dir=str(work_dir))
        used = {n for value in self.options.values() for n in names_in(value)}
        found = {
            key: fill(value, known)
            for key, value in self.options.items()
            if names_in(value) - {'work_dir'}
        }
        for name, value in params.items():
            if name != METHOD and name not in used:
                found[name] = as_text(value)
        return found
