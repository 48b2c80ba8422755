# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Count the operators of a training and the times it waits for the device."""

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor

ROOT = Path(__file__).resolve().parents[2]
_TORCH = str(Path(torch.__file__).parent)
_DEPTH = 3  # frames that say where a read comes from
_READS = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape
_BY_MASK = ('aten.index.Tensor', 'aten.index_put', 'aten.index_put_')
_METHODS = {Tensor.tolist: 'tolist', Tensor.cpu: 'cpu'}


class OperatorCounter(TorchDispatchMode):
    """Counts ATen operators, and those whose result the host waits for.

    A host read is an operator whose output or whose shape depends on data
    (``_local_scalar_dense``, which is ``item()``, ``float()``, ``bool()``;
    ``equal``; ``nonzero``; an index by a mask), or a copy to host memory. On
    a machine without a GPU, where nothing is copied, ``Tensor.cpu`` and
    ``Tensor.tolist`` count as such a copy: they would be one on a GPU.

    Args:
        device: type of the model's device; tensors elsewhere are not waited for.

    Attributes:
        phase: key that the operators are counted under.
        operators: (phase, operator) -> count.
        reads: (operator, where it is called) -> count.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.phase = device, ''
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self.operators: Counter = Counter()
        self.reads: Counter = Counter()

    def by_phase(self) -> dict[str, int]:
        """Phase -> operators."""
        found: Counter = Counter()
        for (phase, _), count in self.operators.items():
            found[phase] += count
        return dict(found)

    def read(self, name: str) -> None:
        """Note a host read."""
        self.reads[name, _where()] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        self.operators[self.phase, str(func)] += 1
        out = func(*args, **(kwargs or {}))
        if self._is_read(func, args, out):
            self.read(str(func).removesuffix('.default'))
        return out

    def _is_read(self, func, args: tuple, out: Any) -> bool:
        tensors = [value for value in args if isinstance(value, Tensor)]
        if not any(t.device.type == self.device for t in tensors):
            return False
        if str(func).startswith(_BY_MASK):
            return any(
                isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)
                for i in args[1]
            )
        if any(tag in func.tags for tag in _READS):
            return True
        return (
            self.device != 'cpu'
            and isinstance(out, Tensor)
            and out.device.type == 'cpu'
        )


class HostCopies(TorchFunctionMode):
    """Tells a counter of copies that no operator shows on a CPU."""

    def __init__(self, counter: OperatorCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        if func in _METHODS and self.counter.device == 'cpu':
            self.counter.read(_METHODS[func])
        return func(*args, **(kwargs or {}))


class CountHook(Hook):
    """Counts each iteration of a training, hooks and loading included.

    Attributes:
        rows: one dict an iteration: ``epoch``, ``iteration``, ``operators``
            by phase and ``reads``.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._modes = ExitStack()

    def before_train(self, runner) -> None:
        """Wrap the loop and the preprocessor."""
        loop, preprocessor = runner.train_loop, runner.model.data_preprocessor
        device = next(runner.model.parameters()).device.type
        self.counter = counter = OperatorCounter(device)
        run, forward = loop.run_iter, preprocessor.forward

        def run_iter(index: int, batch) -> None:
            if index == 0:  # what was between the epochs
                counter.clear()
            counter.phase = 'step'
            run(index, batch)
            self.rows.append(
                dict(
                    epoch=runner.epoch,
                    iteration=index + 1,
                    operators=counter.by_phase(),
                    reads=counter.reads,
                )
            )
            counter.clear()
            counter.phase = 'loading'

        def preprocess(*args, **kwargs):
            before, counter.phase = counter.phase, 'preprocessing'
            try:
                return forward(*args, **kwargs)
            finally:
                counter.phase = before

        loop.run_iter, preprocessor.forward = run_iter, preprocess
        self._modes.enter_context(HostCopies(counter))
        self._modes.enter_context(counter)

    def after_train(self, runner) -> None:
        """Count no longer."""
        self._modes.close()


def preprocess(preprocessor, batch: dict) -> int:
    """Operators without augmentation."""
    with OperatorCounter(preprocessor.device.type) as counter:
        preprocessor(batch, False)
    return sum(counter.operators.values())


def normalise_128(size: int) -> dict[str, int]:
    """Operators for a batch of 128 that is not augmented.

    Args:
        size: side of the images.
    """
    statistics = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
    stock = ClsDataPreprocessor(num_classes=2, **statistics)
    labels = torch.arange(128) % 2
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    images = torch.zeros(128, size, size, 3, dtype=torch.uint8)
    planar = images.permute(0, 3, 1, 2).contiguous()
    return {
        'packed': preprocess(
            PackedPreprocessor(**statistics),
            dict(inputs=images, labels=labels, index=torch.arange(128)),
        ),
        'MMPretrain, list of images': preprocess(
            stock, dict(inputs=list(planar), data_samples=samples)
        ),
        'MMPretrain, collated': preprocess(
            stock, dict(inputs=planar, data_samples=samples)
        ),
    }


def _where() -> str:
    """The innermost lines outside of torch, innermost first."""
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < _DEPTH:
        name = frame.f_code.co_filename
        line = f'{_short(name)}:{frame.f_lineno}'
        if not name.startswith((_TORCH, __file__)) and line not in found:
            found.append(line)
        frame = frame.f_back
    return ' < '.join(found)


def _short(name: str) -> str:
    for start in (f'{ROOT}/', 'site-packages/'):
        if start in name:
            return name.split(start)[-1]
    return name
