# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The shipped studies of papers: their figures, and the size small."""

from functools import cache
from pathlib import Path

import pytest

from hkd_mm.config.compose import load_config
from hkd_mm.config.tree import dicts
from hkd_mm.datasets.class_folders import HAM10000
from hkd_mm.experiments.study import Run, read_study

STUDIES = Path(__file__).resolve().parents[2] / 'configs/studies'
PAPERS = sorted(path.stem for path in STUDIES.glob('s[145]_*.py'))


@cache
def read(name, size=None):
    return read_study(STUDIES / f'{name}.py', size)


def rows_of(name, size=None):
    return {row.name: row for row in read(name, size).rows}


@pytest.mark.parametrize('name', PAPERS)
def test_the_size_small_is_of_ham10000_with_the_papers_figures(name):
    study = read(name, 'small')
    has_paper = {key for row in study.rows for key in row.paper}
    assert has_paper & set(study.metrics)
    for row in study.rows:
        cfg = load_config(row.config, Run(row, 0).options(Path('w')), False)
        assert tuple(cfg.classes) == HAM10000.classes, row.name
        assert cfg.input_size == 64 and cfg.packed, row.name
        heads = {n.get('num_classes', 7) for n in dicts(cfg.model)}
        assert heads == {7}, row.name
        if 'teacher_ckpt' in cfg.model and cfg.model.teacher_ckpt:
            assert Path(cfg.model.teacher_ckpt).parent.name in (
                'resnet18',
                'teacher',
            )


def test_the_methods_and_figures_at_size_small_are_the_papers():
    for name in ('s4_table4', 's4_table6', 's5_table2'):
        small, whole = rows_of(name, 'small'), rows_of(name)
        kept = small.keys() & whole.keys()
        assert len(kept) >= len(whole) - 1  # but for the teacher
        for key in kept - {'alone'}:
            assert small[key].config == whole[key].config
    for alpha in (0.1, 0.3, 0.5, 0.7, 0.9):
        for method in ('kl', 'dist', 'kl_curriculum', 'dist_curriculum'):
            row = rows_of('s5_table2', 'small')[f'{method}_{alpha}']
            cfg = load_config(row.config, Run(row, 0).options(Path('w')), False)
            losses = cfg.model.distiller.distill_losses
            kind = method.split('_')[0]
            assert losses[f'loss_{kind}'].loss_weight == alpha
            assert losses.loss_ce.loss_weight == round(1 - alpha, 1)
            assert losses.loss_ce.class_weight is None
            sampler = cfg.train_dataloader.sampler.type
            assert sampler == (
                'hkd_mm.CurriculumSampler'
                if 'curriculum' in method
                else 'hkd_mm.BalancedSampler'
            )
            assert cfg.model.teacher_cache.dir == 'w/cache'
            assert row.paper == rows_of('s5_table2')[row.name].paper


def test_table_4_at_size_small_has_the_classes_of_ham10000():
    study = read('s4_table4', 'small')
    names = [name.split('/')[0] for name in study.metrics[:-1]]
    assert tuple(names) == HAM10000.classes
    paper = rows_of('s4_table4', 'small')['dspkd'].paper
    assert paper['mel/f1'] == 0.902 and paper['akiec/f1'] == 0.9112
    assert paper['macro_f1'] == 0.9135
    assert paper.keys() == set(study.metrics)


@pytest.mark.parametrize(
    ('row', 'parameters', 'milliseconds'),
    [
        ('res2net101_isic2019', 43.174, 297),
        ('alone', 1.262, 46),
        ('ssdkd', 1.13, 72),
        ('dspkd', 1.09, 23),
    ],
)
def test_table_6_has_the_papers_cost(row, parameters, milliseconds):
    for size in (None, 'small'):
        study, rows = read('s4_table6', size), rows_of('s4_table6', size)
        name = row
        if size and row.startswith('res2net101'):
            name = 'resnet18'
        assert rows[name].paper['parameters'] == parameters
        assert rows[name].paper['milliseconds'] == milliseconds
        assert {'parameters', 'milliseconds'} <= set(study.metrics)
