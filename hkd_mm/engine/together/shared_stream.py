# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Batches that are made once for several trainings."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hkd_mm.errors import UserError

from .turns import Place, Turns


class SharedStream:
    """Loads and augments a batch for the first that asks, hands it to all.

    The loaders of the trainings are equal, so that any of them can make an
    epoch: that of the training which comes to it first does.

    Args:
        turns: of the trainings; a turn is a batch.
    """

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._epoch = -1
        self._batches: Iterator[dict] = iter(())
        self._place: Place = (-1, -1)
        self._batch: dict | None = None
        self._prepared: dict[str, Any] | None = None
        self._version = 0

    def batch(self, loader: DataLoader, epoch: int, number: int) -> dict:
        """One batch of one epoch, as every training is given it."""
        if number == 0 and self._epoch != epoch:
            self._epoch, self._batches = epoch, iter(loader)
        elif number == 0 and loader.generator is None:
            # What iter(loader) draws: each draws on as if it were alone.
            torch.empty((), dtype=torch.int64).random_()
        if self._place != (epoch, number):
            self._place = epoch, number
            self._batch, self._prepared = next(self._batches), None
        return self._batch

    def prepare(
        self,
        forward: Callable[..., dict],
        data: dict,
        training: bool = False,
    ) -> dict[str, Any]:
        """In place of a data preprocessor's ``forward``: once a batch.

        Raises:
            UserError: a net has changed the images in place.
        """
        if not training or data is not self._batch:
            return forward(data, training)
        if self._prepared is None:
            self._prepared = forward(data, training)
            self._version = self._images._version
        elif self._images._version != self._version:
            raise UserError(
                'a net changes the images it is given in place, so the next '
                'one would see others; train it without --together'
            )
        return dict(self._prepared)

    @property
    def _images(self) -> Tensor:
        return self._prepared['inputs']


class StreamLoader:
    """The loader of one training, its batches out of the stream.

    Args:
        stream: shared with others.
        loader: its own; everything else that is asked of a loader it answers.
        name: of the training.
        epoch: tells the epoch of the training.

    Attributes:
        waited: seconds that other trainings have taken until now.
    """

    def __init__(
        self,
        stream: SharedStream,
        loader: DataLoader,
        name: str,
        epoch: Callable[[], int],
    ) -> None:
        self._stream, self._loader = stream, loader
        self._name, self._epoch = name, epoch
        self.waited = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict]:
        epoch = self._epoch()
        for number in range(len(self._loader)):
            place = epoch, number
            self.waited += self._stream.turns.pass_on(self._name, place)
            yield self._stream.batch(self._loader, epoch, number)
