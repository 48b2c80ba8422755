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
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from hkd_mm.inference import backends
from hkd_mm.inference.classifier import Answer, SkinClassifier
from hkd_mm.io.images import data_uri, overlaid
from hkd_mm.lazy import require

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


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding='utf-8')


def _render(name: str, **values: Any) -> str:
    jinja2 = require('jinja2', 'the page', '"jinja2>=3"')
    return jinja2.Environment(autoescape=True).from_string(_file(name)).render(values)


def page(titles: Sequence[str], most_bytes: int, root_path: str) -> str:
    """The page before anybody has dropped a photograph."""
    return _render(
        'demo_page.html.j2',
        title=' and '.join(titles),
        style=_file('demo_page.css'),
        script=_file('demo_page.js'),
        notice=NOTICE,
        most_bytes=most_bytes,
        root_path=root_path,
    )


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
    sides = [dict(look=look, pictures=_pictures(look)) for look in looks]
    return _render('demo_page.answers.html.j2', sides=sides)


def _pictures(look: Look) -> list[tuple[str, str]]:
    """Data URIs and captions."""
    seen = _sized(look.seen)
    found = [(data_uri(seen, _SIDE), 'model input')]
    if look.heat is not None:
        heat = _sized((255 * look.heat).astype(np.uint8)) / 255
        caption = f'evidence for {look.answer.best} (Grad-CAM)'
        found.append((data_uri(overlaid(seen, heat), _SIDE), caption))
    return found


def _sized(image: np.ndarray) -> np.ndarray:
    """Enlarge a small image, so that input and heat map have one size."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
