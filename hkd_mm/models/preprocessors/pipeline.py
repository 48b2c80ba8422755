# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A list of augmentation configs, applied to a whole batch."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.preprocessors.augmentation import Augmentation, Draw, Size
from hkd_mm.models.preprocessors.counter_rng import uniform_by_name
from hkd_mm.models.preprocessors.geometric import Geometric, fit, fit_masks, warp
from hkd_mm.models.preprocessors.mixing import Mixed
from hkd_mm.registry import TASK_UTILS


def build(position: int, config: dict) -> tuple[Augmentation, str, dict]:
    """An operation, its name and all its arguments, defaults included."""
    where = f'data_preprocessor.augment[{position}]'
    kind = config.get('type') if isinstance(config, dict) else None
    found = TASK_UTILS.get(kind) if isinstance(kind, str) else None
    if found is None or not issubclass(found, Augmentation):
        raise UserError(
            f'{where}: {kind!r} is no augmentation; write '
            "dict(type='hkd_mm.HorizontalFlip', prob=0.5) or "
            'another class of hkd_mm/models/preprocessors'
        )
    arguments = {k: v for k, v in config.items() if k != 'type'}
    try:
        bound = inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise UserError(f'{where} ({kind}): {error}') from error
    bound.apply_defaults()
    known = inspect.signature(found).parameters
    settings = {
        key: _plain(value)
        for key, value in bound.arguments.items()
        if key not in found.later or value != known[key].default
    }
    return found(**arguments), found.__name__, settings


def _plain(value: Any) -> Any:
    """A value so that 10 and 10.0, lists and tuples are the same."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number else value


def plan(
    operations: dict[str, Augmentation],
) -> tuple[list[str | list[str]], list[str]]:
    """What is done at once, and in which order.

    Returns:
        Stages, each a name, or the names of geometric operations that are
        composed; and the names of those that mix samples.
    """
    stages: list[str | list[str]] = []
    mixing: list[str] = []
    floating = None  # flips that may still move on to an interpolation
    for name, op in operations.items():
        if op.mixes:
            mixing.append(name)
        elif mixing:
            raise UserError(
                f'data_preprocessor.augment: {name} comes after '
                f'{mixing[0]}, which must be last'
            )
        elif not isinstance(op, Geometric):
            stages.append(name)
            floating = floating if op.commutes else None
        elif (
            stages
            and isinstance(stages[-1], list)  # and all agree about what lies outside
            and len({*(operations[n].outside for n in stages[-1]), op.outside} - {None})
            <= 1
        ):
            stages[-1].append(name)
            exact = all(operations[n].exact for n in stages[-1])
            floating = stages[-1] if exact else None
        elif floating and not op.exact:
            stages.remove(floating)
            stages.append([*floating, name])
            floating = None
        else:
            stages.append([name])
            floating = stages[-1] if op.exact else None
    return stages, mixing


Parameters = dict[str, dict[str, Any]]
_PIXELS_AT_ONCE = 200_000  # a few images: what fits a core's cache


class Pipeline:
    """Augmentations in the order of the list, their parameters drawn first.

    Geometric neighbours are composed into one affine map and interpolated once. A flip
    or quarter turn moves past operations with which it commutes to join the next
    interpolation; without one it moves whole pixels. What a crop leaves out can come
    back in the corners of a composed turn, in place of the fill.

    Attributes:
        settings: (name, all arguments) of each operation, defaults included.
    """

    def __init__(self, configs: Sequence[dict]) -> None:
        self.operations: dict[str, Augmentation] = {}
        self.settings: list[tuple[str, dict]] = []
        for position, config in enumerate(configs):
            operation, name, arguments = build(position, config)
            count = sum(n == name for n, _ in self.settings)
            self.settings.append((name, arguments))
            key = name if not count else f'{name}#{count + 1}'
            self.operations[key] = operation
        self.draws = {k: op.draws for k, op in self.operations.items()}
        self.stages, self.mixing = plan(self.operations)

    def parameters(
        self, seed: int, view: int, index: Tensor, labels: Tensor | None = None
    ) -> Parameters:
        """What happens to each sample (B,): operation -> parameter -> tensor."""
        numbers = uniform_by_name(seed, view, index, self.draws)
        return {
            name: op.parameters(Draw(numbers[name], labels, seed, view, name, index))
            for name, op in self.operations.items()
        }

    def to(self, parameters: Parameters, device: torch.device) -> Parameters:
        """Parameters where the images are, but those that stay behind."""

        def move(name: str, key: str, value: Tensor) -> Tensor:
            stays = key in self.operations[name].host
            return value if stays else value.to(device, non_blocking=True)

        return _mapped(parameters, move)

    def apply(
        self,
        images: Tensor,
        parameters: Parameters,
        size: Size,
        out: Tensor,
        finish: Callable[[Tensor, Tensor], Any],
    ) -> None:
        """Everything but the mixing of samples.

        On a CPU a few images at a time, which keeps them in the core's cache.

        Args:
            images: uint8 (B, H, W, 3).
            parameters: of :meth:`parameters`, on the device of ``images``.
            size: (h, w) of the result.
            out: float32 (B, 3, h, w), written.
            finish: called with the images (B, 3, h, w) of a part and the
                part of ``out`` that they belong into.
        """
        step = len(images)
        if images.device.type == 'cpu':
            step = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            found = images[part].permute(0, 3, 1, 2).contiguous()
            own = _mapped(parameters, lambda _, __, x, part=part: x[part])
            for stage in self.stages:
                if isinstance(stage, list):
                    found = self._move(found, stage, own, size)
                else:
                    found = self.operations[stage].apply(found.float(), own[stage])
            finish(fit(found.float(), size), out[part])

    def apply_to_masks(
        self, masks: Tensor, parameters: Parameters, size: Size
    ) -> Tensor:
        """The geometric stages alone, on class ids, without interpolation.

        From uint8 (B, H, W) to (B, h, w); 0 where images are filled.
        """
        masks = masks[:, None]
        for stage in self.stages:
            if isinstance(stage, list):
                masks = self._move(masks, stage, parameters, size, True)
        return fit_masks(masks, size)[:, 0]

    def _move(
        self,
        images: Tensor,
        names: list[str],
        parameters: Parameters,
        size: Size,
        masks: bool = False,
    ) -> Tensor:
        operations = [self.operations[name] for name in names]
        if all(op.exact for op in operations):
            for name, op in zip(names, operations):
                images = op.apply(images, parameters[name])
            return images
        values = [parameters[name] for name in names]
        return warp(images.float(), operations, values, size, masks)

    def mix(
        self, own: Mixed, parameters: Parameters, partners: Mixed | None = None
    ) -> Mixed:
        """Mix with ``partners``, the same for all operations; None: with the batch."""
        for name in self.mixing:
            values = parameters[name]
            others = partners or tuple(x[values['partner']] for x in own)
            own = self.operations[name].mix(own, others, values)
        return own


def _mapped(parameters: Parameters, change: Callable) -> Parameters:
    """The same with each tensor changed, by its operation and name."""
    return {
        name: {
            key: change(name, key, value) if isinstance(value, Tensor) else value
            for key, value in values.items()
        }
        for name, values in parameters.items()
    }
