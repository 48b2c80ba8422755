# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Groups that no split may part: connected sets of lesion, patient, ..."""

from collections.abc import Mapping, Sequence

from hkd_mm.io.tables import is_blank

# Columns that name what an image shows, the wider one last.
GROUP_COLUMNS = ('lesion_id', 'patient_id')
_KINDS = {'lesion_id': 'lesion', 'patient_id': 'patient'}


def kind_of(columns: Sequence[str]) -> str:
    """What groups over some columns are called: ``lesion and patient``."""
    return ' and '.join(_KINDS.get(name, name) for name in columns)


def column_of(kind: str) -> str:
    """The columns of :func:`kind_of`: ``lesion_id and patient_id``."""
    return ' and '.join(f'{name}_id' for name in kind.split(' and '))


def groups_of_rows(
    rows: Sequence[Mapping[str, str]],
) -> tuple[list[str | None], str]:
    """Group the rows of a table by all columns that name a group.

    Returns:
        One name a row, see :func:`group_names`, and the kind of the groups.
    """
    columns = [name for name in GROUP_COLUMNS if name in rows[0]]
    values = [[row[name] for name in columns] for row in rows]
    return group_names(columns, values), kind_of(columns) or 'lesion'


def group_names(
    columns: Sequence[str], values: Sequence[Sequence[str | None]]
) -> list[str | None]:
    """Name the connected groups of images.

    Two images are in one group where they share a value in any column, or
    are linked by a chain of such images.

    Args:
        columns: names of the columns.
        values: of each image, one value a column; blank marks such as
            ``NA`` and ``-`` say that nothing is known.

    Returns:
        One name an image: the value itself where there is one column, else
        ``column=value`` of the last column known in the group, the first in
        order of the alphabet; None where an image has no value.
    """
    parents: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    keys = [
        [
            (place, value.strip())
            for place, value in enumerate(row)
            if not is_blank(value)
        ]
        for row in values
    ]
    for nodes in keys:
        for node in nodes:
            parents.setdefault(node, node)
        for node in nodes[1:]:
            parents[root(node)] = root(nodes[0])
    names: dict[tuple[int, str], tuple[int, str]] = {}
    for node in parents:
        top = root(node)
        best = names.setdefault(top, node)
        if (-node[0], node[1]) < (-best[0], best[1]):
            names[top] = node
    found = []
    for nodes in keys:
        if not nodes:
            found.append(None)
            continue
        place, value = names[root(nodes[0])]
        found.append(
            value if len(columns) == 1 else f'{columns[place]}={value}'
        )
    return found
