# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``README.md`` of an export: what the network is and what it is not for."""

from collections.abc import Iterable

from hkd_mm.engine.environment import command_of, environment_of, versions_of
from hkd_mm.evaluation.segmentation_scores import OF_MASKS
from hkd_mm.experiments.tables import unknown_groups_note
from hkd_mm.export.confidence import classes_note
from hkd_mm.inference.manifest import ClassifierManifest, Manifest
from hkd_mm.inference.run_folder import SourceRun

_METRICS = ('balanced_accuracy', 'top1', 'macro_f1', 'macro_auroc', 'ece')
_METRICS += OF_MASKS

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
_USE = """```python
from hkd_mm.apis import {0}

model = {0}('.')  # this folder
print(model({1}))
```"""
_BY_CLASS = (
    'That holds over all classes together, in the mixture of validation, and '
    'of no class by itself. *Confident, correct* and *confident, wrong* are '
    'images of the class; *confident, predicted* counts the confident answers '
    'that name it, whatever the images show.'
)


def card_text(manifest: Manifest, run: SourceRun) -> str:
    """Write the card as Markdown; every figure names its split.

    Args:
        manifest: all that was measured.
        run: how it was trained.
    """
    environment = environment_of(run.folder)
    high, wide = manifest.input.size
    files = (
        (f'`{spec.path}`', f'{spec.bytes / 1e6:.2f}', spec.takes, spec.gives)
        for spec in manifest.files.values()
    )
    if isinstance(manifest, ClassifierManifest):
        usage = ['## Confident answers', *_confident(manifest)]
        usage += ['## Use', _USE.format('SkinClassifier', "'photo.jpg'")]
    else:
        usage = ['## Use', _USE.format('Segmentor', "'image.png'")]
    parts = [
        f'# {manifest.name}',
        f'{manifest.architecture}, {manifest.parameters / 1e6:.2f} M '
        f'parameters, {wide} x {high} pixels; classes '
        f'{", ".join(manifest.classes)}.',
        f'**{manifest.notice}**',
        f'Licence: {manifest.licence}.',
        '## Files',
        _table(('file', 'MB', 'takes', 'gives'), files),
        '## Figures',
        *_figures(manifest),
        *usage,
        '## Origin',
        _origin(manifest),
        f'Trained with: `{command_of(environment)}`',
        f'Versions: {versions_of(environment)}',
    ]
    return '\n\n'.join(parts) + '\n'


def _table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    head = list(head)
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def _figures(manifest: Manifest) -> list[str]:
    val, test = manifest.metrics['val'], manifest.metrics['test'] or {}
    rows = [
        _row(name, (val.get(name), test.get(name)))
        for name in _METRICS
        if name in val or name in test
    ]
    parts = [_table(('metric', 'validation', 'test'), rows)]
    measured = manifest.checks['measured']
    if isinstance(manifest, ClassifierManifest):
        rows = [
            (name, *_cells((m['recall'][name] for m in measured.values()), 3))
            for name in manifest.classes
        ]
        score = 'balanced_accuracy'
        rows.append(_row(score, (m[score] for m in measured.values())))
        parts += [_SCALED, _table(('recall, validation', *measured), rows)]
        if manifest.checks['confident_lesions'] is None:
            parts.append(unknown_groups_note('lesions'))
    else:
        rows = [
            _row(name, (m.get(name) for m in measured.values()))
            for name in OF_MASKS
            if any(m.get(name) is not None for m in measured.values())
        ]
        parts += [_PLAIN, _table(('validation', *measured), rows)]
    if note := manifest.checks.get('int8', {}).get('limit_note'):
        parts.append(f'**Note: {note}.**')
    return parts


def _row(name: str, values: Iterable[float | None]) -> list[str]:
    return [name.replace('_', ' '), *_cells(values, 4)]


def _cells(values: Iterable[float | None], digits: int) -> list[str]:
    return ['-' if v is None else f'{v:.{digits}f}' for v in values]


def _confident(manifest: ClassifierManifest) -> list[str]:
    found, checks = manifest.threshold, manifest.checks
    text = f'Temperature {manifest.temperature:.4f}. Rule: {found.rule}. '
    notes = [
        checks['temperature_note'],
        checks.get('int8', {}).get('confident_note'),
    ]
    parts = []
    if found.probability is None:
        text += 'No threshold keeps it: every answer is "not confident".'
    else:
        lesions, by_class = (
            checks[f'confident_{name}'] for name in ('lesions', 'by_class')
        )
        text += (
            f'From a probability of {found.probability:.4f} on: '
            f'{found.coverage:.1%} of {found.n} validation images'
            f'{f" ({lesions} lesions)" if lesions else ""}, '
            f'{found.accuracy:.1%} of them right.'
        )
        head = ('class', 'images') + tuple(
            f'confident, {name}' for name in ('correct', 'wrong', 'predicted')
        )
        rows = ((name, *counts.values()) for name, counts in by_class.items())
        parts = [_BY_CLASS, _table(head, rows)]
        notes.insert(0, classes_note(by_class))
    return [text, *parts, *(f'**Note: {note}.**' for note in notes if note)]


def _origin(manifest: Manifest) -> str:
    source = manifest.source
    split = manifest.split_hash or 'unknown'
    return (
        f'Run `{source["run"]}`, checkpoint `{source["checkpoint"]}`, epoch '
        f'{source["epoch"]}, seed {source["seed"]}; split {split[:12]}; '
        f'{manifest.calibration_images} training images calibrated int8; '
        f'exported with hkd_mm {manifest.hkd_mm}, {manifest.created}.'
    )
