# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A report of segmentors: figures, patients, and masks to look at."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from tiny_slices import copy_run, make_slice_run

from hkd_mm.errors import UserError
from hkd_mm.metric_names import OF_SLICES
from hkd_mm.report import make_report
from hkd_mm.report.data import gather, read_predictions
from hkd_mm.report.pictures import choose_masks

pytest.importorskip('segmentation_models_pytorch')
STEPS = dict(teacher=30, alone=4, kd=15)
DICE = dict(teacher=0.9, alone=0.5, kd=0.7)
NAMES = [f'3/p3_{number}' for number in range(10)]


@pytest.fixture(scope='module')
def masks_dir(tmp_path_factory):
    """Three rows of two seeds; the networks of a row are one."""
    place = tmp_path_factory.mktemp('masks')
    random = np.random.default_rng(0)
    for name, steps in STEPS.items():
        network = make_slice_run(place, name, steps=steps)
        for seed in range(2):
            folder = place / 'study' / f'seed{seed}' / name
            shutil.copytree(network, folder, copy_function=copy_run)
            write_rows(folder, DICE[name], random)
    return place / 'study'


def write_rows(folder, dice, random):
    rows = []
    for number, name in enumerate(NAMES):
        value = min(1.0, dice + random.uniform(-0.1, 0.1))
        rows.append(
            dict(
                sample_id=name,
                patient=f'p{number // 4}',
                dice=value,
                iou=value / (2 - value),
                sensitivity='' if number == 0 else value,
                precision=value,
                hd95=20 * (1 - value),
            )
        )
    with (folder / 'predictions.csv').open('w', newline='') as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[::-1])
    figures = {
        name: float(np.mean([row[name] for row in rows if row[name] != '']))
        for name in OF_SLICES
    }
    name = folder.name
    report = dict(
        config='unet.py', seed=0, split_hash='a' * 64, epochs=2,
        training_minutes=1.0, best=dict(dice=dice),
        student=dict(parameters=9e6 if name == 'teacher' else 1e6, gmacs=0.1,
                     input_size=[32, 32]),
    )  # fmt: skip
    if name == 'kd':
        report['teacher'] = dict(parameters=9e6)
    history = [
        dict(epoch=e, train={'loss': 1 / e}, val=dict(dice=dice * e / 2))
        for e in (1, 2)
    ]
    for file, content in (
        ('metrics.json', report),
        ('test.json', figures),
        ('history.json', history),
    ):
        (folder / file).write_text(json.dumps(content))


def test_runs_of_masks_are_read(masks_dir):
    material = gather([str(masks_dir)])
    assert material.compared_by == 'dice' and material.of_masks
    assert material.sample_ids == NAMES
    assert 'images of 3 patients' in material.basis
    roles = {role: method.name for role, method in material.roles.items()}
    assert roles == {
        'teacher': 'teacher', 'student alone': 'alone', 'distilled': 'kd'
    }  # fmt: skip
    figures = material.distilled.figures
    assert figures['dice'].shape == (2, 10)
    assert set(figures) == set(OF_SLICES)
    assert np.isnan(figures['sensitivity'][0, 0])
    found = material.dice_by_patient(material.distilled)
    assert found['p1'] == pytest.approx(figures['dice'][:, 4:8].mean())


def test_the_greatest_gain_and_loss_are_shown(masks_dir):
    material = gather([str(masks_dir)])
    gain = material.distilled.figures['dice'][0]
    gain = gain - material.alone.figures['dice'][0]
    order = np.argsort(-gain)
    assert choose_masks(material, 4) == [*order[:2], *order[-2:]]
    assert choose_masks(material, 10) == order.tolist()
    material.alone = None
    worst = np.argsort(material.distilled.figures['dice'][0])
    assert choose_masks(material, 3) == worst[:3].tolist()


@pytest.fixture(scope='module')
def masks_page(masks_dir):
    """The page of it."""
    return make_report(
        [str(masks_dir)],
        str(masks_dir.parent / 'report.html'),
        options=dict(images=True),
    )


def test_the_page_shows_masks(masks_page):
    text = masks_page.read_text(encoding='utf-8')
    for number, title in enumerate(
        ['Comparison', 'Accuracy against cost', 'Images', 'Patients',
         'Training', 'Masks', 'Leakage', 'Model card'], 1,
    ):  # fmt: skip
        assert f'>{number}. {title}</h2>' in text
    assert 'Left out: ' not in text
    # eight slices: the image, the truth and three networks each
    assert text.count('data:image/jpeg') == 8 * 5
    assert 'patients whose images have the lowest mean Dice: p' in text
    assert 'train 20 images of 2 patients' in text


def test_figures_are_drawn_in_a_browser(open_page, masks_page):
    for width, scheme in ((1280, 'light'), (390, 'dark')):
        tab = open_page(masks_page, width, scheme)
        assert tab.said == []
        charts = tab.query_selector_all('.chart')
        assert {c.get_attribute('id') for c in charts} >= {
            'figure-slices', 'figure-patients', 'figure-losses'
        }  # fmt: skip
        for chart in charts:
            drawn = chart.eval_on_selector_all(
                '.main-svg .points path, .main-svg .lines path, '
                '.main-svg image, .main-svg path.box',
                'nodes => nodes.length',
            )
            assert drawn > 0, chart.get_attribute('id')
        wide = tab.evaluate('document.documentElement.scrollWidth')
        assert wide <= width
        tab.close()


def test_without_the_data_or_pictures_the_rest_is_there(masks_dir, tmp_path):
    out = str(tmp_path / 'report.html')
    options = dict(images=False)
    text = make_report([str(masks_dir)], out, options=options).read_text()
    assert 'Left out: --no-images' in text
    options = dict(images=True, data_root=str(tmp_path / 'gone'))
    text = make_report([str(masks_dir)], out, options=options).read_text()
    assert 'Left out: the data is not here' in text


def test_a_network_that_cannot_be_fed_is_left_out(masks_dir, tmp_path):
    study = tmp_path / 'study'
    shutil.copytree(masks_dir, study, copy_function=copy_run)
    config = next((study / 'seed0/kd').glob('*.py'))
    text = config.read_text()
    changed = re.sub(r'\bsize=32', 'size=32, margin=1.5', text)
    assert changed != text
    config.write_text(changed)
    page = make_report([str(study)], str(tmp_path / 'x.html'))
    assert 'Left out: an export repeats images packed' in page.read_text()


def test_what_is_no_table_of_figures_is_named(tmp_path):
    with pytest.raises(UserError, match='lost.csv is no file'):
        read_predictions(tmp_path / 'lost.csv')
    (tmp_path / 'a.csv').write_text('sample_id,patient,dice\nx,y,wide\n')
    with pytest.raises(UserError, match='no figures of masks .*wide'):
        read_predictions(tmp_path / 'a.csv')
