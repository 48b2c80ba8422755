# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A net of the page and what it says of a photograph."""

import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference.answer import Answer
from hkd_mm.inference.classifier import SkinClassifier
from hkd_mm.inference.manifest_fields import FILE

_TIMED = 5  # answers to one photograph


@dataclass(frozen=True)
class Look:
    """What a net says of one photograph.

    Attributes:
        title: of the net.
        facts: its size and speed, in words.
        answer: ranked classes.
        seen: (H, W, 3) uint8, the photograph as the net sees it.
        heat: (H, W) in [0, 1], where the best class comes from (Grad-CAM);
            None where there are no weights for torch.
    """

    title: str
    facts: str
    answer: Answer
    seen: np.ndarray
    heat: np.ndarray | None


class Side:
    """One net.

    Args:
        title: what the page calls it.
        path: work dir of a run (whose export is taken where there is one),
            or an exported folder.

    Raises:
        UserError: there is no net in it.
    """

    def __init__(self, title: str, path: str | Path) -> None:
        self.title = title
        place = Path(path)
        exported = place / 'export'
        if not (exported / FILE).is_file():
            exported = place
        with warnings.catch_warnings():
            # the page itself shows that they are not calibrated
            warnings.filterwarnings('ignore', '.* is no exported folder')
            self.classifier = SkinClassifier(exported, device='cpu')
        self._torch = _torch_net(self.classifier.student, place)
        self._lock = threading.Lock()  # Grad-CAM hooks on to the net

    def look(self, rgb: np.ndarray) -> Look:
        """Classify, time and explain.

        Args:
            rgb: (H, W, 3) uint8.
        """
        ready = self.classifier.prepare(rgb)
        times = []
        with self._lock:
            for _ in range(_TIMED):
                begun = time.perf_counter()
                [row] = self.classifier.classify(ready[None])
                times.append(time.perf_counter() - begun)
            heat = self._heat(ready, int(row.argmax()))
        spec = self.classifier.student.input
        mean = np.float32(spec.mean)[:, None, None]
        std = np.float32(spec.std)[:, None, None]
        seen = (ready * std + mean).round().clip(0, 255).astype(np.uint8)
        return Look(
            self.title,
            self._facts(1e3 * median(times)),
            self.classifier.answer(row),
            np.ascontiguousarray(seen.transpose(1, 2, 0)),
            heat,
        )

    def _facts(self, milliseconds: float) -> str:
        student = self.classifier.student
        words = []
        if student.manifest is not None:
            words.append(f'{student.manifest.parameters / 1e6:.2f} M weights')
        elif self._torch is not None:
            count = sum(p.numel() for p in self._torch[0].parameters())
            words.append(f'{count / 1e6:.2f} M weights')
        words.append(f'{student.weights.stat().st_size / 1e6:.1f} MB')
        words.append(f'{milliseconds:.1f} ms ({student.backend})')
        if student.manifest is None:
            words.append('no export')
        return ', '.join(words)

    def _heat(self, ready: np.ndarray, label: int) -> np.ndarray | None:
        if self._torch is None:
            return None
        import torch

        from ..report.heat_maps import heat_maps

        net, swapped = self._torch
        images = torch.from_numpy(ready[None])
        images = images.flip(1) if swapped else images
        return heat_maps(net, images, np.array([label]))[0]


def _torch_net(student: Any, place: Path) -> tuple[Any, bool] | None:
    """The net for Grad-CAM, and whether it takes BGR.

    None unless it has the weights that answer.
    """
    from hkd_mm.inference import torch_backend

    if student.net is not None:
        return student.net
    manifest = student.manifest
    if 'torch' in manifest.files:
        folder = student.weights.parent
        weights = manifest.file_of(folder, 'torch')
        return torch_backend.load_weights(weights)
    run = student.weights.resolve().parent.parent
    if manifest.made_of(run / torch_backend.STUDENT):
        found = torch_backend.read_run(run)
        return found.net, found.swapped
    return None


def check_grad_cam() -> None:
    """Refuse to begin without the package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError:
        raise UserError(
            'the page needs grad-cam; pip install "grad-cam>=1.5"'
        ) from None
