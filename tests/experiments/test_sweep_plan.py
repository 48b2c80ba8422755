# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Sweep files: what they may say, and those that are shipped."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from hkd_mm.config import data_summary
from hkd_mm.errors import UserError
from hkd_mm.experiments.outdated import check_settings, sweep_settings
from hkd_mm.experiments.run_sweep import check_options
from hkd_mm.experiments.sweep_file import (
    Range,
    as_key,
    distribution,
    fill_in,
    grid_points,
    names_in,
    read_sweep,
)
from hkd_mm.experiments.sweep_report import rule

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / 'configs/sweeps').glob('*.py'))
GOOD = """
_losses = 'model.distiller.distill_losses'
config = 'zoo/kd_hard/kd_hard_wrn50_mbv2_skin.py'
space = {'alpha': [0.1, 0.9], 'batch_size': [16, 32]}
options = {'a.soft': '{alpha}', 'a.hard': '{1 - alpha}', 'max_epochs': 3,
           'packed.store_dir': '{work_dir}/images'}
sampler = 'grid'
"""


def read(tmp_path, text, trials=None):
    (tmp_path / 's.py').write_text(text)
    return read_sweep(tmp_path / 's.py', trials)


def test_a_grid_is_read(tmp_path):
    sweep = read(tmp_path, GOOD)
    assert (sweep.name, sweep.trials, sweep.seeds) == ('s', 4, (0,))
    assert sweep.metric == 'balanced_accuracy' and sweep.maximised
    points = grid_points(sweep)
    assert points[0] == dict(alpha=0.1, batch_size=16)
    assert points[-1] == dict(alpha=0.9, batch_size=32)
    assert sweep.common(Path('/w')) == {
        'max_epochs': '3',
        'packed.store_dir': '/w/images',
    }
    # a name that options use is none itself; 1 - 0.9 without dust
    assert sweep.varied(points[-1], Path('/w')) == {
        'a.soft': '0.9',
        'a.hard': '0.1',
        'batch_size': '32',
    }


