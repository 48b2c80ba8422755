# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Records that stay what the module gave."""

import functools
import weakref

import torch
from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.models.task_modules.recorder.module_inputs_recorder import (
    ModuleInputsRecorder,
)
from torch import Tensor, nn

from hkd_mm.errors import UserError

from .kept_records import KeptRecords, leaves_of


class GuardedRecorders(RecorderManager):
    """MMRazor's manager, with records that no later operation changes.

    A recorder keeps the tensor itself. An in-place operation behind it
    (``nn.ReLU(inplace=True)``, ``x += shortcut``) would change it, and a loss
    would see other values than the module gave. A tensor counts such changes
    (``Tensor._version``): the first forward in each mode of the net copies
    every record and looks which were changed. Those are copied from then on,
    and the copies, which carry the gradient, are what is handed on; the
    others are handed on as they are and cost nothing. The net is left alone:
    its values, its gradients and its in-place operations stay. Recorders of
    all kinds are guarded but those of parameters, which do change.

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
        self, recorders: dict[str, dict] | None = None, side: str = 'net'
    ) -> None:
        super().__init__(recorders)
        self.side = side
        self._net: nn.Module | None = None
        self._overwritten: dict[tuple, bool] = {}
        self._handed: dict[str, list[tuple[weakref.ref, int]]] = {}
        self._watch()

    @classmethod
    def over(
        cls, manager: RecorderManager, net: nn.Module, side: str
    ) -> 'GuardedRecorders':
        """Guard the recorders of another manager, which it stands for.

        Args:
            manager: its recorders may have been initialised already.
            net: that they listen to.
            side: ``student`` or ``teacher``.
        """
        made = cls(side=side)
        made._recorders, made._net = manager.recorders, net
        made._watch()
        made._keep_inputs()
        return made

    def initialize(self, model: nn.Module) -> None:
        """Let all recorders listen to a net."""
        self._net = model
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
                f'{self._called(late)}: in this forward the net changed the '
                'record in place, in the first one it did not; switch off '
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
                for module in self._net.get_submodule(
                    recorder.source
                ).modules():
                    if getattr(module, 'inplace', False):
                        module.inplace = False

    def _reset(self, name: str, recorder: BaseRecorder) -> None:
        mode = name, self._net.training, torch.is_grad_enabled()
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
        student: the net of its student recorders.
        teacher: that of its teacher recorders; None where there are none.
    """
    distiller.student_recorders = GuardedRecorders.over(
        distiller.student_recorders, student, 'student'
    )
    if teacher is not None:
        distiller.teacher_recorders = GuardedRecorders.over(
            distiller.teacher_recorders, teacher, 'teacher'
        )
