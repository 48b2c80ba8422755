# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a training believes to have for itself in its process."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.utils import ManagerMixin


class ProcessState(NamedTuple):
    """Random states and mmengine's current instances (logger, hub, scope).

    Kept while another training has its turn and put back after, so that each
    draws what it would draw alone and logs into its own files.
    """

    python: Any
    numpy: Any
    cpu: torch.Tensor
    gpus: list[torch.Tensor]
    current: dict[type, str]

    @classmethod
    def now(cls) -> 'ProcessState':
        """As it stands."""
        gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        return cls(
            random.getstate(),
            np.random.get_state(),
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if gpu else [],
            {
                manager: next(reversed(manager._instance_dict))
                for manager in _managers()
                if manager._instance_dict
            },
        )

    def put_back(self) -> None:
        """Make it the state of the process."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.gpus:
            torch.cuda.set_rng_state_all(self.gpus)
        for manager, name in self.current.items():
            if name in manager._instance_dict:
                manager._instance_dict.move_to_end(name)


def _managers(of: type = ManagerMixin) -> Iterator[type]:
    """Classes with a current instance, which is the last one made."""
    for manager in of.__subclasses__():
        yield manager
        yield from _managers(manager)
