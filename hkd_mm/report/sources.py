# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Configs, data and validation scores of the reported runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config

from hkd_mm.config.compose import read_config
from hkd_mm.config.data_summary import build_dataset
from hkd_mm.config.packing import stock_steps
from hkd_mm.config.tree import dataset_chain
from hkd_mm.engine.run_files import finished_run
from hkd_mm.errors import UserError
from hkd_mm.experiments import child_processes
from hkd_mm.io.signatures import type_name
from hkd_mm.report.data import ReportData, ReportMethod, read_same

VAL_FILE = 'predictions_val.csv'


def method_config(method: ReportMethod) -> Config | None:
    """The config of a method's first seed; None where none is stored."""
    found = sorted(method.folders[0].glob('*.py'))
    return read_config(str(found[0])) if len(found) == 1 else None


def data_root(data: ReportData) -> Path | None:
    """Folder of the images; None where it is not on this machine."""
    root = data.options.get('data_root')
    if root is None:
        root = (method_config(data.closest) or {}).get('data_root')
    return Path(root) if root and Path(root).is_dir() else None


def read_dataset(data: ReportData, split: str, method: ReportMethod | None = None):
    """The dataset of a split, with the test pipeline of ``method``; None if away."""
    cfg, root = method_config(method or data.closest), data_root(data)
    if cfg is None or root is None or not cfg.get('test_dataloader'):
        return None
    *wrappers, inner = dataset_chain(cfg['test_dataloader'])
    node = {**inner, 'split': split, 'data_root': str(root)}
    for wrapper in wrappers:
        if type_name(wrapper) == 'PackedDataset':
            node['pipeline'] = stock_steps(wrapper)
    node['serialize_data'] = False
    if method is None:
        node['pipeline'] = []
    return build_dataset(cfg, node)


def infos_by_id(dataset) -> dict[str, dict]:
    """Sample id -> info of a dataset, with its ``index``."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {info['sample_id']: dict(info, index=i) for i, info in enumerate(infos)}


def lesions(dataset) -> dict[str, str]:
    """Sample id -> lesion id of a dataset, the sample id where none is."""
    infos = infos_by_id(dataset)
    return {name: info.get('lesion_id') or name for name, info in infos.items()}


def add_val_scores(data: ReportData, make: bool, report: Callable[[str], None]) -> None:
    """Give methods their ``val_scores``; why that fails goes to ``data.problems``.

    ``make`` runs ``tools/test.py`` for networks of the close look where a file is
    missing.
    """
    for method in data.methods:
        missing = [one for one in method.folders if not (one / VAL_FILE).is_file()]
        if missing and not (make and data.role_of(method)):
            continue
        try:
            for folder in missing:
                report(f'{folder.name}: predicting the validation split, once')
                predict(folder, data.options.get('data_root'))
        except UserError as error:
            report(str(error))
            data.problems.append(str(error))
            continue
        paths = [folder / VAL_FILE for folder in method.folders]
        remedy = 'remove both and they are made again'
        found = read_same(paths, remedy)
        first = found[0]
        if first.classes != data.classes:
            raise UserError(f'{paths[0]} is of other classes; {remedy}')
        if set(first.sample_ids) & set(data.sample_ids):
            raise UserError(
                f'{paths[0]} holds test images; remove it and it is made again'
            )
        method.val_scores = np.stack([one.scores for one in found])
        method.val_labels, method.val_ids = first.labels, first.sample_ids
        method.val_groups = first.groups


def predict(folder: Path, data_root: str | None = None) -> None:
    """Write ``predictions_val.csv`` of a run beside its other files."""
    chain = dataset_chain(
        read_config(str(finished_run(folder).config))['test_dataloader']
    )
    innermost = 'test_dataloader' + len([*chain]) * '.dataset'
    options = [f'{innermost}.split=val']
    options += [f'data_root={data_root}'] if data_root else []
    place = folder / 'test_val'
    arguments = [str(folder), '--work-dir', str(place), '--out', str(folder / VAL_FILE)]
    try:
        log = place / 'console.log'
        child_processes.run_tool('test.py', arguments, log, options, threads=1)
    except (child_processes.Failed, child_processes.Interrupted) as error:
        raise UserError(
            f'{folder}: its validation split cannot be predicted ({error}); '
            '--no-calibration does without'
        ) from None
