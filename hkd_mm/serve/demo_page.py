# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The answers of the demo page, as HTML."""

import hashlib
import threading
import time
import warnings
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from hkd_mm.inference import backends
from hkd_mm.inference.classifier import Answer, SkinClassifier

_TIMED = 5  # answers to one image
_SIDE = 320  # pixels of a picture
NOTICE = (
    'This is research, and no diagnostic device. Nothing here says whether a '
    'mark on your skin is harmless; a doctor does.'
)


@dataclass(frozen=True)
class Look:
    """A network's answer to one image.

    ``seen`` is the model input, (H, W, 3) uint8; ``heat``, (H, W) in [0, 1], evidence
    for the best class (Grad-CAM), None where there are no weights for torch.
    """

    title: str
    facts: str
    answer: Answer
    seen: np.ndarray
    heat: np.ndarray | None


class Side:
    """One network, of a run (whose export is taken where there is one) or an export."""

    def __init__(self, title: str, path: str | Path) -> None:
        self.title = title
        with warnings.catch_warnings():
            # the page itself shows whether they are calibrated
            warnings.filterwarnings('ignore', '.* (is no exported folder|is a run)')
            self.classifier = SkinClassifier(path, device='cpu')
        self._torch = _torch_network(self.classifier.student)
        self._lock = threading.Lock()  # Grad-CAM hooks on to the network

    def look(self, rgb: np.ndarray) -> Look:
        """Classify, time and explain an image, (H, W, 3) uint8."""
        ready = self.classifier.prepare(rgb)
        times = []
        with self._lock:
            for _ in range(_TIMED):
                begun = time.perf_counter()
                [row] = self.classifier.classify(ready[None])
                times.append(time.perf_counter() - begun)
            heat = self._heat(ready, int(row.argmax()))
        spec = self.classifier.student.input
        planes = ready.transpose(1, 2, 0) * np.float32(spec.std)
        seen = (planes + np.float32(spec.mean)).round().clip(0, 255)
        return Look(
            self.title,
            self._facts(1e3 * median(times)),
            self.classifier.answer(row),
            seen.astype(np.uint8),
            heat,
        )

    def _facts(self, milliseconds: float) -> str:
        student, count = self.classifier.student, None
        if student.manifest is not None:
            count = student.manifest.parameters
        elif self._torch is not None:
            count = sum(p.numel() for p in self._torch[0].parameters())
        facts = [] if count is None else [f'{count / 1e6:.2f} M weights']
        facts.append(f'{student.weights.stat().st_size / 1e6:.1f} MB')
        facts.append(f'{milliseconds:.1f} ms ({student.backend})')
        if student.manifest is None:
            facts.append('no export')
        return ', '.join(facts)

    def _heat(self, ready: np.ndarray, label: int) -> np.ndarray | None:
        if self._torch is None:
            return None
        import torch

        from hkd_mm.models.networks.heat_maps import heat_maps

        network, swapped = self._torch
        images = torch.from_numpy(ready[None])
        images = images.flip(1) if swapped else images
        return heat_maps(network, images, np.array([label]))[0]


def _torch_network(student: Any) -> tuple[Any, bool] | None:
    """The network for Grad-CAM, if it has the weights, and if it takes BGR."""
    if student.network is not None:
        return student.network
    manifest, folder = student.manifest, student.weights.parent
    if 'torch' in manifest.files:
        return backends.load_weights(manifest.file_of(folder, 'torch'))
    run = folder.resolve().parent
    if manifest.made_of(run / backends.STUDENT):
        found = backends.read_unexported(run)
        return found.network, found.swapped
    return None


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding='utf-8')


def page(titles: Sequence[str], most_bytes: int, root_path: str) -> str:
    """The page before anybody has dropped a photograph."""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(' and '.join(titles))}</title>
<link rel="icon" href="data:,">
<style>{_file('demo_page.css')}</style>
<main data-look="{escape(root_path)}/look" data-most-bytes="{most_bytes}">
<h1>What do they see?</h1>
<p class="notice" role="note">{escape(NOTICE)}</p>
<label class="drop" tabindex="0">
<input type="file" accept="image/*">
<span>Drop a photograph here, or press to choose one</span></label>
<p class="small">It is looked at in memory and kept nowhere.</p>
<div class="result" aria-live="polite"></div>
</main>
<script>{_file('demo_page.js')}</script>
</html>
"""


@cache
def policy() -> str:
    """Let the page run its own script, show its own pictures, and nothing else."""
    script = hashlib.sha256(_file('demo_page.js').encode()).digest()
    return (
        f"default-src 'none'; script-src 'sha256-{b64encode(script).decode()}'; "
        "style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def answers(looks: Sequence[Look]) -> str:
    """The answers of the networks, side by side."""
    return f'<div class="sides">{"".join(map(_side, looks))}</div>'


def _side(look: Look) -> str:
    answer = look.answer
    kind, verdict = 'confident', f'{answer.best} {answer.probability:.1%}'
    if answer.confident is None:
        kind, verdict = 'uncalibrated', f'{verdict}, not calibrated'
    elif not answer.confident:
        kind, verdict = 'unconfident', str(answer)
    bars = ''.join(
        f'<tr><th scope="row">{escape(name)}</th><td><div class="bar" '
        f'style="width:{100 * value:.1f}%"></div></td>'
        f'<td>{value:.1%}</td></tr>'
        for name, value in answer.classes
    )
    return (
        f'<section class="{kind}"><h2>{escape(look.title)}</h2>'
        f'<p class="small">{escape(look.facts)}</p>'
        f'<p class="verdict">{escape(verdict)}</p>'
        f'<div class="pictures">{_pictures(look)}</div>'
        f'<table><tbody>{bars}</tbody></table></section>'
    )


def _pictures(look: Look) -> str:
    from hkd_mm.engine.hooks.picture_hooks import overlaid

    seen = _sized(look.seen)
    shown = _picture(seen, 'model input')
    if look.heat is None:
        return shown + (
            '<p class="small">Where it looks (Grad-CAM) needs the weights '
            'for torch: student.pth or student.safetensors.</p>'
        )
    heat = _sized((255 * look.heat).astype(np.uint8)) / 255
    caption = f'evidence for {look.answer.best} (Grad-CAM)'
    return shown + _picture(overlaid(seen, heat), caption)


def _picture(image: np.ndarray, caption: str) -> str:
    from hkd_mm.engine.hooks.picture_hooks import data_uri

    source = data_uri(image, _SIDE)
    return (
        f'<figure><img src="{source}" alt="{escape(caption)}">'
        f'<figcaption>{escape(caption)}</figcaption></figure>'
    )


def _sized(image: np.ndarray) -> np.ndarray:
    """Enlarge a small image, so that input and heat map have one size."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
