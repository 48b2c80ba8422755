# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the benchmarks share: images, set-ups, tables.

The set-ups train one student on the same images. ``student`` is the student
alone, ``cached`` and ``online`` its distillation with and without the teacher
cache, all three on packed images; ``stock student`` and ``stock`` run on
MMPretrain's pipeline, the latter as ``mmrazor.SingleTeacherDistill``.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import hkd_mm  # noqa: E402, F401  before torch: its threads wait passively

SETUPS = ('student', 'stock student', 'cached', 'online', 'stock')
PHOTOGRAPHS = ROOT.parent / 'shared/data/ham10000/originals'


def make_parser(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """The options that all benchmarks of a training have.

    Args:
        doc: docstring of the benchmark.
        defaults: ``batch``, ``size`` and ``method`` (a config of
            ``configs/``, without ``.py``), where they differ.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--teacher', default='wide_resnet50_2')
    parser.add_argument('--student', default='mobilenetv2_050')
    parser.add_argument('--size', type=int, help='of an image', default=116)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--out', type=Path, help='a JSON file')
    parser.set_defaults(**{'method': 'hybrid_wrn50_mbv2', **defaults})
    return parser


def folder_of_photographs(text: str) -> Path:
    """Where ``--data-root`` points to; an empty folder is a mistake."""
    path = Path(text).resolve()
    optional = text == 'drawn' or path == PHOTOGRAPHS
    if not optional and not any(path.rglob('*.jpg')):
        raise argparse.ArgumentTypeError(f'there is no .jpg in {path}')
    return path


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """An option for photographs of one's own."""
    parser.add_argument(
        '--data-root',
        type=folder_of_photographs,
        default=PHOTOGRAPHS,
        help='folder of photographs, or the word drawn (default: '
        '../shared/data/ham10000/originals if it exists, else drawn ones)',
    )


def photographs(
    source: str | os.PathLike,
    folder: Path,
    count: int,
    distinct: int = 50,
    validation: int = 0,
) -> Path:
    """Two class folders of links to photographs, repeated to ``count``.

    Args:
        source: folder with JPEGs; without any, some are generated.
        folder: of the benchmark.
        count: links.
        distinct: photographs to generate, 600 x 450 each.
        validation: as many more links are the class folders of ``val``; the
            others are then those of ``train``.
    """
    found = sorted(Path(source).rglob('*.jpg'))
    if not found:
        print(f'No photographs in {source}: drawn ones are used')
        found = [_draw(folder / f'drawn/{i:05d}.jpg') for i in range(distinct)]
    for i in range(count + validation):
        target = folder / 'data'
        if validation:
            target /= 'train' if i < count else 'val'
        target /= ('Acne', 'Benign')[i % 2]
        target.mkdir(parents=True, exist_ok=True)
        os.symlink(found[i % len(found)].resolve(), target / f'{i:05d}.jpg')
    return folder / 'data'


def _draw(path: Path) -> Path:
    import numpy as np
    from PIL import Image, ImageFilter

    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(path.stem))
    image = Image.fromarray(rng.integers(0, 256, (45, 60, 3), 'uint8'))
    image = image.resize((600, 450)).filter(ImageFilter.GaussianBlur(1))
    image.save(path, quality=92)
    return path


def recipe(
    args: argparse.Namespace, setup: str, data: Path
) -> tuple[Path, dict[str, Any]]:
    """Config file and options of a set-up, as for ``tools/train.py``."""
    packed = not setup.startswith('stock')
    train = data / 'train'
    folders = (train if train.is_dir() else data).iterdir()
    options = {
        'data_root': str(data),
        'classes': sorted(path.name for path in folders),
        'split_ratios': [0.8, 0.1, 0.1],
        'pretrained': False,
        'input_size': args.size,
        'batch_size': args.batch,
        'packed': packed,
        # A teacher that has learned nothing; costs do not depend on it.
        'optim_wrapper.optimizer.lr': 1e-4,
        # of pretrained=False; it reads the norm on the host in every step
        'optim_wrapper.clip_grad': None,
    }
    if setup.endswith('student'):
        options['model.model_name'] = args.student
        return ROOT / 'configs/students/mbv2_skin.py', options
    options['model.architecture.model_name'] = args.student
    options['model.teacher.model_name'] = args.teacher
    if setup == 'online bf16':
        options['model.teacher_inference.dtype'] = 'bfloat16'
    if setup == 'cached':
        options['model.teacher_cache.num_views'] = 1
    else:
        options['teacher_cache'] = False
    return ROOT / f'configs/{args.method}.py', options


