# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What is read from source is what the classes themselves take."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from hkd_mm import registry
from hkd_mm.io.signatures import Keywords, constructor_arguments

ROOT = Path(__file__).parents[2]
REGISTRIES = [
    item
    for item in vars(registry).values()
    if isinstance(item, registry.Registry) and item.scope == 'hkd_mm'
]


def asked(kind) -> tuple[set[str], bool]:
    """The same of the class itself, from the method resolution order."""
    names: set[str] = set()
    for base in kind.__mro__[:-1] if inspect.isclass(kind) else [kind]:
        if not base.__module__.startswith('hkd_mm.'):
            return names, True
        init = vars(base).get('__init__') if inspect.isclass(base) else base
        if init is None:
            continue
        parameters = inspect.signature(init).parameters.values()
        names |= {
            item.name
            for item in parameters
            if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
        } - {'self'}
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            return names, False
    return names, not inspect.isclass(kind)  # object takes none


@pytest.mark.parametrize('item', REGISTRIES, ids=lambda item: item.name)
def test_every_registered_class_is_read_as_it_is(item):
    item.import_from_location()
    for name, kind in item.module_dict.items():
        if not kind.__module__.startswith('hkd_mm.'):
            continue  # of another test
        found = constructor_arguments(f'hkd_mm.{name}')
        assert found is not None, name
        names, is_open = asked(kind)
        assert set(found.names) == names, name
        assert found.is_open == is_open, name


def test_the_main_loss_takes_what_its_config_gives():
    names, is_open = constructor_arguments('hkd_mm.HybridKDLoss')
    assert {'alpha', 'beta', 'tau', 'class_weight'} <= set(names)
    assert not is_open


def test_keywords_passed_to_a_foreign_class_leave_it_open():
    found = constructor_arguments('hkd_mm.SafeCheckpointHook')
    assert found == Keywords((), True)
    # inherits its constructor from a class of the package
    assert 'data_root' in constructor_arguments('hkd_mm.HAM10000').names


@pytest.mark.parametrize(
    'name',
    ['SGD', 'mmrazor.ByteLoss', 'hkd_mm.Nothing', 'hkd_mm.Geometric', ''],
)
def test_other_types_are_not_known(name):
    assert constructor_arguments(name) is None


def test_a_config_and_its_arguments_are_read_without_torch():
    """The registries import their tenants only when asked for one."""
    code = (
        'import sys\n'
        'from mmengine.config import Config\n'
        'import hkd_mm.registry\n'
        'from hkd_mm.io.signatures import constructor_arguments\n'
        'cfg = Config.fromfile("configs/hybrid_wrn50_mbv2.py")\n'
        'loss = cfg.model.distiller.distill_losses.loss_hybrid\n'
        'print(constructor_arguments(loss.type).names[0])\n'
        'print(*{"torch", "mmrazor.models", "mmpretrain"} & {*sys.modules})'
    )
    ran = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == 'alpha\n\n'
