# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Child registries of MMEngine's roots under the scope ``hkd_mm``.

``locations`` name the packages that are imported the first time a registry
is asked for a name, so configs reach every component as ``hkd_mm.X``.
"""

import importlib
import pkgutil
import sys

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
    return Registry(root.name, parent=root, scope='hkd_mm', locations=list(locations))


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
REGISTRIES = (
    DATASETS,
    DATA_SAMPLERS,
    TRANSFORMS,
    FUNCTIONS,
    HOOKS,
    MODEL_WRAPPERS,
    METRICS,
    MODELS,
    TASK_UTILS,
)


def import_siblings(package: str) -> None:
    """Import every module of a package and export what they register.

    So adding a file is all it takes: its registered classes and their public
    base classes become names of the package and of its ``__all__``.

    Args:
        package: dotted name of the package, ``__name__`` of its ``__init__``.
    """
    namespace = vars(sys.modules[package])
    for info in pkgutil.iter_modules(namespace['__path__']):
        importlib.import_module(f'{package}.{info.name}')
    exported = {
        kind.__name__: kind
        for registry in REGISTRIES
        for found in registry.module_dict.values()
        for kind in getattr(found, '__mro__', (found,))
        if kind.__module__.startswith(f'{package}.')
        and not kind.__name__.startswith('_')
    }
    namespace.update(exported, __all__=sorted(exported))
