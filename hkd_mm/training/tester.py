# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Test a checkpoint or a run folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from hkd_mm.config import data_summary
from hkd_mm.config.compose import compose_config, read_config
from hkd_mm.config.packing import is_packed
from hkd_mm.config.schema import names_of_group
from hkd_mm.config.value_checks import check_values, pixel_threshold
from hkd_mm.engine.run_data import image_input
from hkd_mm.engine.run_files import finished_run, run_config, run_folder_of
from hkd_mm.engine.run_summary import bare_model
from hkd_mm.engine.runner import NamedRunner
from hkd_mm.engine.student_loading import describe_network
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import check_classes, safe_load
from hkd_mm.io.signatures import type_name
from hkd_mm.training import results, runtime
from hkd_mm.training.test_checks import check_input, check_split
from hkd_mm.training.test_record import check_earlier


def has_masks(cfg: Config) -> bool:
    """Whether the test split is one of packed images with masks."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    return type_name(dataset) == 'PackedMasks'


def check_stored_threshold(
    cfg: Config, checkpoint: str, warn: Callable[[str], None]
) -> None:
    """Say so if pixels count from another probability on than in the run.

    Exported networks have the threshold of the run.
    """
    tested = pixel_threshold(cfg.get('test_evaluator'))
    if tested is None:
        return
    try:
        stored = run_config(Path(checkpoint).absolute().parent)
    except UserError:  # not in the work dir of a run: nothing to compare with
        return
    run = pixel_threshold(read_config(stored).get('val_evaluator'))
    if run not in (None, tested):
        warn(
            f'pixels count from {tested:g} on in this test and from {run:g} '
            f'on in the run ({stored}), whose threshold exported networks '
            f'have: add --cfg-options mask_threshold={run:g}, or train with '
            f'mask_threshold={tested:g}'
        )


__test__ = False  # a tool, nothing for pytest to collect


def test_and_print(config: str, checkpoint: str | None = None, **options: Any) -> None:
    """Call :func:`test` and print the metrics as a table."""
    metrics = test(config, checkpoint, **options)
    if is_main_process():
        results.print_metrics(metrics, checkpoint or config)


def test(
    config: str,
    checkpoint: str | None = None,
    work_dir: str | None = None,
    out: str | Sequence[str] = (),
    show_dir: str | None = None,
    amp: bool = False,
    cfg_options: list[str] | dict[str, Any] | None = None,
    launcher: str = 'none',
    other_input: bool = False,
) -> dict[str, float]:
    """Measure a model on the test split, read once.

    Of a distillation only the student is built.

    Args:
        config: the work dir of a finished run; or the config that the model
            was trained with, or that of the student alone.
        checkpoint: of a distillation, or of a plain classifier; that of a
            run is its ``student.pth`` unless another one is given.
        work_dir: for the log; ``<work dir of the training>/test`` by default.
        out: files: ``.json`` takes the metrics, ``.csv`` and ``.pkl`` the
            prediction for each image. Where none is given they go to
            ``work_dir``, else to the work dir that the checkpoint lies in,
            under the names of :func:`.results.result_files`.
        other_input: test on images of another size, resize rule or
            normalisation than those of the training.

    Returns:
        Metric name -> value, of the config's ``test_evaluator``.
    """
    outs = [out] if isinstance(out, str) else list(out)
    for path in outs:
        _check_out(path)
    config, checkpoint = _find(config, checkpoint)
    cfg = compose_config(config, cfg_options)
    data_summary.resolve_data(cfg, read_data=False)
    device = runtime.choose_device(cfg)
    check_values(cfg, device, ('test_dataloader',))
    runtime.set_up_processes(cfg, launcher, device)
    meta = safe_load(checkpoint).get('meta') or {}
    if not data_summary.names_its_classes(cfg):
        data_summary.fit_heads(
            cfg, data_summary.build_listing(cfg, 'test_dataloader').classes
        )
    run = run_folder_of(checkpoint)
    cfg.work_dir = work_dir or os.path.join(
        run or runtime.default_work_dir(config, None, cfg), 'test'
    )
    runtime.make_work_dir(cfg.work_dir)
    _keep_the_student(cfg)
    cfg.load_from, cfg.resume = checkpoint, False
    if amp:
        torch.set_autocast_dtype('cuda', getattr(torch, runtime.precision(device)[0]))
        cfg.test_cfg.fp16 = True  # mmengine's word for autocast of any kind
    if show_dir:
        masks = has_masks(cfg)
        if is_packed(cfg) and not masks:
            raise UserError(
                '--show-dir draws on the photographs, which packed data do '
                'not read; add --cfg-options packed=False'
            )
        runtime.make_work_dir(show_dir, '--show-dir')
        kind = 'MaskPicturesHook' if masks else 'PredictionPicturesHook'
        cfg.custom_hooks.append(dict(type=f'hkd_mm.{kind}', out_dir=show_dir))
    place = None if outs else work_dir or run
    return _run(cfg, checkpoint, meta, device, outs, place, other_input)


def _find(config: str, checkpoint: str | None) -> tuple[str, str]:
    if checkpoint is not None:
        if os.path.isdir(config):
            return str(run_config(Path(config))), checkpoint
        return config, checkpoint
    if os.path.isfile(config):
        folder = os.path.dirname(config) or '.'
        raise UserError(
            f'{config} alone is no trained model: give the folder of a run, '
            f'such as {folder}'
            if config.endswith('.pth')
            else f'config {config} needs a checkpoint after it; or give the '
            'folder of a finished run alone, such as work_dirs/'
            f'{Path(config).stem}'
        )
    found = finished_run(config)
    return str(found.config), str(found.student)


def _run(
    cfg: Config,
    checkpoint: str,
    meta: dict,
    device: str,
    outs: list[str],
    place: str | Path | None,
    other_input: bool,
) -> dict[str, float]:
    runner = NamedRunner.from_cfg(cfg)
    dataset = runner.test_loop.dataloader.dataset
    # of the training part as well, whose metainfo goes into checkpoints
    if hasattr(dataset, 'tested_metainfo'):
        runner.test_evaluator.dataset_meta = dataset.tested_metainfo
    check_classes(meta, dataset.metainfo['classes'], checkpoint)
    check_split(meta, dataset, checkpoint, runner.logger.warning)
    model = bare_model(runner.model)
    prepared = image_input(dataset, model.data_preprocessor)
    differs = check_input(
        meta,
        model.data_preprocessor,
        prepared,
        checkpoint,
        runner.logger.warning,
        other_input,
    )
    check_stored_threshold(cfg, checkpoint, runner.logger.warning)
    facts = results.provenance(checkpoint, dataset, prepared, model.data_preprocessor)
    if place is not None:
        outs = results.result_files(place, facts, differs, runner.test_evaluator)
        check_earlier(outs[0], facts)
    runner.logger.info(
        f'Start: {describe_network(cfg.model)} from {checkpoint} on the '
        f'{getattr(dataset, "split", "test")} split of {cfg.get("data_root")} '
        f'({len(dataset)} images), on {runtime.describe_device(device)}'
    )
    metrics = {
        key: float(value)
        for key, value in runner.test().items()
        if isinstance(value, (int, float)) and key not in ('time', 'data_time')
    }
    if is_main_process():
        results.write_results(outs, metrics, runner, facts)
    return metrics


def _keep_the_student(cfg: Config) -> None:
    """Reduce the config to what testing needs."""
    if 'architecture' in cfg.model:
        student = cfg.model.architecture
        # as in training: that of the algorithm, else of the top level
        outer = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
        if outer:
            student.data_preprocessor = outer
        cfg.model = student
    # The hooks of training have nothing to do, and some need the teacher.
    kept = names_of_group('default_hooks')  # MMEngine's own; a child may replace them
    named = (cfg.get('default_hooks') or {}).items()
    cfg.default_hooks = {name: hook for name, hook in named if name in kept}
    cfg.custom_hooks = [
        dict(type='hkd_mm.CheckpointGuardHook'),
        dict(type='hkd_mm.ProgressHook'),
    ]
    if has_masks(cfg):
        checks = ('WindowCheckHook', 'MasksLostByResizeHook')
        cfg.custom_hooks += [dict(type=f'hkd_mm.{name}') for name in checks]
    for name in (
        'train_dataloader train_cfg optim_wrapper param_scheduler '
        'val_dataloader val_cfg val_evaluator auto_scale_lr'
    ).split():
        cfg[name] = None


def _check_out(out: str) -> None:
    """Refuse a bad place before the test split is read."""
    if Path(out).is_dir():
        raise UserError(f'--out {out} is a folder; give a file in it')
    if Path(out).suffix not in results.SUFFIXES:
        raise UserError(
            f'--out {out}: give a .json file for the metrics, a .csv or .pkl file for '
            'the predictions, or an .isic.csv file for a submission'
        )
    if len(os.fsencode(os.path.basename(out))) > 230:  # it is written aside first
        raise UserError(f'--out: the name {out[:60]}... is longer than 230 bytes')
    runtime.make_work_dir(os.path.dirname(out) or '.', '--out')
