# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Arithmetic in the options of a sweep: ``'{1 - alpha}'``."""

import ast
import operator
import re
from typing import Any

from hkd_mm.errors import UserError

_BRACES = re.compile(r'\{([^{}]+)\}')
_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def names_in(text: Any) -> set[str]:
    """The names that stand in braces in a text.

    Raises:
        UserError: what stands in braces cannot be read.
    """
    if not isinstance(text, str):
        return set()
    return {
        node.id
        for inside in _BRACES.findall(text)
        for node in ast.walk(_parse(inside))
        if isinstance(node, ast.Name)
    }


def fill(value: Any, known: dict[str, Any]) -> str:
    """A value as the command line takes it, braces worked out.

    Args:
        value: of an option; only in texts braces mean something.
        known: what names in braces stand for.

    Raises:
        UserError: an unknown name, or arithmetic that has no result.
    """
    if not isinstance(value, str):
        return as_text(value)
    return _BRACES.sub(
        lambda found: as_text(evaluate(found.group(1), known)), value
    )


def as_text(value: Any) -> str:
    """A float without the dust of arithmetic: 1 - 0.9 is 0.1."""
    if isinstance(value, float):
        return repr(float(f'{value:.12g}'))
    return str(value)


def evaluate(text: str, known: dict[str, Any]) -> Any:
    """Numbers, names, ``+ - * / **`` and brackets; nothing else.

    Raises:
        UserError: see :func:`fill`.
    """
    try:
        return _value(_parse(text), known)
    except (ArithmeticError, TypeError) as error:
        raise UserError(f'{{{text}}} cannot be worked out: {error}') from None
    except KeyError as error:
        raise UserError(
            f'{{{text}}}: {error.args[0]} is no name of the space; known: '
            f'{", ".join(known)}'
        ) from None


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode='eval').body
    except SyntaxError:
        raise UserError(
            f'{{{text}}} cannot be read; write a name or arithmetic such as '
            '{1 - alpha}'
        ) from None


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, known)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left, known), _value(node.right, known)
        return _BINARY[type(node.op)](left, right)
    raise TypeError(f'{ast.unparse(node)} is more than arithmetic')
