# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How the official downloads of HAM10000 and ISIC 2019 are told apart."""

from pathlib import Path
from typing import NamedTuple

OWN = 'annotations.csv'  # of any data set, says nothing of an official one


class Layout(NamedTuple):
    """One official download.

    Args:
        dataset_type: the data set that reads it.
        classes: in the order of the labels.
        tables: patterns below the data root, the first that fits is taken.
        studies: what reads it in a study that asks for other images.
    """

    dataset_type: str
    classes: tuple[str, ...]
    tables: tuple[str, ...]
    studies: str = ''


HAM10000 = Layout(
    'hkd_mm.HAM10000',
    ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc'),
    ('HAM10000_metadata*', 'ISIC2018_Task3_Training_GroundTruth.csv', OWN),
    'of a study take --size small, where it has one',
)
ISIC2019 = Layout(
    'hkd_mm.ISIC2019',
    ('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC'),
    ('ISIC_2019_Training_GroundTruth.csv', OWN),
)


def find_table(root: Path, patterns: tuple[str, ...]) -> Path | None:
    """The first table in a data root, or in a folder of it."""
    for pattern in patterns:
        for depth in ('', '*/'):
            found = sorted(
                path
                for path in root.glob(depth + pattern)
                if path.is_file()
                and path.suffix.lower() in ('', '.csv', '.tab')
            )
            if found:
                return found[0]
    return None


def way_out(root: Path) -> str:
    """What to do with an official download that is read as something else.

    Returns:
        The rest of an error message, or nothing where ``root`` holds no
        official table.
    """
    for layout in (HAM10000, ISIC2019):
        tables = tuple(name for name in layout.tables if name != OWN)
        table = find_table(root, tables)
        if table is not None:
            studies = f'; {layout.studies}' if layout.studies else ''
            return (
                f'it holds {table.name}: set --cfg-options '
                f'dataset_type={layout.dataset_type} '
                f'classes="[{",".join(layout.classes)}]"{studies}'
            )
    return ''
