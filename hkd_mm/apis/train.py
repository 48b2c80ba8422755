# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/train.py`` does."""

import os
from argparse import Namespace
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError
from hkd_mm.file_lock import as_rank_0

from .config.compose import compose_config
from .config.data_summary import (
    DataSummary,
    check_training,
    resolve_data,
    summarize_data,
)
from .config.nets import fetch_net_weights
from .config.value_checks import check_values, check_weights
from .data.pack_data import pack_or_read_singly
from .run.earlier_run import set_aside
from .run.fingerprint import RunFingerprint
from .run.finished import (
    forget_finished,
    read_begun,
    write_begun,
    write_finished,
)
from .run.imbalance import warn_if_balanced_twice
from .run.last_batch import leave_out_lone_image
from .run.named_runner import NamedRunner
from .run.runtime import (
    choose_device,
    default_work_dir,
    describe_device,
    ensure_hooks,
    hold_work_dir,
    name_the_place,
    set_up_processes,
    use_amp,
)
from .run.several_teachers import check_teachers
from .run.stage_checks import check_given_teacher
from .run.start_and_end import closing_line, set_start, start_line
from .run.student_stage import provide_student
from .run.teacher_stage import provide_teacher


def main(args: Namespace) -> None:
    """Train as the command line says."""
    train(
        args.config,
        args.work_dir,
        args.resume,
        args.amp,
        not args.no_validate,
        args.auto_scale_lr,
        args.cfg_options,
        args.launcher,
    )


def train(
    config: str,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    validate: bool = True,
    auto_scale_lr: bool = False,
    cfg_options: list[str] | dict[str, Any] | None = None,
    launcher: str = 'none',
) -> dict[str, Any]:
    """Train a net or distil a student; the teacher first if there is none.

    Args:
        config: config file.
        work_dir: where the run leaves its files; ``work_dirs/<config>`` if
            neither this nor the config names one.
        resume: ``auto`` for the latest intact checkpoint of the work dir, or
            the path of a checkpoint; None starts anew.
        amp: bf16 where the GPU has it, else fp16 with loss scaling.
        validate: validate after the epochs; without it no best checkpoint.
        auto_scale_lr: scale the learning rate to the batch of all processes.
        cfg_options: see :func:`hkd_mm.apis.config.compose.load_config`.
        launcher: none, pytorch, slurm or mpi.

    Returns:
        What ``finished.json`` in the work dir holds.

    Raises:
        UserError: anything that the user can mend.
    """
    from mmengine.dist import get_world_size

    cfg = compose_config(config, cfg_options)
    device = choose_device(cfg)
    # Before the data is read: one process of many may write the split file.
    set_up_processes(cfg, launcher, device)
    resolve_data(cfg)
    cfg.work_dir = default_work_dir(config, work_dir, cfg)
    precision = use_amp(cfg, device) if amp else 'fp32'
    _set_switches(cfg, validate, auto_scale_lr)
    check_values(cfg, device)
    summary = summarize_data(cfg)
    check_training(cfg, summary, get_world_size())
    check_weights(cfg, summary.classes)
    note = pack_or_read_singly(cfg)
    machine = f'{describe_device(device)}, {precision}'
    with hold_work_dir(cfg.work_dir):
        fetch_net_weights(cfg.model)  # before hours go into a teacher
        stages = _provide_stages(cfg, summary, amp, launcher, cfg_options)
        return _run(cfg, summary, resume, machine + note, stages)


def _provide_stages(
    cfg: Config,
    summary: DataSummary,
    amp: bool,
    launcher: str,
    cfg_options: list[str] | dict[str, Any] | None,
) -> list[str]:
    """Have the nets at hand that this run builds on.

    Returns:
        Folders of those that its config names and trains.
    """
    stages = []
    how = dict(amp=amp, launcher=launcher, cfg_options=cfg_options)
    model = cfg.model
    check_teachers(cfg, summary)
    if model.get('teacher_ckpt'):
        check_given_teacher(model.teacher_ckpt, summary)
    elif model.get('teacher'):
        model.teacher_ckpt = provide_teacher(cfg, summary, train, **how)
        stages.append(os.path.dirname(model.teacher_ckpt))
    if cfg.get('earlier_stage_config') and not model.get('student_ckpt'):
        model.student_ckpt = provide_student(cfg, summary, train, **how)
        stages.append(os.path.dirname(model.student_ckpt))
    return stages


def _set_switches(cfg: Config, validate: bool, auto_scale_lr: bool) -> None:
    if auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError(
                '--auto-scale-lr: the config has no '
                'auto_scale_lr.base_batch_size; set it with '
                '--cfg-options auto_scale_lr.base_batch_size=64'
            )
        cfg.auto_scale_lr.enable = True
    if (cfg.get('randomness') or {}).get('deterministic'):
        # torch refuses deterministic cuBLAS calls without it.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        checkpoint = cfg.default_hooks.get('checkpoint') or {}
        checkpoint.pop('save_best', None)
        checkpoint.pop('rule', None)
    ensure_hooks(
        cfg,
        'hkd_mm.EpochSeedHook',
        'hkd_mm.CheckpointGuardHook',
        'hkd_mm.ProgressHook',
    )


def _run(
    cfg: Config,
    summary: DataSummary,
    resume: str | None,
    machine: str,
    stages: list[str],
) -> dict[str, Any]:
    fingerprint = RunFingerprint.of(cfg, summary)
    note = set_start(cfg, resume) + leave_out_lone_image(cfg, summary)
    with name_the_place(cfg.work_dir):
        if cfg.get('resume'):
            there = os.path.dirname(cfg.load_from)
            fingerprint = fingerprint.resumed(as_rank_0(read_begun(there)))
        else:
            set_aside(cfg)
        write_begun(cfg.work_dir, fingerprint, stages)
        runner = NamedRunner.from_cfg(cfg)
        runner.logger.info(start_line(cfg, summary, machine) + note)
        warn_if_balanced_twice(cfg, runner.logger)
        forget_finished(cfg.work_dir)
        runner.train()
        finished = write_finished(runner, cfg, summary, fingerprint)
    runner.logger.info(closing_line(runner, finished))
    return finished
