# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write the table of all methods into docs/zoo.md, from the registry."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool

_MARK = '<!-- made by tools/dev/zoo_table.py -->'
_COSTS = 'docs/results/zoo/costs.json'
_FORCES = 'docs/results/zoo/forces.json'
_HARD = 'hkd_mm.HardLabelLoss'
_FAMILIES = dict(
    response='Response: class scores',
    feature='Feature: maps and vectors',
    relation='Relation: between images',
    self='Self: no larger teacher',
    online='Online: peers',
    multi='Several teachers',
    data='Data: which images, in which order',
)
# A recipe of known losses belongs where its idea does.
_RECIPES = dict(
    born_again='self',
    curriculum='data',
    dspkd='feature',
    function_matching='data',
    mixup='data',
)


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check',
        action='store_true',
        help='change nothing; exit code 2 if the table is out of date',
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(print_zoo_table, sys.path[0], **vars(parse_args(argv)))


def print_zoo_table(root: str = '.', check: bool = False) -> None:
    """Write the table into ``docs/zoo.md``.

    Args:
        root: of the repository.
        check: only look whether it is up to date.

    Raises:
        UserError: with ``check``, if it is not.
    """
    from hkd_mm.errors import UserError

    page = Path(root, 'docs/zoo.md')
    head, mark, _ = page.read_text().partition(_MARK)
    assert mark, f'{page} has no line {_MARK}'
    text = f'{head}{_MARK}\n\n' + '\n'.join(_zoo_table(Path(root)))
    if check and page.read_text() != text:
        raise UserError(
            f'{page} differs from the registry; run python tools/dev/zoo_table.py'
        )
    if not check:
        page.write_text(text)


def _zoo_table(root: Path) -> Iterator[str]:
    """Lines of Markdown, a table a family."""
    from hkd_mm.config.networks import config_root

    costs, forces = (
        json.loads((root / path).read_text())['rows'] if (root / path).is_file() else {}
        for path in (_COSTS, _FORCES)
    )
    readmes = sorted(config_root().glob('zoo/*/README.md'))
    found = [zoo_method(readme.parent) for readme in readmes]
    for family, title in _FAMILIES.items():
        rows = [row for row in found if row['family'] == family]
        if not rows:
            continue
        yield f'## {title}\n'
        force = ' Force |' if forces else ''
        yield f'| Method | Losses | Source |{force} Online, cached, MB | Fails |'
        yield f'|---|---|---|{"---|" if forces else ""}---|---|'
        for row in rows:
            cells = (
                f'[{row["title"]}](../configs/zoo/{row["name"]})',
                ', '.join(f'`{name}`' for name in row['losses']),
                row['source'],
                *([_force(forces.get(row['name'], {}))] if forces else ()),
                _cost(costs.get(row['name']), row['cacheable']),
                row['fails'],
            )
            yield f'| {" | ".join(cells)} |'
        yield ''


def zoo_method(folder: Path) -> dict[str, Any]:
    """Describe a method by its folder of ``configs/zoo`` and the registry.

    Returns:
        name, title, family, losses (class names), source, fails, and whether
        a teacher cache is of use.
    """
    from hkd_mm.registry import MODELS

    name = folder.name
    cfg = _read(folder / f'{name}_wrn50_mbv2_skin.py')
    types = _loss_types(cfg)
    types = [kind for kind in types if kind != _HARD] or types
    losses = [MODELS.get(kind) for kind in dict.fromkeys(types)]
    family = getattr(MODELS.get(cfg.model.type), 'family', losses[-1].family)
    readme = (folder / 'README.md').read_text()
    fails = re.search(r'\*\*Fails\*\* (.+)', readme)
    return dict(
        name=name,
        title=re.match(r'# (.*)', readme)[1],
        family=_RECIPES.get(name, family),
        losses=[loss.__name__ for loss in losses],
        source=re.search(r'\[[^\]]+\]\(http[^)]+\)', readme)[0],
        fails=fails[1]
        if fails
        else ' '.join(loss.fails for loss in losses if loss.fails),
        cacheable=_is_cacheable(cfg),
    )


def _read(path: Path):
    from mmengine.config import Config

    return Config.fromfile(path, import_custom_modules=False)


def _is_cacheable(cfg) -> bool:
    """Whether the teacher's answer to an image can be kept."""
    from hkd_mm.config.tree import preprocessor
    from hkd_mm.registry import TASK_UTILS

    model, shown = cfg.model, preprocessor(cfg)
    mixes = shown.get('partners') != 'split' and any(
        getattr(TASK_UTILS.get(step['type']), 'mixes', False)
        for step in shown.get('augment', ())
    )
    rotates = model.type.endswith('RotationDistill')
    return not (mixes or rotates or model.get('fusion') == 'confidence')


def _loss_types(cfg) -> list[str]:
    """Losses of a stage and those before it."""
    from hkd_mm.config.networks import config_root

    before = cfg.get('previous_stage_config')
    types = _loss_types(_read(config_root() / before)) if before else []
    specs = cfg.model.distiller.get('distill_losses', {}).values()
    return types + [spec['type'] for spec in specs if spec]


def _force(row: dict) -> str:
    """Each part's, or nothing where it was not or cannot be measured."""
    parts = {name: value for name, value in row.items() if name != 'skipped'}
    if len(parts) == 1:
        return f'{parts.popitem()[1]:.2g}'
    return ', '.join(f'{name} {value:.2g}' for name, value in parts.items())


def _cost(row: dict | None, cacheable: bool) -> str:
    if row is None:
        return ''
    known = cacheable and row['cached'] is not None
    cached = f'{row["cached"]:.2f}' if known else '-'
    return f'{row["online"]:.2f}, {cached}, {row["megabytes"]:+.1f}'


if __name__ == '__main__':
    sys.exit(main())
