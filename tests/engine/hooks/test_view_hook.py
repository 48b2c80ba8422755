# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Views follow the epochs, through an interruption too."""

from types import SimpleNamespace

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from hkd_mm.engine.hooks.data_hooks import ViewHook
from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor

AUGMENT = [
    dict(type='hkd_mm.HorizontalFlip'),
    dict(type='hkd_mm.ColorJitter', brightness=0.3, hue=0.05),
    dict(type='hkd_mm.Rotate'),
]


class Watcher(BaseModel):
    """Remembers the images of each step by epoch."""

    def __init__(self, num_views):
        super().__init__(
            data_preprocessor=PackedPreprocessor(augment=AUGMENT, num_views=num_views)
        )
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, inputs, data_samples, mode='loss'):
        self.seen.append((data_samples.view, inputs))
        return dict(loss=self.weight.sum())


class Batches(torch.utils.data.Dataset):
    """Six images, one batch of three at a time."""

    def __len__(self):
        return 6

    def __getitem__(self, item):
        generator = torch.Generator().manual_seed(item)
        image = torch.randint(0, 256, (16, 16, 3), generator=generator)
        return dict(inputs=image.to(torch.uint8), labels=0, index=item)


def train(folder, epochs, resume=False, num_views=None):
    model = Watcher(num_views)
    Runner(
        model,
        str(folder),
        resume=resume,
        train_dataloader=dict(
            dataset=Batches(),
            batch_size=3,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[ViewHook()],
        default_hooks=dict(
            logger=None, checkpoint=dict(type='CheckpointHook', interval=1)
        ),
        experiment_name=f'{folder.name}{epochs}',
        log_level='ERROR',
    ).train()
    return model.seen


def test_a_resumed_run_sees_the_views_of_the_uninterrupted_one(tmp_path):
    whole = train(tmp_path / 'whole', 4)
    assert [view for view, _ in whole] == [0, 0, 1, 1, 2, 2, 3, 3]
    train(tmp_path / 'cut', 2)
    rest = train(tmp_path / 'cut', 4, resume=True)
    assert [view for view, _ in rest] == [2, 2, 3, 3]
    for (_, before), (_, after) in zip(whole[4:], rest):
        assert torch.equal(before, after)


def test_views_repeat(tmp_path):
    seen = train(tmp_path / 'run', 3, num_views=2)
    assert [view for view, _ in seen] == [0, 0, 1, 1, 0, 0]
    assert torch.equal(seen[0][1], seen[4][1])
    assert not torch.equal(seen[0][1], seen[2][1])


def test_other_preprocessors_are_left_alone():
    model = nn.Linear(1, 1)
    model.data_preprocessor = nn.Identity()
    before = dict(vars(model.data_preprocessor))
    ViewHook().before_train_epoch(SimpleNamespace(model=model, epoch=3))
    assert vars(model.data_preprocessor) == before
