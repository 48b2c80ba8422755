# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Top-level values of a config and the places that follow them.

A base file writes ``batch_size = 64`` and uses it in three loaders; whoever
then changes ``batch_size`` in a child config or on the command line changes
the name only. :func:`propagate` carries each value to its places:

==============  =============================================================
data_root       ``data_root`` of every loader's dataset
dataset_type    ``type`` of every loader's dataset, such as hkd_mm.HAM10000
classes         ``classes`` of every dataset; every ``num_classes`` of the
                model and of ``data_preprocessor`` becomes their number
split_file      ``split_file`` of every dataset
split_ratios    ``split_ratios`` of every dataset
split_seed      ``seed`` of every dataset
input_size      the size of every Resize, CenterCrop and crop in the
                pipelines; ``model.input_size`` of a distillation
batch_size      ``batch_size`` of every loader
sampler         ``sampler`` of the training loader: ``balanced`` draws the
                classes alike, None shuffles
max_epochs      ``train_cfg.max_epochs``; ``T_max``, ``total_steps`` and
                ``end`` of schedulers that lasted to the end
patience        ``patience`` of the early stopping hook
pretrained      ``pretrained`` of every net but a teacher's, whose weights are
                ``model.teacher_ckpt``
class_weight    ``class_weight`` of every loss that takes one (its words are
                turned into numbers by ``data_summary.resolve_class_weight``)
mask_threshold  ``threshold`` of the metrics of masks, on validation and test
seed            ``randomness.seed``; the split keeps its own
channels_last   memory order of the weights; read by the runner
compiled        ``student`` and ``teacher`` of the compile hook
packed          datasets and ``data_preprocessor``, see :mod:`.packing`
device          auto, cpu or cuda; read by the tools
teacher         name of a net under configs/_base_/models for ``model.teacher``
student         the same for ``model.architecture``
pair            name of a file under configs/_base_/pairs that the config
                inherits in place of its own, see :mod:`.pairs`
==============  =============================================================

A place that the config itself set to something else than the base's value is
left alone, and a dotted ``--cfg-options`` key wins over all of this.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmengine.config import Config

from . import places, thresholds
from .places import Place

KNOBS: dict[str, Callable[[Config], Iterator[Place]]] = dict(
    data_root=places.of_dataset('data_root'),
    dataset_type=places.dataset_type,
    classes=places.classes,
    split_file=places.of_dataset('split_file'),
    split_ratios=places.of_dataset('split_ratios'),
    split_seed=places.of_dataset('seed'),
    input_size=places.input_size,
    batch_size=places.batch_size,
    sampler=places.sampler,
    max_epochs=places.max_epochs,
    patience=places.patience,
    pretrained=places.pretrained,
    class_weight=places.class_weight,
    mask_threshold=thresholds.mask_threshold,
    seed=places.seed,
    channels_last=places.nowhere,
    compiled=places.compiled,
    packed=places.nowhere,
    device=places.nowhere,
    teacher=places.nowhere,
    student=places.nowhere,
)


def propagate(
    cfg: Config, base: dict[str, list], names: Iterable[str] = tuple(KNOBS)
) -> None:
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
                follows = old in (None, place.none) or any(
                    _same(old, place.form, value) for value in base[name]
                )
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
