# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Workarounds do what they say and nothing else."""

import subprocess
import sys

import pytest
from mmengine.config import Config

import hkd_mm
from hkd_mm import compat

hkd_mm.begin_training()  # whichever test was imported first


def test_pretty_text_is_formatted_once_and_again_after_a_change(
    monkeypatch, config_texts_as_they_are
):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return config_texts_as_they_are(*args, **kwargs)

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', counted)
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


def run(*lines: str) -> str:
    """What a fresh process prints."""
    ran = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', '\n'.join(lines)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@pytest.fixture(scope='module')
def lines(tmp_path_factory) -> list[str]:
    """Print what a fresh process finds that imports one part after the other."""
    deep = tmp_path_factory.mktemp('deep') / 'deep.json'
    deep.write_text('[' * 200_000)
    return run(
        'import sys, json',
        'import numpy as np',
        'import hkd_mm.registry',
        'assert "mmpretrain" not in sys.modules',
        'import mmpretrain.datasets',
        'from mmengine.logging import print_log; print_log("a word")',
        'print(sys.getrecursionlimit())',
        'sys.setrecursionlimit(1234)',
        'import mmrazor.models',
        'from mmrazor.models.distillers import ofd_distiller',
        'from mmrazor.models.task_modules.predictor import metric_predictor',
        'from mmrazor.registry import TASK_UTILS',
        'print(*{"scipy.stats", "sklearn"} & {*sys.modules})',
        'print(round(ofd_distiller.norm.cdf(0.0), 6))',
        'stats = metric_predictor.stats',
        'assert stats.kendalltau is __import__("scipy.stats").stats.kendalltau',
        'print("sklearn" in sys.modules)',
        'x = np.linspace(0, 1, 40)[:, None]',
        'trees = TASK_UTILS.build(dict(type="CartsHandler", num_trees=3))',
        'trees.fit(x, x[:, 0])',
        'print(trees.predict(x).shape, "sklearn.tree" in sys.modules)',
        'from hkd_mm.registry import MODELS',
        'from mmengine.registry import init_default_scope',
        'init_default_scope("mmpretrain")',
        'distiller = MODELS.build(dict(type="mmrazor.ConfigurableDistiller"))',
        'from mmrazor.models.task_modules.tracer import fx_tracer',
        'import mmrazor.structures.graph.channel_flow, hkd_mm.models',
        'print(type(distiller).__name__, sys.getrecursionlimit())',
        'try:',
        f'    json.load(open({str(deep)!r}))',
        'except RecursionError:',
        '    print("no crash")',
        'import hkd_mm.evaluation',
        'print("segmentation_models_pytorch" in sys.modules)',
    ).splitlines()


def test_importing_mmpretrain_says_nothing_of_onedl(lines):
    assert lines[0] == 'a word'


def test_mmrazor_loads_scipy_and_sklearn_when_it_uses_them(lines):
    """The three classes that need them work, and get the real thing."""
    assert lines[2:6] == ['', '0.5', 'False', '(40, 1) True']


def test_the_recursion_limit_is_what_it_was(lines):
    assert lines[1] == '1000'
    assert lines[6:8] == ['ConfigurableDistiller 1234', 'no crash']


def test_importing_the_models_leaves_smp_alone(lines):
    assert lines[8:] == ['False']


def test_a_package_that_is_missing_leaves_mmrazors_own_placeholder():
    told = run(
        'import sys',
        'class Missing:',
        '    def find_spec(name, path=None, target=None):',
        '        if name.split(".")[0] == "sklearn":',
        '            raise ModuleNotFoundError(name)',
        'import hkd_mm.registry',
        'sys.meta_path.insert(0, Missing)',
        'from mmrazor.models.task_modules.predictor.handler import carts_handler',
        'print(type(carts_handler.DecisionTreeRegressor).__name__)',
    )
    assert told == 'type\n'
