# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tested images: what the student loses, where networks look, and masks."""

import numpy as np
import torch
from PIL import Image
from plotly import graph_objects as go
from torch.nn import functional as F

from hkd_mm.datasets.splits import balanced_choice
from hkd_mm.engine.hooks.picture_hooks import as_rgb, outlined
from hkd_mm.engine.student_loading import load_student
from hkd_mm.errors import UserError
from hkd_mm.evaluation.agreement import teacher_only_correct
from hkd_mm.evaluation.significance import bootstrap_mean
from hkd_mm.inference.segmentor import Segmentor
from hkd_mm.io.images import data_uri, overlaid, read_stored
from hkd_mm.io.input_spec import windowed
from hkd_mm.lazy import require
from hkd_mm.models.networks.heat_maps import heat_maps, overlap
from hkd_mm.report import page
from hkd_mm.report.data import ReportData, ReportMethod
from hkd_mm.report.sources import infos_by_id, read_dataset

_LOST_SHOWN = 12
_MAPS_SHOWN = 8
_MASKS_SHOWN = 8
_MASK_SIDE = 224  # pixels of a picture in the page
_GRID = (64, 64)  # of maps of networks with other input sizes


def model_inputs(
    data: ReportData, method: ReportMethod, sample_ids: list[str]
) -> torch.Tensor | None:
    """Test images as a network takes them, (B, 3, H, W) uint8 BGR; None if away."""
    dataset = read_dataset(data, 'test', method)
    infos = {} if dataset is None else infos_by_id(dataset)
    if not infos.keys() >= set(sample_ids):
        return None
    return torch.stack([dataset[infos[name]['index']]['inputs'] for name in sample_ids])


def image_as_rgb(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) BGR as (H, W, 3) RGB, uint8."""
    rgb = image.flip(0).permute(1, 2, 0)
    return np.ascontiguousarray(rgb.to(torch.uint8).numpy())


def lost_section(data: ReportData) -> page.Section:
    """Count of images that only the teacher gets right, and some of them."""
    title = 'What the student loses'
    teacher, student = data.teacher, data.distilled
    if teacher is None or student is None:
        return page.Section('lost', title, left_out='name --teacher and --distilled')
    both = teacher.scores[0], student.scores[0]
    lost = teacher_only_correct(data.labels, *both)
    gained = teacher_only_correct(data.labels, *both[::-1])
    parts = (data.labels, data.labels[lost], data.labels[gained])
    rows = [
        [name, *(page.count_cell((part == index).sum()) for part in parts)]
        for index, name in enumerate(data.classes)
    ]
    header = ['class', 'test images', 'only the teacher is right']
    header.append('only the student is right')
    blocks: list = [page.Table('The networks of the first seed.', header, rows)]
    basis = f'{data.basis} Here the first seed alone.'
    if data.options.get('images', True) and len(lost):
        try:
            if tiles := _lost_tiles(data, lost[:_LOST_SHOWN]):
                blocks.append(page.Pictures(tiles))
        except UserError as error:  # the data has changed since
            basis += f' No photographs: {error}.'
    how = (
        f'Images for which {teacher.title} is right and {student.title} '
        "wrong, the teacher's greatest lead first: what they have in common "
        'is what distillation has not handed down.'
    )
    return page.Section('lost', title, how, basis, blocks)


def _lost_tiles(data: ReportData, indices: np.ndarray) -> list[page.Picture]:
    names = [data.sample_ids[index] for index in indices]
    images = model_inputs(data, data.distilled, names)
    tiles = []
    for image, index, name in zip(images if images is not None else (), indices, names):
        label = data.labels[index]
        lines = [f'{name}, true class {data.classes[label]}']
        for role in ('teacher', 'distilled'):
            scores = data.roles[role].scores[0, index]
            named = [int(scores.argmax())]
            if role == 'distilled':  # which is wrong here
                named.append(label)
            each = [f'{data.classes[i]} {scores[i]:.2f}' for i in named]
            lines.append(f'{role}: {", ".join(each)}')
        alt = f'Photograph of {data.classes[label]}'
        tiles.append(page.Picture([(data_uri(image_as_rgb(image)), alt)], lines))
    return tiles


def grad_cam_section(data: ReportData) -> page.Section:
    """Overlap with the teacher's maps, and some maps to look at."""
    title = 'Where networks look (Grad-CAM)'
    try:
        if not data.options.get('cam_images'):
            raise UserError('not asked for (--cam-images 0)')
        if data.teacher is None or len(data.roles) < 2:
            raise UserError(
                'name a teacher and a student with --teacher and --distilled'
            )
        require('pytorch_grad_cam', 'it', '"grad-cam>=1.5"')
        indices = balanced_choice(data.labels, data.options['cam_images'])
        maps, images = _maps(data, indices)
    except UserError as error:
        return page.Section('cam', title, left_out=str(error))
    blocks = _overlaps(maps)
    if data.options.get('images', True) and 'distilled' in images:
        blocks.append(_map_tiles(data, indices, maps, images['distilled']))
    how = (
        'Bright is what raises the score of the true class, at the last layer with a '
        'spatial map (coarse in small images); an overlap of 1 is the same map; beside '
        'a photograph stand the maps of teacher and student. More overlap than the '
        'student alone has means that the teacher has handed down where to look.'
    )
    basis = (
        f'{len(indices)} images of the test split, from the classes in turn; '
        'the networks of the first seed, checkpoints chosen on validation.'
    )
    return page.Section('cam', title, how, basis, blocks)


