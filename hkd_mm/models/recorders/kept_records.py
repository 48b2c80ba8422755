# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The records of one forward, with what tells of changes."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


class KeptRecords(list):
    """Records, each tensor in them with its count of in-place changes.

    Args:
        mode: under which it is remembered whether they were changed.
        copied: copy them.
    """

    def __init__(self, mode: tuple, copied: bool) -> None:
        super().__init__()
        self.mode, self.copied = mode, copied
        self._kept: list[Any] = []

    def append(self, record: Any) -> None:
        super().append(record)
        self._kept.append(_mapped(self._keep, record))

    def _keep(self, leaf: Any) -> Any:
        return _Kept(leaf, self.copied) if isinstance(leaf, Tensor) else leaf

    def kept(self) -> Iterator['_Kept']:
        """All tensors."""
        return (leaf for leaf in leaves_of(self._kept) if type(leaf) is _Kept)

    def given(self) -> list[Any]:
        """The records as they were when they came."""
        return _mapped(
            lambda leaf: leaf.given if type(leaf) is _Kept else leaf,
            self._kept,
        )


class _Kept:
    """One recorded tensor."""

    def __init__(self, tensor: Tensor, copied: bool) -> None:
        self._tensor = tensor
        self._version = None if tensor.is_inference() else tensor._version
        needed = copied or self._version is None
        self._copy = tensor.clone() if needed else None

    @property
    def changed(self) -> bool:
        """Known to have been changed since."""
        return (
            self._version is not None
            and self._tensor._version != self._version
        )

    @property
    def given(self) -> Tensor:
        """With the values that it had."""
        if self._version is None or self.changed:
            return self._copy
        return self._tensor


def _mapped(function: Callable, record: Any) -> Any:
    """A function of all leaves in (nested) lists, tuples and dicts."""
    if isinstance(record, dict):
        return {k: _mapped(function, value) for k, value in record.items()}
    if not isinstance(record, (list, tuple)):
        return function(record)
    items = [_mapped(function, value) for value in record]
    if hasattr(record, '_fields'):  # a named tuple
        return type(record)(*items)
    return type(record)(items)


def leaves_of(record: Any) -> Iterator[Any]:
    """What lies in (nested) lists, tuples and dicts."""
    if isinstance(record, dict):
        record = list(record.values())
    if not isinstance(record, (list, tuple)):
        yield record
        return
    for value in record:
        yield from leaves_of(value)
