# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hooks that the tools rely on, in a config that lacks some."""

from types import SimpleNamespace

from mmengine.config import Config

from hkd_mm.config.compose import compose_config
from hkd_mm.config.networks import config_root
from hkd_mm.config.tree import hooks
from hkd_mm.training.trainer import _set_switches


def kinds(cfg):
    _set_switches(cfg, validate=True, auto_scale_lr=False)
    return [hook['type'] for hook in hooks(cfg)]


def test_what_is_missing_is_added_once():
    own = dict(type='hkd_mm.EpochSeedHook')
    found = kinds(Config(dict(custom_hooks=[own])))
    assert found[0] == own['type'] and found.count(own['type']) == 1
    assert 'hkd_mm.CheckpointGuardHook' in found
    assert 'hkd_mm.CompileHook' not in found


def test_a_config_of_this_package_lacks_none():
    cfg = compose_config(config_root() / 'hybrid_wrn50_mbv2.py')
    before = [hook['type'] for hook in hooks(cfg)]
    assert kinds(cfg) == before and len(set(before)) == len(before)


def test_without_room_for_packed_images_they_are_read_one_by_one(
    tiny_configs, monkeypatch
):
    from hkd_mm.config.compose import compose_config
    from hkd_mm.config.packing import is_packed
    from hkd_mm.datasets.packed import builder
    from hkd_mm.training.pack_data import pack_or_read_singly

    def full(folder):
        return SimpleNamespace(free=0)

    options = dict(packed=True, max_epochs=1)
    cfg = compose_config(tiny_configs['student'], options)
    with monkeypatch.context() as patched:
        patched.setattr(builder.shutil, 'disk_usage', full)
        said = pack_or_read_singly(cfg)
    assert said.count('\n') == 0 and 'packed=False' in said
    assert 'is full' in said and 'packed.store_dir=DIR' in said
    assert not is_packed(cfg)
    stock = compose_config(tiny_configs['student'], dict(max_epochs=1))
    for name in ('train', 'val', 'test'):
        pipelines = [
            [(step['type'], step.get('prob')) for step in steps]
            for steps in (
                c[f'{name}_dataloader'].dataset.pipeline for c in (cfg, stock)
            )
        ]
        assert pipelines[0] == pipelines[1]
    cfg = compose_config(tiny_configs['student'], options)
    assert pack_or_read_singly(cfg) == '' and is_packed(cfg)
