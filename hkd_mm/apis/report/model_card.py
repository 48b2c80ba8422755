# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The page's last word: what this net is and what it is not for."""

import json
import shlex
from pathlib import Path

from ..study.tables import plus_minus
from .page import Facts, Section
from .runs import Material, Method
from .sources import closest, method_config

_METRICS = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc', 'ece')


def model_card(material: Material) -> Section:
    """What, data, licence, use, metrics, command and versions."""
    method = closest(material)
    environment = _environment(method.folders[0])
    items = [
        ('Model', _net(material, method)),
        ('Trained', _training(method)),
        ('Data', _data(material, method)),
        (
            'Licence',
            'code under Apache-2.0; weights and pictures stand under the '
            'terms of the images they were made from (HAM10000: CC BY-NC '
            '4.0; ISIC 2019: CC BY-NC 4.0): look up those of your data',
        ),
        (
            'Intended use',
            'research on knowledge distillation for images of skin lesions. '
            'No diagnostic device: not validated for any clinical use, on '
            'any other camera, population or prevalence; no decision on a '
            'patient may rest on it.',
        ),
        ('Metrics', _metrics(method)),
        ('Weak points', _weak(material, method)),
        ('Config', str(method.outcome.reports[0].get('config', 'unknown'))),
        ('Command', _command(environment)),
        ('Versions', _versions(environment)),
    ]
    how = (
        f'The card of {method.title}; figures are of the test split, mean '
        '+- sd over the seeds.'
    )
    return Section('card', 'Model card', how, material.basis, [Facts(items)])


def _net(material: Material, method: Method) -> str:
    cfg = method_config(method)
    model = (cfg or {}).get('model') or {}
    net = model.get('architecture') or model
    kind = net.get('model_name') or (net.get('backbone') or {}).get('type')
    text = f'{method.title}: {kind or net.get("type") or "a classifier"}'
    size = method.net
    if size:
        pixels = size.get('input_size')
        text += (
            f', {size["parameters"] / 1e6:.2f} M parameters, '
            f'{size["gmacs"]:.3f} GMACs'
        )
        text += f' at {pixels[0]} x {pixels[1]}' if pixels else ''
    if material.teacher and material.teacher is not method:
        text += f'; taught by {material.teacher.title}'
    return f'{text}; classes {", ".join(material.classes)}'


def _training(method: Method) -> str:
    report = method.outcome.reports[0]
    seeds = [str(one.get('seed', '?')) for one in method.outcome.reports]
    return (
        f'{report.get("epochs", "?")} epochs, '
        f'{method.outcome.minutes:.1f} minutes, seeds {", ".join(seeds)}; '
        'the checkpoint of the best validation'
    )


def _data(material: Material, method: Method) -> str:
    cfg = method_config(method)
    root = (cfg or {}).get('data_root')
    name = Path(str(root)).name if root else 'unknown'
    told = method.outcome.reports[0].get('split_hash') or 'unknown'
    return (
        f'{name}, split {str(told)[:12]}; tested on {len(material.labels)} '
        f'images of {len(set(material.groups))} lesions'
    )


def _metrics(method: Method) -> str:
    tests = method.outcome.tests
    return ', '.join(
        f'{key.replace("_", " ")} {plus_minus(*method.outcome.test(key))}'
        for key in _METRICS
        if all(key in test for test in tests)
    )


def _weak(material: Material, method: Method) -> str:
    """The classes of the lowest sensitivity."""
    from .classes import confusion

    kept = confusion(method, material.labels).diagonal()
    order = [i for i in kept.argsort() if kept[i] == kept[i]][:3]
    return 'lowest sensitivity: ' + ', '.join(
        f'{material.classes[i]} {kept[i]:.2f} '
        f'({(material.labels == i).sum()} test images)'
        for i in order
    )


def _environment(folder: Path) -> dict:
    try:
        text = (folder / 'environment.json').read_text(encoding='utf-8')
        return json.loads(text)
    except (OSError, ValueError):
        return {}


def _command(environment: dict) -> str:
    """Without the folders of the machine it ran on."""
    words = [str(word) for word in environment.get('command') or []]
    if not words:
        return 'unknown'
    kept = []
    for word in words:
        key, equals, value = word.rpartition('=')
        kept.append(f'{key}{equals}{_short(value)}')
    return shlex.join(['python', *kept])


def _short(path: str) -> str:
    if not path.startswith('/'):
        return path
    parts = Path(path).parts
    for root in ('tools', 'configs'):
        if root in parts:
            return '/'.join(parts[parts.index(root) :])
    return f'.../{Path(path).name}'


def _versions(environment: dict) -> str:
    if not environment:
        return 'unknown'
    told = {key: environment.get(key) for key in ('hkd_mm', 'python')}
    told.update(environment.get('packages') or {})
    text = ', '.join(f'{key} {value}' for key, value in told.items() if value)
    where = environment.get('gpus') or [environment.get('cpu')]
    return f'{text}; on {", ".join(str(one) for one in where)}'
