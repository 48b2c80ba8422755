# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What every run shares: hooks, environment, seed, logging."""
default_scope = 'mmpretrain'
custom_imports = dict(imports=['hkd_mm'], allow_failed_imports=False)

device = 'auto'  # a GPU where there is one; or cpu, cuda
channels_last = True  # memory order of the weights, same numbers
compiled = False  # torch.compile for the networks; worth its minutes on GPUs
patience = 100  # epochs without a better balanced accuracy; paper, table 3

# All hooks have names: a child changes one with default_hooks=dict(name=...),
# and custom_hooks stays free for its own.
default_hooks = dict(
    runtime_info=dict(type='hkd_mm.DeferredLogHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='hkd_mm.SafeCheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='balanced_accuracy',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    epoch_seed=dict(type='hkd_mm.EpochSeedHook'),
    view=dict(type='hkd_mm.ViewHook'),
    teacher_check=dict(type='hkd_mm.TeacherCheckHook'),
    class_fusion=dict(type='hkd_mm.ClassFusionHook'),
    guard_rails=dict(type='hkd_mm.GuardRailsHook'),
    teacher_cache=dict(type='hkd_mm.TeacherCacheHook'),
    finite_loss=dict(type='hkd_mm.FiniteLossHook'),
    progress=dict(type='hkd_mm.ProgressHook'),
    run_report=dict(type='hkd_mm.RunReportHook'),
    early_stopping=dict(
        type='hkd_mm.ResumableEarlyStoppingHook',
        monitor='balanced_accuracy',
        rule='greater',
        min_delta=0.0,
        patience=patience),
    compile=dict(
        type='hkd_mm.CompileHook', student=compiled, teacher=compiled),
    checkpoint_guard=dict(type='hkd_mm.CheckpointGuardHook'))

# cudnn_benchmark gains speed and costs reproducibility; a repeatable GPU run
# is `--cfg-options randomness.deterministic=True`.
seed = 42  # of the training; the data have a split_seed of their own
randomness = dict(seed=seed, deterministic=False)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

# TensorBoard (pip install tensorboard): add dict(type='TensorboardVisBackend')
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=True)
log_level = 'INFO'

launcher = 'none'
load_from = None
resume = False