def test_methods_are_a_choice_among_configs(tmp_path):
    text = (
        "configs = dict(a='kd_wrn50_mbv2.py', b='hybrid_wrn50_mbv2.py')\n"
        "space = {'optim_wrapper.optimizer.lr': "
        'dict(low=1e-3, high=0.1, log=True)}\ntrials = 5\nseeds = [3, 5]'
    )
    sweep = read(tmp_path, text)
    assert sweep.sampler == 'tpe' and sweep.seeds == (3, 5)
    assert sweep.space['method'] == ('a', 'b')
    params = {'method': 'b', 'optim_wrapper.optimizer.lr': 0.01}
    assert sweep.config_of(params).name == 'hybrid_wrn50_mbv2.py'
    assert sweep.varied(params, Path('/w')) == {'optim_wrapper.optimizer.lr': '0.01'}
    assert read(tmp_path, text, trials=7).trials == 7


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        (
            "sampler = 'grid'",
            "sampler = 'best'",
            "sampler: Input should be 'grid', 'tpe' or 'random', not 'best'",
        ),
        ("sampler = 'grid'", '', 'needs trials'),
        ("sampler = 'grid'", "sampler='grid'; trials=3", 'grid has 4 points'),
        ("sampler = 'grid'", "sampler='grid'; jobs=3", 's.py: jobs is no known key'),
        ("sampler = 'grid'", "sampler='grid'; seeds=0", 'seeds: must be how many'),
        (
            "sampler = 'grid'",
            "sampler='grid'; sampler_seed=-1",
            'sampler_seed: .* greater',
        ),
        ("sampler = 'grid'", "sampler='grid'; pruner='x'", "pruner: must be 'median'"),
        (
            "sampler = 'grid'",
            "sampler='grid'; metric='x'",
            "metric: Input should be .*not 'x'",
        ),
        (
            "sampler = 'grid'",
            "sampler='grid'; configs={}",
            'configs: .* at least 1 item',
        ),
        ('[0.1, 0.9]', 'dict(low=0.1, high=0.9)', 'a grid needs lists'),
        ('[0.1, 0.9]', '[0.1, 0.1]', 'names a value twice'),
        ('[0.1, 0.9]', '[]', 'at least 1 item .*give a list of values'),
        ('[0.1, 0.9]', '0.1', 'array.*give a list of values'),
        ('[0.1, 0.9]', '[[1, 2]]', 'alpha.*: 0'),
        ('[0.1, 0.9]', '[float("nan")]', 'alpha.*: 0'),
        ('[0.1, 0.9]', 'dict(low=2, high=1)', 'low must be below high'),
        ('[0.1, 0.9]', 'dict(low=0, high=1, log=True)', 'alpha.*: .*low.*log'),
        ('[0.1, 0.9]', 'dict(low=0, top=1)', 'alpha.*: high: Field required'),
        ('{1 - alpha}', '{1 - beta}', 'beta is not in the space'),
        ('{1 - alpha}', '{1 -}', 'cannot be read'),
        ("'a.soft'", "'batch_size'", 'is also in the space'),
        ("'a.soft'", "'seed'", 'sets seed'),
        ("'alpha':", "'method':", 'give the methods as configs'),
        ('zoo/kd_hard', 'zoo/none', 'does not exist'),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(UserError, match=said):
        read(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ("seeds='x'", 'seeds: must be how many'),
        ('seeds=[0, 0]', 'seeds: must be'),
        ('seeds=[True]', 'seeds: must be'),
        ('seeds=10**9', 'seeds: must be'),
        ("sampler='tpe'; trials=-1", 'trials: .*greater'),
        ("sampler='tpe'; trials=10**9", 'trials: .*less'),
        ("sampler='tpe'; trials='x'", 'trials: .*integer'),
        ('space=[1]', 'space: .*object'),
        ('space=dict(alpha=[])', 'at least 1'),
        ("space=dict(alpha='0.1')", 'array.*not .0.1.; give a list'),
        ("space=dict(alpha=dict(low='x', high=1))", 'low'),
        ('space=dict(alpha=dict(low=0, high=float("inf")))', 'high'),
        ('space=dict(alpha=dict(low=0, high=10**400))', 'alpha'),
        ('options=3', 'options: .*object'),
        ("options={'a': '{9**9**9**9}'}", r'{9\*\*9\*\*9\*\*9} cannot be read'),
        ('pruner=3', 'pruner: must be'),
        ("pruner=dict(type=['median'])", 'pruner: must be'),
        ('config=3', 'config: .*string'),
        ("configs=['a']; config=None", 'configs: .*object'),
        ("smapler='grid'", 'did you mean sampler'),
        (
            'space={n: list(range(1000)) for n in ["alpha", *"abcde"]}',
            'grid has 1000000000000000',
        ),
    ],
)
def test_values_of_another_kind_are_named(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, f'{GOOD}{text}\n')
    assert '\n' not in str(caught.value)


def test_the_name_of_a_sweep_is_that_of_a_folder(tmp_path):
    for name in ('-x', '_+ =', 'a\nb', b'caf\xe9'.decode(errors='surrogateescape')):
        path = tmp_path / f'{name}.py'
        path.write_text(GOOD)
        with pytest.raises(UserError, match='a name begins|no UTF-8') as caught:
            read_sweep(path)
        assert '\n' not in str(caught.value).removeprefix(str(path))


def test_braces_hold_a_name_or_its_difference_to_one():
    known = dict(alpha=0.9, n=3, work_dir='/w')
    assert fill_in('{work_dir}/x{n}', known) == '/w/x3'
    assert fill_in('{1 - alpha}', known) == '0.1'  # not 0.09999999999999998
    assert fill_in('{1-n}', known) == '-2'
    assert fill_in([0.1], known) == '[0.1]'
    assert names_in('{a}/{1 - b} c {d}') == {'a', 'b', 'd'}
    for text in ('{2 * alpha}', '{open("x")}', '{n.real}', '{1 - 1}'):
        with pytest.raises(UserError, match='cannot be read; write'):
            names_in(text)
    with pytest.raises(UserError, match="work_dir='/w' is no number"):
        fill_in('{1 - work_dir}', known)


