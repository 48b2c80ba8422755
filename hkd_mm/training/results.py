# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a test leaves: metrics, predictions and a table."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from torch import nn

from hkd_mm.engine.run_data import split_hash
from hkd_mm.engine.run_files import STUDENT, TESTED
from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import answers_one_class
from hkd_mm.evaluation.isic_submission import write_submission
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.files import sha256
from hkd_mm.io.tables import write_table

SUFFIXES = ('.json', '.csv', '.pkl')


def provenance(
    checkpoint: str,
    dataset: Any,
    prepared: dict[str, Any] | None,
    preprocessor: nn.Module,
) -> dict[str, Any]:
    """Describe what figures of a test are of: weights, data and input, for JSON."""
    found = dict(prepared or {})
    for name in ('mean', 'std'):
        values = getattr(preprocessor, name, None)
        if values is not None:
            found[name] = values.flatten().tolist()
    return dict(
        checkpoint=Path(checkpoint).name,
        weights_sha256=sha256(Path(checkpoint)),
        split=getattr(dataset, 'split', 'test'),
        split_hash=split_hash(dataset),
        images=len(dataset),
        input=found,
    )


def result_files(
    folder: str | Path, facts: dict[str, Any], other_input: bool, evaluator: Evaluator
) -> list[str]:
    """Name the ``.json`` and the ``.csv`` file of a test where ``--out`` names none.

    ``test.json`` and ``predictions.csv`` are of the student on the test split. Another
    checkpoint, split or input is in their names: ``test_epoch_3_val.json``. Without a
    metric that keeps predictions there is no file of them.
    """
    parts = []
    if facts['checkpoint'] != STUDENT:
        parts.append(Path(facts['checkpoint']).stem)
    if facts['split'] != 'test':
        parts.append(str(facts['split']))
    if other_input:
        parts.append('other_input')
    kept = any(hasattr(metric, 'last') for metric in evaluator.metrics)
    names = [Path(folder, name) for name in TESTED[: 1 + kept]]
    return [str(path.with_stem('_'.join([path.stem, *parts]))) for path in names]


def write_results(
    outs: Sequence[str],
    metrics: dict[str, float],
    runner: Runner,
    facts: dict[str, Any],
) -> None:
    """Write the metrics and the predictions, each file whole or not at all.

    A suffix chooses: ``.json`` the metrics, ``.isic.csv`` an ISIC submission, ``.csv``
    and ``.pkl`` the predictions. The facts of :func:`provenance`, with the hashes of
    the other files, are written last, so that half a test is none.
    """
    metric = [m.last for m in runner.test_evaluator.metrics if getattr(m, 'last', None)]
    last = metric[0] if metric else None
    written, files = dict(metrics), {}
    if last and last.get('unit'):
        written['hd95_unit'] = last['unit']
    for out in sorted(outs, key=lambda out: out.endswith('.json')):
        if out.endswith('.json'):
            written['provenance'] = dict(facts, files=files) if files else facts
            AtomicBackend().put_text(json.dumps(written, indent=1) + '\n', out)
        else:
            _write_predictions(out, last, runner.test_dataloader.dataset)
            files[Path(out).name] = sha256(out)
        runner.logger.info(f'Done: wrote {out}')


def _write_predictions(out: str, last: dict[str, Any] | None, dataset: Any) -> None:
    if last is None:
        raise UserError(
            f'--out {out}: predictions come from hkd_mm.ClinicalMetric or '
            'hkd_mm.SegmentationMetric; put it into test_evaluator'
        )
    rows = last.get('rows')  # of a segmentor: the figures of each slice
    if out.endswith('.isic.csv') and rows is not None:
        raise UserError(
            f'--out {out}: a submission holds classes of images, and this '
            'network marks pixels; give a .csv file'
        )
    classes = list(dataset.metainfo['classes'])
    if out.endswith('.pkl'):
        kept = last if rows is not None else dict(last, classes=classes)
        AtomicBackend().put(pickle.dumps(kept), out)
    elif out.endswith('.isic.csv'):
        write_submission(out, last['sample_ids'], last['scores'], classes)
    elif rows is not None:
        write_table(out, list(rows[0]), (row.values() for row in rows))
    else:
        header = ['sample_id', 'lesion_id', 'label', 'prediction']
        header += [f'score_{name}' for name in classes]
        infos = map(dataset.get_data_info, range(len(dataset)))
        infos = [info for info in infos if info.get('sample_id')]
        lesions = {info['sample_id']: info.get('lesion_id') for info in infos}
        rows = []
        for name, label, scores in zip(
            *map(last.get, ('sample_ids', 'labels', 'scores'))
        ):
            named = [classes[int(label)], classes[int(scores.argmax())]]
            cells = [f'{score:.6f}' for score in scores]
            rows.append([name, lesions.get(name) or '', *named, *cells])
        write_table(out, header, rows)


def print_metrics(metrics: dict[str, float], title: str) -> None:
    """Print the overall metrics and a table of the classes."""
    console = Console()
    console.print(escape(title), highlight=False)
    overall = Table('metric', Column('value', justify='right'))
    classes: dict[str, dict[str, float]] = {}
    predicted = metrics.get('predicted_classes')
    for key, value in metrics.items():
        name, slash, kind = key.rpartition('/')
        if slash:
            classes.setdefault(name, {})[kind] = value
        elif key != 'predicted_classes':
            overall.add_row(escape(key), f'{value:.4f}')
    if predicted is not None:
        collapsed = ', ONE CLASS ONLY' * answers_one_class(metrics)
        overall.add_row(
            'predicted_classes', f'{predicted:.0f} of {len(classes)}{collapsed}'
        )
    console.print(overall)
    if not classes:
        return
    kinds = list(dict.fromkeys(k for row in classes.values() for k in row))
    table = Table('class', *(Column(kind, justify='right') for kind in kinds))
    for name, row in classes.items():
        cells = [
            '-' if row.get(kind) is None else f'{row[kind]:.{4 * (kind != "support")}f}'
            for kind in kinds
        ]
        table.add_row(escape(name), *cells)
    console.print(table)
