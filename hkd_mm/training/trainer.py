# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train a config: checks, stages, runner, closing lines."""

import os
from logging import Logger
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from hkd_mm.config import data_summary
from hkd_mm.config.compose import compose_config
from hkd_mm.config.networks import fetch_network_weights
from hkd_mm.config.overrides import override
from hkd_mm.config.tree import TEACHERS, dicts, hooks, preprocessor
from hkd_mm.config.value_checks import check_values, check_weights
from hkd_mm.engine.run_data import check_resumed
from hkd_mm.engine.runner import NamedRunner
from hkd_mm.engine.student_loading import describe_network
from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import answers_one_class
from hkd_mm.io.checkpoints import check_classes, latest_intact_checkpoint, safe_load
from hkd_mm.io.locks import as_rank_0
from hkd_mm.io.signatures import type_name
from hkd_mm.registry import DATASETS, MODELS
from hkd_mm.training import run_notes, runtime
from hkd_mm.training.fingerprint import RunFingerprint
from hkd_mm.training.label_checks import check_label_free
from hkd_mm.training.pack_data import pack_or_read_singly
from hkd_mm.training.previous_run import check_given
from hkd_mm.training.stages import check_teachers, provide_student, provide_teacher


def set_start(
    cfg: Config, summary: data_summary.DataSummary, resume: str | None
) -> str:
    """Point the config to the file that the run starts from, if any.

    Raises:
        UserError: that file is of other data; said here, before hours go into a
            teacher.
    """
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    if resume == 'auto':
        found = latest_intact_checkpoint(cfg.work_dir)
        cfg.load_from, cfg.resume = found, found is not None
        if found is None:
            return f'; --resume: no checkpoint in {cfg.work_dir}, from the beginning'
    elif resume is not None:
        cfg.load_from, cfg.resume = resume, True
    if not cfg.get('load_from'):
        return ''
    if '://' not in cfg.load_from:  # as CheckpointGuardHook, once a network is there
        checkpoint, prepared = safe_load(cfg.load_from), preprocessor(cfg)
        check_classes(checkpoint.get('meta') or {}, summary.classes, cfg.load_from)
        if cfg.get('resume') and prepared:
            prepared = {'type': 'ClsDataPreprocessor', **prepared}  # the default
            scope = cfg.get('default_scope', 'mmpretrain')
            with DefaultScope.overwrite_default_scope(scope):
                dataset = DATASETS.build(cfg.train_dataloader.dataset)
                built = MODELS.build(prepared)
                check_resumed(checkpoint, dataset, built, cfg.load_from)
    verb = 'resumed from' if cfg.resume else 'starting with weights of'
    return f'; {verb} {cfg.load_from}'


def start_line(cfg: Config, summary: data_summary.DataSummary, note: str) -> str:
    """What is trained, on which data; the note says on what machine and from where."""
    model = cfg.model
    if 'architecture' in model:
        student = describe_network(model.architecture)
        networks = f'{_teachers(model)}; student {student}'
    else:
        networks = f'network {describe_network(model)}'
    return f'Start: data {summary}; {networks}; on {note}'


def _teachers(model: dict) -> str:
    given = list(model.get('teachers') or ())
    if model.get('teacher'):
        given = [dict(model['teacher'], ckpt=model.get('teacher_ckpt'))]
    if given:
        return ', '.join(
            f'teacher {describe_network(network)} from {network.get("ckpt")}'
            for network in given
        )
    peers = (model.get('peers') or {}).values()
    names = [f'peer {describe_network(network)}' for network in peers]
    return ', '.join(names) or 'no teacher'