def test_values_are_told_apart():
    assert as_key(dict(a=1, b=2)) == as_key(dict(b=2.0, a=1.0))
    assert len({as_key(value) for value in (1, True, '1', None, 'None')}) == 5


def test_a_grid_may_grow_and_whole_numbers_stay_whole():
    entries = [
        (0.1, 1),
        (16, 32),
        (1, None),
        Range(1, 4),
        Range(1.0, 4.0, log=True),
    ]
    found = [distribution(entry, grid=True) for entry in entries]
    names = [type(value).__name__[:5] for value in found]
    assert names == ['Float', 'IntDi', 'Categ', 'IntDi', 'Float']
    assert (found[0].low, found[0].high) == (0.1, 1.0)
    assert found[4].log


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_fit_their_configs(path, tmp_path):
    sweep = read_sweep(path)
    check_options(sweep, tmp_path, [])  # raises
    assert sweep.trials > 3


def test_the_study_of_alpha_weighs_both_terms():
    for name, loss in (('kl', 'loss_kl'), ('dist', 'loss_dist')):
        sweep = read_sweep(ROOT / f'configs/sweeps/{name}_alpha_effb7_mbv2_isic2019.py')
        assert {0.1, 0.3, 0.5, 0.7, 0.9} <= set(sweep.space['alpha'])
        losses = 'model.distiller.distill_losses'
        assert sweep.varied(dict(alpha=0.7), Path('/w')) == {
            f'{losses}.{loss}.loss_weight': '0.7',
            f'{losses}.loss_ce.loss_weight': '0.3',
        }


@pytest.mark.parametrize(
    ('metric', 'more_is_better'),
    [('dice', True), ('hd95', False), ('patient_hd95', False)],
)
def test_a_sweep_of_segmentors_is_read(tmp_path, metric, more_is_better):
    sweep = read(
        tmp_path,
        "config = 'segmentation/kd_unet-r152_unet-r18_lidc.py'\n"
        "space = {'model.distiller.distill_losses.loss_kd.tau': [1.0, 2.0]}\n"
        f"sampler = 'grid'\nmetric = {metric!r}\n",
    )
    assert (sweep.metric, sweep.maximised) == (metric, more_is_better)
    said = 'highest' if more_is_better else 'lowest'
    assert f'the {said} {metric}' in rule(sweep, [])


MASKS = (
    "config = 'segmentation/kd_unet-r152_unet-r18_lidc.py'\n"
    "space = {'batch_size': [8, 16]}\nsampler = 'grid'\n"
)


def test_by_default_it_is_what_chooses_checkpoints(tmp_path):
    assert read(tmp_path, MASKS).metric == 'dice'
    other = GOOD.replace(
        'zoo/kd_hard/kd_hard_wrn50_mbv2_skin', 'curriculum/mbv2_isic2019'
    )
    assert read(tmp_path, other).metric == 'top1'
    key = 'default_hooks.checkpoint.save_best'
    for name, metric in (('patient_dice', 'patient_dice'), ('auto', 'dice')):
        text = f'{MASKS}options = {{{key!r}: {name!r}}}\n'
        assert read(tmp_path, text).metric == metric
    both = (
        "configs = dict(a='curriculum/mbv2_isic2019.py', "
        "b='hybrid_wrn50_mbv2.py')\nsampler = 'grid'\n"
    )
    with pytest.raises(UserError, match='by balanced_accuracy and by top1'):
        read(tmp_path, both)
    assert read(tmp_path, both + "metric = 'top1'\n").metric == 'top1'


def test_a_metric_of_another_task_is_refused(tmp_path):
    said = 'balanced_accuracy is a metric of classes, and .* chosen by dice'
    with pytest.raises(UserError, match=said):
        read(tmp_path, MASKS + "metric = 'balanced_accuracy'\n")
    with pytest.raises(UserError, match='dice is a metric of masks'):
        read(tmp_path, GOOD + "metric = 'dice'\n")