def compose(args: argparse.Namespace, setup: str, data: Path, **options: Any):
    """The config of a set-up, ready for a ``Runner`` but for a work dir.

    Args:
        args: of :func:`make_parser`.
        setup: one of ``SETUPS``, or ``online bf16``.
        data: class folders.
        options: more top-level values of the config.
    """
    from hkd_mm.config.compose import load_config

    path, found = recipe(args, setup, data)
    cfg = load_config(path, {**found, **options})
    if setup == 'stock':
        networks = (args.student, args.teacher)
        to_stock(
            cfg,
            *(feature_shape(network, args.size)[0] for network in networks),
        )
    return cfg


def to_stock(cfg, student_channels: int, teacher_channels: int) -> None:
    """Turn our distillation into MMRazor's, in place.

    The losses keep their weights; the hard label's is 1, the student's own.

    Args:
        cfg: of the distillation, not packed.
        student_channels: of the student's last feature map.
        teacher_channels: of the teacher's.
    """

    def record(recorder: str, student: bool, **kwargs) -> dict:
        return dict(recorder=recorder, from_student=student, **kwargs)

    def recorders(**sources: str) -> dict:
        return {
            name: dict(type='mmrazor.ModuleOutputs', source=source)
            for name, source in sources.items()
        }

    loss = cfg.model.distiller.distill_losses.loss_hybrid
    sources = [
        dict(logits='model.classifier', feature='model.blocks.6'),
        dict(logits='model.fc', feature='model.layer4'),
    ]
    losses = dict(
        loss_kl=dict(type='mmrazor.KLDivergence', tau=loss.tau, loss_weight=loss.alpha)
    )
    mappings = dict(
        loss_kl=dict(preds_S=record('logits', True), preds_T=record('logits', False))
    )
    connectors = {}
    if loss.beta > 0:
        losses['loss_fa'] = dict(
            type='mmrazor.L2Loss',
            normalize=False,
            loss_weight=loss.beta,
            dist=False,
        )
        mappings['loss_fa'] = dict(
            s_feature=record('feature', True, connector='align'),
            t_feature=record('feature', False),
        )
        align = dict(
            in_channels=student_channels,
            out_channels=teacher_channels,
            kernel_size=1,
        )
        connectors['align'] = dict(
            type='mmrazor.TorchNNConnector',
            module_name='Conv2d',
            module_args=align,
        )
    else:
        for source in sources:
            del source['feature']
    cfg.data_preprocessor.setdefault('type', 'ClsDataPreprocessor')
    cfg.model = dict(
        type='mmrazor.SingleTeacherDistill',
        architecture=dict(cfg.model.architecture, type='TimmClassifier'),
        teacher=dict(cfg.model.teacher, type='TimmClassifier'),
        distiller=dict(
            type='mmrazor.ConfigurableDistiller',
            student_recorders=recorders(**sources[0]),
            teacher_recorders=recorders(**sources[1]),
            connectors=connectors,
            distill_losses=losses,
            loss_forward_mappings=mappings,
        ),
    )


def to_stock_hooks(cfg) -> None:
    """Leave only the hooks of MMEngine, in place."""
    names = dict(
        runtime_info='RuntimeInfoHook',
        timer='IterTimerHook',
        logger='LoggerHook',
        param_scheduler='ParamSchedulerHook',
        checkpoint='CheckpointHook',
        sampler_seed='DistSamplerSeedHook',
    )
    interval = cfg.default_hooks.logger.interval
    cfg.default_hooks = {k: dict(type=name) for k, name in names.items()}
    cfg.default_hooks.logger.interval = interval
    cfg.default_hooks.checkpoint.interval = 1
    cfg.custom_hooks = []


def dump_stock(values: str, data: str, path: str, teacher: str) -> None:
    """Write the config of ``stock`` for ``tools/train.py``.

    Args:
        values: JSON of the options of :func:`make_parser`.
        data: class folders.
        path: where to.
        teacher: a checkpoint.
    """
    cfg = compose(argparse.Namespace(**json.loads(values)), 'stock', Path(data))
    to_stock_hooks(cfg)
    cfg.model.teacher_ckpt = teacher
    cfg.dump(path)


def feature_shape(network: str, size: int) -> tuple[int, int, int]:
    """(C, h, w) of a network's last feature map, which timm tells."""
    import timm
    import torch

    with torch.device('meta'):
        info = timm.create_model(network).feature_info[-1]
    side = -(-size // info['reduction'])
    return info['num_chs'], side, side


def save_teacher(path: str | os.PathLike, network: str, classes: int | str) -> None:
    """A checkpoint of a teacher that has learned nothing."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(network, num_classes=int(classes))
    torch.save(dict(state_dict=model.state_dict()), path)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    gpu = torch.cuda.is_available()
    return dict(
        device=torch.cuda.get_device_name() if gpu else 'cpu',
        gpus=torch.cuda.device_count(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Print a table; the first column is text, None an empty cell."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(columns):
        table.add_column(name, justify='right' if i else 'left')
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    Console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return ''
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def write(report: dict[str, Any], out: Path | None) -> None:
    """The JSON file, if one is asked for."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + '\n')
