# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Where a training starts from, and the lines that open and close it."""

import os
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..config.data_summary import DataSummary
from .runtime import describe_net


def set_start(cfg: Config, resume: str | None) -> str:
    """Point the config to the file that the run starts from, if any.

    Args:
        cfg: changed in place.
        resume: as of :func:`hkd_mm.apis.train.train`.

    Returns:
        What to add to the start line.

    Raises:
        UserError: the file cannot be read.
    """
    from hkd_mm.engine.atomic_backend import latest_intact_checkpoint
    from hkd_mm.engine.checkpoint import safe_load

    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    note = ''
    if resume == 'auto':
        found = latest_intact_checkpoint(cfg.work_dir)
        cfg.load_from, cfg.resume = found, found is not None
        note = (
            ''
            if found
            else (
                f'; --resume: no checkpoint in '
                f'{cfg.work_dir}, from the beginning'
            )
        )
    elif resume is not None:
        cfg.load_from, cfg.resume = resume, True
    if cfg.get('load_from'):
        if '://' not in cfg.load_from:
            safe_load(cfg.load_from)  # before minutes go into building nets
        verb = 'resumed from' if cfg.resume else 'starting with weights of'
        note = f'; {verb} {cfg.load_from}'
    return note


def start_line(cfg: Config, summary: DataSummary, machine: str) -> str:
    """What is trained, on which data and on what."""
    model = cfg.model
    if 'architecture' in model:
        nets = (
            f'{_teachers(model)}; student {describe_net(model.architecture)}'
        )
    else:
        nets = f'net {describe_net(model)}'
    return f'Start: data {summary}; {nets}; on {machine}'


def _teachers(model: dict) -> str:
    """Who the student learns from."""
    given = list(model.get('teachers') or ())
    if model.get('teacher'):
        given = [dict(model['teacher'], ckpt=model.get('teacher_ckpt'))]
    if given:
        return ', '.join(
            f'teacher {describe_net(net)} from {net.get("ckpt")}'
            for net in given
        )
    peers = (model.get('peers') or {}).values()
    return ', '.join(f'peer {describe_net(net)}' for net in peers) or (
        'no teacher'
    )


def closing_line(runner: Runner, finished: dict[str, Any]) -> str:
    """What came out and where it lies."""
    from hkd_mm.evaluation.classification_scores import answers_one_class

    score = (
        ''
        if finished['best_score'] is None
        else f', {finished["chosen_by"]} {finished["best_score"]:.4f} on '
        'validation'
    )
    report = runner.message_hub.runtime_info.get('run_report') or {}
    if answers_one_class(report.get('best') or report.get('last') or {}):
        score += ' (ONE CLASS ONLY: it predicts one class for every image)'
    return (
        f'Done: {finished["epoch"]} epochs; checkpoint '
        f'{os.path.join(runner.work_dir, finished["checkpoint"])}{score};'
        f' everything else in {runner.work_dir}'
    )
