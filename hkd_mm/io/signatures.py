# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read constructor arguments of registered classes from their source, without torch."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = Path(__file__).parents[1]


class Arguments(NamedTuple):
    """Keywords of a constructor, own ones first.

    ``is_open``: it takes further keywords, or a base class outside of this package may.
    """

    names: tuple[str, ...]
    is_open: bool


class _Found(NamedTuple):
    module: str  # dotted name
    node: ast.ClassDef | ast.FunctionDef


def type_name(node: Any) -> str:
    """Name of a class without its scope: of a config, or of its ``type``."""
    name = node.get('type') if isinstance(node, dict) else node
    return getattr(name, '__name__', str(name or '')).rpartition('.')[2]


def constructor_arguments(name: str) -> Arguments | None:
    """Find the arguments of a registered class or function, ``hkd_mm.HybridKDLoss``.

    Imports nothing, so it also covers classes whose packages are missing.

    Returns:
        Its arguments with those of the base classes that its constructor
        passes keywords on to; None for a name that is not registered here.
    """
    scope, _, name = name.rpartition('.')
    found = _registered(name) if scope == _PACKAGE.name else None
    if found is None:
        return None
    if isinstance(found.node, ast.FunctionDef):
        names, is_open = _names(found.node, skip=0)
        return Arguments(tuple(names), is_open)
    collected: dict[str, None] = {}
    outcome = _collect(found, collected)
    return Arguments(tuple(collected), outcome is None)


def _collect(found: _Found, names: dict[str, None]) -> bool | None:
    """Add the arguments of a class.

    True when a constructor takes no further keywords, False when all classes
    pass them on, None when they leave the package.
    """
    for item in found.node.body:
        if isinstance(item, ast.FunctionDef) and item.name == '__init__':
            own, passes_on = _names(item, skip=1)
            names.update(dict.fromkeys(own))
            if not passes_on:
                return True
    declares, closed = _declares(found), False
    if declares:  # its annotated attributes are its arguments, and those of all bases
        names.update(
            (item.target.id, None)
            for item in found.node.body
            if isinstance(item, ast.AnnAssign)
            and 'ClassVar' not in ast.unparse(item.annotation)
        )
        if found.node.name == 'Arguments':
            return True
    for parent in _parents(found):
        if parent is None:
            if closed:
                continue
            return None
        outcome = _collect(parent, names)
        if declares and (closed or outcome):
            closed = True
        elif outcome is not False:
            return outcome
    return closed


def _declares(found: _Found) -> bool:
    """Whether a class is one of ``hkd_mm.models.arguments``."""
    return found.node.name == 'Arguments' or any(
        parent is not None and _declares(parent) for parent in _parents(found)
    )


def _parents(found: _Found) -> Iterator[_Found | None]:
    """Base classes, ``Class`` or ``module.Class``; None for those of others."""
    for base in found.node.bases:
        place, _, name = ast.unparse(base).rpartition('.')
        yield _resolve(found.module, name, place)


def _names(function: ast.FunctionDef, skip: int) -> tuple[list[str], bool]:
    args = function.args
    positional = [*args.posonlyargs, *args.args][skip:]
    keywords = [item.arg for item in [*positional, *args.kwonlyargs]]
    return keywords, args.kwarg is not None


def _registered(name: str) -> _Found | None:
    pattern = re.compile(rf'^(class|def) {re.escape(name)}\b', re.MULTILINE)
    for path in sorted(_PACKAGE.rglob('*.py')):
        if not pattern.search(path.read_text(encoding='utf-8')):
            continue
        parts = path.relative_to(_PACKAGE.parent).with_suffix('').parts
        module = '.'.join(parts).removesuffix('.__init__')
        node = _definitions(module).get(name)
        if node is not None and any(
            'register_module' in ast.unparse(item) for item in node.decorator_list
        ):
            return _Found(module, node)
    return None


def _resolve(module: str, name: str, place: str = '') -> _Found | None:
    """A class by its name in a module, or in another one that this imports."""
    node = None if place else _definitions(module).get(name)
    if node is not None:
        return _Found(module, node)
    for statement in _tree(module).body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        for item in statement.names:
            if (item.asname or item.name) == (place or name):
                source = _absolute(module, statement)
                if place and source:
                    source = f'{source}.{item.name}'
                    return _resolve(source, name) if _path(source).is_file() else None
                return source and _resolve(source, item.name)
    return None


def _absolute(module: str, statement: ast.ImportFrom) -> str | None:
    name = statement.module or ''
    if statement.level:
        parts = module.split('.')
        up = statement.level - (_path(module).name == '__init__.py')
        name = '.'.join([*parts[: len(parts) - up], *filter(None, [name])])
    inside = name.split('.')[0] == _PACKAGE.name
    return name if inside and _path(name).is_file() else None


def _definitions(module: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    kinds = ast.ClassDef | ast.FunctionDef
    return {node.name: node for node in _tree(module).body if isinstance(node, kinds)}


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding='utf-8'))


def _path(module: str) -> Path:
    path = _PACKAGE.parent.joinpath(*module.split('.'))
    return path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
