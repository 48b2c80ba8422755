# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One view, two resolutions: the teacher is shown images of its own size."""

import json

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from hkd_mm.apis import train
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.models.algorithms.frozen_teacher_distill import FrozenTeacherDistill
from hkd_mm.registry import MODELS

AUGMENT = [
    dict(type='hkd_mm.HorizontalFlip'),
    dict(type='hkd_mm.Rotate', degrees=30),
    dict(type='hkd_mm.RandomResizedCrop', scale=(0.5, 1.0)),
    dict(type='hkd_mm.ColorJitter', brightness=0.3),
]


def made(size, augment=AUGMENT, **kwargs):
    config = dict(type='hkd_mm.PackedPreprocessor', augment=augment, input_size=size)
    return MODELS.build(dict(config, **kwargs))


def batch_of(photos):
    index = torch.arange(len(photos))
    return dict(inputs=photos, labels=index % 2, index=index)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('mixing', [[], [dict(type='hkd_mm.Mixup')]])
def test_both_see_one_view(photos, training, mixing):
    augment = AUGMENT + mixing
    alone = made(40, augment, num_classes=2)
    both = made(20, augment, num_classes=2, teacher_size=40)
    wanted = alone(batch_of(photos), training)['inputs']
    found = both(batch_of(photos), training)
    assert torch.equal(found['data_samples'].teacher_images, wanted)
    assert torch.equal(found['inputs'], F.avg_pool2d(wanted, 2))
    assert alone.fingerprint() == both.fingerprint()  # what the teacher answers to


def test_an_evaluation_takes_images_of_the_students_size(photos):
    found = made(20, teacher_size=40)(batch_of(photos[:, :20, :20]), False)
    assert found['inputs'].shape[2:] == (20, 20)
    assert found['data_samples'].teacher_images is None


def test_training_images_must_be_large_enough(photos):
    with pytest.raises(UserError, match=r'packed at 40; set .*margin=2$'):
        made(20, teacher_size=80)(batch_of(photos), True)
    with pytest.raises(UserError, match='needs input_size'):
        made(None, teacher_size=80)


def test_a_distillation_at_two_sizes(tiny_configs, quick_runner, tmp_path, monkeypatch):
    """The teacher is trained at its size; with a cache as without."""
    hooks = [
        dict(type=f'hkd_mm.{n}Hook') for n in ('View', 'TeacherCache', 'RunReport')
    ]
    with tiny_configs['kd'].open('a') as file:
        file.write(f'custom_hooks = custom_hooks + {hooks}\n')
    seen = []
    run = FrozenTeacherDistill.run_student
    monkeypatch.setattr(
        FrozenTeacherDistill,
        'run_student',
        lambda self, images, samples: (
            seen.append((images.shape[-1], samples.teacher_images.shape[-1]))
            or run(self, images, samples)
        ),
    )
    weights = []
    for cache in (False, dict(num_views=2, features='float32')):
        folder = tmp_path / f'cache_{bool(cache)}'
        train(
            str(tiny_configs['kd']),
            str(folder),
            cfg_options=dict(
                max_epochs=1,
                packed=True,
                teacher_input_size=32,
                teacher_cache=cache,
                teacher_config='tiny_teacher.py',
            ),
        )
        weights.append(safe_load(str(folder / 'epoch_1.pth'))['state_dict'])
    assert set(seen) == {(16, 32)}
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-4, atol=1e-5)
    teacher = Config.fromfile(tmp_path / 'tiny_teacher/tiny_teacher.py')
    assert teacher.train_dataloader.dataset.size == 32
    report = json.loads((folder / 'metrics.json').read_text())
    assert report['teacher']['input_size'] == [32, 32]
    assert report['student']['input_size'] == [16, 16]
