# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``README.md`` of an export and of a packed one: the model card."""

from collections.abc import Iterable

from hkd_mm.evaluation.selective import classes_note
from hkd_mm.experiments.table_text import unknown_groups_note
from hkd_mm.inference.manifest import ClassifierManifest, Manifest
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.inference.student import CLASS_OF_TASK
from hkd_mm.metric_names import MAIN, title_of
from hkd_mm.report.model_card import (
    CARD_METRICS,
    provenance,
    size_text,
    split_name,
)

_SCALED = (
    'Validation is of `student.onnx` after temperature scaling, on images '
    'that also chose the checkpoint and fitted the temperature; test is that '
    'of the run, before it.'
)
_PLAIN = (
    'Validation is of `student.onnx`, on images that also chose the '
    'checkpoint; means over the images, in the size of the model input. '
    'Test is that of the run.'
)
_USE = """```python
from hkd_mm.apis import {0}

model = {0}('.')  # this folder
print(model('image.jpg'))
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
    size = size_text(manifest.parameters, manifest.input.size, manifest.classes)
    files = (
        (f'`{spec.path}`', f'{spec.bytes / 1e6:.2f}', spec.takes, spec.gives)
        for spec in manifest.files.values()
    )
    confident = []
    if isinstance(manifest, ClassifierManifest):
        confident = ['## Confident answers', *_confident(manifest)]
    parts = [
        f'# {manifest.name}',
        f'{manifest.architecture}, {size}.',
        f'**{manifest.notice}**',
        _licence(manifest.licence),
        '## Files',
        _table(('file', 'MB', 'takes', 'gives'), files),
        '## Figures',
        *_figures(manifest),
        *confident,
        '## Use',
        _USE.format(CLASS_OF_TASK[manifest.task]),
        '## Origin',
        _origin(manifest),
        *(f'{key}: `{text}`' for key, text in provenance(run.folder)),
    ]
    return '\n\n'.join(parts) + '\n'


def packed_card(card: str, old_licence: str, manifest: Manifest, weights: str) -> str:
    """Write the card of a packed export, under the header for the Hub.

    Args:
        card: of the export, see :func:`card_text`.
        old_licence: that it names.
        manifest: of the packed export, with its ``torch`` file.
        weights: name of that file.
    """
    card = card.replace(_licence(old_licence), _licence(manifest.licence))
    head = (
        '---\nlicense: other\nlibrary_name: hkd_mm\n'
        f'pipeline_tag: image-{manifest.task}\ntags:\n- medical\n'
        '- knowledge-distillation\n- onnx\n---\n\n'
    )
    line = (
        f'\n`{weights}` holds the weights for torch, '
        f'{manifest.files["torch"].bytes / 1e6:.2f} MB; '
        f"`{CLASS_OF_TASK[manifest.task]}.from_pretrained('.')` takes this "
        'folder.\n'
    )
    return head + card + line


def _licence(text: str) -> str:
    return f'Licence: {text}.'


def _table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    head = list(head)
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def _figures(manifest: Manifest) -> list[str]:
    found = (manifest.metrics['val'], manifest.metrics['test'] or {})
    keys = CARD_METRICS[manifest.task]
    rows = [_row(key, (part.get(key) for part in found)) for key in keys]
    parts = [_table(('metric', 'validation', 'test'), rows)]
    measured = manifest.checks['measured']
    if isinstance(manifest, ClassifierManifest):
        rows = [
            (name, *_cells((m['recall'][name] for m in measured.values()), 3))
            for name in manifest.classes
        ]
        score = MAIN[manifest.task]
        rows.append(_row(score, (m[score] for m in measured.values())))
        parts += [_SCALED, _table(('recall, validation', *measured), rows)]
        if manifest.checks['confident_lesions'] is None:
            parts.append(unknown_groups_note('lesions'))
    else:
        rows = [
            _row(key, (m.get(key) for m in measured.values()))
            for key in keys
            if any(m.get(key) is not None for m in measured.values())
        ]
        parts += [_PLAIN, _table(('validation', *measured), rows)]
    return parts + _notes(manifest.checks.get('int8', {}).get('limit_note'))


def _row(key: str, values: Iterable[float | None]) -> list[str]:
    return [title_of(key), *_cells(values, 4)]


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
    return [text, *parts, *_notes(*notes)]


def _notes(*notes: str | None) -> list[str]:
    return [f'**Note: {note}.**' for note in notes if note]


def _origin(manifest: Manifest) -> str:
    source = manifest.source
    return (
        f'Run `{source["run"]}`, checkpoint `{source["checkpoint"]}`, epoch '
        f'{source["epoch"]}, seed {source["seed"]}; '
        f'{split_name(manifest.split_hash)}; '
        f'{manifest.calibration_images} training images calibrated int8; '
        f'exported with hkd_mm {manifest.hkd_mm}, {manifest.created}.'
    )
