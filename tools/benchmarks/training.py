# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Training images/s: student alone, KD online, KD cached, stock MMRazor.

All set-ups train the same student from the same photographs with the same
batch, in turn, in one process; medians over the rounds, ratios within a
round. ``stock`` is mmrazor.SingleTeacherDistill on MMPretrain's pipeline with
the same three loss terms. WideResNet-50-2 -> MobileNetV2 x0.5 by default.

Example:
    python tools/benchmarks/training.py --batch 32 --steps 3 --rounds 5
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUPS = ('student', 'stock student', 'cached', 'online', 'stock')
RATIOS = (('cached', 'student', 'epoch of KD cached / student alone'),
          ('stock', 'cached', 'stock / KD cached'),
          ('stock', 'online', 'stock / KD online'))


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default=str(
        ROOT.parent / 'shared/data/ham10000/originals'),
        help='folder of photographs; generated ones if it does not exist')
    parser.add_argument('--teacher', default='wide_resnet50_2')
    parser.add_argument('--student', default='mobilenetv2_050')
    parser.add_argument('--size', type=int, default=116)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--steps', type=int, default=3, help='a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--setups', nargs='+', default=SETUPS,
                        choices=SETUPS)
    parser.add_argument('--out', type=Path, help='JSON file')
    return parser.parse_args()


def photographs(source: str, folder: Path, count: int) -> Path:
    """Two class folders of links to photographs, repeated to ``count``."""
    found = sorted(Path(source).glob('*.jpg'))
    if not found:
        import numpy as np
        from PIL import Image
        rng = np.random.default_rng(0)
        for i in range(50):
            low = rng.integers(0, 256, (45, 60, 3), dtype='uint8')
            Image.fromarray(low).resize((600, 450)).save(
                folder / f'{i}.jpg', quality=90)
        found = sorted(folder.glob('*.jpg'))
    for i in range(count):
        target = folder / 'data' / ('Acne', 'Benign')[i % 2]
        target.mkdir(parents=True, exist_ok=True)
        os.symlink(found[i % len(found)].resolve(), target / f'{i:05d}.jpg')
    return folder / 'data'


def config(args: argparse.Namespace, name: str, data: Path):
    """The config of one set-up, as the tools would read it."""
    from hkd_mm.apis.config import load_config
    packed = not name.startswith('stock')
    options = {
        'data_root': str(data), 'classes': ['Acne', 'Benign'],
        'split_ratios': [0.8, 0.1, 0.1], 'pretrained': False,
        'input_size': args.size, 'batch_size': args.batch, 'packed': packed}
    path = ROOT / 'configs/hybrid_wrn50_mbv2.py'
    if name.endswith('student'):
        path = ROOT / 'configs/students/mbv2_skin.py'
        options['model.model_name'] = args.student
    else:
        options['model.architecture.model_name'] = args.student
        options['model.teacher.model_name'] = args.teacher
    if name == 'cached':
        options['model.teacher_cache'] = dict(num_views=1)
    return load_config(path, options)


def to_stock(cfg, channels: tuple[int, int]) -> None:
    """Turn our distillation into MMRazor's, in place."""
    def record(recorder: str, student: bool, **kwargs) -> dict:
        return dict(recorder=recorder, from_student=student, **kwargs)

    modules = dict(feature='model.blocks.6', logits='model.classifier')
    teacher = dict(feature='model.layer4', logits='model.fc')
    cfg.model = dict(
        type='mmrazor.SingleTeacherDistill',
        architecture=dict(cfg.model.architecture, type='TimmClassifier'),
        teacher=dict(cfg.model.teacher, type='TimmClassifier'),
        distiller=dict(
            type='mmrazor.ConfigurableDistiller',
            student_recorders={
                k: dict(type='mmrazor.ModuleOutputs', source=v)
                for k, v in modules.items()},
            teacher_recorders={
                k: dict(type='mmrazor.ModuleOutputs', source=v)
                for k, v in teacher.items()},
            connectors=dict(align=dict(
                type='mmrazor.TorchNNConnector', module_name='Conv2d',
                module_args=dict(in_channels=channels[0],
                                 out_channels=channels[1], kernel_size=1))),
            distill_losses=dict(
                loss_kl=dict(type='mmrazor.KLDivergence', tau=4,
                             loss_weight=0.85),
                loss_fa=dict(type='mmrazor.L2Loss', normalize=False,
                             loss_weight=0.02, dist=False)),
            loss_forward_mappings=dict(
                loss_kl=dict(preds_S=record('logits', True),
                             preds_T=record('logits', False)),
                loss_fa=dict(
                    s_feature=record('feature', True, connector='align'),
                    t_feature=record('feature', False)))))


def step_of(args: argparse.Namespace, name: str,
            data: Path) -> Callable[[], None]:
    """A function that loads one batch and trains on it."""
    import timm
    import torch
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DATASETS, MODELS, init_default_scope
    from mmengine.runner import Runner
    init_default_scope('mmpretrain')
    cfg = config(args, name, data)
    if name == 'stock':
        to_stock(cfg, tuple(
            timm.create_model(net).feature_info[-1]['num_chs']
            for net in (args.student, args.teacher)))
    preprocessor = dict(cfg.data_preprocessor)
    preprocessor.setdefault('type', 'ClsDataPreprocessor')
    model_cfg = dict(cfg.model, data_preprocessor=preprocessor)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    if name != 'stock':
        model.to(memory_format=torch.channels_last)
    model.train()
    loader = Runner.build_dataloader(
        dict(cfg.train_dataloader, dataset=DATASETS.build(
            cfg.train_dataloader.dataset)), seed=0)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    if name == 'cached':
        fill(model, loader.dataset, MMLogger.get_current_instance())
    batches = endless(loader)

    def step() -> None:
        model.train_step(next(batches), optimizer)

    return step


def fill(model, dataset, logger) -> None:
    """Make the one view that the timed epochs read."""
    from hkd_mm.apis.build_teacher_cache import _fill
    from hkd_mm.models.teacher_cache import open_teacher_cache
    device = next(model.parameters()).device
    open_teacher_cache(model, dataset, logger)
    _fill(model, dataset, 32, device)
    assert model.teacher_cache.start_view(0, dataset.rows.numpy(), device)


def endless(loader) -> Iterator:
    """Epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Time the set-ups in turn and print the table."""
    args = parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    import torch

    from hkd_mm.apis.memory import keep_freed_memory
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data = photographs(args.data_root, Path(folder), 320)
        steps = {name: step_of(args, name, data) for name in args.setups}
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(args.rounds + 1):  # the first is a warm-up
            for name, step in steps.items():
                begun = time.perf_counter()
                for _ in range(args.steps):
                    step()
                seconds = time.perf_counter() - begun
                if turn:
                    rates[name].append(args.batch * args.steps / seconds)
        os.chdir(ROOT)
    report = dict(
        command=' '.join(sys.argv), threads=torch.get_num_threads(),
        images_per_second={k: statistics.median(v)
                           for k, v in rates.items()},
        ratios={said: statistics.median(
            b / a for a, b in zip(rates[slow], rates[fast], strict=True))
            for slow, fast, said in RATIOS
            if slow in rates and fast in rates})
    show(report)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + '\n')


def show(report: dict) -> None:
    """Print rates and ratios."""
    from rich.console import Console
    from rich.table import Table
    for title in ('images_per_second', 'ratios'):
        table = Table(title=title.replace('_', ' '))
        table.add_column('')
        table.add_column('median', justify='right')
        for name, value in report[title].items():
            table.add_row(name, f'{value:.2f}')
        Console().print(table)


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
    )
    main()
