# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train, resume or reuse a prerequisite run."""

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.dist import is_main_process

from hkd_mm.config.data_summary import DataSummary, summarize_data
from hkd_mm.engine.run_files import is_old
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import check_classes, safe_load
from hkd_mm.io.locks import as_rank_0, holder, is_locked, locked
from hkd_mm.training import run_notes
from hkd_mm.training.fingerprint import RunFingerprint
from hkd_mm.training.runtime import make_work_dir

_RULE = '=' * 72


def check_given(path: str, summary: DataSummary, role: str = 'teacher') -> None:
    """Say loudly when a given network may know the student's test images."""
    meta = safe_load(path).get('meta') or {}
    check_classes(meta, summary.classes, path)
    split = meta.get('split_hash')
    if split and summary.split_hash and split != summary.split_hash:
        announce(
            f'WARNING: {role} {path} was trained on another split '
            f'({split[:8]}) than the one in use '
            f'({summary.split_hash[:8]}): it may have seen the test images'
        )


def check_data(stage: 'Stage', summary: DataSummary) -> None:
    """Look before hours go into a model that could not be used."""
    own = summarize_data(stage.cfg, ('train_dataloader',))
    if own.split_hash == summary.split_hash and own.classes == summary.classes:
        return
    raise UserError(
        f'{stage.path} would train the {stage.role} on other data than the '
        f'student has: {own}, not {summary}; set data_root, classes and '
        f'split_* as top-level values of the distillation, or give a trained '
        f'{stage.role} with --cfg-options {stage.key}=FILE'
    )


def announce(line: str) -> None:
    """Print a line that nobody overlooks, once for all processes."""
    if is_main_process():
        print(f'{_RULE}\n{line}\n{_RULE}', flush=True)


Train = Callable[..., dict[str, Any]]
PAUSE = 2.0  # seconds between two looks at what another process trains
MOMENT = 10.0  # seconds in which who took a folder says what for
_TOLD = 3  # most runs of which is said why they are not taken


@dataclass(frozen=True)
class Stage:
    """The teacher of a distillation, or the student of a previous stage."""

    role: str  # ``teacher`` or ``first student``, for what is said
    key: str  # the config value that names its checkpoint
    path: str
    cfg: Config  # that file with the options, class weights as numbers
    beside: str  # work dir of the run that builds on it
    options: list[str] | dict[str, Any] | None

    @property
    def folder(self) -> Path:
        """Where it goes if nothing else is there; it is looked for beside."""
        parent = os.path.dirname(os.path.normpath(self.beside))
        return Path(parent, Path(self.path).stem)

    def announce(self, line: str) -> None:
        announce(f'{self.role.upper()}: {line}')

    def train(
        self, work_dir: str, train: Train, summary: DataSummary, **how: Any
    ) -> str:
        begun = as_rank_0(any(Path(work_dir).glob('epoch_*.pth')))
        self.announce(
            f'{self.key} is None, so the {self.role} is '
            f'{"resumed" if begun else "trained"} first with {self.path} in '
            f'{work_dir}; the student follows'
        )
        finished = train(
            self.path,
            work_dir=work_dir,
            resume='auto' if begun else None,
            cfg_options=self.options,
            **how,
        )
        if finished['split_hash'] != summary.split_hash:
            raise UserError(
                f'the images or the split of {summary.data_root} changed '
                f'while the {self.role} was trained; start again, and it is '
                'trained on those of now'
            )
        found = os.path.join(work_dir, finished['checkpoint'])
        self.announce(f'done, {found}; now the student')
        return found


class _Found(NamedTuple):
    """What a look around came to; one of the first four is given."""

    checkpoint: str | None = None  # of a finished run with the fingerprint
    place: str | None = None  # to train in; its lock is held
    busy: str | None = None  # where another process trains it
    error: str | None = None
    lines: tuple[str, ...] = ()  # on runs that are not taken


def provide(stage: Stage, summary: DataSummary, train: Train, **how: Any) -> str:
    """Find the checkpoint of a stage, or train it.

    Of the runs in the folders beside, a finished one with the same fingerprint is used,
    one that another process trains is waited for, an unfinished one is resumed.
    Otherwise it is trained, in the folder that is called like its config; where another
    run has that, in ``<config>-<fingerprint>``.
    """
    check_data(stage, summary)
    wanted = RunFingerprint.of(stage.cfg, summary)
    announced: set[str] = set()
    while True:
        with ExitStack() as held:
            search = _Search(stage, wanted, held)
            found = as_rank_0(search.look() if is_main_process() else None)
            for line in found.lines:
                if line not in announced:
                    stage.announce(line)
                    announced.add(line)
            if found.error:
                raise UserError(found.error)
            if found.checkpoint:
                stage.announce(
                    f'using the one trained before, {found.checkpoint} (same '
                    f'data and settings, fingerprint {wanted.digest})'
                )
                return found.checkpoint
            if found.place:
                return stage.train(found.place, train, summary, **how)
        _wait(stage, Path(found.busy), wanted)


