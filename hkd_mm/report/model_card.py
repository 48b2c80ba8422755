# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The model card of a report, and what it shares with that of an export."""

from pathlib import Path

from hkd_mm.engine.environment import command_of, environment_of, versions_of
from hkd_mm.engine.student_loading import describe_network
from hkd_mm.evaluation.classification_scores import confusion_shares
from hkd_mm.experiments.table_text import format_mean_sd, unknown_groups_note
from hkd_mm.metric_names import CLASS_SUMMARY, OF_MASKS, title_of
from hkd_mm.report.data import ReportData, ReportMethod
from hkd_mm.report.page import KeyFacts, Section
from hkd_mm.report.sources import method_config

LICENCE = (
    'code under Apache-2.0; weights and pictures stand under the terms of the '
    'images they were made from (HAM10000 and ISIC 2019: CC BY-NC 4.0; '
    'LIDC-IDRI: CC BY 3.0): look up those of your data'
)
INTENDED_USE = (
    'research on knowledge distillation for medical images. No diagnostic device: not '
    'validated for any clinical use, on any other camera, population or prevalence; no '
    'decision on a patient may rest on it.'
)
CARD_METRICS = dict(
    classification=(*CLASS_SUMMARY, 'ece'), segmentation=tuple(OF_MASKS)
)


def split_name(split_hash: str | None) -> str:
    """Short name of a split."""
    return f'split {str(split_hash or "unknown")[:12]}'


def size_text(
    parameters: float, size: tuple[int, int] | None, classes: list[str]
) -> str:
    """Size of a network, of its images (height, width), and its classes."""
    parts = [f'{parameters / 1e6:.2f} M parameters']
    if size:
        parts.append(f'{size[1]} x {size[0]} pixels')
    named = f'; classes {", ".join(classes)}' if classes else ''
    return ', '.join(parts) + named


def provenance(folder: Path) -> list[tuple[str, str]]:
    """The command that trained a run, and versions."""
    found = environment_of(folder)
    return [('Command', command_of(found)), ('Versions', versions_of(found))]


def card_section(data: ReportData) -> Section:
    """What, data, licence, use, metrics, command and versions."""
    method = data.closest
    outcome, reports = method.outcome, method.outcome.reports
    seeds = ', '.join(str(report.get('seed', '?')) for report in reports)
    trained = (
        f'{reports[0].get("epochs", "?")} epochs, {outcome.minutes:.1f} minutes, '
        f'seeds {seeds}; the checkpoint of the best validation'
    )
    root = (method_config(method) or {}).get('data_root')
    name = Path(str(root)).name if root else 'unknown'
    split = split_name(reports[0].get('split_hash'))
    note = f'. {unknown_groups_note(data.group_name)}' if data.unknown else ''
    metrics = ', '.join(
        f'{title_of(key)} {format_mean_sd(*outcome.test(key))}'
        for key in CARD_METRICS['segmentation' if data.of_masks else 'classification']
        if all(key in test for test in outcome.tests)
    )
    items = [
        ('Model', _model(data, method)),
        ('Trained', trained),
        ('Data', f'{name}, {split}; tested on {data.image_count}{note}'),
        ('Licence', LICENCE),
        ('Intended use', INTENDED_USE),
        ('Metrics', metrics),
        ('Weak points', _weak_points(data, method)),
        ('Config', str(reports[0].get('config', 'unknown'))),
        *provenance(method.folders[0]),
    ]
    how = (
        f'The card of {method.title}; figures are of the test split, mean +- sd over '
        'the seeds.'
    )
    return Section('card', 'Model card', how, data.basis, [KeyFacts(items)])


def _model(data: ReportData, method: ReportMethod) -> str:
    model = (method_config(method) or {}).get('model') or {}
    network = model.get('architecture') or model
    kind = network.get('model_name') or (network.get('backbone') or {}).get('type')
    kind = kind or (describe_network(network) if network else 'a network')
    text, found = f'{method.title}: {kind}', method.network
    if {'parameters', 'gmacs'} <= found.keys():
        size = size_text(found['parameters'], found.get('input_size'), data.classes)
        text += f', {found["gmacs"]:.3f} GMACs, {size}'
    if data.teacher and data.teacher is not method:
        text += f'; taught by {data.teacher.title}'
    return text


def _weak_points(data: ReportData, method: ReportMethod) -> str:
    """The classes of the lowest sensitivity, or the patients of least Dice."""
    if data.of_masks:
        found = data.dice_by_patient(method)
        worst = sorted(found, key=found.get)[:3]
        listed = ', '.join(f'{name} {found[name]:.2f}' for name in worst)
        return f'patients whose images have the lowest mean Dice: {listed}'
    kept = confusion_shares(data.labels, method.chosen, len(data.classes))
    kept = kept.diagonal()
    listed = ', '.join(
        f'{data.classes[i]} {kept[i]:.2f} ({(data.labels == i).sum()} test images)'
        for i in kept.argsort()[:3]
        if kept[i] == kept[i]
    )
    return f'lowest sensitivity: {listed}'
