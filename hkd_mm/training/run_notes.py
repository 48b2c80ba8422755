# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a run notes of itself, and what an earlier one left in a work dir."""

import json
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.runner import Runner
from pydantic import ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from hkd_mm.config.data_summary import DataSummary
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.locks import as_rank_0
from hkd_mm.io.schema import read_as
from hkd_mm.training.fingerprint import RunFingerprint

STATE = 'run_state.json'  # what the run of a folder is, and what came out


def write_finished(
    runner: Runner, cfg: Config, summary: DataSummary, fingerprint: RunFingerprint
) -> dict[str, Any]:
    """Write down that a run came to its end, and what came out."""
    hub = runner.message_hub
    metric = (cfg.default_hooks.get('checkpoint') or {}).get('save_best')
    best = hub.runtime_info.get('best_ckpt')
    last = hub.runtime_info.get('last_ckpt', 'none')
    finished = dict(
        epoch=runner.epoch,
        max_epochs=runner.max_epochs,
        checkpoint=os.path.basename(best or last),  # the last where none was chosen
        chosen_by=metric if best else 'last epoch',
        best_score=float(hub.get_info('best_score')) if best else None,
        split_hash=summary.split_hash,
        classes=list(summary.classes),
        fingerprint=fingerprint.parts,
    )
    update_state(cfg.work_dir, result=finished)
    return finished


def write_begun(
    work_dir: str, fingerprint: RunFingerprint, stages: Sequence[str] = ()
) -> None:
    """Write down what a folder holds, and its stages, before it is trained."""
    update_state(work_dir, fingerprint=fingerprint.parts, stages=list(stages))


def read_begun(work_dir: str | os.PathLike) -> RunFingerprint | None:
    """The fingerprint of a run; None where none can be read."""
    return fingerprint_of(read_state(work_dir))


def read_stages(work_dir: str | os.PathLike) -> list[str]:
    """Work dirs of the runs that were trained for one."""
    return read_state(work_dir).get('stages', [])


def read_finished(work_dir: str | os.PathLike) -> dict[str, Any] | None:
    """The result of a finished run whose checkpoint is there, or None."""
    found = read_state(work_dir).get('result')
    return found if found and Path(work_dir, found['checkpoint']).is_file() else None


def fingerprint_of(record: dict[str, Any] | None) -> RunFingerprint | None:
    """The fingerprint in a note; None in those of earlier versions."""
    parts = (record or {}).get('fingerprint')
    return None if parts is None else RunFingerprint(parts)


class _Result(TypedDict):
    __pydantic_config__ = ConfigDict(extra='allow')
    checkpoint: Annotated[str, Field(pattern=r'^[^/\\\x00]+$')]
    fingerprint: NotRequired[dict[str, dict[str, Any]] | None]


class _State(TypedDict, total=False):
    fingerprint: dict[str, dict[str, Any]] | None
    stages: list[str]
    result: _Result | None


def read_state(work_dir: str | os.PathLike) -> dict[str, Any]:
    """What ``run_state.json`` holds; nothing where it is absent or damaged.

    Damage is told once, and the next training there writes the file anew.
    """
    path = Path(work_dir, STATE)
    if not path.exists():
        return {}
    try:
        return read_as(_State, path)
    except UserError as error:
        warnings.warn(f'{error}; what ran there is not known')
        return {}


def update_state(work_dir: str | os.PathLike, **changes: Any) -> None:
    """Write ``run_state.json`` anew, on rank 0."""
    if is_main_process():
        text = json.dumps({**read_state(work_dir), **changes}, indent=1)
        AtomicBackend().put_text(f'{text}\n', Path(work_dir, STATE))


# The logs have a folder for every start and stay.
_MOVED = (
    'epoch_*.pth iter_*.pth best_*.pth student.pth last_checkpoint '
    'run_state.json history.json metrics.json environment.json curves.png '
    'confusion_matrix.png test*.json predictions*.csv'
).split()


def archive_run(cfg: Config) -> None:
    """Move an earlier run's checkpoints and figures into a sub-folder.

    Nobody could tell which run the best checkpoint belongs to. Where ``load_from``,
    ``model.teacher_ckpt`` or the ``ckpt`` of a teacher names a moved file, it follows.
    """
    barrier()  # every process has read the files it starts from
    name = os.path.basename(cfg.filename or '')
    target = as_rank_0(_move(Path(cfg.work_dir), name) if is_main_process() else None)
    if target is None:
        return
    teachers = [(network, 'ckpt') for network in cfg.model.get('teachers') or ()]
    named = [(cfg, 'load_from'), (cfg.model, 'teacher_ckpt'), *teachers]
    for group, key in named:
        path = group.get(key)
        if path and '://' not in path and not os.path.isfile(path):
            inside = os.path.dirname(os.path.abspath(path))
            if inside == os.path.abspath(cfg.work_dir):
                group[key] = os.path.join(target, os.path.basename(path))
    if is_main_process():
        print(
            f'PREVIOUS RUN: {cfg.work_dir} held checkpoints; they are in '
            f'{target} now (--resume would have gone on with them)',
            flush=True,
        )


def _move(folder: Path, config: str) -> str | None:
    found = [path for glob in _MOVED for path in sorted(folder.glob(glob))]
    if not any(path.suffix == '.pth' for path in found):
        return None
    number = 1
    while (target := folder / f'previous_{number}').exists():
        number += 1
    target.mkdir()
    for path in found:
        path.rename(target / path.name)
    # Of the run that was; the new one writes its own over them. Not moved: in
    # a work dir that holds the user's own configs it is one of those.
    if config and (folder / config).is_file():
        shutil.copy2(folder / config, target / config)
    return str(target)
