# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Child registries of MMEngine's roots under the scope ``hkd_mm``.

``locations`` name the packages that are imported the first time a registry
is asked for a name, so configs reach every component as ``hkd_mm.X``.
"""

import importlib
import pkgutil

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from hkd_mm import begin_training

begin_training()  # before any of OpenMMLab is imported

# ruff: noqa: E402


def _child(root: Registry, *locations: str) -> Registry:
    return Registry(
        root.name, parent=root, scope='hkd_mm', locations=list(locations)
    )


DATASETS = _child(MMENGINE_DATASETS, 'hkd_mm.datasets')
DATA_SAMPLERS = _child(MMENGINE_DATA_SAMPLERS, 'hkd_mm.datasets')
TRANSFORMS = _child(MMENGINE_TRANSFORMS, 'hkd_mm.datasets')
FUNCTIONS = _child(MMENGINE_FUNCTIONS, 'hkd_mm.engine', 'hkd_mm.datasets')
HOOKS = _child(MMENGINE_HOOKS, 'hkd_mm.engine')
MODEL_WRAPPERS = _child(MMENGINE_MODEL_WRAPPERS, 'hkd_mm.engine')
METRICS = _child(
    MMENGINE_METRICS,
    'hkd_mm.evaluation.clinical_metric',
    'hkd_mm.evaluation.segmentation_metric',
)
MODELS = _child(MMENGINE_MODELS, 'hkd_mm.models')
TASK_UTILS = _child(MMENGINE_TASK_UTILS, 'hkd_mm.models')


def import_siblings(package: str) -> list[str]:
    """Import every module of a package, so that adding a file registers it.

    Args:
        package: dotted name of the package, ``__name__`` of its ``__init__``.

    Returns:
        Sorted names of the imported modules, without private ones.
    """
    path = importlib.import_module(package).__path__
    names = sorted(
        info.name
        for info in pkgutil.iter_modules(path)
        if not info.name.startswith('_')
    )
    for name in names:
        importlib.import_module(f'{package}.{name}')
    return names
