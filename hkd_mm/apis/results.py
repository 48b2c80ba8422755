# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a test leaves: metrics, predictions and a table."""

import csv
import io
import json
import pickle
from typing import Any

from mmengine.runner import Runner

from hkd_mm.errors import UserError
from hkd_mm.evaluation.isic_scores import submission

SUFFIXES = ('.json', '.csv', '.pkl')


def write_results(out: str, metrics: dict[str, float], runner: Runner) -> None:
    """Write the metrics or the predictions, whole or not at all.

    Args:
        out: path; its suffix chooses: ``.json`` the metrics, ``.isic.csv``
            an ISIC submission, ``.csv`` and ``.pkl`` the predictions.
        metrics: for ``.json``; of masks ``hd95_unit`` stands beside them.
        runner: after ``test()``; its ``ClinicalMetric`` holds the
            predictions, its ``SegmentationMetric`` the figures of slices.

    Raises:
        UserError: predictions are wanted and no such metric ran, or a
            submission of a segmentation.
    """
    from hkd_mm.engine.atomic_backend import AtomicBackend

    last = next(
        (
            metric.last
            for metric in runner.test_evaluator.metrics
            if getattr(metric, 'last', None)
        ),
        None,
    )
    if out.endswith('.json'):
        unit = (last or {}).get('unit')
        told = dict(metrics, hd95_unit=unit) if unit else metrics
        AtomicBackend().put_text(json.dumps(told, indent=1) + '\n', out)
        return
    if last is None:
        raise UserError(
            f'--out {out}: predictions come from hkd_mm.ClinicalMetric or '
            'hkd_mm.SegmentationMetric; put it into test_evaluator'
        )
    if 'rows' in last:
        _write_slices(out, last)
        return
    dataset = runner.test_dataloader.dataset
    classes = list(dataset.metainfo['classes'])
    if out.endswith('.pkl'):
        AtomicBackend().put(pickle.dumps(dict(last, classes=classes)), out)
        return
    if out.endswith('.isic.csv'):
        text = submission(last['sample_ids'], last['scores'], classes)
        AtomicBackend().put_text(text, out)
        return
    AtomicBackend().put_text(
        _predictions_csv(last, classes, _lesions(dataset)), out
    )


def _write_slices(out: str, last: dict[str, Any]) -> None:
    """Figures of every slice of a segmentation."""
    from hkd_mm.engine.atomic_backend import AtomicBackend

    if out.endswith('.isic.csv'):
        raise UserError(
            f'--out {out}: a submission holds classes of images, and this '
            'net marks pixels; give a .csv file'
        )
    if out.endswith('.pkl'):
        AtomicBackend().put(pickle.dumps(last), out)
        return
    stream = io.StringIO()
    names = list(last['rows'][0])
    writer = csv.DictWriter(stream, names, lineterminator='\n')
    writer.writeheader()
    writer.writerows(last['rows'])
    AtomicBackend().put_text(stream.getvalue(), out)


def _lesions(dataset) -> dict[str, str]:
    """Sample id -> lesion id, of the samples that have both."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {
        info['sample_id']: info['lesion_id']
        for info in infos
        if info.get('sample_id') and info.get('lesion_id')
    }


def _predictions_csv(
    last: dict[str, Any], classes: list[str], lesions: dict[str, str]
) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(
        [
            'sample_id',
            'lesion_id',
            'label',
            'prediction',
            *(f'score_{name}' for name in classes),
        ]
    )
    for name, label, scores in zip(
        last['sample_ids'], last['labels'], last['scores']
    ):
        writer.writerow(
            [
                name,
                lesions.get(name, ''),
                classes[int(label)],
                classes[int(scores.argmax())],
                *(f'{score:.6f}' for score in scores),
            ]
        )
    return stream.getvalue()


def print_metrics(metrics: dict[str, float], title: str) -> None:
    """Print the overall metrics and a table of the classes.

    Args:
        metrics: as :func:`test` returns them.
        title: printed above.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(title, highlight=False)
    overall = Table()
    overall.add_column('metric')
    overall.add_column('value', justify='right')
    classes: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        name, slash, kind = key.rpartition('/')
        if slash:
            classes.setdefault(name, {})[kind] = value
        else:
            overall.add_row(key, f'{value:.4f}')
    console.print(overall)
    if not classes:
        return
    kinds = list(dict.fromkeys(k for row in classes.values() for k in row))
    table = Table()
    table.add_column('class')
    for kind in kinds:
        table.add_column(kind, justify='right')
    for name, row in classes.items():
        table.add_row(name, *(_cell(kind, row.get(kind)) for kind in kinds))
    console.print(table)


def _cell(kind: str, value: float | None) -> str:
    if value is None:
        return '-'
    return f'{value:.0f}' if kind == 'support' else f'{value:.4f}'
