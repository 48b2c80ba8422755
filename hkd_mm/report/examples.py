# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tested images that teacher and student treat differently, or mark."""

import base64
import io

import numpy as np
import torch
from PIL import Image

from hkd_mm.engine.hooks.picture_hooks import as_rgb, outlined
from hkd_mm.errors import UserError
from hkd_mm.inference.segmentor import Segmentor
from hkd_mm.io.images import read_stored
from hkd_mm.io.input_spec import InputSpec, windowed
from hkd_mm.report.data import Method, ReportData
from hkd_mm.report.page import Picture, Pictures, Section, Table
from hkd_mm.report.sources import closest, listing

_SIDE = 128  # pixels at most


def data_uri(image: np.ndarray, side: int = _SIDE) -> str:
    """A small JPEG.

    Args:
        image: (H, W, 3) uint8, RGB.
        side: pixels of its longer side at most.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, 'JPEG', quality=80)
    coded = base64.b64encode(stream.getvalue()).decode()
    return f'data:image/jpeg;base64,{coded}'


def inputs_of(
    material: ReportData, method: Method, sample_ids: list[str]
) -> torch.Tensor | None:
    """Test images as a network's pipeline makes them.

    Args:
        material: whose data.
        method: whose pipeline.
        sample_ids: B names.

    Returns:
        (B, 3, H, W) uint8, BGR; None where the data is not here.
    """
    dataset = listing(material, 'test', method)
    if dataset is None:
        return None
    places = {
        dataset.get_data_info(index)['sample_id']: index
        for index in range(len(dataset))
    }
    if not places.keys() >= set(sample_ids):
        return None
    return torch.stack([dataset[places[s]]['inputs'] for s in sample_ids])


def image_as_rgb(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) BGR as (H, W, 3) RGB, uint8."""
    rgb = image.flip(0).permute(1, 2, 0)
    return np.ascontiguousarray(rgb.to(torch.uint8).numpy())


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A heat map on a photograph.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) in [0, 1].

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps

    colours = 255 * colormaps['inferno'](heat)[..., :3]
    return (0.5 * image + 0.5 * colours).round().astype(np.uint8)


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


def lost(material: ReportData) -> Section:
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
        Table('The networks of the first seed.', header, rows),
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


def _tiles(material: ReportData, places: np.ndarray) -> list[Picture]:
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
                [(data_uri(image_as_rgb(image)), f'Photograph of {label}')],
                [f'{name}, true class {label}', *said],
            )
        )
    return tiles


_TITLE = 'Marks'
_MASKS_SHOWN = 8
_MASK_SIDE = 224  # pixels of a picture in the page


def marked(material: ReportData) -> Section:
    """Outlines of truth, teacher, student alone and distilled student."""
    if not material.options.get('images', True):
        return Section('marks', _TITLE, left_out='--no-images')
    try:
        dataset = listing(material, 'test')
    except UserError as error:  # the data has changed since
        return Section('marks', _TITLE, left_out=str(error))
    infos = {} if dataset is None else _infos(dataset)
    if not infos.keys() >= set(material.sample_ids):
        return Section('marks', _TITLE, left_out='the data is not here')
    try:
        networks = {
            role: Segmentor(method.folders[0], device='cpu')
            for role, method in (material.roles or _closest(material)).items()
        }
        tiles = [
            _tile(material, place, infos[material.sample_ids[place]], networks)
            for place in chosen(material)
        ]
    except UserError as error:  # prepared otherwise, or changed since
        return Section('marks', _TITLE, left_out=str(error))
    how = (
        'The image, the truth, and what each network marks; from where the '
        'distilled student gains most over the student alone to where it '
        'gains least or loses.'
    )
    basis = f'{material.basis} Here the networks of the first seed.'
    return Section('marks', _TITLE, how, basis, [Pictures(tiles)])


def chosen(material: ReportData, count: int = _MASKS_SHOWN) -> list[int]:
    """Images of the greatest gain, and of the greatest loss.

    Args:
        material: whose; without a student alone the worst are taken.
        count: how many at most, half of each.
    """
    ours = closest(material).figures['dice'][0]
    if material.alone is None or material.distilled is None:
        return np.argsort(ours, kind='stable')[:count].tolist()
    gain = ours - material.alone.figures['dice'][0]
    order = np.argsort(-gain, kind='stable')
    if len(order) <= count:
        return order.tolist()
    half = count // 2
    return [*order[:half].tolist(), *order[len(order) - half :].tolist()]


def _closest(material: ReportData) -> dict[str, Method]:
    method = closest(material)
    return {method.title: method}


def _infos(dataset) -> dict[str, dict]:
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {info['sample_id']: info for info in infos}


def _tile(
    material: ReportData,
    place: int,
    info: dict,
    networks: dict[str, Segmentor],
) -> Picture:
    from hkd_mm.datasets.masks.reading import read_mask

    some = next(iter(networks.values()))
    spec = some.student.input
    pixels = read_stored(info['img_path'], spec.channels, spec.bits)
    rgb = _seen(pixels, spec)
    truth = np.zeros(rgb.shape[:2], np.uint8)
    if info['mask_path'] is not None:
        truth = read_mask(info['mask_path'], len(some.classes))
    masks = {'truth': truth}
    for role, network in networks.items():
        masks[role] = network(info['img_path']).mask
    name, small = material.sample_ids[place], _small(rgb)
    shown = [(data_uri(small, _MASK_SIDE), f'{name}, as it is')]
    shown += [
        (
            data_uri(outlined(small, _small(mask), 1), _MASK_SIDE),
            f'{name}, {role} outlined',
        )
        for role, mask in masks.items()
    ]
    dice = ', '.join(
        f'{role} {method.figures["dice"][0, place]:.2f}'
        for role, method in material.roles.items()
    )
    seen = ', '.join(['image', *masks])
    return Picture(shown, [f'{name}: {seen}', f'Dice: {dice}'])


def _small(pixels: np.ndarray) -> np.ndarray:
    """At most ``_SIDE`` pixels a side, so that outlines stay whole."""
    kind = Image.Resampling.NEAREST  # of a mask
    if pixels.ndim == 3:
        kind = Image.Resampling.BOX
    scale = min(1.0, _MASK_SIDE / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return np.asarray(Image.fromarray(pixels).resize(size, kind))


def _seen(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Through the network's window, (H, W, 3) uint8."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if spec.window is not None:
        pixels = windowed(pixels, spec).round().astype(np.uint8)
    return as_rgb(pixels)
