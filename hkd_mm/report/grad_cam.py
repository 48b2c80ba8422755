# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Grad-CAM of teacher and student, and how much their maps overlap."""

import numpy as np
import torch
from torch import nn

from hkd_mm.engine.student_loading import load_student
from hkd_mm.errors import UserError
from hkd_mm.models.networks.heat_maps import choose, heat_maps, overlap
from hkd_mm.report.charts import ROLE_COLOURS, figure
from hkd_mm.report.data import Method, ReportData
from hkd_mm.report.examples import data_uri, inputs_of, overlaid
from hkd_mm.report.examples import image_as_rgb as as_rgb
from hkd_mm.report.page import Chart, Picture, Pictures, Section, Table

_TITLE = 'Where networks look (Grad-CAM)'
_SHOWN = 8


def load_network(method: Method) -> nn.Module:
    """The plain network of a method's first seed, from its ``student.pth``."""
    return load_student(method.folders[0] / 'student.pth')[0]


def grad_cam(material: ReportData) -> Section:
    """Overlap with the teacher's maps, and some maps to look at."""
    why = _why_not(material)
    if why:
        return Section('cam', _TITLE, left_out=why)
    places = choose(material.labels, material.options['cam_images'])
    try:
        return _looked_at(material, places)
    except UserError as error:  # the data has changed since
        return Section('cam', _TITLE, left_out=str(error))


def _looked_at(material: ReportData, places: np.ndarray) -> Section:
    labels = material.labels[places]
    names = [material.sample_ids[place] for place in places]
    maps, photographs = {}, None
    for role, method in material.roles.items():
        images = inputs_of(material, method, names)
        if images is None:
            return Section('cam', _TITLE, left_out='the data is not here')
        network = load_network(method)
        ready = network.data_preprocessor(dict(inputs=images), False)['inputs']
        maps[role] = _sized(heat_maps(network, ready, labels), images)
        if role == 'distilled':
            photographs = images
    blocks = _figures(maps)
    if material.options.get('images', True) and photographs is not None:
        blocks.append(_pictures(material, places, maps, photographs))
    how = (
        'Bright is what raises the score of the true class, at the last '
        'layer that has places (coarse in small images); an overlap of 1 is '
        'the same map; beside a photograph stand the maps of teacher and '
        'student. More overlap than the student alone has means that '
        'the teacher has handed down where to look.'
    )
    basis = (
        f'{len(places)} images of the test split, from the classes in turn; '
        'the networks of the first seed, checkpoints chosen on validation.'
    )
    return Section('cam', _TITLE, how, basis, blocks)


def _why_not(material: ReportData) -> str:
    if not material.options.get('cam_images'):
        return 'not asked for (--cam-images 0)'
    if material.teacher is None or len(material.roles) < 2:
        return 'name a teacher and a student with --teacher and --distilled'
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError:
        return 'it needs the package grad-cam; pip install "grad-cam>=1.5"'
    return ''


def _sized(maps: np.ndarray, images: torch.Tensor, side: int = 64):
    """Maps of networks with other input sizes on one grid."""
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None].float(), (side, side), mode='bilinear'
    )
    return scaled[:, 0].numpy()


def _figures(maps: dict[str, np.ndarray]) -> list:
    from plotly import graph_objects as go

    traces, rows = [], []
    random = np.random.default_rng(0)
    for role, own in maps.items():
        if role == 'teacher':
            continue
        values = overlap(own, maps['teacher'])
        values = values[~np.isnan(values)]
        draws = random.choice(values, (2000, len(values))).mean(1)
        low, high = np.percentile(draws, (2.5, 97.5))
        mean = float(values.mean())
        rows.append(
            [role, (str(len(values)), len(values)), (f'{mean:.3f}', mean)]
        )
        rows[-1].append((f'[{low:.3f}, {high:.3f}]', float(low)))
        traces.append(
            go.Box(
                x=np.round(values, 4),
                name=role,
                boxpoints='all',
                jitter=0.5,
                pointpos=0,
                marker=dict(color=ROLE_COLOURS[role], size=4),
                fillcolor='rgba(0,0,0,0)',
            )
        )
    made = figure(traces, 'overlap with the teacher', showlegend=False)
    made.update_xaxes(range=[0, 1])
    alt = "Overlap of each student's map with the teacher's, a point an image."
    header = ['network', 'images', 'mean overlap', '95 % interval']
    return [
        Chart('overlap', made, alt, 120 + 80 * len(traces)),
        Table('Overlap with the teacher (bootstrap of images).', header, rows),
    ]


def _pictures(
    material: ReportData, places: np.ndarray, maps: dict, photographs
) -> Pictures:
    tiles = []
    for index, place in enumerate(places[:_SHOWN]):
        image = as_rgb(photographs[index])
        images = [(data_uri(image), 'Photograph')]
        label = material.labels[place]
        lines = [f'true class: {material.classes[label]}']
        for role in ('teacher', 'distilled'):
            heat = torch.from_numpy(maps[role][index])[None, None]
            size = torch.nn.functional.interpolate(
                heat, image.shape[:2], mode='bilinear'
            )[0, 0]
            seen = overlaid(image, size.clamp(0, 1).numpy())
            images.append((data_uri(seen), f'Where the {role} looks'))
            scores = material.roles[role].scores[0, place]
            guess = int(scores.argmax())
            lines.append(
                f'{role}: {material.classes[guess]} {scores[guess]:.2f}'
            )
        common = overlap(
            maps['teacher'][index : index + 1],
            maps['distilled'][index : index + 1],
        )
        lines.append(f'overlap {common[0]:.2f}')
        tiles.append(Picture(images, [', '.join(lines)]))
    return Pictures(tiles)
