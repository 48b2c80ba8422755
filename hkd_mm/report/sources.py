# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Configs, data and validation scores of the reported runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from mmengine.config import Config

from hkd_mm.config.compose import read_config
from hkd_mm.config.packing import stock_steps
from hkd_mm.config.tree import dataset_chain
from hkd_mm.engine.run_files import finished_run
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name
from hkd_mm.report.data import Method, ReportData, read_scores


def method_config(method: Method) -> Config | None:
    """The config of a method's first seed; None where none lies there."""
    found = sorted(method.folders[0].glob('*.py'))
    return read_config(str(found[0])) if len(found) == 1 else None


def closest(material: ReportData) -> Method:
    """The method that stands for the data: all were tested on the same."""
    return material.distilled or material.alone or material.methods[0]


def data_root(material: ReportData) -> Path | None:
    """Where the images are; None where that is not on this machine."""
    said = material.options.get('data_root')
    if said is None:
        cfg = method_config(closest(material))
        said = cfg.get('data_root') if cfg is not None else None
    return Path(said) if said and Path(said).is_dir() else None


def listing(material: ReportData, split: str, seen_by: Method | None = None):
    """The dataset of a split; None where the data is not here.

    Args:
        material: whose data.
        split: train, val or test.
        seen_by: whose test pipeline makes the images that are taken out of
            it; None if none will be.
    """
    from mmengine.registry import DATASETS

    cfg = method_config(seen_by or closest(material))
    root = data_root(material)
    if cfg is None or root is None or not cfg.get('test_dataloader'):
        return None
    *wrappers, inner = dataset_chain(cfg['test_dataloader'])
    node = {**inner, 'split': split, 'data_root': str(root)}
    for wrapper in wrappers:
        if type_name(wrapper) == 'PackedDataset':
            node['pipeline'] = stock_steps(wrapper)
    node['serialize_data'] = False
    if seen_by is None:
        node['pipeline'] = []
    scope = cfg.get('default_scope', 'mmpretrain')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        dataset = registry.build(node)
        dataset.full_init()
    return dataset


def lesions(dataset) -> dict[str, str]:
    """Sample id -> lesion id of a listing, the sample id where none is."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {
        info['sample_id']: info.get('lesion_id') or info['sample_id']
        for info in infos
    }


FILE = 'predictions_val.csv'
_TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'test.py'
_MIM = Path(__file__).resolve().parents[1] / '.mim' / 'tools' / 'test.py'


def add_val_scores(material: ReportData, make: bool, say) -> None:
    """Read what runs have, and make it for the networks of the close look.

    Args:
        material: its methods get ``val_scores``; why one could not be
            predicted is added to its ``problems``.
        make: whether to run ``tools/test.py`` where a file is missing.
        say: takes a line on what is done.

    Raises:
        UserError: a run's validation split is not that of its other seeds.
    """
    wanted = list(material.roles.values())
    for method in material.methods:
        missing = [f for f in method.folders if not (f / FILE).is_file()]
        if missing and not (make and method in wanted):
            continue
        try:
            for folder in missing:
                say(f'{folder.name}: predicting the validation split, once')
                predict(folder, material.options.get('data_root'))
        except UserError as error:
            say(str(error))
            material.problems.append(str(error))
            continue
        _read(method, material)


def predict(folder: Path, data_root: str | None = None) -> None:
    """Write ``predictions_val.csv`` of a run beside its other files.

    Args:
        folder: of the run, with its config and ``student.pth``.
        data_root: where the images are, if not where its config says.

    Raises:
        UserError: it could not be done; the reason is that of the tool.
    """
    run = finished_run(folder)
    tool = _TOOL if _TOOL.is_file() else _MIM
    command = [
        sys.executable,
        str(tool),
        str(folder),
        '--work-dir',
        str(folder / 'test_val'),
        '--out',
        str(folder / FILE),
        '--cfg-options',
        f'{_split_key(run.config)}=val',
        *([f'data_root={data_root}'] if data_root else []),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith('error: ')] or lines
        reason = told[-1].removeprefix('error: ') if told else 'no message'
        raise UserError(
            f'{folder}: its validation split cannot be predicted ({reason}); '
            '--no-calibration does without'
        )


def _split_key(config: Path) -> str:
    """The option that says which split is tested, however deep it lies."""
    from hkd_mm.config.compose import read_config

    cfg = read_config(str(config))
    depth = len([*dataset_chain(cfg['test_dataloader'])])
    return 'test_dataloader' + depth * '.dataset' + '.split'


def _read(method: Method, material: ReportData) -> None:
    found = [read_scores(folder / FILE) for folder in method.folders]
    first = found[0]
    for folder, one in zip(method.folders, found):
        if one.sample_ids != first.sample_ids or (
            one.classes != material.classes
        ):
            raise UserError(
                f'{folder / FILE} is of other images than {method.folders[0]}'
                '; remove both and they are made again'
            )
    if set(first.sample_ids) & set(material.sample_ids):
        raise UserError(
            f'{method.folders[0] / FILE} holds test images; remove it and it '
            'is made again'
        )
    method.val_scores = np.stack([one.scores for one in found])
    method.val_labels, method.val_groups = first.labels, first.groups
    method.val_ids = first.sample_ids
