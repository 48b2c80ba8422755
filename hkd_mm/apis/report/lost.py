# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images that the student loses and the teacher wins."""

import numpy as np

from hkd_mm.errors import UserError

from .page import Picture, Pictures, Section, Table
from .pictures import as_rgb, data_uri, inputs_of
from .runs import Material

_SHOWN = 12


def lost_places(
    labels: np.ndarray, teacher: np.ndarray, student: np.ndarray
) -> np.ndarray:
    """Where the teacher is right and the student wrong, the clearest first.

    Args:
        labels: (N,) int.
        teacher: (N, C) probabilities.
        student: likewise.

    Returns:
        Places, by the teacher's lead in the probability of the true class.
    """
    own = np.arange(len(labels))
    lead = teacher[own, labels] - student[own, labels]
    won = teacher.argmax(1) == labels
    missed = student.argmax(1) != labels
    found = np.flatnonzero(won & missed)
    return found[np.argsort(-lead[found], kind='stable')]


def lost(material: Material) -> Section:
    """How many of each class, and the clearest of them."""
    title = 'What the student loses'
    teacher, student = material.teacher, material.distilled
    if teacher is None or student is None:
        return Section(
            'lost', title, left_out='name --teacher and --distilled'
        )
    places = lost_places(material.labels, teacher.scores[0], student.scores[0])
    gained = lost_places(material.labels, student.scores[0], teacher.scores[0])
    rows = []
    for index, name in enumerate(material.classes):
        counts = [
            int((material.labels == index).sum()),
            int((material.labels[places] == index).sum()),
            int((material.labels[gained] == index).sum()),
        ]
        rows.append([name, *((str(count), count) for count in counts)])
    header = ['class', 'test images', 'only the teacher is right']
    header.append('only the student is right')
    blocks: list = [
        Table('The nets of the first seed.', header, rows),
    ]
    basis = f'{material.basis} Here the first seed alone.'
    if material.options.get('images', True) and len(places):
        try:
            tiles = _tiles(material, places[:_SHOWN])
        except UserError as error:  # the data has changed since
            basis += f' No photographs: {error}.'
            tiles = []
        if tiles:
            blocks.append(Pictures(tiles))
    how = (
        f'Images for which {teacher.title} is right and {student.title} '
        "wrong, the teacher's greatest lead first: what they have in common "
        'is what distillation has not handed down.'
    )
    return Section('lost', title, how, basis, blocks)


def _tiles(material: Material, places: np.ndarray) -> list[Picture]:
    names = [material.sample_ids[place] for place in places]
    images = inputs_of(material, material.distilled, names)
    if images is None:
        return []
    tiles = []
    for image, place, name in zip(images, places, names):
        label = material.classes[material.labels[place]]
        said = []
        for role in ('teacher', 'distilled'):
            scores = material.roles[role].scores[0, place]
            told = [int(scores.argmax())]
            if role == 'distilled':  # who is wrong here
                told.append(material.labels[place])
            each = [f'{material.classes[i]} {scores[i]:.2f}' for i in told]
            said.append(f'{role}: {", ".join(each)}')
        tiles.append(
            Picture(
                [(data_uri(as_rgb(image)), f'Photograph of {label}')],
                [f'{name}, true class {label}', *said],
            )
        )
    return tiles
