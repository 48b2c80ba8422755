# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Lists, ranges and expressions of what a sweep varies."""

import ast
import itertools
import json
import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
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


Value = bool | int | float | str | None
_OF_RANGE = {'low', 'high', 'log', 'step'}


@dataclass(frozen=True)
class Choices:
    """Values to choose from."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Args:
        low: whole, together with ``high`` and ``step``: whole numbers.
        high: above ``low``.
        log: drawn evenly on a logarithmic scale.
        step: between neighbours; None for any number.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return all(
            isinstance(number, int)
            for number in (self.low, self.high, self.step)
            if number is not None
        )


Space = dict[str, Choices | Range]


def read_space(given: dict[str, Any], where: str) -> Space:
    """Read ``space`` of a sweep file.

    Args:
        given: name -> list of values or ``dict(low, high, log, step)``.
        where: the file, for what is said.

    Raises:
        UserError: an entry is neither, is empty or contradicts itself.
    """
    return {
        name: _entry(entry, f'{where}: space[{name!r}]')
        for name, entry in given.items()
    }


def _entry(entry: Any, where: str) -> Choices | Range:
    if isinstance(entry, dict):
        return _range(entry, where)
    if not isinstance(entry, (list, tuple)) or not entry:
        raise UserError(
            f'{where}={entry!r} must be a list of values or '
            'dict(low=, high=, log=, step=)'
        )
    for value in entry:
        if not isinstance(value, Value) or value != value:
            raise UserError(
                f'{where} holds {value!r}; values are numbers, texts, True, '
                'False and None'
            )
    if len({as_key(value) for value in entry}) < len(entry):
        raise UserError(f'{where} names a value twice')
    return Choices(tuple(entry))


def _range(entry: dict[str, Any], where: str) -> Range:
    unknown = sorted(entry.keys() - _OF_RANGE)
    if unknown or not {'low', 'high'} <= entry.keys():
        raise UserError(f'{where} must be dict(low=, high=, log=, step=)')
    found = Range(**entry)
    numbers = [found.low, found.high]
    numbers += [] if found.step is None else [found.step]
    if not all(map(_is_number, numbers)) or not found.low < found.high:
        raise UserError(f'{where}: low must be a number below high')
    if found.log and (found.low <= 0 or found.step is not None):
        raise UserError(f'{where}: log=True takes low > 0 and no step')
    if found.step is not None and found.step <= 0:
        raise UserError(f'{where}: step must be above 0')
    return found


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def as_key(params: Any) -> str:
    """One text for one set of values; 1 and 1.0 are the same, True is not."""
    if isinstance(params, dict):
        return json.dumps({k: as_key(v) for k, v in sorted(params.items())})
    return repr(float(params)) if _is_number(params) else json.dumps(params)


def grid_points(space: Space) -> list[dict[str, Value]]:
    """Every combination; the last name varies fastest."""
    lists = [entry.values for entry in space.values()]
    return [dict(zip(space, point)) for point in itertools.product(*lists)]


def corners(space: Space) -> list[dict[str, Value]]:
    """Points that show whether all options are good: first and last."""
    return [
        {
            name: entry.values[end]
            if isinstance(entry, Choices)
            else (entry.low, entry.high)[end]
            for name, entry in space.items()
        }
        for end in (0, -1)
    ]


def distributions(space: Space, grid: bool) -> dict[str, Any]:
    """As Optuna takes them.

    Numbers of a grid stand as ranges, for Optuna never lets a list of
    choices grow, and a grid may be made finer later.

    Args:
        space: what is varied.
        grid: the values are given, nothing is drawn.
    """
    from optuna.distributions import CategoricalDistribution

    return {
        name: _numbers(_span(entry.values))
        if grid and isinstance(entry, Choices) and _all_numbers(entry.values)
        else _numbers(entry)
        if isinstance(entry, Range)
        else CategoricalDistribution(entry.values)
        for name, entry in space.items()
    }


def _all_numbers(values: Sequence[Value]) -> bool:
    return all(map(_is_number, values))


def _span(values: Sequence[Any]) -> Range:
    # whole only if all are
    kind = int if all(isinstance(v, int) for v in values) else float
    return Range(kind(min(values)), kind(max(values)))


def _numbers(entry: Range) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if entry.whole:
        return IntDistribution(
            entry.low, entry.high, log=entry.log, step=entry.step or 1
        )
    return FloatDistribution(
        entry.low, entry.high, log=entry.log, step=entry.step
    )