def _maps(data: ReportData, indices: np.ndarray) -> tuple[dict, dict]:
    """Role -> maps (B, *_GRID), and role -> images, of these test images."""
    maps, images = {}, {}
    for role, method in data.roles.items():
        names = [data.sample_ids[index] for index in indices]
        inputs = images[role] = model_inputs(data, method, names)
        if inputs is None:
            raise UserError('the data is not here')
        network = load_student(method.folders[0] / 'student.pth')[0]
        ready = network.data_preprocessor(dict(inputs=inputs), False)
        found = heat_maps(network, ready['inputs'], data.labels[indices])
        found = torch.from_numpy(found)[:, None].float()
        maps[role] = F.interpolate(found, _GRID, mode='bilinear')[:, 0].numpy()
    return maps, images


def _overlaps(maps: dict[str, np.ndarray]) -> list:
    traces, rows = [], []
    for role in [role for role in maps if role != 'teacher']:
        values = overlap(maps[role], maps['teacher'])
        values = values[~np.isnan(values)]
        low, high = bootstrap_mean(values)
        mean = float(values.mean())
        interval = (f'[{low:.3f}, {high:.3f}]', low)
        rows.append(
            [role, page.count_cell(len(values)), (f'{mean:.3f}', mean), interval]
        )
        traces.append(
            go.Box(
                x=np.round(values, 4),
                name=role,
                boxpoints='all',
                jitter=0.5,
                pointpos=0,
                marker=dict(color=page.ROLE_COLOURS[role], size=4),
                fillcolor='rgba(0,0,0,0)',
            )
        )
    made = page.figure(traces, 'overlap with the teacher', showlegend=False)
    made.update_xaxes(range=[0, 1])
    alt = "Overlap of each student's map with the teacher's, a point an image."
    header = ['network', 'images', 'mean overlap', '95 % interval']
    return [
        page.Chart('overlap', made, alt, 120 + 80 * len(traces)),
        page.Table('Overlap with the teacher (bootstrap of images).', header, rows),
    ]


