# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Read constructor arguments of registered classes from their source, without torch."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = Path(__file__).parents[1]


class Keywords(NamedTuple):
    """Keywords of a constructor, own ones first.

    ``is_open``: it takes further keywords, or a base class outside of this package may.
    """

    names: tuple[str, ...]
    is_open: bool


def type_name(node: Any) -> str:
    """Name of a class without its scope: of a config, or of its ``type``."""
    name = node.get('type') if isinstance(node, dict) else node
    return getattr(name, '__name__', str(name or '')).rpartition('.')[2]


def constructor_arguments(name: str) -> Keywords | None:
    """Find the arguments of a registered class or function, ``hkd_mm.HybridKDLoss``.

    Imports nothing, so it also covers classes whose packages are missing.

    Returns:
        Its arguments with those of the base classes that its constructor
        passes keywords on to; None for a name that is not registered here.
    """
    scope, _, name = name.rpartition('.')
    node = _definition(name) if scope == _PACKAGE.name else None
    if node is None or 'register_module' not in ' '.join(
        map(ast.unparse, node.decorator_list)
    ):
        return None
    if isinstance(node, ast.FunctionDef):
        names, is_open = _names(node, skip=0)
        return Keywords(tuple(names), is_open)
    collected: dict[str, None] = {}
    outcome = _collect(node, collected)
    return Keywords(tuple(collected), outcome is None)


def _collect(node: ast.ClassDef, names: dict[str, None]) -> bool | None:
    """Add the arguments of a class.

    True when a constructor takes no further keywords, False when all classes
    pass them on, None when they leave the package.
    """
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == '__init__':
            own, passes_on = _names(item, skip=1)
            names.update(dict.fromkeys(own))
            if not passes_on:
                return True
    declares, closed = _declares(node), False
    if declares:  # its annotated attributes are its arguments, and those of all bases
        names.update(
            (item.target.id, None)
            for item in node.body
            if isinstance(item, ast.AnnAssign)
            and 'ClassVar' not in ast.unparse(item.annotation)
        )
        if node.name == 'Arguments':
            return True
    for parent in _parents(node):
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


def _declares(node: ast.ClassDef) -> bool:
    """Whether a class is one of ``hkd_mm.models.arguments``."""
    return node.name == 'Arguments' or any(
        parent is not None and _declares(parent) for parent in _parents(node)
    )


def _parents(node: ast.ClassDef) -> Iterator[ast.ClassDef | None]:
    """Base classes, ``Class`` or ``module.Class``; None for those of others."""
    for base in node.bases:
        yield _definition(ast.unparse(base).rpartition('.')[2])


def _names(function: ast.FunctionDef, skip: int) -> tuple[list[str], bool]:
    args = function.args
    positional = [*args.posonlyargs, *args.args][skip:]
    keywords = [item.arg for item in [*positional, *args.kwonlyargs]]
    return keywords, args.kwarg is not None


@cache
def _definition(name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """A class or function at the top of a module of this package, by its name."""
    pattern = re.compile(rf'^(class|def) {re.escape(name)}\b', re.MULTILINE)
    text = next(filter(pattern.search, _texts()), '')
    found = (x for x in ast.parse(text).body if getattr(x, 'name', None) == name)
    return next(found, None)


@cache
def _texts() -> list[str]:
    return [path.read_text(encoding='utf-8') for path in sorted(_PACKAGE.rglob('*.py'))]
