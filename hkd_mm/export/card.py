# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``README.md`` of an export and of a packed one: the model card."""

import re
from collections.abc import Iterable

from hkd_mm.evaluation.selective import classes_note
from hkd_mm.experiments.table_text import unknown_groups_note
from hkd_mm.inference.manifest import ClassifierManifest, Manifest
from hkd_mm.inference.run_folder import SourceRun
from hkd_mm.inference.student import CLASS_OF_TASK
from hkd_mm.io.markup import (
    clean,
    front_matter,
    is_link,
    markdown,
    markdown_code,
    markdown_table,
)
from hkd_mm.metric_names import MAIN, title_of
from hkd_mm.report.model_card import (
    CARD_METRICS,
    LICENCE,
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
    'Validation is of `student.onnx`, on images that also chose the checkpoint; means '
    'over the images, in the size of the model input. Test is that of the run.'
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
# The Hub's ids, https://huggingface.co/docs/hub/repositories-licenses
HUB_LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigcode-openrail-m
bigscience-bloom-rail-1.0 afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause
bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc
lppl-1.3c ms-pl mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
""".split()
_SPELT = {  # how people write the words of those ids
    r'https?://(www\.)?|\.(org|html|txt)\b': ' ',
    r'/(licenses|publicdomain|legalcode|deed\.\w+)': ' ',
    r'\b(licen[sc]es?|the|version|international|universal|unported|generic|gnu)\b': '',
    r'\b(only|or[ -]later)\b|v(?=\d)': '',
    r'\b(cc|creative ?commons)\W*(zero|0)\b|\bpublic domain dedication\b': ' cc0 ',
    r'creative ?commons': 'cc',
    r'\bnon[ -]?commercial': ' nc ',
    r'\bshare[ -]?alike': ' sa ',
    r'\bno[ -]?deriv(ative)?s?(\W*works)?': ' nd ',
    r'\battribution': ' by ',
    r'\b(a|l)?(?:ffero|esser)? ?general public\b': r' \1gpl ',
    r'\b(mozilla|eclipse) public\b': lambda found: f' {found[1][0]}pl ',
    r'\b(new|modified|revised) bsd\b': 'bsd 3 clause',
    r'\bsimplified bsd\b': 'bsd 2 clause',
    r'\bboost software\b': 'bsl',
    r'\bapache\W*(software)?\W*$': 'apache 2.0',
    r'\bexpat\b': 'mit',
}


def hub_licence(text: str) -> str | None:
    """The Hub's id of a licence that is named in whatever usual way, or None."""
    known = {_words(name): name for name in reversed(HUB_LICENCES)}
    return known.get(_words(text))


def _words(text: str) -> frozenset[str]:
    """What distinguishes names of licences: words and versions, in any order."""
    text = text.lower().strip()
    for pattern, word in _SPELT.items():
        text = re.sub(pattern, word, text)
    words = re.findall(r'cc0|[a-z]+|\d+(?:\.\d+)*', text)
    words = [re.sub(r'^\d$', r'\g<0>.0', word) for word in words if word != 'v']
    implied = dict(cc0='1.0', by='cc', nc='cc')
    return frozenset([*words, *(implied[word] for word in words if word in implied)])


def card_text(manifest: Manifest, run: SourceRun) -> str:
    """Write the card as Markdown; every figure names its split."""
    size = size_text(manifest.parameters, manifest.input.size, manifest.classes)
    files = (
        (spec.path, f'{spec.bytes / 1e6:.2f}', spec.takes, spec.gives)
        for spec in manifest.files.values()
    )
    confident = []
    if isinstance(manifest, ClassifierManifest):
        confident = ['## Confident answers', *_confident(manifest)]
    parts = [
        f'# {markdown(manifest.name)}',
        f'Network: {markdown(f"{manifest.architecture}, {size}")}.',
        f'**Notice: {markdown(manifest.notice)}**',
        _licence(manifest.licence),
        '## Files',
        markdown_table([('file', 'MB', 'takes', 'gives'), *files], code=1),
        '## Figures',
        *_figures(manifest),
        *confident,
        '## Use',
        _USE.format(CLASS_OF_TASK[manifest.task]),
        '## Origin',
        _origin(manifest),
        *(f'{key}: {markdown_code(text)}' for key, text in provenance(run.folder)),
    ]
    return '\n\n'.join(part.rstrip() for part in parts) + '\n'


def packed_card(
    card: str, manifest: Manifest, weights: str, attribution: str | None = None
) -> str:
    """Write the card of a packed export, with ``weights`` and a header for hubs."""
    text = manifest.licence
    images = f' Images: {markdown(attribution)}.' if attribution else ''
    card = re.sub(
        r'(?m)^Licence: .*$', lambda _: f'{_licence(text)}{images}', card, count=1
    )
    head: dict = dict(license=hub_licence(text) or 'other')
    if head['license'] == 'other':
        slug = '-'.join(re.findall(r'[a-z0-9.]+', clean(text).lower()))[:60].strip('-.')
        head['license_name'] = (
            'terms-of-the-images' if text == LICENCE else slug or 'own'
        )
        if is_link(text):
            head['license_link'] = text
    head['library_name'] = 'hkd_mm'
    head['pipeline_tag'] = f'image-{manifest.task}'
    head['tags'] = ['medical', 'knowledge-distillation', 'onnx']
    line = f"`{CLASS_OF_TASK[manifest.task]}.from_pretrained('.')` takes this folder.\n"
    if 'torch' in manifest.files:
        size = manifest.files['torch'].bytes / 1e6
        line = f'`{weights}` holds the weights for torch, {size:.2f} MB; {line}'
    return f'{front_matter(head)}{card}\n{line}'


def licence_text(licence: str, attribution: str | None) -> str:
    """Write what stands beside the networks: licence, where its text is, and images."""
    name = (hub_licence(licence) or '').removeprefix('cc-')
    parts = [f'The files in this folder: {clean(licence)}.']
    if name.startswith('by-'):
        kind, _, version = name.rpartition('-')
        address = f'https://creativecommons.org/licenses/{kind}/{version}/legalcode'
        parts.append(f'The text of that licence: {address}')
    if attribution:
        parts.append(f'The images that they were made from: {clean(attribution)}.')
    return '\n\n'.join(parts) + '\n'


def _licence(text: str) -> str:
    return f'Licence: {markdown(text)}.'


def _figures(manifest: Manifest) -> list[str]:
    val, test = manifest.metrics['val'], manifest.metrics['test'] or {}
    measured = manifest.checks['measured']
    keys = CARD_METRICS[manifest.task]
    rows = [[title_of(key), *_cells([val, test], key)] for key in keys]
    parts = [markdown_table([('metric', 'validation', 'test'), *rows])]
    if isinstance(manifest, ClassifierManifest):
        recalls = [one['recall'] for one in measured.values()]
        rows = [[name, *_cells(recalls, name, 3)] for name in manifest.classes]
        head, keys, how = 'recall, validation', [MAIN[manifest.task]], _SCALED
    else:
        head, rows, how = 'validation', [], _PLAIN
    for key in keys:
        if any(one.get(key) is not None for one in measured.values()):
            rows.append([title_of(key), *_cells(measured.values(), key)])
    parts += [how, markdown_table([(head, *measured), *rows])]
    if manifest.checks.get('confident_lesions', 0) is None:
        parts.append(unknown_groups_note('lesions'))
    return parts + _notes(manifest.checks.get('int8', {}).get('limit_note'))


def _cells(parts: Iterable[dict], key: str, digits: int = 4) -> list[str]:
    values = [part.get(key) for part in parts]
    return ['-' if v is None else f'{v:.{digits}f}' for v in values]


def _confident(manifest: ClassifierManifest) -> list[str]:
    found, checks = manifest.threshold, manifest.checks
    text = f'Temperature {manifest.temperature:.4f}. Rule: {markdown(found.rule)}. '
    notes = [checks['temperature_note'], checks.get('int8', {}).get('confident_note')]
    parts = []
    if found.probability is None:
        text += 'No threshold keeps it: every answer is "not confident".'
    else:
        lesions, by_class = checks['confident_lesions'], checks['confident_by_class']
        text += (
            f'From a probability of {found.probability:.4f} on: '
            f'{found.coverage:.1%} of {found.n} validation images'
            f'{f" ({lesions} lesions)" if lesions else ""}, '
            f'{found.accuracy:.1%} of them right.'
        )
        kinds = [f'confident, {name}' for name in ('correct', 'wrong', 'predicted')]
        rows = [[name, *counts.values()] for name, counts in by_class.items()]
        parts = [_BY_CLASS, markdown_table([['class', 'images', *kinds], *rows])]
        notes.insert(0, classes_note(by_class))
    return [text, *parts, *_notes(*notes)]


def _notes(*notes: str | None) -> list[str]:
    return [f'**Note: {markdown(note)}.**' for note in notes if note]


def _origin(manifest: Manifest) -> str:
    source = manifest.source
    run, checkpoint = (markdown_code(source[key]) for key in ('run', 'checkpoint'))
    count = manifest.calibration_images
    int8 = f'{count} training images calibrated int8; ' if count else ''
    return f'Run {run}, checkpoint {checkpoint}, ' + markdown(
        f'epoch {source["epoch"]}, seed {source["seed"]}; '
        f'{split_name(manifest.split_hash)}; {int8}'
        f'exported with hkd_mm {manifest.hkd_mm}, {manifest.created}.'
    )
