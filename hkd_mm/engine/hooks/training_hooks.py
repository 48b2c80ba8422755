# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""torch.compile and early stopping."""

import operator
import os
import shutil
from collections.abc import Iterator
from typing import Literal

import torch
import torch._dynamo.config
from mmengine.hooks import EarlyStoppingHook, Hook
from torch import nn

from hkd_mm.engine.run_summary import bare_model
from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments, Count, checked
from hkd_mm.registry import HOOKS

_GRAPHS = 8  # of a region: training, evaluation, a last batch that is small
_COMPILERS = ('g++', 'clang++', 'c++')
_Mode = Literal[
    'default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs'
]
_NETS = ('model', 'backbone', 'neck')  # of mmpretrain's classifiers


@HOOKS.register_module()
class CompileHook(Arguments, Hook):
    """Compile student and teacher, module by module.

    mmengine's own ``compile=True`` compiles the whole training step, which the
    recorders cut to pieces. Here the largest modules that no recorder looks into are
    compiled; names of weights stay. The first iterations take minutes longer, on a CPU
    a C++ compiler is needed. A network that is trained alone is the student.
    """

    student: bool = True
    teacher: bool = True
    mode: _Mode | None = None
    backend: str = 'inductor'

    def __post_init__(self) -> None:
        super().__post_init__()
        known = torch._dynamo.list_backends(exclude_tags=())
        expected = f'one of {", ".join(known)}'
        self.require(self.backend in known, 'backend', self.backend, expected)

    def before_run(self, runner) -> None:
        model = bare_model(runner.model)
        student = getattr(model, 'student', model)
        peers = getattr(model, 'peers', {}).values()
        networks = [student, *peers] if self.student else []
        if self.teacher and hasattr(model, 'teacher'):
            networks += getattr(model.teacher, 'networks', [model.teacher])
        if not networks:
            return
        device = next(model.parameters()).device
        if self.backend == 'inductor' and device.type == 'cpu':
            named = os.environ.get('CXX')
            if not any(map(shutil.which, [named] if named else _COMPILERS)):
                raise UserError(
                    f'compiled=True needs a C++ compiler on a CPU, and '
                    f'{named or ", ".join(_COMPILERS)} is not there: install one, '
                    'name it in the environment variable CXX, or leave compiled out'
                )
        count = sum(compile_network(x, self.mode, self.backend) for x in networks)
        runner.logger.info(
            f'torch.compile: {count} modules, backend {self.backend}, mode {self.mode}'
        )


def compile_network(
    network: nn.Module, mode: str | None = None, backend: str = 'inductor'
) -> int:
    """Compile the largest modules that nobody listens inside of, in place."""
    parts = (getattr(network, name, None) for name in _NETS)
    regions = [r for p in parts if isinstance(p, nn.Module) for r in _hookless(p)]
    # dynamo counts the graphs of all regions together, for the code it enters
    # is the same; beyond the limit it goes on without compiling
    limits = torch._dynamo.config
    limits.recompile_limit += _GRAPHS * len(regions)
    limits.accumulated_recompile_limit += _GRAPHS * len(regions)
    for module in regions:
        # Not module.compile(), which would take in the module's own hooks.
        module.forward = torch.compile(module.forward, mode=mode, backend=backend)
    return len(regions)


def _hookless(module: nn.Module) -> Iterator[nn.Module]:
    """Largest modules that have no hook inside."""
    inner = list(module.modules())[1:]
    if any(m._forward_hooks or m._forward_pre_hooks for m in inner):
        for child in module.children():
            yield from _hookless(child)
    elif inner or list(module.parameters()):
        yield module


_KEY = 'early_stopping'


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook`` whose count is part of the checkpoint.

    Only a score that is better by more than ``min_delta`` is a gain; upstream
    takes an equal one for a gain at ``min_delta=0`` and never stops on a
    plateau, and counts from zero again whenever a run is resumed. A checkpoint is
    written before the validation of its epoch: a resumed run counts on from the one
    before. ``patience`` counts validations.
    """

    def __init__(self, monitor: str, patience: int = 5, **kwargs) -> None:
        checked(Count, 'patience', patience, type(self).__name__)
        super().__init__(monitor, patience=patience, **kwargs)

    # "No better than" of the scores, where upstream has "worse than".
    rule_map = dict(greater=operator.ge, less=operator.le)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        best = float(self.best_score)
        checkpoint[_KEY] = dict(wait_count=self.wait_count, best_score=best)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        stored = checkpoint.get(_KEY)
        if stored and runner._resume:
            self.wait_count = stored['wait_count']
            self.best_score = stored['best_score']
