# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Hold data that anybody may have written against a schema, at the door."""

import difflib
import json
import os
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hkd_mm.errors import UserError
from hkd_mm.io.files import read_json

T = TypeVar('T')


def validate(kind: type[T], data: Any, source: str, remedy: str = '') -> T:
    """Make a typed value of plain data.

    Types are strict as in JSON: a text is no number and 1 is not True, while a
    list fills a tuple and a whole number a float.

    Args:
        kind: a dataclass, ``TypedDict``, ``dict[str, float]``, or whatever else
            pydantic takes. A dataclass forbids unknown keys with
            ``__pydantic_config__ = ConfigDict(extra='forbid')``.
        source: names the data in the message, such as a path; ``remedy`` ends it.

    Raises:
        UserError: the data is something else; names the first key that is.
    """
    try:
        text = json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f'{source}: {error}{remedy}') from None
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise UserError(f'{source}: {_describe(error, kind)}{remedy}') from None


def read_as(kind: type[T], path: str | os.PathLike, remedy: str = '') -> T:
    """Read a JSON file as a typed value, see :func:`validate`."""
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: {error}{remedy}') from None
    return validate(kind, data, str(path), remedy)


def plain(value: Any, errors: str = 'surrogatepass') -> Any:
    """As it comes back from a JSON file; classes and functions by their names.

    ``errors='replace'`` leaves no bytes of file names that JSON does not know.

    Raises:
        UserError: nested too deeply.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=_named)
        return json.loads(text.encode('utf-8', errors))
    except (RecursionError, ValueError, TypeError) as error:
        raise UserError(f'a value that JSON cannot hold: {error}') from None


def _named(value: Any) -> str:
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else str(value)


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _describe(error: ValidationError, kind: Any) -> str:
    """One line on the first fault, with its dotted key."""
    fault = error.errors(include_url=False)[0]
    key = '.'.join(map(str, fault['loc']))
    key = ''.join(c if c.isprintable() else repr(c)[1:-1] for c in key)
    if fault['type'] in ('extra_forbidden', 'unexpected_keyword_argument'):
        message = f'{key} is no known key'
        schema = _adapter(kind).json_schema()
        parts = (schema, *schema.get('$defs', {}).values())
        known = [name for part in parts for name in part.get('properties', ())]
        close = difflib.get_close_matches(str(fault['loc'][-1]), known, 1)
        return f'{message}; did you mean {close[0]}?' if close else message
    if fault['type'] == 'json_invalid':  # what json.dumps can write all the same
        return 'holds a text that is no UTF-8, or is nested too deeply'
    message = fault['msg'].removeprefix('Value error, ')
    shown = repr(fault['input'])
    if len(shown) > 60:
        shown = f'{shown[:57]}...'
    given = '' if fault['type'] == 'missing' else f', not {shown}'
    return f'{key or "its content"}: {message}{given}'
