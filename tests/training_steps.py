# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What every shipped method is put through."""

import subprocess
import sys
from pathlib import Path

import torch
from mmpretrain.structures import DataSample

ROOT = Path(__file__).resolve().parents[1]


def one_step(model, classes):
    """Every part of a model gets a gradient, from a loss worth the name."""
    samples = [DataSample().set_gt_label(i % classes) for i in range(4)]
    losses = model.loss(torch.randn(4, 3, 64, 64), samples)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.isfinite() and total > 0
    total.backward()
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert idle == []  # distributed training refuses them


def two_epochs(path, images, given, first, folder):
    """tools/train.py on the demo pair; it and ``first`` come to their end."""
    run = subprocess.run(
        [
            sys.executable,
            str(ROOT / 'tools/train.py'),
            str(path),
            '--work-dir',
            str(folder / 'run'),
            '--cfg-options',
            'pair=demo',
            f'data_root={images}',
            'max_epochs=2',
            *given,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (folder / 'run' / 'student.pth').is_file()
    runs = {file.parent.name for file in folder.glob('*/run_state.json')}
    assert runs == {'run'} | first
