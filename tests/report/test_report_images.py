# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Real networks on real images: validation scores, maps and photographs."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from processes import ForkedTool

from hkd_mm.engine.student_export import student_config
from hkd_mm.errors import UserError
from hkd_mm.experiments import child_processes
from hkd_mm.io.images import data_uri
from hkd_mm.registry import MODELS
from hkd_mm.report.classes import calibration_section
from hkd_mm.report.data import gather
from hkd_mm.report.page import Pictures
from hkd_mm.report.pictures import (
    grad_cam_section,
    image_as_rgb,
    lost_section,
)
from hkd_mm.report.sources import (
    VAL_FILE,
    add_val_scores,
    lesions,
    predict,
    read_dataset,
)
from hkd_mm.report.subgroups import leakage_section


@pytest.fixture
def runs(tiny_configs, tmp_path):
    """A tiny teacher that is always right, and a student that never is."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)  # some random networks have maps without a peak
    for name, right in (('teacher', True), ('student', False)):
        folder = tmp_path / 'runs' / name
        folder.mkdir(parents=True)
        shutil.copy(tiny_configs[name], folder)
        cfg = Config.fromfile(tiny_configs[name])
        network = MODELS.build(cfg.model)
        meta = dict(
            student=student_config(cfg.model.to_dict()),
            data_preprocessor=cfg.data_preprocessor.to_dict(),
            classes=list(cfg.classes),
        )
        torch.save(
            dict(state_dict=network.state_dict(), meta=meta),
            folder / 'student.pth',
        )
        write_outcome(folder, cfg, right)
    return tmp_path / 'runs'


def write_outcome(folder, cfg, right):
    figures = dict(balanced_accuracy=float(right), top1=float(right))
    figures.update(macro_f1=0.5, macro_auroc=0.5)
    size = dict(parameters=2 if right else 1, gmacs=0.1)
    report = dict(best=figures, epochs=1, training_minutes=1.0, student=size)
    if not right:
        report['teacher'] = size
    (folder / 'metrics.json').write_text(json.dumps(report))
    (folder / 'test.json').write_text(json.dumps(figures))
    dataset = images_of(cfg)
    with (folder / 'predictions.csv').open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ['sample_id', 'lesion_id', 'label', 'prediction']
            + [f'score_{name}' for name in cfg.classes]
        )
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            label = info['gt_label']
            scores = [0.1, 0.1, 0.1]
            scores[label if right else (label + 1) % 3] = 0.8
            name = cfg.classes[label]
            writer.writerow([info['sample_id'], '', name, name, *scores])


def images_of(cfg):
    from mmengine.registry import DATASETS

    with DATASETS.switch_scope_and_registry('mmpretrain') as registry:
        dataset = registry.build(cfg.test_dataloader.dataset)
    dataset.full_init()
    return dataset


@pytest.fixture
def material(runs):
    return gather(
        [str(runs / 'teacher'), str(runs / 'student')],
        roles=dict(teacher='teacher', distilled='student'),
    )


def test_maps_and_photographs(material):
    pytest.importorskip('pytorch_grad_cam')
    material.options = dict(images=True, cam_images=4)
    chart, table, pictures = grad_cam_section(material).blocks
    assert len(chart.figure.data[0].x) == 4
    assert table.rows[0][1] == ('4', 4)
    assert len(pictures.tiles) == 4
    assert [len(tile.images) for tile in pictures.tiles] == [3] * 4
    material.options = dict(images=False, cam_images=4)
    assert not any(
        isinstance(block, Pictures)
        for make in (grad_cam_section, lost_section)
        for block in make(material).blocks
    )


def test_a_lost_photograph_is_that_of_its_name(material):
    material.options = dict(images=True)
    table, pictures = lost_section(material).blocks
    counts = np.bincount(material.labels, minlength=3)
    assert [row[2][1] for row in table.rows] == counts.tolist()
    assert [row[3][1] for row in table.rows] == [0, 0, 0]
    dataset = read_dataset(material, 'test', material.distilled)
    own = {dataset.get_data_info(i)['sample_id']: i for i in range(len(dataset))}
    for tile in pictures.tiles:
        name, _, told = tile.lines[0].partition(', true class ')
        image = dataset[own[name]]['inputs']
        assert tile.images[0][0] == data_uri(image_as_rgb(image))
        assert dataset.get_data_info(own[name])['gt_label'] == (
            material.classes.index(told)
        )
        assert tile.lines[1] == f'teacher: {told} 0.80'


def test_data_that_has_changed_costs_the_pictures_alone(material, runs):
    material.options = dict(images=True, cam_images=4)
    Path('cut.json').write_text('{')
    config = next((runs / 'student').glob('*.py'))
    text = config.read_text()
    config.write_text(
        f"{text}\ntest_dataloader['dataset']['split_file'] = 'cut.json'\n"
    )
    section = lost_section(material)
    assert len(section.blocks) == 1 and 'No photographs: ' in section.basis
    assert 'cut.json' in grad_cam_section(material).left_out


def test_all_three_parts_are_compared(material):
    told = dict(leakage_section(material).blocks[0].items)
    # class folders name no lesions
    assert told['In train and test'] == '0 images, lesions unknown'
    sizes = [len(read_dataset(material, split)) for split in ('train', 'val')]
    assert told['Parts'].startswith(f'train {sizes[0]} images, lesions un')
    assert f'val {sizes[1]} images' in told['Parts']


@pytest.mark.slow
def test_the_validation_split_is_predicted_by_the_tool(
    material, runs, tmp_path, monkeypatch, quick_runner
):
    monkeypatch.setattr(child_processes, 'start', ForkedTool)
    monkeypatch.setattr(child_processes, 'LOOK', 0.1)
    folder = runs / 'student'
    predict(folder)
    with (folder / VAL_FILE).open(newline='') as stream:
        names = {line['sample_id'] for line in csv.DictReader(stream)}
    assert names == set(lesions(read_dataset(material, 'val')))
    assert not names & set(material.sample_ids)


def test_the_reason_of_the_tool_is_handed_on(runs, material, monkeypatch):
    commands = []

    def fail(tool, arguments, log, options, threads):
        commands.append([tool, *arguments, *options])
        raise child_processes.Failed('the checkpoint is damaged')

    monkeypatch.setattr(child_processes, 'run_tool', fail)
    with pytest.raises(UserError, match=r'\(the checkpoint is damaged\)'):
        predict(runs / 'student')
    assert not any('data_root=' in word for word in commands[0])
    # the page goes without them, and says so
    material.options = dict(data_root='moved')
    said = []
    add_val_scores(material, True, said.append)
    assert 'data_root=moved' in commands[-1]
    assert [m.val_scores for m in material.methods] == [None, None]
    assert len(material.problems) == 2 and material.problems[0] in said
    assert '(the checkpoint is damaged)' in calibration_section(material).basis
    shutil.copy(runs / 'student/tiny_student.py', runs / 'student/two.py')
    with pytest.raises(UserError, match='holds 2 configs'):
        predict(runs / 'student')
