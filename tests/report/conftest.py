# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A small study as run folders, made of drawn scores."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('plotly')

CHROME = shutil.which('chromium') or shutil.which('google-chrome')
SWITCHES = (
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
)
CLASSES = ['bcc', 'mel', 'nv']
SIGNAL = dict(teacher=3.0, alone=1.0, kd=2.0, dist=1.5)
ENVIRONMENT = dict(
    hkd_mm='0.1.0',
    python='3.11.7',
    packages=dict(torch='2.11.0'),
    cpu='a processor',
    gpus=[],
    command=['tools/train.py', 'kd.py', 'data_root=/data/skin'],
)


def write_study(place):
    """Four rows of two seeds: 240 test and 120 validation images."""
    random = np.random.default_rng(0)
    for name, signal in SIGNAL.items():
        for seed in range(2):
            folder = place / f'seed{seed}' / name
            folder.mkdir(parents=True)
            write_scores(folder / 'predictions.csv', 't', 240, signal, random)
            write_scores(folder / 'predictions_val.csv', 'v', 120, signal, random)
            write_rest(folder, name, seed)
    with (place / 'metadata.csv').open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(['image_id', 'age', 'sex', 'localization'])
        for i in range(240):
            sex = 'female' if i % 2 else 'male'
            site = 'scalp' if i < 10 else 'back'
            writer.writerow([f't{i:03}', 20 + i // 4, sex, site])
    return place


def labels_of(count):
    return np.random.default_rng(count).integers(0, 3, count // 2).repeat(2)


def write_scores(path, mark, count, signal, random):
    """Two images a lesion, softmax scores that know the label a little."""
    labels = labels_of(count)
    logits = random.normal(size=(count, 3))
    logits[np.arange(count), labels] += signal
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    with path.open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ['sample_id', 'lesion_id', 'label', 'prediction']
            + [f'score_{name}' for name in CLASSES]
        )
        for i in random.permutation(count):
            writer.writerow(
                [f'{mark}{i:03}', f'{mark}l{i // 2}', CLASSES[labels[i]]]
                + [CLASSES[scores[i].argmax()]]
                + [f'{score:.6f}' for score in scores[i]]
            )


def write_rest(folder, name, seed):
    figures = dict(
        balanced_accuracy=0.5 + 0.1 * SIGNAL[name] + 0.01 * seed,
        top1=0.5,
        macro_f1=0.4,
        macro_auroc=0.8,
    )
    large = name == 'teacher'
    report = dict(
        config=f'{name}.py',
        seed=seed,
        split_hash='a' * 64,
        epochs=3,
        training_minutes=2.0 + seed,
        best=figures,
        student=dict(
            parameters=9_000_000 if large else 700_000,
            gmacs=0.15 if large else 0.01,
            input_size=[64, 64],
        ),
    )
    if name in ('kd', 'dist'):
        report['teacher'] = dict(parameters=9_000_000, gmacs=0.15)
    history = [
        dict(
            epoch=epoch,
            train={'loss': 3.0 / epoch, 'distill.loss_kd': 2.0 / epoch},
            val=dict(balanced_accuracy=0.2 * epoch),
        )
        for epoch in (1, 2, 3)
    ]
    for file, content in (
        ('metrics.json', report),
        ('test.json', figures),
        ('history.json', history),
        ('environment.json', ENVIRONMENT),
    ):
        (folder / file).write_text(json.dumps(content))
    (folder / 'student.pth').touch()


@pytest.fixture(scope='session')
def study_dir(tmp_path_factory):
    """Do not write there."""
    return write_study(tmp_path_factory.mktemp('study') / 'small')


@pytest.fixture(scope='session')
def study_labels():
    """Of its test images, in the order of their names."""
    return labels_of(240)


@pytest.fixture(scope='session')
def page(study_dir, tmp_path_factory):
    """The page of that study."""
    from hkd_mm.report import make_report

    return make_report(
        [str(study_dir)],
        str(tmp_path_factory.mktemp('page') / 'report.html'),
        options=dict(
            images=False,
            calibration=False,
            metadata=str(study_dir / 'metadata.csv'),
            cam_images=0,
            title='<b>Small & new</b>',
        ),
        report=lambda line: None,
    )


@pytest.fixture(scope='module')  # its event loop is in the way of others
def browser():
    if CHROME is None:
        pytest.skip('no Chromium on this machine')
    api = pytest.importorskip('playwright.sync_api')
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROME, args=list(SWITCHES))
        yield found
        found.close()


@pytest.fixture(scope='module')
def open_page(browser):
    """``open_page(path, width, scheme)`` is a tab, with what it said."""

    def open_it(page, width=1280, scheme='light'):
        tab = browser.new_page(
            viewport=dict(width=width, height=900), color_scheme=scheme
        )
        tab.said, tab.asked = [], []
        tab.on('console', lambda message: tab.said.append(message.text))
        tab.on('pageerror', lambda error: tab.said.append(str(error)))
        tab.on('request', lambda request: tab.asked.append(request.url))
        tab.goto(Path(page).resolve().as_uri())
        tab.wait_for_selector('body[data-drawn]', timeout=60_000)
        return tab

    return open_it
