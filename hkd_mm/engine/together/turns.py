# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Threads of which one runs at a time."""

import threading
from collections.abc import Iterable

from .process_state import ProcessState

Place = tuple[int, int]  # epoch, batch
_START: Place = (-1, -1)


class Ended(BaseException):
    """The trainings are to end; passes by what catches ``Exception``."""


class Turns:
    """The turn is with the training that is furthest behind.

    So all go through the same epochs and batches side by side, and one that
    is resumed from an earlier epoch catches up first. Each finds the process
    as it left it, see :class:`ProcessState`.

    Args:
        names: of the trainings, a thread each; the first named goes first.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._places = dict.fromkeys(names, _START)
        self._whose = next(iter(self._places), None)
        self._ending = False
        self._changed = threading.Condition()

    def take(self, name: str) -> None:
        """Wait for the first turn.

        Raises:
            Ended: all are to end.
        """
        self._wait(name)

    def pass_on(self, name: str, place: Place) -> None:
        """Let those go that are further behind, then go on.

        Args:
            name: of the training whose turn it is.
            place: epoch and batch that it has come to.

        Raises:
            Ended: all are to end.
        """
        with self._changed:
            assert self._whose == name, f'{name} goes without its turn'
            self._places[name] = place
            others = self._next() != name
        if others:
            state = ProcessState.now()
            self._hand_over()
            self._wait(name)
            state.put_back()
        elif self._ending:
            raise Ended

    def leave(self, name: str) -> None:
        """Take no more turns."""
        with self._changed:
            del self._places[name]
        self._hand_over()

    def end(self) -> None:
        """Have every training raise ``Ended`` at its next turn."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def _next(self) -> str | None:
        """Furthest behind; of several the one named first."""
        return min(self._places, key=self._places.get, default=None)

    def _hand_over(self) -> None:
        with self._changed:
            self._whose = self._next()
            self._changed.notify_all()

    def _wait(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._whose == name)
            if self._ending:
                raise Ended