@dataclass
class _Search:
    """Look through the folders beside a run, on rank 0."""

    stage: Stage
    wanted: RunFingerprint
    held: ExitStack  # gets the lock of the folder to train in
    lines: list[str] = field(default_factory=list)

    def look(self) -> _Found:
        """Decide what is to be done; see :func:`provide`."""
        for folder in self._folders(archived=True):
            checkpoint = self._checkpoint(folder)
            if checkpoint:
                return self._answer(checkpoint=checkpoint)
            if self._is_named(folder) and run_notes.read_state(folder).get('result'):
                self._refuse(folder)
        for folder in self._folders():
            begun = run_notes.read_begun(folder)
            if begun is None or self.wanted.difference(begun):
                continue
            if not self.held.enter_context(locked(folder, wait=False)):
                return self._answer(busy=str(folder))
            # the other process may have come to its end meanwhile
            found = self._checkpoint(folder)
            return self._answer(checkpoint=found, place=None if found else str(folder))
        return self._new()

    def _answer(self, **found) -> _Found:
        return _Found(**found, lines=tuple(self.lines[:_TOLD]))

    def _checkpoint(self, folder: Path) -> str | None:
        finished = run_notes.read_finished(folder)
        found = run_notes.fingerprint_of(finished)
        if found is None or self.wanted.difference(found):
            return None
        return str(folder / finished['checkpoint'])

    def _folders(self, archived: bool = False) -> list[Path]:
        own = os.path.realpath(self.stage.beside)
        states = [*self.stage.folder.parent.glob(f'*/{run_notes.STATE}')]
        if archived:  # moved there when a new run took its folder
            states += self.stage.folder.parent.glob(f'*/previous_*/{run_notes.STATE}')
        parent = self.stage.folder.parent
        folders = (
            folder
            for folder in {path.parent for path in states}
            if not is_old(f'{folder.relative_to(parent)}')
            and os.path.realpath(folder) != own
        )
        return sorted(folders, key=lambda path: (not self._is_named(path), str(path)))

    def _is_named(self, folder: Path) -> bool:
        own = self.stage.folder
        named = re.fullmatch(rf'{re.escape(own.name)}(-[0-9a-f]{{8}})?', folder.name)
        return folder.parent == own.parent and bool(named)

    def _refuse(self, folder: Path) -> None:
        """Note why what a folder holds is not taken."""
        finished = run_notes.read_finished(folder)
        found = run_notes.fingerprint_of(finished or run_notes.read_state(folder))
        why = 'it has no fingerprint that this version can compare'
        if found is not None:
            why = self.wanted.difference(found)
        line = f'the one in {folder} is not taken: {why}'
        if finished:
            line += (
                f'; to use it all the same: --cfg-options {self.stage.key}='
                f'{folder / finished["checkpoint"]}'
            )
        if line not in self.lines:
            self.lines.append(line)

    def _new(self) -> _Found:
        plain = self.stage.folder
        own = plain.with_name(f'{plain.name}-{self.wanted.digest}')
        for folder in (plain, own):
            if os.path.realpath(folder) == os.path.realpath(self.stage.beside):
                continue
            if _is_used(folder):
                self._refuse(folder)
                continue
            try:
                make_work_dir(str(folder))
            except UserError as error:
                return self._answer(error=str(error))
            with ExitStack() as stack:
                held = stack.enter_context(locked(folder, wait=False))
                if held and not _is_used(folder):  # nor by who was faster
                    run_notes.write_begun(str(folder), self.wanted)
                    self.held.enter_context(stack.pop_all())
                    return self._answer(place=str(folder))
            if not held and self._is_for_the_same(folder):
                return self._answer(busy=str(folder))
            self._refuse(folder)
        return self._answer(
            error=f'{own} holds another run; move that folder away, or give '
            'another --work-dir'
        )

    def _is_for_the_same(self, folder: Path) -> bool:
        """What another process took a folder for, which it is about to say."""
        end = time.monotonic() + MOMENT
        while (begun := run_notes.read_begun(folder)) is None:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return not self.wanted.difference(begun)


def _is_used(folder: Path) -> bool:
    """Whether a folder holds anything of a run."""
    return (folder / run_notes.STATE).exists() or any(folder.glob('*.pth'))


def _wait(stage: Stage, folder: Path, wanted: RunFingerprint) -> None:
    """Wait while another process trains what is wanted.

    Rank 0 tells the others of each look: a collective would time out.
    """

    def under_way() -> bool:
        begun = run_notes.read_begun(folder)
        return begun is not None and not wanted.difference(begun) and is_locked(folder)

    if is_main_process():
        print(
            f'{stage.role.upper()}: waiting for the {stage.role} with the same data '
            f'and settings that {holder(folder)} trains in {folder}',
            file=sys.stderr,
            flush=True,
        )
    while as_rank_0(is_main_process() and under_way()):
        time.sleep(PAUSE)
