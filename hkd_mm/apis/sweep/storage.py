# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Where the trials are written down: one file, or a database."""

import os
import uuid
import warnings
from contextlib import ExitStack
from pathlib import Path

from hkd_mm.errors import UserError
from hkd_mm.file_lock import locked

from .plan import Sweep

JOURNAL = 'journal.log'
IDENTITY = 'sweep_id'


def optuna():
    """The package, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna as found
    except ImportError:
        raise UserError(
            'a sweep needs Optuna, which is not installed; '
            'pip install "optuna>=5.0"'
        ) from None
    found.logging.set_verbosity(found.logging.ERROR)
    warnings.simplefilter('ignore', found.exceptions.ExperimentalWarning)
    return found


def open_study(sweep: Sweep, work_dir: Path, url: str | None = None):
    """The ``optuna.Study`` of a sweep, made where it is new.

    Args:
        sweep: whose.
        work_dir: of the sweep; the default storage lies there.
        url: of a database such as ``sqlite:///FILE``; None takes the journal.

    Raises:
        UserError: the database cannot be reached, or what it calls by this
            name belongs to another work dir.
    """
    module = optuna()
    try:
        with locked(work_dir / 'opening'):
            study = module.create_study(
                storage=_storage(module, work_dir, url),
                study_name=sweep.name,
                direction='maximize' if sweep.maximised else 'minimize',
                load_if_exists=True,
            )
            _same_place(study, work_dir)
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # of any database driver
        reason = str(error).strip().split('\n')[0]
        raise UserError(
            f'the storage cannot be opened: {type(error).__name__}: {reason}'
        ) from error
    return study


def _storage(module, work_dir: Path, url: str | None):
    if url is not None:
        # several workers of one SQLite file wait for each other
        patience = dict(connect_args=dict(timeout=60))
        return module.storages.RDBStorage(
            url, engine_kwargs=patience if url.startswith('sqlite') else None
        )
    path = work_dir / JOURNAL
    return module.storages.JournalStorage(
        module.storages.journal.JournalFileBackend(
            str(path), lock_obj=KernelLock(path)
        )
    )


class KernelLock:
    """One writer of the journal; freed by the kernel when it is killed.

    What a writer left unfinished is cut off by the next one.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    def acquire(self) -> bool:
        """Wait for it."""
        self._stack.enter_context(locked(self.path.with_suffix('.lock')))
        with self.path.open('rb+') as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b'\n':
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b'\n') + 1)
        return True

    def release(self) -> None:
        """Let go."""
        self._stack.close()


def _same_place(study, work_dir: Path) -> None:
    """Trials of a storage have their folders in one work dir only."""
    path = work_dir / IDENTITY
    told = path.read_text().strip() if path.is_file() else None
    known = study.user_attrs.get(IDENTITY)
    if told is None and known is None:
        told = known = uuid.uuid4().hex
        study.set_user_attr(IDENTITY, known)
        path.write_text(known + '\n')
    if told is None and known is not None and not study.trials:
        path.write_text(known + '\n')  # killed between the two
        return
    if told != known:
        raise UserError(
            f'the storage and {work_dir} do not belong together: the sweep '
            f'{study.study_name} was begun with another --work-dir or another '
            '--storage'
        )
