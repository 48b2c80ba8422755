# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``README.md`` of an export: what the network is and what it is not for."""

from collections.abc import Iterable

from hkd_mm.engine.environment import command_of, environment_of, versions_of
from hkd_mm.evaluation.segmentation_scores import OF_MASKS
from hkd_mm.experiments.tables import unknown_groups_note
from hkd_mm.export.confidence import classes_note
from hkd_mm.inference.manifest_fields import ClassifierManifest, Manifest
from hkd_mm.inference.run_folder import SourceRun

_METRICS = dict(
    classification=(
        'balanced_accuracy',
        'top1',
        'macro_f1',
        'macro_auroc',
        'ece',
    ),
    segmentation=OF_MASKS,
)

_SCALED = (
    'Validation is of `student.onnx` after temperature scaling, on images '
    'that also chose the checkpoint and fitted the temperature; test is that '
    'of the run, before it.'
)
_PLAIN = (
    'Validation is of `student.onnx`, on images that also chose the '
    'checkpoint; means over the images, at the size that the network sees. '
    'Test is that of the run.'
)
_CLASSIFIER = """```python
from hkd_mm.apis import SkinClassifier

classifier = SkinClassifier('.')  # this folder
print(classifier('photo.jpg'))
```"""
_SEGMENTOR = """```python
from hkd_mm.apis import Segmentor

segmentor = Segmentor('.')  # this folder
print(segmentor('image.png').shares)
```"""


def card_text(manifest: Manifest, run: SourceRun) -> str:
    """The card, as Markdown; every figure names its split.

    Args:
        manifest: all that was measured.
        run: how it was trained.
    """
    environment = environment_of(run.folder)
    high, wide = manifest.input.size
    parts = [
        f'# {manifest.name}',
        f'{manifest.architecture}, {manifest.parameters / 1e6:.2f} M '
        f'parameters, {wide} x {high} pixels; classes '
        f'{", ".join(manifest.classes)}.',
        f'**{manifest.notice}**',
        f'Licence: {manifest.licence}.',
        '## Files\n\n' + _files(manifest),
        '## Figures\n\n' + _figures(manifest),
        *_of_task(manifest),
        '## Origin\n\n' + _origin(manifest, run),
        f'Trained with: `{command_of(environment)}`',
        f'Versions: {versions_of(environment)}',
    ]
    return '\n\n'.join(parts) + '\n'


def _files(manifest: Manifest) -> str:
    rows = ['| file | MB | takes | gives |', '|---|---|---|---|']
    for spec in manifest.files.values():
        rows.append(
            f'| `{spec.path}` | {spec.bytes / 1e6:.2f} | {spec.takes} | '
            f'{spec.gives} |'
        )
    return '\n'.join(rows)


def _of_task(manifest: Manifest) -> list[str]:
    if isinstance(manifest, ClassifierManifest):
        return [
            '## Sure answers\n\n' + _sure(manifest),
            '## Use\n\n' + _CLASSIFIER,
        ]
    return ['## Use\n\n' + _SEGMENTOR]


def _figures(manifest: Manifest) -> str:
    rows = ['| metric | validation | test |', '|---|---|---|']
    test = manifest.metrics['test'] or {}
    for key in _METRICS[manifest.task]:
        cells = [
            f'{found[key]:.4f}' if key in found else '-'
            for found in (manifest.metrics['val'], test)
        ]
        rows.append(f'| {key.replace("_", " ")} | {" | ".join(cells)} |')
    parts = ['\n'.join(rows)]
    if isinstance(manifest, ClassifierManifest):
        parts += [_SCALED, _recalls(manifest)]
        if manifest.checks['sure_lesions'] is None:
            parts.append(unknown_groups_note('lesions'))
    else:
        parts += [_PLAIN, _overlaps(manifest)]
    if note := manifest.checks.get('int8', {}).get('limit_note'):
        parts.append(f'**Note: {note}.**')
    return '\n\n'.join(parts)


def _overlaps(manifest: Manifest) -> str:
    measured = manifest.checks['measured']
    rows = _head('validation', measured)
    for name in OF_MASKS:
        values = [measured[kind].get(name) for kind in measured]
        if any(value is not None for value in values):
            rows.append(_row(name, values, 4))
    return '\n'.join(rows)


def _head(title: str, kinds: Iterable[str]) -> list[str]:
    names = list(kinds)
    return [
        f'| {title} | {" | ".join(names)} |',
        '|---' * (len(names) + 1) + '|',
    ]


def _row(name: str, values: list[float | None], digits: int) -> str:
    cells = ['-' if v is None else f'{v:.{digits}f}' for v in values]
    return f'| {name.replace("_", " ")} | {" | ".join(cells)} |'


def _recalls(manifest: ClassifierManifest) -> str:
    measured = manifest.checks['measured']
    kinds = list(measured)
    rows = _head('recall, validation', kinds)
    for name in manifest.classes:
        values = [measured[kind]['recall'][name] for kind in kinds]
        cells = ['-' if v is None else f'{v:.3f}' for v in values]
        rows.append(f'| {name} | {" | ".join(cells)} |')
    score = 'balanced_accuracy'
    rows.append(_row(score, [measured[kind][score] for kind in kinds], 4))
    return '\n'.join(rows)


def _sure(manifest: ClassifierManifest) -> str:
    found, checks = manifest.threshold, manifest.checks
    text = f'Temperature {manifest.temperature:.4f}. Rule: {found.rule}. '
    notes = [
        checks['temperature_note'],
        checks.get('int8', {}).get('sure_note'),
    ]
    if found.probability is None:
        text += 'No threshold keeps it: every answer is "not sure".'
    else:
        lesions = checks['sure_lesions']
        text += (
            f'From a probability of {found.probability:.4f} on: '
            f'{found.coverage:.1%} of {found.n} validation images'
            f'{f" ({lesions} lesions)" if lesions else ""}, '
            f'{found.accuracy:.1%} of them right.\n\n' + _by_class(manifest)
        )
        notes.insert(0, classes_note(checks['sure_by_class']))
    told = [f'**Note: {note}.**' for note in notes if note]
    return '\n\n'.join([text, *told])


def _by_class(manifest: ClassifierManifest) -> str:
    rows = [
        'That holds over all classes together, in the mixture of '
        'validation, and of no class by itself. *Surely right* and *surely '
        'wrong* are images of the class; *said surely* counts the sure '
        'answers that name it, whatever they show.\n',
        '| class | images | surely right | surely wrong | said surely |',
        '|---|---|---|---|---|',
    ]
    for name, found in manifest.checks['sure_by_class'].items():
        cells = ' | '.join(map(str, found.values()))
        rows.append(f'| {name} | {cells} |')
    return '\n'.join(rows)


def _origin(manifest: Manifest, run: SourceRun) -> str:
    source = manifest.source
    told = manifest.split_hash or 'unknown'
    return (
        f'Run `{source["run"]}`, checkpoint `{source["checkpoint"]}`, epoch '
        f'{source["epoch"]}, seed {source["seed"]}; split {told[:12]}; '
        f'{manifest.calibration_images} training images calibrated int8; '
        f'exported with hkd_mm {manifest.hkd_mm}, {manifest.created}.'
    )
