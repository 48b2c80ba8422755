# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Workarounds do what they say and nothing else."""

import subprocess
import sys

from mmengine.config import Config

import hkd_mm
from hkd_mm import compat

hkd_mm.begin_training()  # whichever test was imported first


def test_pretty_text_is_formatted_once_and_again_after_a_change(monkeypatch):
    from yapf.yapflib import yapf_api

    calls = []
    upstream = yapf_api.FormatCode

    def counted(*args, **kwargs):
        calls.append(args)
        return upstream(*args, **kwargs)

    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    config = Config(dict(model=dict(type='Counted', width=[1, 2, 3])))
    first = config.pretty_text
    assert config.pretty_text == first and len(calls) == 1
    config.model.width[0] = 5
    assert config.pretty_text == first.replace('1', '5') and len(calls) == 2
    assert Config.fromstring(first, '.py').model.width == [1, 2, 3]


def test_apply_is_safe_to_repeat():
    before = Config.pretty_text
    compat.apply()
    assert Config.pretty_text is before and hkd_mm.__version__


def test_importing_mmpretrain_says_nothing_of_onedl():
    ran = subprocess.run(
        [
            sys.executable,
            '-c',
            'import hkd_mm.registry, sys\n'
            'assert "mmpretrain" not in sys.modules\n'
            'import mmpretrain.datasets\n'
            'from mmengine.logging import print_log; print_log("a word")',
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == 'a word\n'
