# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Could a net have seen its test images?"""

import json
from itertools import combinations
from pathlib import Path

from hkd_mm.errors import UserError

from ..study.words import are_unknown, images_told, unknown_told
from .page import Facts, Section
from .runs import Material
from .sources import lesions, listing


def shared(parts: dict[str, dict[str, str]]) -> dict[str, tuple[int, int]]:
    """How many images and lesions two parts have in common.

    Args:
        parts: split -> sample id -> lesion id.

    Returns:
        ``train and test`` -> images, lesions.
    """
    return {
        f'{one} and {other}': (
            len(parts[one].keys() & parts[other].keys()),
            len(set(parts[one].values()) & set(parts[other].values())),
        )
        for one, other in combinations(parts, 2)
    }


def leakage(material: Material) -> Section:
    """Hashes of the splits, what parts share, near duplicates."""
    items = [('Split', _hashes(material)), *_parts(material)]
    items.append(('Near duplicates', _near(material)))
    how = (
        'One split hash and nothing in common between the parts: the test '
        'split was never trained on'
    )
    if material.unknown:
        how += (
            f'. {material.whose.capitalize()} unknown: that holds for images '
            f'alone. {unknown_told(material.whose)}'
        )
    else:
        how += (
            f', and none of the {material.whose} that are known is on both '
            'sides.'
        )
    return Section('leakage', 'Leakage', how, material.basis, [Facts(items)])


def _hashes(material: Material) -> str:
    found: dict[str, list[str]] = {}
    for method in material.methods:
        for report in method.outcome.reports:
            told = str(report.get('split_hash') or 'unknown')
            found.setdefault(told, []).append(method.title)
    if len(found) == 1:
        return f'{next(iter(found))}, the same for all runs'
    return 'DIFFERENT splits: ' + '; '.join(
        f'{key[:12]}: {", ".join(dict.fromkeys(names))}'
        for key, names in found.items()
    )


def _parts(material: Material) -> list[tuple[str, str]]:
    parts = _from_data(material) or _from_predictions(material)
    whose = material.whose
    sizes = ', '.join(
        f'{split} {images_told(part, part.values(), whose)}'
        for split, part in parts.items()
    )
    items = [('Parts', sizes)]
    for both, (images, count) in shared(parts).items():
        one, other = (parts[name] for name in both.split(' and '))
        unknown = any(are_unknown(p, p.values()) for p in (one, other))
        told = f'{whose} unknown' if unknown else f'{count} {whose}'
        leak = ' - LEAK' if images or (count and not unknown) else ''
        items.append((f'In {both}', f'{images} images, {told}{leak}'))
    return items


def _from_data(material: Material) -> dict[str, dict[str, str]] | None:
    """All three parts; None where the data or its split has changed."""
    try:
        found = {
            split: listing(material, split)
            for split in ('train', 'val', 'test')
        }
    except UserError:
        return None
    if None in found.values():
        return None
    parts = {split: lesions(one) for split, one in found.items()}
    if set(parts['test']) != set(material.sample_ids):
        return None
    return parts


def _from_predictions(material: Material) -> dict[str, dict[str, str]]:
    """Validation and test, as far as their predictions lie there."""
    parts = {}
    for method in material.methods:
        if method.val_labels is not None:
            parts['val'] = dict(zip(method.val_ids, method.val_groups))
            break
    parts['test'] = dict(zip(material.sample_ids, material.groups))
    return parts


def _near(material: Material) -> str:
    path = material.options.get('verify_report')
    if path is None:
        return (
            'not looked for; give the file of '
            'tools/dataset_tools/verify.py --json with --verify-report'
        )
    try:
        told = json.loads(Path(path).read_text(encoding='utf-8'))
        checked = told['near_checked']
        across, within = len(told['near_leaks']), len(told['near_duplicates'])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'--verify-report {path} is not what '
            'tools/dataset_tools/verify.py --json writes'
        ) from None
    if not checked:
        return 'not looked for by verify.py'
    return (
        f'{within} pairs of near duplicates{_lesions(told)} among '
        f'{told["images"]} images, {across} of them in different parts'
    )


def _lesions(told: dict) -> str:
    """Whether verify.py knew which images are of one lesion."""
    if told.get('without_lesion') == told['images']:
        return ' (lesions unknown)'
    return ' of different lesions'
