# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Protect recorded tensors from later in-place edits."""

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.models.task_modules.recorder.module_inputs_recorder import (
    ModuleInputsRecorder,
)
from torch import Tensor, nn

from hkd_mm.errors import UserError


class KeptRecords(list):
    """Records, each tensor in them with its count of in-place changes.

    Args:
        mode: under which it is remembered whether they were changed.
        copied: copy them.
    """

    def __init__(self, mode: tuple, copied: bool) -> None:
        super().__init__()
        self.mode, self.copied = mode, copied
        self._kept: list[Any] = []

    def append(self, record: Any) -> None:
        super().append(record)
        self._kept.append(_mapped(self._keep, record))

    def _keep(self, leaf: Any) -> Any:
        return _Kept(leaf, self.copied) if isinstance(leaf, Tensor) else leaf

    def kept(self) -> Iterator['_Kept']:
        """All tensors."""
        return (leaf for leaf in leaves_of(self._kept) if type(leaf) is _Kept)

    def given(self) -> list[Any]:
        """The records as they were when they came."""
        return _mapped(
            lambda leaf: leaf.given if type(leaf) is _Kept else leaf,
            self._kept,
        )


class _Kept:
    """One recorded tensor."""

    def __init__(self, tensor: Tensor, copied: bool) -> None:
        self._tensor = tensor
        self._version = None if tensor.is_inference() else tensor._version
        needed = copied or self._version is None
        self._copy = tensor.clone() if needed else None

    @property
    def changed(self) -> bool:
        """Known to have been changed since."""
        return (
            self._version is not None
            and self._tensor._version != self._version
        )

    @property
    def given(self) -> Tensor:
        """With the values that it had."""
        if self._version is None or self.changed:
            return self._copy
        return self._tensor


def _mapped(function: Callable, record: Any) -> Any:
    """A function of all leaves in (nested) lists, tuples and dicts."""
    if isinstance(record, dict):
        return {k: _mapped(function, value) for k, value in record.items()}
    if not isinstance(record, (list, tuple)):
        return function(record)
    items = [_mapped(function, value) for value in record]
    if hasattr(record, '_fields'):  # a named tuple
        return type(record)(*items)
    return type(record)(items)


def leaves_of(record: Any) -> Iterator[Any]:
    """What lies in (nested) lists, tuples and dicts."""
    if isinstance(record, dict):
        record = list(record.values())
    if not isinstance(record, (list, tuple)):
        yield record
        return
    for value in record:
        yield from leaves_of(value)


class GuardedRecorders(RecorderManager):
    """MMRazor's manager, with records that no later operation changes.

    A recorder keeps the tensor itself. An in-place operation behind it
    (``nn.ReLU(inplace=True)``, ``x += shortcut``) would change it, and a loss
    would see other values than the module gave. A tensor counts such changes
    (``Tensor._version``): the first forward in each mode of the network copies
    every record and looks which were changed. Those are copied from then on,
    and the copies, which carry the gradient, are what is handed on; the
    others are handed on as they are and cost nothing. The network is left
    alone: its values, its gradients and its in-place operations stay.
    Recorders of all kinds are guarded but those of parameters, which do
    change.

    Tensors of inference mode do not count, so there all records are copies.
    ``mmrazor.ModuleInputs`` keeps what a module was given only after it has
    run, so such a module has its ``inplace`` switched off.

    Args:
        recorders: name -> config, as of MMRazor.
        side: whose records they are, for what is said.

    Raises:
        UserError: on leaving, a record was changed that was not in the first
            forward; in :meth:`get_recorder`, a loss or a connector has
            changed it.
    """

    def __init__(
        self, recorders: dict[str, dict] | None = None, side: str = 'network'
    ) -> None:
        super().__init__(recorders)
        self.side = side
        self._network: nn.Module | None = None
        self._overwritten: dict[tuple, bool] = {}
        self._handed: dict[str, list[tuple[weakref.ref, int]]] = {}
        self._watch()

    @classmethod
    def over(
        cls, manager: RecorderManager, network: nn.Module, side: str
    ) -> 'GuardedRecorders':
        """Guard the recorders of another manager, which it stands for.

        Args:
            manager: its recorders may have been initialised already.
            network: that they listen to.
            side: ``student`` or ``teacher``.
        """
        made = cls(side=side)
        made._recorders, made._network = manager.recorders, network
        made._watch()
        made._keep_inputs()
        return made

    def initialize(self, model: nn.Module) -> None:
        """Let all recorders listen to a network."""
        self._network = model
        super().initialize(model)
        self._keep_inputs()

    def get_recorder(self, recorder: str) -> BaseRecorder:
        """The recorder of a name, if its records are what they were."""
        for reference, version in self._handed.get(recorder, ()):
            tensor = reference()
            if tensor is not None and tensor._version != version:
                raise UserError(
                    f'{self._called(recorder)}: a loss or a connector has '
                    'changed the record in place, so others would see other '
                    'values; switch off its inplace'
                )
        return super().get_recorder(recorder)

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        late = self._settle() if exc_type is None else None
        super().__exit__(exc_type, exc_value, traceback)
        if late is not None:
            raise UserError(
                f'{self._called(late)}: in this forward the network changed '
                'the record in place, in the first one it did not; switch off '
                'inplace in the layer behind it, or record another one'
            )

    def _watch(self) -> None:
        """Have every recorder begin a forward with a list of ours."""
        usual = BaseRecorder.reset_data_buffer
        for name, recorder in self.recorders.items():
            if type(recorder).reset_data_buffer is usual:
                recorder.reset_data_buffer = functools.partial(
                    self._reset, name, recorder
                )

    def _keep_inputs(self) -> None:
        """Have no module overwrite an input that is recorded."""
        for recorder in self.recorders.values():
            if isinstance(recorder, ModuleInputsRecorder):
                for module in self._network.get_submodule(
                    recorder.source
                ).modules():
                    if getattr(module, 'inplace', False):
                        module.inplace = False

    def _reset(self, name: str, recorder: BaseRecorder) -> None:
        mode = name, self._network.training, torch.is_grad_enabled()
        recorder._data_buffer = KeptRecords(
            mode, self._overwritten.get(mode, True)
        )

    def _settle(self) -> str | None:
        """Hand on what was given; the name of a record that is lost."""
        late = None
        for name, recorder in self.recorders.items():
            records = recorder._data_buffer
            if not isinstance(records, KeptRecords):
                continue
            changed = any(kept.changed for kept in records.kept())
            if changed and not records.copied:
                late = name
                continue
            self._overwritten[records.mode] = changed or self._overwritten.get(
                records.mode, False
            )
            recorder._data_buffer = given = records.given()
            self._handed[name] = [
                (weakref.ref(leaf), leaf._version)
                for leaf in leaves_of(given)
                if isinstance(leaf, Tensor) and not leaf.is_inference()
            ]
        return late

    def _called(self, name: str) -> str:
        source = self.recorders[name].source
        module = f' (module {source})' if source else ''
        return f'recorder {name} of the {self.side}{module}'


def guard_records(
    distiller, student: nn.Module, teacher: nn.Module | None = None
) -> None:
    """Put guards over the recorders of a distiller.

    Args:
        distiller: an ``mmrazor.ConfigurableDistiller``.
        student: the network of its student recorders.
        teacher: that of its teacher recorders; None where there are none.
    """
    distiller.student_recorders = GuardedRecorders.over(
        distiller.student_recorders, student, 'student'
    )
    if teacher is not None:
        distiller.teacher_recorders = GuardedRecorders.over(
            distiller.teacher_recorders, teacher, 'teacher'
        )
