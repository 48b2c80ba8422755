#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Structure of ``hkd_mm`` in numbers: size, arrows, circles, names.

Example:
    python tools/dev/house.py
"""

import argparse
import ast
import functools
import statistics
from collections.abc import Iterator
from pathlib import Path

import grimp
import networkx
from importlinter.api import read_configuration
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
# What takes long to import, or may be missing: such an import may wait.
HEAVY = set(
    'torch torchvision timm mmengine mmcv mmpretrain mmrazor cv2 numpy scipy '
    'sklearn matplotlib plotly jinja2 PIL rich optuna submitit onnx '
    'onnxruntime onnxscript executorch uvicorn huggingface_hub safetensors '
    'pydicom segmentation_models_pytorch pytorch_grad_cam imagehash pandas '
    'pyarrow psutil fcntl'.split()
)
# Words for which the field has a better one, as whole parts of a name.
WORDS = set(
    'net nets knob knobs Wishes Making Material Outcome Facts Turns '
    'TeacherRound StudentSide Slots Parts Board sure surely known_there '
    'hand_on set_aside earlier_run earlier_stage usual words_of '
    'leave_out_lone_image name_the_place keep_freed_memory half_made '
    'being_written unfinished vanished one_against_background '
    'tells_of_others whose plus_minus Keys Key Work Processes Trainings Cut '
    'stale say said tell told at_their_place photograph photographs'.split()
)


def files() -> dict[str, str]:
    """Text of every module by its dotted name."""
    found = {}
    for path in sorted((ROOT / 'hkd_mm').rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        name = '.'.join(parts).removesuffix('.__init__')
        found[name] = path.read_text(encoding='utf-8')
    return found


def targets(node: ast.AST) -> Iterator[str]:
    """Modules that an import statement may load, most exact first."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield from (f'{node.module}.{alias.name}' for alias in node.names)
        yield node.module or ''


class Imports:
    """Imports at the top of modules and inside their functions.

    Args:
        texts: see :func:`files`.
    """

    def __init__(self, texts: dict[str, str]) -> None:
        self.trees = {name: ast.parse(text) for name, text in texts.items()}

    @functools.cache  # noqa: B019
    def is_heavy(self, module: str) -> bool:
        """Whether importing a module of hkd_mm loads a heavy package."""
        seen, stack = set(), [module]
        while stack:
            name = stack.pop()
            if name in seen or name not in self.trees:
                continue
            seen.add(name)
            stack.append(name.rpartition('.')[0])
            for node in self.trees[name].body:
                for target in targets(node):
                    if target.split('.')[0] in HEAVY:
                        return True
                    stack.append(target)
        return False

    def inside(self) -> list[str]:
        """Imports in functions that no heavy or optional package explains."""
        found = []
        for name, tree in self.trees.items():
            for function in ast.walk(tree):
                if not isinstance(function, ast.FunctionDef):
                    continue
                for node in ast.walk(function):
                    names = list(targets(node))
                    ours = [n for n in names if n in self.trees]
                    if not names or names[0].split('.')[0] in HEAVY:
                        continue
                    if not any(map(self.is_heavy, ours)):
                        found.append(f'{name}:{node.lineno} {names[0]}')
        return sorted(set(found))


def _is_read(node: ast.Name | ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Load)


def old_words(trees: dict[str, ast.Module]) -> list[str]:
    """Names that are given: to modules, classes, functions, variables."""
    found = set()
    for module, tree in trees.items():
        names = {module.rpartition('.')[2]}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and not _is_read(node):
                names.add(node.id)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and not _is_read(node):
                names.add(node.attr)
        for name in names:
            parts = {name.strip('_'), *name.split('_')}
            found |= {f'{module}: {name}'} if parts & WORDS else set()
    return sorted(found)


def upward(graph: grimp.ImportGraph) -> list[str]:
    """Imports of a floor that lies above, by the contract in pyproject."""
    options = read_configuration(str(ROOT / 'pyproject.toml'))
    layers = options['contracts_options'][0]['layers']
    floor = {
        f'hkd_mm.{room.strip()}': number
        for number, layer in enumerate(layers)
        for room in layer.replace('|', ':').split(':')
    }
    found = []
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            rooms = ['.'.join(name.split('.')[:2]) for name in (importer, imported)]
            if all(room in floor for room in rooms):
                if floor[rooms[0]] > floor[rooms[1]]:
                    found.append(f'{importer} -> {imported}')
    return sorted(found)


def circles(graph: grimp.ImportGraph) -> list[str]:
    """Groups of modules that import each other."""
    arrows = networkx.DiGraph()
    for name in graph.modules:
        for other in graph.find_modules_directly_imported_by(name):
            if not name.startswith(f'{other}.'):  # a package's own __init__
                arrows.add_edge(name, other)
    return [
        ' '.join(sorted(group))
        for group in networkx.strongly_connected_components(arrows)
        if len(group) > 1
    ]


def main(argv=None) -> None:
    """Print the table, and with ``--list`` what the numbers count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--list', action='store_true', help='name each find')
    args = parser.parse_args(argv)
    texts = files()
    imports = Imports(texts)
    lengths = [text.count('\n') for text in texts.values()]
    graph = grimp.build_graph('hkd_mm', cache_dir=None)
    finds = {
        'arrows that run upwards': (upward(graph), 0),
        'circles': (circles(graph), 0),
        'imports inside functions': (imports.inside(), 30),
        "names with a word that is not the field's": (
            old_words(imports.trees),
            0,
        ),
    }
    table = Table('what', 'now', 'at most (at least *)')
    table.add_row('lines', f'{sum(lengths):,}', '38,000')
    table.add_row('files', str(len(lengths)), '240')
    median = statistics.median(lengths)
    table.add_row('median file, lines', f'{median:.0f}', '140 *')
    for name, (found, limit) in finds.items():
        table.add_row(name, str(len(found)), str(limit))
    Console().print(table)
    if args.list:
        for name, (found, _) in finds.items():
            print(f'\n{name}:', *found, sep='\n  ')


if __name__ == '__main__':
    main()
