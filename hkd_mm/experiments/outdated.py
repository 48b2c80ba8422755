# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs and sweeps whose config, split or code is not the one asked for.

A sweep whose data is not listed here goes without torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmengine.config import Config

from hkd_mm.config.compose import compose_config, config_named
from hkd_mm.errors import UserError
from hkd_mm.experiments.run_folders import is_resumable, read_if_whole, write_json
from hkd_mm.experiments.sweep_file import Sweep

if TYPE_CHECKING:
    from hkd_mm.experiments.study import Run, Study

FINGERPRINT = 'study.json'
_PACKAGE = Path(__file__).resolve().parents[1]
# they start runs and use what is left of them
_NOT_OF_RUNS = ('apis', 'data_tools', 'experiments', 'export', 'report', 'serve')
_SETTINGS = 'settings'  # of a sweep, in its storage


class StudyFingerprint(NamedTuple):
    """Hashes that a run's figures depend on."""

    # of the composed config with its options, and of those of the rows and stages
    # it builds on; paths of this machine are left out
    config: str
    split: str | None  # of the images and their parts; None where a dataset has none
    code: str  # of this package's modules


class StudyFingerprints:
    """Fingerprints of the runs of a study; data is listed once a data set."""

    def __init__(self, study: Study, options: list[str], work_dir: Path) -> None:
        self._work_dir = work_dir
        self._rows = study.rows
        self._options = options
        self._code = code_hash()
        self._of_row: dict[tuple, tuple[str, str | None]] = {}
        self._splits: dict[str, str | None] = {}

    def of(self, run: Run) -> StudyFingerprint:
        config, split = self._row(run)
        if run.fold is not None:
            from hkd_mm.datasets.split_file import read_split

            split = read_split(run.split_file(self._work_dir))['hash']
        return StudyFingerprint(_sha(config, run.seed), split, self._code)

    def _row(self, run: Run) -> tuple[str, str | None]:
        options = [
            f'{key}={value}'.replace('{seed}', str(run.seed))
            for key, value in run.row.options.items()
        ]
        asked = (run.row.name, *options)
        if asked not in self._of_row:
            cfg = compose_config(run.row.config, [*options, *self._options])
            built_on = [self._row(other)[0] for other in run.built_on(self._rows)]
            stages = [_text(compose_config(path)) for path in _stages(cfg)]
            # folds have splits of their own
            split = _split_hash(cfg, self._splits) if run.fold is None else None
            self._of_row[asked] = _sha(_text(cfg), stages, built_on), split
        return self._of_row[asked]


def _split_hash(cfg: Config, known: dict[str, str | None]) -> str | None:
    data = cfg.train_dataloader.dataset.to_dict()
    key = json.dumps(data, sort_keys=True, default=str)
    if key not in known:
        from hkd_mm.config.data_summary import summarize_data

        known[key] = summarize_data(cfg, ('train_dataloader',)).split_hash
    return known[key]


def _stages(cfg: Config) -> list[str]:
    found = []
    if cfg.model.get('teacher') and not cfg.model.get('teacher_ckpt'):
        found.append('teacher_config')
    if not cfg.model.get('student_ckpt'):
        found.append('previous_stage_config')
    return [config_named(cfg, key) for key in found if cfg.get(key)]


def _text(cfg: Config) -> str:
    """A config without the paths of this machine."""
    plain = cfg.to_dict()
    for key in ('data_root', 'work_dir'):
        plain.pop(key, None)
    text = json.dumps(plain, sort_keys=True, default=str)
    return text.replace(str(cfg.get('data_root')), '{data_root}')


def code_hash() -> str:
    """SHA-256 (hex) over this package's modules that a run may use."""
    paths = sorted(_PACKAGE.rglob('*.py'))
    names = (path.relative_to(_PACKAGE) for path in paths)
    return _sha(
        *(
            (name.as_posix(), path.read_bytes())
            for name, path in zip(names, paths)
            if name.parts[0] not in _NOT_OF_RUNS
        )
    )


