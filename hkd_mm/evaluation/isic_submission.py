# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Predictions as the ISIC challenges take them."""

from collections.abc import Sequence

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.io.tables import write_table

# Categories in the order of the challenges; UNK is none of the others.
CHALLENGES = {
    'ISIC 2018 task 3': ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC'),
    'ISIC 2019': (*('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC', 'UNK'),),
}


def write_submission(
    path: str, sample_ids: Sequence[str], scores: np.ndarray, classes: Sequence[str]
) -> None:
    """Write predictions as a CSV file that the challenges take.

    A line an image, its probabilities (N, C) with five digits, in the challenge's order
    of the classes, whose C names come in any case and order; a category that the
    network does not know (UNK) is 0.
    """
    column = {name.upper(): index for index, name in enumerate(classes)}
    for order in CHALLENGES.values():
        if column.keys() in ({*order}, {*order} - {'UNK'}):
            break
    else:
        known = '; '.join(
            f'{title}: {" ".join(names)}' for title, names in CHALLENGES.items()
        )
        raise UserError(
            f'the classes {" ".join(classes)} are those of no ISIC challenge '
            f'({known}); a .csv without .isic takes any'
        )
    if None in sample_ids:
        raise UserError(
            f'{path} needs names of its images: put sample_id into the meta_keys'
        )
    own = [scores[:, column[k]] if k in column else 0 * scores[:, 0] for k in order]
    cells = ([f'{cell:.5f}' for cell in row] for row in np.stack(own, 1))
    rows = ([name, *row] for name, row in zip(sample_ids, cells))
    write_table(path, ['image', *order], rows)
