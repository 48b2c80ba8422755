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


def test_mmrazor_loads_scipy_and_sklearn_when_it_uses_them():
    """The three classes that need them work, and get the real thing."""
    code = (
        'import sys\n'
        'import numpy as np\n'
        'import hkd_mm.registry\n'
        'import mmrazor.models\n'
        'from mmrazor.models.distillers import ofd_distiller\n'
        'from mmrazor.models.task_modules.predictor import metric_predictor\n'
        'from mmrazor.registry import TASK_UTILS\n'
        'print(*{"scipy.stats", "sklearn"} & {*sys.modules})\n'
        'print(round(ofd_distiller.norm.cdf(0.0), 6))\n'
        'stats = metric_predictor.stats\n'
        'assert stats.kendalltau is __import__("scipy.stats").stats.kendalltau'
        '\n'
        'print("sklearn" in sys.modules)\n'
        'x = np.linspace(0, 1, 40)[:, None]\n'
        'trees = TASK_UTILS.build(dict(type="CartsHandler", num_trees=3))\n'
        'trees.fit(x, x[:, 0])\n'
        'print(trees.predict(x).shape, "sklearn.tree" in sys.modules)'
    )
    ran = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines() == ['', '0.5', 'False', '(40, 1) True']


def test_a_package_that_is_missing_leaves_mmrazors_own_placeholder():
    code = (
        'import sys\n'
        'class Missing:\n'
        '    def find_spec(name, path=None, target=None):\n'
        '        if name.split(".")[0] == "sklearn":\n'
        '            raise ModuleNotFoundError(name)\n'
        'import hkd_mm.registry\n'
        'sys.meta_path.insert(0, Missing)\n'
        'from mmrazor.models.task_modules.predictor.handler import '
        'carts_handler\n'
        'print(type(carts_handler.DecisionTreeRegressor).__name__)'
    )
    ran = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout == 'type\n'