def _sha(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def changed(folder: Path, fingerprint: StudyFingerprint) -> list[str]:
    """Fields of a run's fingerprint that changed; ``origin`` if unknown."""
    stored = read_if_whole(dict[str, str | None], folder / FINGERPRINT)
    if not stored:
        return ['origin']
    now = fingerprint._asdict()
    return [name for name, value in now.items() if stored.get(name) != value]


def write_fingerprint(folder: Path, fingerprint: StudyFingerprint) -> None:
    """Leave the fingerprint with the run."""
    write_json(folder / FINGERPRINT, fingerprint._asdict())


def handle_outdated(
    runs: list[Run], fingerprints: StudyFingerprints, work_dir: Path, action: str
) -> dict[str, list[str]]:
    """Find runs of another config, split or code and act on them.

    ``keep`` takes them as they are; ``redo`` moves each to ``<run>_stale<n>``, with the
    stages its config trained first; ``refuse`` does neither. Returned is name of the
    run -> what changed, of those that are kept.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        folder = run.folder(work_dir)
        begun = (folder / 'metrics.json').exists() or is_resumable(folder)
        reasons = changed(folder, fingerprints.of(run)) if begun else []
        if not reasons:
            continue
        if action == 'redo':
            from hkd_mm.training.run_notes import read_stages

            # read before the folder is moved
            for old in [*map(Path, read_stages(folder)), folder]:
                if old.exists():
                    number = 1
                    while (target := Path(f'{old}_stale{number}')).exists():
                        number += 1
                    shutil.move(old, target)
        else:
            found[run.name] = reasons
    if found and action == 'refuse':
        raise UserError(
            f'{work_dir} holds {len(found)} runs of another study: '
            f'{_listed(found)}; --outdated keep takes them as they are, '
            '--outdated redo trains them again beside the old ones'
        )
    return found


def _listed(found: dict[str, list[str]]) -> str:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reasons in found.items():
        by_reason[' and '.join(reasons)].append(name)
    return '; '.join(
        f'{reason}: {", ".join(names[:3])}'
        + (f' and {len(names) - 3} more' if len(names) > 3 else '')
        for reason, names in by_reason.items()
    )


def without_data_root(options: list[str]) -> list[str]:
    """Options but for the folder of the images on this machine."""
    return [o for o in options if not o.startswith('data_root=')]


def sweep_settings(
    sweep: Sweep, work_dir: Path, options: list[str]
) -> dict[str, str | None]:
    """Settings that stay while a sweep goes on, None where not known here.

    The numbers of a grid may become more, ``trials`` too.
    """
    found: dict[str, str | None] = dict(
        space=json.dumps(sorted(sweep.space)),
        ranges=json.dumps(sweep.ranges, sort_keys=True),
        options=json.dumps(sweep.options, sort_keys=True, default=str),
        cfg_options=json.dumps(without_data_root(options)),
        sampler=sweep.sampler,
        sampler_seed=str(sweep.sampler_seed),
        pruner=json.dumps(sweep.pruner, sort_keys=True),
        metric=sweep.metric,
        seeds=json.dumps(sweep.seeds),
    )
    common = [f'{k}={v}' for k, v in sweep.common(work_dir).items()]
    splits: dict[str, str | None] = {}
    for name, path in sweep.configs.items():
        cfg = compose_config(path, [*common, *options])
        text = _text(cfg).replace(os.path.abspath(work_dir), '{work_dir}')
        text = text.replace(str(work_dir), '{work_dir}')
        key = f'config {path.name}' + (f' of {name}' if name else '')
        found[key] = hashlib.sha256(text.encode()).hexdigest()
        root = cfg.get('data_root')
        listable = cfg.get('train_dataloader') and (
            not root or Path(root).is_dir()
        )  # the trainings report it where it is missing to them too
        found[f'split of {key}'] = _split_hash(cfg, splits) if listable else None
    return found


def check_settings(study, settings: dict[str, str | None], work_dir: Path) -> None:
    """Refuse to mix trials of several settings; what was None is stored once known."""
    before = study.user_attrs.get(_SETTINGS)
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
