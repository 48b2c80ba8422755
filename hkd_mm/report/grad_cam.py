# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Grad-CAM of teacher and student, and how much their maps overlap."""

import numpy as np
import torch
from plotly import graph_objects as go
from torch.nn import functional as F

from hkd_mm.engine.student_loading import load_student
from hkd_mm.errors import UserError
from hkd_mm.evaluation.significance import bootstrap_mean
from hkd_mm.models.networks.heat_maps import choose, heat_maps, overlap
from hkd_mm.report.charts import ROLE_COLOURS, figure
from hkd_mm.report.data import ReportData
from hkd_mm.report.examples import (
    data_uri,
    image_as_rgb,
    model_inputs,
    overlaid,
)
from hkd_mm.report.page import (
    Chart,
    Picture,
    Pictures,
    Section,
    Table,
    count_cell,
)

_TITLE = 'Where networks look (Grad-CAM)'
_SHOWN = 8
_GRID = (64, 64)  # of maps of networks with other input sizes


def grad_cam_section(data: ReportData) -> Section:
    """Overlap with the teacher's maps, and some maps to look at."""
    try:
        return _make(data)
    except UserError as error:
        return Section('cam', _TITLE, left_out=str(error))


def _make(data: ReportData) -> Section:
    _check(data)
    indices = choose(data.labels, data.options['cam_images'])
    labels = data.labels[indices]
    names = [data.sample_ids[index] for index in indices]
    maps, images = {}, {}
    for role, method in data.roles.items():
        inputs = images[role] = model_inputs(data, method, names)
        if inputs is None:
            raise UserError('the data is not here')
        network = load_student(method.folders[0] / 'student.pth')[0]
        ready = network.data_preprocessor(dict(inputs=inputs), False)
        found = torch.from_numpy(heat_maps(network, ready['inputs'], labels))
        scaled = F.interpolate(found[:, None].float(), _GRID, mode='bilinear')
        maps[role] = scaled[:, 0].numpy()
    blocks = _overlaps(maps)
    if data.options.get('images', True) and 'distilled' in images:
        blocks.append(_pictures(data, indices, maps, images['distilled']))
    how = (
        'Bright is what raises the score of the true class, at the last '
        'layer with a spatial map (coarse in small images); an overlap of 1 '
        'is the same map; beside a photograph stand the maps of teacher and '
        'student. More overlap than the student alone has means that '
        'the teacher has handed down where to look.'
    )
    basis = (
        f'{len(indices)} images of the test split, from the classes in turn; '
        'the networks of the first seed, checkpoints chosen on validation.'
    )
    return Section('cam', _TITLE, how, basis, blocks)


def _check(data: ReportData) -> None:
    if not data.options.get('cam_images'):
        raise UserError('not asked for (--cam-images 0)')
    if data.teacher is None or len(data.roles) < 2:
        raise UserError('name a teacher and a student with --teacher and --distilled')
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError:
        raise UserError(
            'it needs the package grad-cam; pip install "grad-cam>=1.5"'
        ) from None


def _overlaps(maps: dict[str, np.ndarray]) -> list:
    traces, rows = [], []
    for role, own in maps.items():
        if role == 'teacher':
            continue
        values = overlap(own, maps['teacher'])
        values = values[~np.isnan(values)]
        low, high = bootstrap_mean(values)
        mean = float(values.mean())
        rows.append(
            [
                role,
                count_cell(len(values)),
                (f'{mean:.3f}', mean),
                (f'[{low:.3f}, {high:.3f}]', low),
            ]
        )
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
    data: ReportData,
    indices: np.ndarray,
    maps: dict[str, np.ndarray],
    inputs: torch.Tensor,
) -> Pictures:
    common = overlap(maps['teacher'][:_SHOWN], maps['distilled'][:_SHOWN])
    tiles = []
    for place, index in enumerate(indices[:_SHOWN]):
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
        tiles.append(Picture(images, [', '.join(lines)]))
    return Pictures(tiles)
