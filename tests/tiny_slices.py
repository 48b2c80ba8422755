# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Slices with masks for tests, and a finished run on them."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 40  # pixels of a slice
_CONFIGS = Path(__file__).parents[1] / 'configs/segmentation'


def make_slices(root: Path) -> Path:
    """Ten slices of each of four patients, with a bright disc or nothing."""
    rng = np.random.default_rng(0)
    rows = []
    y, x = np.mgrid[:SIDE, :SIDE]
    for patient, part in enumerate(('train', 'train', 'val', 'test')):
        for number in range(10):
            name = f'p{patient}_{number}'
            image = rng.integers(8000, 20000, (SIDE, SIDE))
            centre = rng.integers(10, 30, 2)
            disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 36
            disc &= number != 0  # one slice with nothing to see
            image[disc] += 40000
            for folder, pixels in (('Image', image), ('Mask', disc * 65535)):
                path = root / folder / f'{patient}' / f'{name}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint16)).save(path)
            rows.append(dict(patient_id=patient, original_image=name,
                             mask_image=name, mode=part))  # fmt: skip
    with (root / 'split_dataset.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def make_slice_run(
    place: Path, name: str = 'marked', seed: int = 0, steps: int = 60
) -> Path:
    """A work dir with ``student.pth`` of a small U-Net, and its config.

    Args:
        place: for the data ``ct``, made once, and the run.
        name: of the work dir.
        seed: of the network.
        steps: of training; some find the discs.
    """
    import torch
    from mmengine.registry import init_default_scope

    from hkd_mm.config.compose import compose_config
    from hkd_mm.engine.student_export import (
        plain,
        plain_preprocessor,
        student_config,
    )
    from hkd_mm.registry import DATASETS, MODELS

    init_default_scope('mmpretrain')
    data, folder = place / 'ct', place / name
    folder.mkdir(parents=True)
    if not data.exists():
        make_slices(data)
    cfg = compose_config(
        str(_CONFIGS / 'unet-r18_lidc.py'),
        [
            f'data_root={data}',
            'input_size=32',
            'data_preprocessor.window=(32000, 64000)',
            'model.encoder_name=tu-resnet10t',
            'model.encoder_depth=3',
            'model.decoder_channels=[8,8,8]',
            *(
                f'{part}_dataloader.dataset.store_dir={place / "packed"}'
                for part in ('train', 'val', 'test')
            ),
        ],
    )
    cfg.dump(folder / 'unet-r18_lidc.py')
    torch.manual_seed(seed)
    network = MODELS.build(cfg.model).train()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    ready = MODELS.build(cfg.data_preprocessor)(
        dataset.__getitems__(range(len(dataset)))
    )
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(network(**ready, mode='loss').values()).backward()
        optimizer.step()
    meta = dict(
        classes=['background', 'nodule'],
        epoch=2,
        seed=seed,
        source='best.pth',
        split_hash=dataset.split_hash,
        student=student_config(cfg.model),
        data_preprocessor=plain_preprocessor(cfg.data_preprocessor),
    )
    torch.save(
        dict(state_dict=network.state_dict(), meta=plain(meta)),
        folder / 'student.pth',
    )
    (folder / 'test.json').write_text('{"dice": 0.25, "hd95": 3.5}')
    return folder


def copy_run(source: str, target: str) -> None:
    """Copy a file of a run; weights, which no test changes, are linked."""
    (os.link if source.endswith('.pth') else shutil.copy2)(source, target)