def test_the_figures_of_masks_are_told(tmp_path):
    from hkd_mm.experiments.sweep_report import tested_figures

    (tmp_path / 'test.json').write_text(
        '{"dice": 0.5, "hd95": 7.0, "precision": 0.25, "loss": 1.0}'
    )
    sweep = SimpleNamespace(seeds=(0,), metric='precision')
    queue = SimpleNamespace(sweep=sweep, run_folder=lambda number, seed: tmp_path)
    found = tested_figures(queue, 0)
    assert found == dict(dice=0.5, hd95=7.0, precision=0.25)


def test_a_varied_option_is_not_given_by_hand(tmp_path):
    sweep = read_sweep(ROOT / 'configs/sweeps/hybrid_alpha_tau.py')
    key = 'model.distiller.distill_losses.loss_hybrid.tau'
    with pytest.raises(UserError, match='varies it'):
        check_options(sweep, tmp_path, [f'{key}=3.0'])
    with pytest.raises(UserError, match='has no "max_epoch"'):
        check_options(sweep, tmp_path, ['max_epoch=3'])


RANGE = """
config = 'zoo/kd_hard/kd_hard_wrn50_mbv2_skin.py'
space = {'batch_size': dict(low=16, high=32)}
trials = 3
"""


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('high=32', 'high=64', 'ranges is other'),
        ('trials', "pruner = 'median'; trials", 'pruner is other'),
        ('trials', 'sampler_seed = 1; trials', 'sampler_seed is other'),
        ('trials', 'options = dict(max_epochs=2); trials', 'options is other'),
        ('trials = 3', 'trials = 5', None),
        ('trials', "title = 'x'; trials", None),
    ],
)
def test_what_a_sweep_goes_on_with(tmp_path, old, new, said):
    assert old in RANGE
    study = Attributes()
    options = [f'data_root={tmp_path}/none']  # on other machines
    first = sweep_settings(read(tmp_path, RANGE), tmp_path, options)
    check_settings(study, first, tmp_path)
    sweep = read(tmp_path, RANGE.replace(old, new))
    again = sweep_settings(sweep, tmp_path, options)
    if said is None:
        check_settings(study, again, tmp_path)
        return
    with pytest.raises(UserError, match=said):
        check_settings(study, again, tmp_path)


def test_a_sweep_goes_on_with_its_split_alone(tmp_path, monkeypatch):
    study, sweep = Attributes(), read(tmp_path, RANGE)
    for folder, split in (
        ('none', None),  # begun where the data is not
        ('a', 'x'),
        ('b', 'x'),  # the same images in another place
        ('none', None),
        ('a', 'y'),
    ):
        if split:
            (tmp_path / folder).mkdir(exist_ok=True)
        found = Mock(return_value=SimpleNamespace(split_hash=split))
        monkeypatch.setattr(data_summary, 'summarize_data', found)
        options = [f'data_root={tmp_path}/{folder}']
        settings = sweep_settings(sweep, tmp_path, options)
        if split == 'y':
            with pytest.raises(UserError, match='split of config kd_hard'):
                check_settings(study, settings, tmp_path)
        else:
            check_settings(study, settings, tmp_path)


class Attributes:
    """As much of a study as settings need."""

    def __init__(self):
        self.user_attrs = {}

    def set_user_attr(self, name, value):
        self.user_attrs[name] = dict(value)


def test_the_rule_says_how_often_the_test_split_was_read(tmp_path):
    sweep = read(tmp_path, RANGE)
    assert 'read for the winner alone, once.' in rule(sweep, [2])
    assert 'read for 2 trials (1, 4), each the winner' in rule(sweep, [1, 4])
    assert 'read by no trial' in rule(sweep, [])
    sweep = read(tmp_path, RANGE + 'seeds = 2')
    assert 'read for the winner alone, once with each seed.' in rule(sweep, [2])
