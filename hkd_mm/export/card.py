# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``README.md`` of an export and of a packed one: the model card."""

from collections.abc import Iterable

from hkd_mm.evaluation.selective import classes_note
from hkd_mm.experiments.tables import unknown_groups_note
from hkd_mm.inference.manifest_fields import ClassifierManifest, Manifest
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.inference.student import TAKES
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
_BY_CLASS = (
    'That holds over all classes together, in the mixture of validation, and '
    'of no class by itself. *Surely right* and *surely wrong* are images of '
    'the class; *said surely* counts the sure answers that name it, whatever '
    'they show.'
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
    size = size_text(
        manifest.parameters, manifest.input.size, manifest.classes
    )
    files = [
        [f'`{spec.path}`', f'{spec.bytes / 1e6:.2f}', spec.takes, spec.gives]
        for spec in manifest.files.values()
    ]
    parts = [
        f'# {manifest.name}',
        f'{manifest.architecture}, {size}.',
        f'**{manifest.notice}**',
        _licence(manifest.licence),
        '## Files',
        _table(['file', 'MB', 'takes', 'gives'], files),
        '## Figures',
        *_figures(manifest),
    ]
    if isinstance(manifest, ClassifierManifest):
        parts += ['## Sure answers', *_sure(manifest), '## Use', _CLASSIFIER]
    else:
        parts += ['## Use', _SEGMENTOR]
    parts += ['## Origin', _origin(manifest)]
    parts += [f'{key}: `{text}`' for key, text in provenance(run.folder)]
    return '\n\n'.join(parts) + '\n'


def packed_card(
    card: str, old_licence: str, manifest: Manifest, weights: str
) -> str:
    """The card of a packed export, under the header that the Hub reads.

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
        f"`{TAKES[manifest.task].rsplit('.', 1)[-1]}.from_pretrained('.')` "
        'takes this folder.\n'
    )
    return head + card + line


def _licence(text: str) -> str:
    return f'Licence: {text}.'


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _number(value: float | None, digits: int = 4) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def _figures(manifest: Manifest) -> list[str]:
    found = (manifest.metrics['val'], manifest.metrics['test'] or {})
    keys = CARD_METRICS[manifest.task]
    rows = [
        [title_of(key), *(_number(part.get(key)) for part in found)]
        for key in keys
    ]
    parts = [_table(['metric', 'validation', 'test'], rows)]
    if isinstance(manifest, ClassifierManifest):
        parts += [_SCALED, _recalls(manifest)]
        if manifest.checks['sure_lesions'] is None:
            parts.append(unknown_groups_note('lesions'))
    else:
        parts += [_PLAIN, _by_file(manifest, 'validation', [], keys)]
    return parts + _notes(manifest.checks.get('int8', {}).get('limit_note'))


def _recalls(manifest: ClassifierManifest) -> str:
    measured = manifest.checks['measured'].values()
    rows = [
        [name, *(_number(one['recall'][name], 3) for one in measured)]
        for name in manifest.classes
    ]
    score = MAIN[manifest.task]
    return _by_file(manifest, 'recall, validation', rows, [score])


def _by_file(
    manifest: Manifest, title: str, rows: list[list[str]], keys: Iterable[str]
) -> str:
    """Validation of each network; what none has is left out."""
    measured = manifest.checks['measured']
    rows = rows + [
        [title_of(key), *(_number(one.get(key)) for one in measured.values())]
        for key in keys
        if any(one.get(key) is not None for one in measured.values())
    ]
    return _table([title, *measured], rows)


def _sure(manifest: ClassifierManifest) -> list[str]:
    found, checks = manifest.threshold, manifest.checks
    text = f'Temperature {manifest.temperature:.4f}. Rule: {found.rule}. '
    notes = [
        checks['temperature_note'],
        checks.get('int8', {}).get('sure_note'),
    ]
    if found.probability is None:
        text += 'No threshold keeps it: every answer is "not sure".'
        return [text, *_notes(*notes)]
    lesions, by_class = checks['sure_lesions'], checks['sure_by_class']
    text += (
        f'From a probability of {found.probability:.4f} on: '
        f'{found.coverage:.1%} of {found.n} validation images'
        f'{f" ({lesions} lesions)" if lesions else ""}, '
        f'{found.accuracy:.1%} of them right.'
    )
    header = ['class', 'images', 'surely right', 'surely wrong', 'said surely']
    rows = [[name, *map(str, n.values())] for name, n in by_class.items()]
    notes = _notes(classes_note(by_class), *notes)
    return [text, _BY_CLASS, _table(header, rows), *notes]


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
