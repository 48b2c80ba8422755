# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables of networks and of the methods of the zoo."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from hkd_mm.config.compose import read_config
from hkd_mm.config.networks import (
    config_root,
    network_config,
    network_names,
    set_network,
)
from hkd_mm.config.tree import preprocessor
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name
from hkd_mm.models.networks.complexity import complexity
from hkd_mm.registry import MODELS, TASK_UTILS


def network_complexity(network: dict, sizes: Sequence[int]) -> dict:
    """Count a network without weights or computation where it allows that.

    Args:
        network: classifier config; weights are never fetched for it.
        sizes: sides of the square images in pixels.

    Returns:
        ``parameters``: int; ``gmacs``: one float a size, in 1e9.
    """
    init_default_scope('mmpretrain')
    set_network(network, pretrained=False)
    # mmpretrain's own networks ask for values while they are built: not on
    # meta.
    device = 'meta' if 'model_name' in network else 'cpu'
    with torch.device(device):
        model = MODELS.build(network)
    found = [complexity(model, size) for size in sizes]
    return dict(
        parameters=found[0]['parameters'],
        gmacs=[one['gmacs'] for one in found],
    )


def print_network_table(names: Sequence[str], sizes: Sequence[int]) -> None:
    """Print one row a network.

    Args:
        names: networks of ``configs/_base_/models`` or config files; of a
            distillation config the student is shown. Empty: all networks.
        sizes: sides of the square images in pixels.

    Raises:
        UserError: no such network or file.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table('network', 'parameters / M')
    for column in table.columns[1:]:
        column.justify = 'right'
    for size in sizes:
        table.add_column(f'GMACs at {size}', justify='right')
    for name in names or network_names():
        row = network_complexity(_network(name), sizes)
        table.add_row(
            name,
            f'{row["parameters"] / 1e6:.3f}',
            *(f'{value:.3f}' for value in row['gmacs']),
        )
    console = Console()
    console.print(table)
    console.print(
        '1 MAC = a multiplication and an addition. Papers mostly '
        'print GMACs under the name GFLOPs.'
    )


def _network(name: str) -> dict:
    if not name.endswith('.py'):
        return network_config(name, pretrained=False)
    model = read_config(name).model
    return model.get('architecture', model).to_dict()


_MARK = '<!-- made by tools/dev/zoo_table.py -->'
_COSTS = 'docs/results/zoo/costs.json'
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
    born_again='self', curriculum='data', dspkd='feature', mixup='data'
)


def print_zoo_table(root: str = '.', check: bool = False) -> None:
    """Write the table into ``docs/zoo.md``.

    Args:
        root: of the repository.
        check: only look whether it is up to date.

    Raises:
        UserError: with ``check``, if it is not.
    """
    page = Path(root, 'docs/zoo.md')
    head, mark, _ = page.read_text().partition(_MARK)
    assert mark, f'{page} has no line {_MARK}'
    text = f'{head}{_MARK}\n\n' + '\n'.join(table(Path(root)))
    if check and page.read_text() != text:
        raise UserError(
            f'{page} is not what the registry says; run '
            'python tools/dev/zoo_table.py'
        )
    if not check:
        page.write_text(text)


def table(root: Path) -> Iterator[str]:
    """Lines of Markdown, a table a family."""
    costs = _read_costs(root)
    found = [method(folder) for folder in _folders()]
    for family, title in _FAMILIES.items():
        rows = [row for row in found if row['family'] == family]
        if not rows:
            continue
        yield f'## {title}\n'
        yield '| Method | Losses | Source | Online, cached, MB | Fails |'
        yield '|---|---|---|---|---|'
        for row in rows:
            cells = (
                f'[{row["title"]}](../configs/zoo/{row["name"]})',
                ', '.join(f'`{name}`' for name in row['losses']),
                row['source'],
                _cost(costs.get(row['name']), row['cacheable']),
                row['fails'],
            )
            yield '| ' + ' | '.join(cells) + ' |'
        yield ''


def method(folder: Path) -> dict[str, Any]:
    """What one folder of ``configs/zoo`` and the registry say of a method.

    Returns:
        name, title, family, losses (class names), source, fails, and whether
        a teacher cache is of use.
    """
    name = folder.name
    path = folder / f'{name}_wrn50_mbv2_skin.py'
    cfg = Config.fromfile(path, import_custom_modules=False)
    model = cfg.model
    types = _loss_types(cfg)
    types = [kind for kind in types if kind != _HARD] or types
    kinds = [MODELS.get(kind) for kind in dict.fromkeys(types)]
    algorithm = MODELS.get(model.type)
    family = _RECIPES.get(name) or getattr(
        algorithm, 'family', kinds[-1].family
    )
    said = (folder / 'README.md').read_text()
    of_losses = ' '.join(kind.fails for kind in kinds if kind.fails)
    return dict(
        name=name,
        title=re.match(r'# (.*)', said)[1],
        family=family,
        losses=[kind.__name__ for kind in kinds],
        source=re.search(r'\[[^\]]+\]\(http[^)]+\)', said)[0],
        fails=_paragraph(said, 'Fails') or of_losses,
        cacheable=_cacheable(cfg),
    )


def _cacheable(cfg: Config) -> bool:
    """Whether what the teacher says of an image can be kept."""
    model, augment = cfg.model, preprocessor(cfg).get('augment', ())
    mixes = any(
        getattr(TASK_UTILS.get(step['type']), 'mixes', False)
        for step in augment
    )
    rotates = type_name(model) == 'RotationDistill'
    return not (mixes or rotates or model.get('fusion') == 'confidence')


def _loss_types(cfg: Config) -> list[str]:
    """Of a stage and those before it."""
    before = cfg.get('previous_stage_config')
    types = (
        _loss_types(
            Config.fromfile(
                config_root() / before, import_custom_modules=False
            )
        )
        if before
        else []
    )
    specs = cfg.model.distiller.get('distill_losses', {}).values()
    return types + [spec['type'] for spec in specs if spec]


def _folders() -> list[Path]:
    return sorted(
        path.parent for path in config_root().glob('zoo/*/README.md')
    )


def _paragraph(said: str, word: str) -> str:
    """What a README says after a bold word."""
    found = re.search(rf'\*\*{word}\*\* (.+)', said)
    return found[1] if found else ''


def _read_costs(root: Path) -> dict[str, dict]:
    path = root / _COSTS
    return json.loads(path.read_text())['rows'] if path.is_file() else {}


def _cost(row: dict | None, cacheable: bool) -> str:
    if row is None:
        return ''
    known = cacheable and row['cached'] is not None
    cached = f'{row["cached"]:.2f}' if known else '-'
    return f'{row["online"]:.2f}, {cached}, {row["megabytes"]:+.1f}'