def _map_tiles(
    data: ReportData,
    indices: np.ndarray,
    maps: dict[str, np.ndarray],
    inputs: torch.Tensor,
) -> page.Pictures:
    shown = slice(_MAPS_SHOWN)
    common = overlap(maps['teacher'][shown], maps['distilled'][shown])
    tiles = []
    for place, index in enumerate(indices[shown]):
        image = image_as_rgb(inputs[place])
        images = [(data_uri(image), 'Photograph')]
        lines = [f'true class: {data.classes[data.labels[index]]}']
        for role in ('teacher', 'distilled'):
            heat = torch.from_numpy(maps[role][place])[None, None]
            heat = F.interpolate(heat, image.shape[:2], mode='bilinear')[0, 0]
            seen = overlaid(image, heat.clamp(0, 1).numpy())
            images.append((data_uri(seen), f'Where the {role} looks'))
            scores = data.roles[role].scores[0, index]
            guess = int(scores.argmax())
            lines.append(f'{role}: {data.classes[guess]} {scores[guess]:.2f}')
        lines.append(f'overlap {common[place]:.2f}')
        tiles.append(page.Picture(images, [', '.join(lines)]))
    return page.Pictures(tiles)


def masks_section(data: ReportData) -> page.Section:
    """Outlines of truth, teacher, student alone and distilled student."""
    title = 'Masks'
    if not data.options.get('images', True):
        return page.Section('masks', title, left_out='--no-images')
    try:
        dataset = read_dataset(data, 'test')
        infos = {} if dataset is None else infos_by_id(dataset)
        if not infos.keys() >= set(data.sample_ids):
            raise UserError('the data is not here')
        methods = data.roles or {data.closest.title: data.closest}
        networks = {
            role: Segmentor(method.folders[0], device='cpu')
            for role, method in methods.items()
        }
        tiles = [
            _mask_tile(data, index, infos[data.sample_ids[index]], networks)
            for index in choose_masks(data)
        ]
    except UserError as error:  # prepared otherwise, or changed since
        return page.Section('masks', title, left_out=str(error))
    how = (
        'The image, the truth, and the mask of each network; from where the distilled '
        'student gains most over the student alone to where it gains least or loses.'
    )
    basis = f'{data.basis} Here the networks of the first seed.'
    return page.Section('masks', title, how, basis, [page.Pictures(tiles)])


def choose_masks(data: ReportData, count: int = _MASKS_SHOWN) -> list[int]:
    """Indices of the greatest gains and losses; without two of the least Dice."""
    dice = data.closest.figures['dice'][0]
    if data.alone is None or data.distilled is None:
        return np.argsort(dice, kind='stable')[:count].tolist()
    gain = dice - data.alone.figures['dice'][0]
    order = np.argsort(-gain, kind='stable').tolist()
    if len(order) <= count:
        return order
    half = count // 2
    return order[:half] + order[len(order) - half :]


def _mask_tile(
    data: ReportData, index: int, info: dict, networks: dict[str, Segmentor]
) -> page.Picture:
    from hkd_mm.datasets.masks.reading import read_mask

    some = next(iter(networks.values()))
    spec = some.student.input
    pixels = read_stored(info['img_path'], spec.channels, spec.bits)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if spec.window is not None:  # of the network
        pixels = windowed(pixels, spec).round().astype(np.uint8)
    rgb = as_rgb(pixels)
    truth = np.zeros(rgb.shape[:2], np.uint8)
    if info['mask_path'] is not None:
        truth = read_mask(info['mask_path'], len(some.classes))
    masks = {'truth': truth}
    for role, network in networks.items():
        masks[role] = network(info['img_path']).mask
    name, small = data.sample_ids[index], _small(rgb)
    images = [(data_uri(small, _MASK_SIDE), f'{name}, as it is')]
    for role, mask in masks.items():
        drawn = outlined(small, _small(mask), 1)
        images.append((data_uri(drawn, _MASK_SIDE), f'{name}, {role} outlined'))
    dice = ', '.join(
        f'{role} {method.figures["dice"][0, index]:.2f}'
        for role, method in data.roles.items()
    )
    listed = ', '.join(['image', *masks])
    return page.Picture(images, [f'{name}: {listed}', f'Dice: {dice}'])


def _small(pixels: np.ndarray) -> np.ndarray:
    """At most ``_MASK_SIDE`` pixels a side, so that outlines stay whole."""
    kind = Image.Resampling.BOX if pixels.ndim == 3 else Image.NEAREST
    scale = min(1.0, _MASK_SIDE / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return np.asarray(Image.fromarray(pixels).resize(size, kind))
