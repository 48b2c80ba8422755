# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Trainings of one process that take turns."""

import sys
import time
from collections.abc import Callable, Mapping

from hkd_mm.errors import UserError

from .process_state import ProcessState

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # only who trains together needs it
    greenlet = None

Place = tuple[int, int]  # epoch, batch
_START: Place = (-1, -1)


class Ended(BaseException):
    """The trainings are to end; passes by what catches ``Exception``."""


class Turns:
    """The turn is with the training that is furthest behind.

    So all go through the same epochs and batches side by side, and one that
    is resumed from an earlier epoch catches up first. Each finds the process
    as it left it, see :class:`ProcessState`. They are greenlets of one
    thread: of several threads each would have its own team of OpenMP, and
    the idle ones would take the cores from the one at work.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._hub = None

    def run(self, works: Mapping[str, Callable[[], None]]) -> None:
        """Do all of them, the one named first first, until each has ended.

        Args:
            works: name -> what is to be done. Where one raises, the others
                are given ``Ended`` and the exception goes on.

        Raises:
            UserError: greenlet is not installed.
        """
        if greenlet is None:
            raise UserError(
                'training together needs greenlet: pip install greenlet'
            )
        self._hub = getcurrent()
        lines = {name: greenlet(work) for name, work in works.items()}
        self._places = dict.fromkeys(works, _START)
        try:
            while self._places:
                name = self._next()
                lines[name].switch()
                if lines[name].dead:
                    del self._places[name]
        except BaseException:
            self._end(lines)
            raise

    def _end(self, lines: dict) -> None:
        """Have all that wait unwind, whatever becomes of one of them."""
        for name, line in lines.items():
            if line and not line.dead:  # begun, and waiting
                try:
                    line.throw(Ended)
                except Ended:
                    pass
                except BaseException as error:  # the first one is raised
                    print(f'{name}: {error!r} while it ended', file=sys.stderr)

    def pass_on(self, name: str, place: Place) -> float:
        """Let those go that are further behind, then go on.

        Args:
            name: of the training whose turn it is.
            place: epoch and batch that it has come to.

        Returns:
            Seconds that the others took.

        Raises:
            Ended: another one has ended them all.
        """
        self._places[name] = place
        if self._next() == name:
            return 0.0
        begun, state = time.perf_counter(), ProcessState.now()
        try:
            self._hub.switch()
        finally:
            state.put_back()
        return time.perf_counter() - begun

    def _next(self) -> str:
        """Furthest behind; of several the one named first."""
        return min(self._places, key=self._places.get)
