# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distil as a user of timm or of torchdistill would; runs in their place.

``timm`` follows its train script with ``--kd-model-name`` (the script is in
neither its wheel nor its sdist): its data set, loader with prefetcher,
optimizer, ``LogitDistillationTask`` and loop, the loss read in each step.
``timm bf16`` adds ``--amp --amp-dtype bfloat16 --channels-last``.
``torchdistill`` follows its image_classification example: a configuration of
the form of its KD sample, torchvision's images and transforms, its
distillation box and metric logger.

Both get the same networks of timm, random weights, KD at T = 4 with weight
0.85, the hard label with 0.15, and SGD.

Example:
    python _peer_training.py timm --data DIR --epochs 2 --out probe.json
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path

import timm
import torch
from _common import machine
from _measure import tree_cpu_seconds

TAU, SOFT, HARD = 4.0, 0.85, 0.15
SGD = dict(lr=1e-4, momentum=0.9, weight_decay=1e-4)
MEAN = STD = (0.5, 0.5, 0.5)
LOG_INTERVAL = 50  # of steps, as train.py


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument('peer', choices=PEERS)
    parser.add_argument('--data', required=True, help='class folders')
    parser.add_argument('--teacher', required=True)
    parser.add_argument('--student', required=True)
    parser.add_argument('--size', type=int, required=True)
    parser.add_argument('--batch', type=int, required=True)
    parser.add_argument('--workers', type=int, required=True)
    parser.add_argument('--epochs', type=int, required=True)
    parser.add_argument('--out', type=Path, required=True)
    return parser.parse_args()


def networks(args: argparse.Namespace, device) -> tuple:
    """(student, teacher); the teacher is frozen."""
    classes = sum(entry.is_dir() for entry in os.scandir(args.data))
    torch.manual_seed(0)
    student, teacher = (
        timm.create_model(name, num_classes=classes).to(device)
        for name in (args.student, args.teacher)
    )
    return student, teacher.eval().requires_grad_(False)


def timm_epoch(
    args: argparse.Namespace, device: torch.device, bf16: bool = False
) -> Callable[[int], int]:
    """A function that trains epoch n and returns its number of images."""
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.task import LogitDistillationTask
    from timm.utils import AverageMeter

    student, teacher = networks(args, device)
    if bf16:
        student.to(memory_format=torch.channels_last)
    # Flip and colours as ours; train.py has no rotation but in RandAugment.
    loader = create_loader(
        create_dataset('', root=args.data, split='train', is_training=True),
        input_size=(3, args.size, args.size),
        batch_size=args.batch,
        is_training=True,
        scale=(1.0, 1.0),  # the whole image
        hflip=0.5,
        color_jitter=0.3,
        interpolation='bilinear',
        mean=MEAN,
        std=STD,
        num_workers=args.workers,
        device=device,
    )
    task = LogitDistillationTask(
        student_model=student,
        teacher_model=teacher,
        criterion=torch.nn.CrossEntropyLoss(),
        distill_loss_weight=SOFT,
        task_loss_weight=HARD,
        temperature=TAU,
        device=device,
        verbose=False,
    )
    optimizer = create_optimizer_v2(student, opt='sgd', **SGD)
    autocast = (
        partial(torch.autocast, device.type, torch.bfloat16) if bf16 else nullcontext
    )

    def epoch(index: int) -> int:
        task.get_trainable_module().train()
        losses, times = AverageMeter(), AverageMeter()
        begun, images = time.time(), 0
        optimizer.zero_grad()
        for step, (inputs, labels) in enumerate(loader):
            if bf16:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            with autocast():
                loss = task(inputs, labels)['loss']
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(inputs))
            optimizer.zero_grad()
            times.update(time.time() - begun)
            begun, images = time.time(), images + len(inputs)
            if step % LOG_INTERVAL == 0:
                print(f'{index} [{step}] {losses.avg:.3g} {times.avg:.3f}')
        return images

    return epoch


def torchdistill_epoch(
    args: argparse.Namespace, device: torch.device
) -> Callable[[int], int]:
    """A function that trains epoch n and returns its number of images."""
    from torch.utils.data import RandomSampler
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.misc.log import MetricLogger, SmoothedValue
    from torchvision import datasets, transforms

    student, teacher = networks(args, device)
    augment = transforms.Compose(
        [
            transforms.Resize((args.size, args.size)),
            transforms.RandomHorizontalFlip(0.5),
            transforms.ColorJitter(0.3, 0.3, 0.3, 0.05),
            transforms.RandomRotation(10),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    paths = dict(
        student_module_path='.',
        student_module_io='output',
        teacher_module_path='.',
        teacher_module_io='output',
    )
    kd = dict(temperature=TAU, alpha=HARD, beta=SOFT, reduction='batchmean')
    config = dict(
        num_epochs=args.epochs,
        train_data_loader=dict(
            dataset_id='train',
            sampler=dict(class_or_func=RandomSampler, kwargs=None),
            kwargs=dict(
                batch_size=args.batch,
                num_workers=args.workers,
                pin_memory=device.type == 'cuda',
                drop_last=False,
            ),
        ),
        teacher=dict(forward_proc='forward_batch_only', requires_grad=False),
        student=dict(forward_proc='forward_batch_only', requires_grad=True),
        optimizer=dict(key='SGD', kwargs=SGD),
        criterion=dict(
            key='WeightedSumLoss',
            kwargs=dict(
                sub_terms=dict(
                    kd=dict(
                        criterion=dict(key='KDLoss', kwargs={**paths, **kd}),
                        weight=1.0,
                    )
                )
            ),
        ),
    )
    box = get_distillation_box(
        teacher,
        student,
        dict(train=datasets.ImageFolder(args.data, augment)),
        config,
        device,
        device_ids=None,
        distributed=False,
        lr_factor=1,
    )

    def epoch(index: int) -> int:
        box.pre_epoch_process(epoch=index)
        meters = MetricLogger(delimiter='  ')
        meters.add_meter('lr', SmoothedValue(window_size=1, fmt='{value}'))
        images = 0
        for inputs, labels, extra in meters.log_every(
            box.train_data_loader, LOG_INTERVAL, f'Epoch: [{index}]'
        ):
            inputs, labels = inputs.to(device), labels.to(device)
            loss = box.forward_process(inputs, labels, extra)
            box.post_forward_process(loss=loss)
            meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]['lr'])
            images += len(inputs)
        box.post_epoch_process()
        return images

    return epoch


PEERS = {
    'timm': timm_epoch,
    'timm bf16': partial(timm_epoch, bf16=True),
    'torchdistill': torchdistill_epoch,
}


def main() -> None:
    """Train; write what ``BenchmarkProbe`` would."""
    args = parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.backends.cudnn.benchmark = True  # both scripts set it
    epoch, epochs = PEERS[args.peer](args, device), []
    for index in range(args.epochs):
        cpu, begun = tree_cpu_seconds(os.getpid()), time.time()
        images = epoch(index)
        seconds, after = time.time() - begun, tree_cpu_seconds(os.getpid())
        epochs.append(
            dict(
                seconds=seconds,
                images=images,
                cpu_seconds=after and after - cpu,
            )
        )
    package = args.peer.split()[0]
    found = dict(
        epochs=epochs,
        machine=machine(),
        version=f'{package} {version(package)}',
    )
    if device.type == 'cuda':
        found['gpu_bytes'] = torch.cuda.max_memory_allocated()
    args.out.write_text(json.dumps(found))


if __name__ == '__main__':
    main()
