# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The teacher cache on slices with masks."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope

from hkd_mm.models.teacher_cache import open_teacher_cache

pytest.importorskip('segmentation_models_pytorch')
SIDE, VIEWS = 32, 2


def distillation(**kwargs):
    network = dict(type='hkd_mm.SMPSegmentor', encoder_name='resnet18')
    config = dict(
        type='hkd_mm.FrozenTeacherDistill',
        input_size=SIDE,
        architecture=network,
        teacher=network,
        distiller=dict(
            type='mmrazor.ConfigurableDistiller',
            distill_losses=dict(loss_kd=dict(type='hkd_mm.PixelKLLoss')),
        ),
        data_preprocessor=dict(
            type='hkd_mm.PackedMaskPreprocessor',
            window=(30000, 50000),
            num_views=VIEWS,
            augment=[
                dict(type='hkd_mm.HorizontalFlip'),
                dict(type='hkd_mm.Rotate', degrees=20, fill=0),
                dict(type='hkd_mm.RandomScale', fill=0),
            ],
        ),
        **kwargs,
    )
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(config)


def losses(model, data, order):
    """Of two epochs of two views."""
    found = []
    for epoch in range(2 * VIEWS):
        model.data_preprocessor.set_epoch(epoch)
        view = model.data_preprocessor.view
        cache = model.teacher_cache
        if cache is not None:
            read = cache.start_view(view, data.index, torch.device('cpu'))
            assert read == (epoch >= VIEWS)
        for rows in order:
            batch = data.__getitems__(rows)
            made = model.data_preprocessor(batch, training=True)
            with torch.no_grad():
                loss = model.loss(made['inputs'], made['data_samples'])
            (value,) = [v for k, v in loss.items() if 'loss_kd' in k]
            found.append(float(value))
    return found


def test_cached_answers_are_those_of_the_teacher(ct_root, dataset, packed_masks):
    data = packed_masks(dataset(ct_root, split='train'), size=SIDE)
    order = torch.randperm(len(data)).split(6)
    online = distillation().eval()
    cached = distillation(teacher_cache=dict(num_views=VIEWS)).eval()
    cached.load_state_dict(online.state_dict())
    cached.teacher.load_state_dict(online.teacher.state_dict())
    open_teacher_cache(cached, data, MMLogger.get_current_instance())
    for model in (online, cached):
        model.training = True  # the cache answers; batch norm stays
    want = losses(online, data, order)
    assert len(set(want)) > VIEWS
    assert losses(cached, data, order) == pytest.approx(want, rel=2e-3)
    entries = cached.teacher_cache.file.entries()
    assert len(entries) == VIEWS * len(data)
