# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with what is true and what each net marks."""

import numpy as np
from PIL import Image

from hkd_mm.engine.hooks.mask_pictures_hook import as_rgb, outlined
from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import InputSpec
from hkd_mm.inference.segmentor import Segmentor
from hkd_mm.inference.stored_images import read_stored
from hkd_mm.inference.values import windowed

from .page import Picture, Pictures, Section
from .pictures import data_uri
from .runs import Material, Method
from .sources import closest, listing

_TITLE = 'Marks'
_SHOWN = 8
_SIDE = 224  # pixels of a picture in the page


def marked(material: Material) -> Section:
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
        nets = {
            role: Segmentor(method.folders[0], device='cpu')
            for role, method in (material.roles or _closest(material)).items()
        }
        tiles = [
            _tile(material, place, infos[material.sample_ids[place]], nets)
            for place in chosen(material)
        ]
    except UserError as error:  # prepared otherwise, or changed since
        return Section('marks', _TITLE, left_out=str(error))
    how = (
        'The image, the truth, and what each net marks; from where the '
        'distilled student gains most over the student alone to where it '
        'gains least or loses.'
    )
    basis = f'{material.basis} Here the nets of the first seed.'
    return Section('marks', _TITLE, how, basis, [Pictures(tiles)])


def chosen(material: Material, count: int = _SHOWN) -> list[int]:
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


def _closest(material: Material) -> dict[str, Method]:
    method = closest(material)
    return {method.title: method}


def _infos(dataset) -> dict[str, dict]:
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {info['sample_id']: info for info in infos}


def _tile(
    material: Material, place: int, info: dict, nets: dict[str, Segmentor]
) -> Picture:
    from hkd_mm.datasets.masks.reading import read_mask

    some = next(iter(nets.values()))
    spec = some.student.input
    pixels = read_stored(info['img_path'], spec.channels, spec.bits)
    rgb = _seen(pixels, spec)
    truth = np.zeros(rgb.shape[:2], np.uint8)
    if info['mask_path'] is not None:
        truth = read_mask(info['mask_path'], len(some.classes))
    masks = {'truth': truth}
    for role, net in nets.items():
        masks[role] = net(info['img_path']).mask
    name, small = material.sample_ids[place], _small(rgb)
    shown = [(data_uri(small, _SIDE), f'{name}, as it is')]
    shown += [
        (
            data_uri(outlined(small, _small(mask), 1), _SIDE),
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
    scale = min(1.0, _SIDE / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return np.asarray(Image.fromarray(pixels).resize(size, kind))


def _seen(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Through the net's window, (H, W, 3) uint8."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if spec.window is not None:
        pixels = windowed(pixels, spec).round().astype(np.uint8)
    return as_rgb(pixels)
