# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Child registries of MMEngine's roots under the scope ``hkd_mm``.

``locations`` name the packages that are imported the first time a registry
is asked for a name, so configs reach every component as ``hkd_mm.X``.
"""

import importlib
import pkgutil
import sys

from mmengine import registry as roots
from mmengine.registry import Registry

from hkd_mm import begin_training

begin_training()  # before any of OpenMMLab is imported


def _child(name: str, *locations: str) -> Registry:
    root = getattr(roots, name)
    return Registry(root.name, parent=root, scope='hkd_mm', locations=list(locations))


REGISTRIES = (
    DATASETS := _child('DATASETS', 'hkd_mm.datasets'),
    DATA_SAMPLERS := _child('DATA_SAMPLERS', 'hkd_mm.datasets'),
    TRANSFORMS := _child('TRANSFORMS', 'hkd_mm.datasets'),
    FUNCTIONS := _child('FUNCTIONS', 'hkd_mm.engine', 'hkd_mm.datasets'),
    HOOKS := _child('HOOKS', 'hkd_mm.engine'),
    MODEL_WRAPPERS := _child('MODEL_WRAPPERS', 'hkd_mm.engine'),
    METRICS := _child(
        'METRICS',
        'hkd_mm.evaluation.clinical_metric',
        'hkd_mm.evaluation.segmentation_metric',
    ),
    MODELS := _child('MODELS', 'hkd_mm.models'),
    TASK_UTILS := _child('TASK_UTILS', 'hkd_mm.models'),
)


def import_siblings(package: str) -> None:
    """Import every module of a package and export what they register.

    So adding a file is all it takes: its registered classes and their public
    base classes become names of the package and join its ``__all__``.

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
    known = namespace.get('__all__', ())
    namespace.update(exported, __all__=sorted({*exported, *known}))
