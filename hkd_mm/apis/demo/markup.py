# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What nets said, as HTML. Every text is escaped."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np

from .sides import Look

_SIDE = 320  # pixels of a picture
NOTICE = (
    'This is research, and no diagnostic device. Nothing here says whether a '
    'mark on your skin is harmless; a doctor does.'
)


def page_file(name: str) -> str:
    """A file beside this one."""
    return files(__package__).joinpath(name).read_text(encoding='utf-8')


def frame() -> str:
    """The page before anybody has dropped a photograph."""
    return (
        f'<p class="notice" role="note">{escape(NOTICE)}</p>'
        '<label class="drop" tabindex="0">'
        '<input type="file" accept="image/jpeg,image/png,image/webp,'
        'image/bmp,image/tiff">'
        '<span>Drop a photograph here, or press to choose one</span></label>'
        '<p class="small">It is looked at in memory and kept nowhere.</p>'
        '<div class="result" aria-live="polite"></div>'
    )


def refusal(reason: str) -> str:
    """Why there is no answer."""
    return f'<p class="refusal" role="alert">{escape(reason)}</p>'


def answers(looks: Sequence[Look]) -> str:
    """What the nets said, side by side."""
    return f'<div class="sides">{"".join(map(_side, looks))}</div>'


def _side(look: Look) -> str:
    answer = look.answer
    kind = {True: 'sure', False: 'unsure', None: 'untold'}[answer.sure]
    said = f'{answer.best} {answer.probability:.1%}'
    if answer.sure is None:
        said += ', not calibrated'
    elif not answer.sure:
        said = str(answer)
    return (
        f'<section class="{kind}"><h2>{escape(look.title)}</h2>'
        f'<p class="small">{escape(look.facts)}</p>'
        f'<p class="verdict">{escape(said)}</p>'
        f'<div class="pictures">{_pictures(look)}</div>{_bars(look)}</section>'
    )


def _pictures(look: Look) -> str:
    seen = _sized(look.seen)
    tiles = [_picture(seen, 'as the net sees it')]
    if look.heat is None:
        tiles.append(
            '<p class="small">Where it looks (Grad-CAM) needs the weights '
            'for torch: student.pth or student.safetensors.</p>'
        )
    else:
        from ..report.pictures import overlaid

        heat = _sized((255 * look.heat).astype(np.uint8)) / 255
        shown = overlaid(seen, heat)
        what = f'what speaks for {look.answer.best} (Grad-CAM)'
        tiles.append(_picture(shown, what))
    return ''.join(tiles)


def _picture(image: np.ndarray, caption: str) -> str:
    from ..report.pictures import data_uri

    source = data_uri(image, _SIDE)
    return (
        f'<figure><img src="{source}" alt="{escape(caption)}">'
        f'<figcaption>{escape(caption)}</figcaption></figure>'
    )


def _sized(image: np.ndarray) -> np.ndarray:
    """Small images enlarged, so that both lie on each other."""
    import cv2

    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _bars(look: Look) -> str:
    rows = ''.join(
        f'<tr><th scope="row">{escape(name)}</th><td><div class="bar" '
        f'style="width:{100 * value:.1f}%"></div></td>'
        f'<td>{value:.1%}</td></tr>'
        for name, value in look.answer.classes
    )
    return f'<table><tbody>{rows}</tbody></table>'
