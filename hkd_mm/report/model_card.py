# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a model card says, in a report and beside an export."""

from pathlib import Path

from hkd_mm.engine.environment import command_of, environment_of, versions_of
from hkd_mm.engine.student_loading import describe_network
from hkd_mm.evaluation.segmentation_scores import OF_MASKS
from hkd_mm.experiments.tables import (
    format_image_count,
    format_mean_sd,
    unknown_groups_note,
)
from hkd_mm.report.data import Method, ReportData
from hkd_mm.report.page import Facts, Section
from hkd_mm.report.sources import closest, method_config

LICENCE = (
    'code under Apache-2.0; weights and pictures stand under the terms of the '
    'images they were made from (HAM10000 and ISIC 2019: CC BY-NC 4.0; '
    'LIDC-IDRI: CC BY 3.0): look up those of your data'
)
INTENDED_USE = (
    'research on knowledge distillation for medical images. No diagnostic '
    'device: not validated for any clinical use, on any other '
    'camera, population or prevalence; no decision on a patient may rest on '
    'it.'
)


_METRICS = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc', 'ece')
_METRICS += OF_MASKS


def model_card(material: ReportData) -> Section:
    """What, data, licence, use, metrics, command and versions."""
    method = closest(material)
    environment = environment_of(method.folders[0])
    items = [
        ('Model', _network(material, method)),
        ('Trained', _training(method)),
        ('Data', _data(material, method)),
        ('Licence', LICENCE),
        ('Intended use', INTENDED_USE),
        ('Metrics', _metrics(method)),
        *_weak(material, method),
        ('Config', str(method.outcome.reports[0].get('config', 'unknown'))),
        ('Command', command_of(environment)),
        ('Versions', versions_of(environment)),
    ]
    how = (
        f'The card of {method.title}; figures are of the test split, mean '
        '+- sd over the seeds.'
    )
    return Section('card', 'Model card', how, material.basis, [Facts(items)])


def _network(material: ReportData, method: Method) -> str:
    cfg = method_config(method)
    model = (cfg or {}).get('model') or {}
    network = model.get('architecture') or model
    kind = network.get('model_name') or (network.get('backbone') or {}).get(
        'type'
    )
    kind = kind or (describe_network(network) if network else 'a network')
    text = f'{method.title}: {kind}'
    size = method.network
    if size:
        pixels = size.get('input_size')
        text += (
            f', {size["parameters"] / 1e6:.2f} M parameters, '
            f'{size["gmacs"]:.3f} GMACs'
        )
        text += f' at {pixels[0]} x {pixels[1]}' if pixels else ''
    if material.teacher and material.teacher is not method:
        text += f'; taught by {material.teacher.title}'
    return text + _classes(material)


def _classes(material: ReportData) -> str:
    if not material.classes:
        return ''
    return f'; classes {", ".join(material.classes)}'


def _training(method: Method) -> str:
    report = method.outcome.reports[0]
    seeds = [str(one.get('seed', '?')) for one in method.outcome.reports]
    return (
        f'{report.get("epochs", "?")} epochs, '
        f'{method.outcome.minutes:.1f} minutes, seeds {", ".join(seeds)}; '
        'the checkpoint of the best validation'
    )


def _data(material: ReportData, method: Method) -> str:
    cfg = method_config(method)
    root = (cfg or {}).get('data_root')
    name = Path(str(root)).name if root else 'unknown'
    told = method.outcome.reports[0].get('split_hash') or 'unknown'
    return (
        f'{name}, split {str(told)[:12]}; tested on '
        + format_image_count(
            material.sample_ids, material.groups, material.whose
        )
        + (
            f'. {unknown_groups_note(material.whose)}'
            if material.unknown
            else ''
        )
    )


def _metrics(method: Method) -> str:
    tests = method.outcome.tests
    return ', '.join(
        f'{key.replace("_", " ")} {format_mean_sd(*method.outcome.test(key))}'
        for key in _METRICS
        if all(key in test for test in tests)
    )


def _weak(material: ReportData, method: Method) -> list[tuple[str, str]]:
    """The classes of the lowest sensitivity, or the patients of least Dice."""
    if material.of_masks:
        from hkd_mm.report.training import mean_by_patient

        found = mean_by_patient(material, method)
        worst = sorted(found, key=found.get)[:3]
        told = ', '.join(f'{name} {found[name]:.2f}' for name in worst)
        return [
            (
                'Weak points',
                f'patients whose images have the lowest mean Dice: {told}',
            )
        ]
    from hkd_mm.report.classes import confusion

    kept = confusion(method, material.labels).diagonal()
    order = [i for i in kept.argsort() if kept[i] == kept[i]][:3]
    told = ', '.join(
        f'{material.classes[i]} {kept[i]:.2f} '
        f'({(material.labels == i).sum()} test images)'
        for i in order
    )
    return [('Weak points', f'lowest sensitivity: {told}')]
