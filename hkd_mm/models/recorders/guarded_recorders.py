# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Protect recorded tensors from later in-place edits."""

import functools
from typing import Any

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
    (``nn.ReLU(inplace=True)``, ``x += shortcut``) would change it, and a loss would see
    other values than the module gave. Here it keeps a copy, which carries the gradient;
    the network is left alone. Recorders of parameters keep those, which do change.

    ``mmrazor.ModuleInputs`` keeps what a module was given only after it has
    run, so such a module has its ``inplace`` switched off.

    Raises:
        UserError: in :meth:`get_recorder`, a loss or a connector has changed a record.
    """

    def __init__(
        self, recorders: dict[str, dict] | None = None, side: str = 'network'
    ) -> None:
        super().__init__(recorders)
        self.side = side

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
        for recorder in self.recorders.values():
            if not isinstance(recorder, ParameterRecorder):
                recorder.reset_data_buffer = functools.partial(_reset, recorder)
            if isinstance(recorder, ModuleInputsRecorder):
                for module in network.get_submodule(recorder.source).modules():
                    if getattr(module, 'inplace', False):
                        module.inplace = False

    def get_recorder(self, recorder: str) -> BaseRecorder:
        found = super().get_recorder(recorder)
        if not isinstance(found, ParameterRecorder) and any(
            isinstance(leaf, Tensor) and not leaf.is_inference() and leaf._version
            for leaf in tree_leaves([*found.data_buffer])
        ):
            module = f' (module {found.source})' if found.source else ''
            raise UserError(
                f'recorder {recorder} of the {self.side}{module}: a loss or a '
                'connector has changed the record in place, so others would see '
                'other values; switch off its inplace'
            )
        return found


def _reset(recorder: BaseRecorder) -> None:
    recorder._data_buffer = _Copies()


class _Copies(list):
    def append(self, record: Any) -> None:
        super().append(tree_map_only(Tensor, Tensor.clone, record))
