# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``finished.json``: a run that came to its end, for whoever builds on it."""

import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..config.data_summary import DataSummary
from ..config.tree import datasets, preprocessor

FINISHED = 'finished.json'
BEGUN = 'begun.json'  # the settings of the run that this folder holds
_OF_IMAGES = ('hair_removal', 'top_up')  # arguments of PackedDataset


def write_finished(
    runner: Runner, cfg: Config, summary: DataSummary
) -> dict[str, Any]:
    """Write down that a run came to its end, and what came out.

    Args:
        runner: after ``train()``.
        cfg: as the runner was built from it.
        summary: its data.

    Returns:
        epoch, max_epochs, checkpoint (file name of the best one, of the last
        where none was chosen), chosen_by, best_score, split_hash, classes,
        config (see :func:`fingerprint`).
    """
    from mmengine.dist import is_main_process

    hub = runner.message_hub
    metric = (cfg.default_hooks.get('checkpoint') or {}).get('save_best')
    best = hub.runtime_info.get('best_ckpt')
    last = hub.runtime_info.get('last_ckpt', 'none')
    finished = dict(
        epoch=runner.epoch,
        max_epochs=runner.max_epochs,
        checkpoint=os.path.basename(best or last),
        chosen_by=metric if best else 'last epoch',
        best_score=float(hub.get_info('best_score')) if best else None,
        split_hash=summary.split_hash,
        classes=list(summary.classes),
        config=fingerprint(cfg),
    )
    if is_main_process():
        from hkd_mm.engine.atomic_backend import AtomicBackend

        AtomicBackend().put_text(
            json.dumps(finished, indent=1) + '\n',
            os.path.join(cfg.work_dir, FINISHED),
        )
    return finished


def fingerprint(cfg: Config) -> dict[str, Any]:
    """What decides whether a trained net may stand for another run's.

    The data is told by the split hash; the seed is left out, for students of
    several seeds may learn from one teacher.
    """
    dataset = next(datasets(cfg))
    # None where nothing is said, so that a run with more than that differs
    packed = dict(augment=preprocessor(cfg).get('augment'))
    for name in _OF_IMAGES:
        packed[name] = _packed_value(cfg, name) or None
    return json.loads(
        json.dumps(
            dict(
                **packed,
                model=cfg.model.to_dict(),
                max_epochs=cfg.train_cfg.get('max_epochs'),
                batch_size=cfg.train_dataloader.get('batch_size'),
                sampler=_without(cfg.train_dataloader.sampler, 'seed'),
                param_scheduler=cfg.get('param_scheduler'),
                optim_wrapper=_without_speed(cfg.optim_wrapper.to_dict()),
                pipeline=list(dataset.get('pipeline', [])),
            ),
            default=str,
        )
    )


def _packed_value(cfg: Config, name: str) -> Any:
    """An argument of the packed training images, or None."""
    node = cfg.train_dataloader.get('dataset')
    while isinstance(node, dict):
        if name in node:
            return node[name]
        node = node.get('dataset')
    return None


def _without(group: dict, key: str) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != key}


def _without_speed(optim_wrapper: dict[str, Any]) -> dict[str, Any]:
    """Leave out how the same update is computed."""
    optimizer = optim_wrapper.get('optimizer') or {}
    return dict(
        optim_wrapper,
        optimizer={
            key: value
            for key, value in optimizer.items()
            if key not in ('fused', 'foreach')
        },
    )


def write_begun(cfg: Config) -> None:
    """Write down with what settings a run is under way."""
    from mmengine.dist import is_main_process

    if is_main_process():
        from hkd_mm.engine.atomic_backend import AtomicBackend

        AtomicBackend().put_text(
            json.dumps(fingerprint(cfg), indent=1) + '\n',
            os.path.join(cfg.work_dir, BEGUN),
        )


def read_begun(work_dir: str) -> dict[str, Any] | None:
    """The settings of a run under way; None where none were written."""
    try:
        return json.loads(Path(work_dir, BEGUN).read_text())
    except (OSError, ValueError):
        return None


def forget_finished(work_dir: str) -> None:
    """Take the note away while a run is under way again."""
    from mmengine.dist import is_main_process

    if is_main_process():
        Path(work_dir, FINISHED).unlink(missing_ok=True)


def read_finished(work_dir: str) -> dict[str, Any] | None:
    """The note of a finished run whose checkpoint is there, or None."""
    try:
        found = json.loads(Path(work_dir, FINISHED).read_text())
        present = Path(work_dir, found['checkpoint']).is_file()
    except (OSError, ValueError, KeyError):
        return None
    return found if present else None


def same(old: Any, new: Any) -> bool:
    """Equal, where a key that one of them lacks is None or False."""
    if isinstance(new, dict) and isinstance(old, dict):
        return all(
            same(old.get(key), new.get(key)) for key in old.keys() | new.keys()
        )
    return old == new or (old in (None, False) and new in (None, False))
