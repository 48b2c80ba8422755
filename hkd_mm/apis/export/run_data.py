# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The splits of a run, held against what it was trained on."""

from typing import Any

from hkd_mm.errors import UserError

from .input_specs import innermost
from .source_run import SourceRun

_SPLITS = ('train', 'val')


def build_split(run: SourceRun, split: str, node: dict) -> Any:
    """Build a data set of a run; never that of the test split.

    Args:
        run: whose data.
        split: ``train`` or ``val``.
        node: config of the data set, a part of the loader's.

    Raises:
        UserError: the data is not here, is of another split than the run's,
            has other classes, or the split is empty.
    """
    from mmengine.registry import DATASETS

    from hkd_mm.engine.data_split import split_hash

    if split not in _SPLITS:
        raise ValueError(f'an export does not read the {split} split')
    named = innermost(dict(dataset=node)).get('split', split)
    if named != split:
        raise UserError(
            f'{split}_dataloader is on the split {named}; an export '
            'calibrates on train and measures on val'
        )
    scope = run.cfg.get('default_scope', 'mmpretrain')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        dataset = registry.build(node)
        dataset.full_init()
    there, here = run.meta.get('split_hash'), split_hash(dataset)
    if there is not None and there != here:
        raise UserError(
            f'{run.folder} was trained on split {there[:8]}, the data now '
            f'give {(here or "none")[:8]}; repeat the --cfg-options of the '
            'training, such as data_root'
        )
    found = list(dataset.metainfo['classes'])
    if found != run.classes:
        raise UserError(
            f'{run.folder} was trained for the classes '
            f'{", ".join(run.classes)}, the data have {", ".join(found)}'
        )
    if not len(dataset):
        raise UserError(f'the {split} split of the run has no images')
    return dataset
