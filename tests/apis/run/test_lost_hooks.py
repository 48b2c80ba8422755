# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A config that replaces the hooks of every run is told so."""

import logging

import pytest
from mmengine.config import Config

from hkd_mm.apis.config.compose import compose_config
from hkd_mm.apis.config.nets import config_root
from hkd_mm.apis.run.lost_hooks import warn_of_lost_hooks

MORE = "dict(type='hkd_mm.DistillDiagnosticsHook')"


def said(cfg, caplog) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_lost_hooks(cfg, logging.getLogger('lost'))
    return caplog.text


@pytest.mark.parametrize(
    ('line', 'lost'),
    [
        (f'custom_hooks = [{MORE}]', True),
        (f"custom_hooks = [dict(type='hkd_mm.EpochSeedHook'), {MORE}]", True),
        (f'custom_hooks = _base_.custom_hooks + [{MORE}]', False),
        ('custom_hooks = _base_.custom_hooks[:3]', False),
        ('', False),
    ],
)
def test_replaced_hooks_are_told(line, lost, tmp_path, caplog):
    child = tmp_path / 'child.py'
    base = config_root() / 'hybrid_wrn50_mbv2.py'
    child.write_text(f'_base_ = {str(base)!r}\n{line}\n')
    text = said(compose_config(child), caplog)
    assert ('GuardRailsHook' in text) == lost
    assert ('_base_.custom_hooks + ' in text) == lost


def test_a_config_of_somebody_else_is_left_alone(caplog):
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook')]))
    assert said(cfg, caplog) == ''
