# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Protect recorded tensors from later in-place edits."""

import functools
import weakref
from typing import Any

import torch
from mmrazor.models.task_modules import (
    ModuleInputsRecorder,
    ParameterRecorder,
    RecorderManager,
)
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from hkd_mm.errors import UserError


class GuardedRecorders(RecorderManager):
    """MMRazor's manager, with records that no later operation changes.

    A recorder keeps the tensor itself. An in-place operation behind it
    (``nn.ReLU(inplace=True)``, ``x += shortcut``) would change it, and a loss
    would see other values than the module gave. A tensor counts such changes
    (``Tensor._version``): the first forward in each mode of the network copies
    every record and looks which were changed. Those are copied from then on,
    and the copies, which carry the gradient, are delivered; the others are
    delivered as they are and cost nothing. The network is left alone: its
    values, its gradients and its in-place operations stay. Recorders of all
    kinds are guarded but those of parameters, which do change.

    Tensors of inference mode do not count, so there all records are copies.
    ``mmrazor.ModuleInputs`` keeps what a module was given only after it has
    run, so such a module has its ``inplace`` switched off.

    Args:
        side: ``student`` or ``teacher``, for messages.

    Raises:
        UserError: on leaving, a record was changed that was not in the first forward;
            in :meth:`get_recorder`, a loss or a connector has changed it.
    """

    def __init__(
        self, recorders: dict[str, dict] | None = None, side: str = 'network'
    ) -> None:
        super().__init__(recorders)
        self.side = side
        self._network: nn.Module | None = None
        self._changing: dict[tuple, bool] = {}  # (name, mode) -> copy it
        self._delivered: dict[str, list[tuple[weakref.ref, int]]] = {}

    @classmethod
    def over(
        cls, manager: RecorderManager, network: nn.Module, side: str
    ) -> 'GuardedRecorders':
        """Take over the recorders that listen to a network already."""
        made = cls(side=side)
        made._recorders = manager.recorders
        made._listen(network)
        return made

    def initialize(self, model: nn.Module) -> None:
        super().initialize(model)
        self._listen(model)

    def _listen(self, network: nn.Module) -> None:
        self._network = network
        for name, recorder in self.recorders.items():
            if not isinstance(recorder, ParameterRecorder):
                recorder.reset_data_buffer = functools.partial(
                    self._reset, name, recorder
                )
            if isinstance(recorder, ModuleInputsRecorder):
                source = network.get_submodule(recorder.source)
                for module in source.modules():
                    if getattr(module, 'inplace', False):
                        module.inplace = False

    def get_recorder(self, recorder: str) -> BaseRecorder:
        for reference, version in self._delivered.get(recorder, ()):
            tensor = reference()
            if tensor is not None and tensor._version != version:
                raise UserError(
                    f'{self._describe(recorder)}: a loss or a connector has '
                    'changed the record in place, so others would see other '
                    'values; switch off its inplace'
                )
        return super().get_recorder(recorder)

    def _reset(self, name: str, recorder: BaseRecorder) -> None:
        mode = name, self._network.training, torch.is_grad_enabled()
        recorder._data_buffer = _Records(mode, self._changing.get(mode, True))

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        lost = self._deliver() if exc_type is None else None
        super().__exit__(exc_type, exc_value, traceback)
        if lost is not None:
            raise UserError(
                f'{self._describe(lost)}: in this forward the network changed '
                'the record in place, in the first one it did not; switch off '
                'inplace in the layer behind it, or record another one'
            )

    def _deliver(self) -> str | None:
        """Leave the recorders what was given; the name of a lost record."""
        lost = None
        for name, recorder in self.recorders.items():
            records = recorder._data_buffer
            if not isinstance(records, _Records):
                continue
            changed = records.changed
            if changed and not records.copying:
                lost = name
                continue
            self._changing[records.mode] = changed or self._changing.get(
                records.mode, False
            )
            recorder._data_buffer = given = records.given()
            self._delivered[name] = [
                (weakref.ref(leaf), leaf._version)
                for leaf in tree_leaves(given)
                if isinstance(leaf, Tensor) and not leaf.is_inference()
            ]
        return lost

    def _describe(self, name: str) -> str:
        source = self.recorders[name].source
        module = f' (module {source})' if source else ''
        return f'recorder {name} of the {self.side}{module}'


class _Records(list):
    """Records of one forward, with their count of in-place changes.

    Args:
        mode: under which it is remembered whether they were changed.
        copying: copy all; tensors of inference mode, which do not count, are
            copied always.
    """

    def __init__(self, mode: tuple, copying: bool) -> None:
        super().__init__()
        self.mode, self.copying = mode, copying
        self.copies: list[Any] = []
        self._versions: list[list[int | None]] = []

    def append(self, record: Any) -> None:
        super().append(record)
        self.copies.append(
            tree_map_only(
                Tensor,
                lambda x: x.clone() if self.copying or x.is_inference() else x,
                record,
            )
        )
        self._versions.append(_versions(record))

    @property
    def changed(self) -> bool:
        return self._versions != [_versions(record) for record in self]

    def given(self) -> list[Any]:
        """The records as they were when they came."""
        return [
            record if versions == _versions(record) and None not in versions else copy
            for record, copy, versions in zip(self, self.copies, self._versions)
        ]


def _versions(record: Any) -> list[int | None]:
    return [
        None if leaf.is_inference() else leaf._version
        for leaf in tree_leaves(record)
        if isinstance(leaf, Tensor)
    ]