def closing_line(runner: Runner, finished: dict[str, Any]) -> str:
    """What came out and where it lies."""
    score, folder = '', runner.work_dir
    if finished['best_score'] is not None:
        score = f', {finished["chosen_by"]} {finished["best_score"]:.4f} on validation'
    report = runner.message_hub.runtime_info.get('run_report') or {}
    if answers_one_class(report.get('best') or report.get('last') or {}):
        score += ' (ONE CLASS ONLY: it predicts one class for every image)'
    return (
        f'Done: {finished["epoch"]} epochs; checkpoint '
        f'{os.path.join(folder, finished["checkpoint"])}{score}; everything else '
        f'in {folder}'
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
    """Train a network or distil a student; the teacher first if there is none.

    Args:
        work_dir: ``work_dirs/<config>`` if neither this nor the config names one.
        resume: ``auto`` for the latest intact checkpoint of the work dir, or the path
            of a checkpoint; None starts anew.
        validate: without it there is no best checkpoint.
        auto_scale_lr: scale the learning rate to the batch of all processes.

    Returns:
        The ``result`` in ``run_state.json`` of the work dir.
    """
    cfg = compose_config(config, cfg_options)
    device = runtime.choose_device(cfg)
    # Before the data is read: one process of many may write the split file.
    runtime.set_up_processes(cfg, launcher, device)
    cfg.work_dir = runtime.default_work_dir(config, work_dir, cfg)
    precision = runtime.use_amp(cfg, device) if amp else 'fp32'
    _set_switches(cfg, validate, auto_scale_lr)
    check_values(cfg, device)
    check_label_free(cfg)
    data_summary.resolve_data(cfg)
    summary = data_summary.summarize_data(cfg)
    data_summary.check_training(cfg, summary, get_world_size())
    check_weights(cfg, summary.classes)
    note = pack_or_read_singly(cfg)
    machine = f'{runtime.describe_device(device)}, {precision}'
    with runtime.hold_work_dir(cfg.work_dir):
        fetch_network_weights(cfg.model)  # before hours go into a teacher
        how = dict(amp=amp, launcher=launcher, cfg_options=cfg_options)
        start = set_start(cfg, summary, resume)
        stages = _provide_stages(cfg, summary, **how)
        return _run(cfg, summary, machine + note + start, stages)


def _provide_stages(
    cfg: Config, summary: data_summary.DataSummary, **how: Any
) -> list[str]:
    """Have the networks at hand that this run builds on; folders of those trained."""
    stages, model = [], cfg.model
    check_teachers(cfg, summary)
    if model.get('student_ckpt'):
        check_given(model.student_ckpt, summary, 'student')
    if model.get('teacher_ckpt'):
        check_given(model.teacher_ckpt, summary)
    elif model.get('teacher'):
        model.teacher_ckpt = provide_teacher(cfg, summary, train, **how)
        stages.append(os.path.dirname(model.teacher_ckpt))
    if cfg.get('previous_stage_config') and not model.get('student_ckpt'):
        model.student_ckpt = provide_student(cfg, summary, train, **how)
        stages.append(os.path.dirname(model.student_ckpt))
    return stages


def _set_switches(cfg: Config, validate: bool, auto_scale_lr: bool) -> None:
    if auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError(
                '--auto-scale-lr: the config has no auto_scale_lr.base_batch_size; set '
                'it with --cfg-options auto_scale_lr.base_batch_size=64'
            )
        cfg.auto_scale_lr.enable = True
    if (cfg.get('randomness') or {}).get('deterministic'):
        # torch refuses deterministic cuBLAS calls without it.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        for key in ('save_best', 'rule'):
            checkpoint.pop(key, None)
    relied_on = ('EpochSeedHook', 'CheckpointGuardHook', 'ProgressHook')
    present = {type_name(hook) for hook in hooks(cfg)}
    more = [dict(type=f'hkd_mm.{name}') for name in relied_on if name not in present]
    if more:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *more]


def _run(
    cfg: Config, summary: data_summary.DataSummary, note: str, stages: list[str]
) -> dict[str, Any]:
    fingerprint = RunFingerprint.of(cfg, summary)
    try:
        if cfg.get('resume'):
            earlier = as_rank_0(run_notes.read_begun(os.path.dirname(cfg.load_from)))
            changed = earlier and fingerprint.difference(earlier)
            note += f'; not as it began: {changed}' if changed else ''
            fingerprint = fingerprint.resumed(earlier)
        else:
            run_notes.archive_run(cfg)
        run_notes.write_begun(cfg.work_dir, fingerprint, stages)
        runner = NamedRunner.from_cfg(cfg)
        runner.logger.info(start_line(cfg, summary, note))
        warn_if_balanced_twice(cfg, runner.logger)
        run_notes.update_state(cfg.work_dir, result=None)  # while it is under way again
        runner.train()
        finished = run_notes.write_finished(runner, cfg, summary, fingerprint)
    except OSError as error:
        if error.errno is not None and not error.filename:  # of writing: no file
            error.filename = cfg.work_dir
        raise
    runner.logger.info(closing_line(runner, finished))
    return finished


def warn_if_balanced_twice(cfg: Config, logger: Logger) -> None:
    """One line where two of sampler, class weights and prior make up for imbalance."""
    losses = override('class_weight').targets(cfg, None)
    sampler = cfg.train_dataloader.get('sampler')
    types = map(type_name, dicts(cfg.model, skip=TEACHERS))
    ways = {
        'sampler=balanced': type_name(sampler) == 'BalancedSampler',
        'class_weight': any(target.group.get('class_weight') for target in losses),
        'BalancedSoftmaxLoss': 'BalancedSoftmaxLoss' in types,
    }
    if sum(ways.values()) > 1:
        logger.warning(
            f'{" and ".join(way for way, on in ways.items() if on)} are together on: '
            'rare classes count twice; most want one of them'
        )
