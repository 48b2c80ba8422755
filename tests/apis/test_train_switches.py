# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hooks that the tools rely on, in a config that lacks some."""

from mmengine.config import Config

from hkd_mm.apis.config.compose import compose_config
from hkd_mm.apis.config.nets import config_root
from hkd_mm.apis.config.tree import hooks
from hkd_mm.apis.train import _set_switches


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
