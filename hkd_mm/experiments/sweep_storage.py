# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Where trials are stored, and the settings that must not change."""

import hashlib
import json
import os
import uuid
import warnings
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config

from hkd_mm.config.compose import compose_config
from hkd_mm.errors import UserError
from hkd_mm.experiments.search_space import Range, corners
from hkd_mm.experiments.sweep_file import Sweep
from hkd_mm.io.locks import locked

_SETTINGS = 'settings'


def settings_of(
    sweep: Sweep, work_dir: Path, options: list[str]
) -> dict[str, str | None]:
    """What has to stay as it is while a sweep goes on: name -> text.

    The numbers of a grid may become more, ``trials`` too. None is what cannot
    be known here: a split without a hash, or of data on other machines.

    Args:
        sweep: whose.
        work_dir: of the sweep.
        options: of the command line.

    Raises:
        UserError: a config cannot be read, or the data listed.
    """
    common = [f'{k}={v}' for k, v in sweep.common(work_dir).items()]
    found = _of_file(sweep, options)
    splits: dict[str, str | None] = {}
    for name, path in sweep.configs.items():
        cfg = compose_config(path, [*common, *options])
        plain = cfg.to_dict()
        for place in ('data_root', 'work_dir'):
            plain.pop(place, None)
        text = json.dumps(plain, sort_keys=True, default=str)
        for place, mark in (
            (cfg.get('data_root'), '{data_root}'),
            (os.path.abspath(work_dir), '{work_dir}'),
            (work_dir, '{work_dir}'),
        ):
            text = text.replace(str(place), mark)
        key = f'config {path.name}' + (f' of {name}' if name else '')
        found[key] = hashlib.sha256(text.encode()).hexdigest()
        data = json.dumps(plain.get('train_dataloader'), default=str)
        if data not in splits:  # most configs have the same
            splits[data] = _split(cfg)
        found[f'split of {key}'] = splits[data]
    return found


def _of_file(sweep: Sweep, options: list[str]) -> dict[str, str | None]:
    """What the sweep file and the command line say."""
    ranges = {
        name: asdict(entry)
        for name, entry in sweep.space.items()
        if isinstance(entry, Range)
    }
    return dict(
        space=json.dumps(sorted(sweep.space)),
        ranges=json.dumps(ranges, sort_keys=True),
        options=json.dumps(sweep.options, sort_keys=True, default=str),
        cfg_options=json.dumps(without_places(options)),
        sampler=sweep.sampler,
        sampler_seed=str(sweep.sampler_seed),
        pruner=json.dumps(sweep.pruner, sort_keys=True),
        metric=sweep.metric,
        seeds=json.dumps(sweep.seeds),
    )


def _split(cfg: Config) -> str | None:
    from hkd_mm.config.data_summary import summarize_data

    root = cfg.get('data_root')
    if not cfg.get('train_dataloader') or (root and not Path(root).is_dir()):
        return None  # the trainings say so where it is missing to them too
    return summarize_data(cfg, ('train_dataloader',)).split_hash


def check_settings(
    study, settings: dict[str, str | None], work_dir: Path
) -> None:
    """Refuse to mix trials of several settings in one sweep.

    What is None now is not compared; what was None is written down when it
    is known.

    Raises:
        UserError: the sweep was begun with others.
    """
    before: dict[str, Any] | None = study.user_attrs.get(_SETTINGS)
    if before is None:
        study.set_user_attr(_SETTINGS, settings)
        return
    for name in dict.fromkeys((*settings, *before)):
        known = name in settings and name in before
        if known and None in (settings[name], before[name]):
            continue
        if not known or settings[name] != before[name]:
            raise UserError(
                f'{name} is other than when the sweep in {work_dir} began; '
                'put it back, or give another --work-dir'
            )
    new = {k: before[k] if v is None else v for k, v in settings.items()}
    if new != before:
        study.set_user_attr(_SETTINGS, new)


def without_places(options: list[str]) -> list[str]:
    """Options without the folders of this machine."""
    return [o for o in options if not o.startswith('data_root=')]


def check_options(sweep: Sweep, work_dir: Path, options: list[str]) -> None:
    """Try the options of a trial on every config before any is trained.

    Raises:
        UserError: a config does not take one of them.
    """
    fixed = {option.partition('=')[0] for option in options}
    common = [f'{k}={v}' for k, v in sweep.common(work_dir).items()]
    for params in corners(sweep.space):
        varied = sweep.varied(params, work_dir)
        for key in sorted(varied.keys() & fixed):
            raise UserError(
                f'--cfg-options {key}: the sweep {sweep.path} varies it'
            )
        for path in sweep.configs.values():
            every = [f'{key}={value}' for key, value in varied.items()]
            compose_config(path, [*common, *options, *every])


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
