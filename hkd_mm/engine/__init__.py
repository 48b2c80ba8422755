# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runner, hooks, distribution, and the files and students of a run."""

import hkd_mm.registry  # noqa: F401 - first: it prepares OpenMMLab

# isort: split
from hkd_mm.engine import hooks
from hkd_mm.engine.distributed import (
    CPUDistributedDataParallel,
    EpochSeedHook,
    init_process_group,
    seed_worker,
)
from hkd_mm.engine.environment import collect_environment
from hkd_mm.engine.hooks import *  # noqa: F403
from hkd_mm.engine.run_files import FinishedRun, finished_run
from hkd_mm.engine.runner import NamedRunner
from hkd_mm.engine.student_export import export_student
from hkd_mm.engine.student_loading import load_student

__all__ = [
    'CPUDistributedDataParallel',
    'EpochSeedHook',
    'FinishedRun',
    'NamedRunner',
    'collect_environment',
    'export_student',
    'finished_run',
    'hooks',
    'init_process_group',
    'load_student',
    'seed_worker',
    *hooks.__all__,
]
