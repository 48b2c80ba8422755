# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A finished run of a tiny network that has learnt its classes."""

from pathlib import Path

import numpy as np
from tiny import TINY_CLASSES, make_class_folders, write_tiny_configs


def make_tiny_run(place: Path) -> Path:
    """A work dir with ``student.pth`` and its config.

    Images are 24 x 24, the network takes 16 x 16, and those of the test split
    are empty files.
    """
    import torch

    data = make_class_folders(place / 'data')
    folder = place / 'tiny'
    folder.mkdir()
    config = write_tiny_configs(place, data)['student']
    text = config.read_text().replace(
        'scale=input_size)', "scale=input_size, interpolation='area')"
    )
    text = text.replace(
        'split_file = None', f'split_file = {str(place / "split.json")!r}'
    )
    (folder / 'tiny_student.py').write_text(text)
    (folder / 'test.json').write_text('{"balanced_accuracy": 0.25}')
    torch.manual_seed(0)
    np.random.seed(0)  # of the augmentation: the same run whatever ran before
    _train(folder)
    _spoil_test_images(folder)
    return folder


def _splits(folder: Path):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from hkd_mm.registry import DATASETS

    init_default_scope('mmpretrain')
    cfg = Config.fromfile(str(folder / 'tiny_student.py'))
    return cfg, {
        name: DATASETS.build(cfg[f'{name}_dataloader'].dataset)
        for name in ('train', 'val', 'test')
    }


def _train(folder: Path) -> None:
    import torch

    from hkd_mm.engine.student_export import plain, student_config
    from hkd_mm.registry import MODELS

    cfg, splits = _splits(folder)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    config = student_config(cfg.model)
    network = MODELS.build(config).train()
    samples = [splits['train'][i] for i in range(len(splits['train']))]
    images = torch.stack([one['inputs'] for one in samples])
    images = (images.flip(1).float() - 127.5) / 127.5
    labels = torch.cat([one['data_samples'].gt_label for one in samples])
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        logits = network(images, mode='tensor')
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    meta = dict(
        classes=list(TINY_CLASSES),
        epoch=2,
        seed=0,
        source='best.pth',
        split_hash=splits['train'].split_hash,
        student=config,
        data_preprocessor=config['data_preprocessor'],
    )
    torch.save(
        dict(state_dict=network.state_dict(), meta=plain(meta)),
        folder / 'student.pth',
    )


def _spoil_test_images(folder: Path) -> None:
    _, splits = _splits(folder)
    for place in range(len(splits['test'])):
        Path(splits['test'].get_data_info(place)['img_path']).write_bytes(b'')
