# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The files of an export, each checked once it is written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx

from hkd_mm.inference.manifest_fields import FileSpec, Manifest, file_spec
from hkd_mm.progress import Progress

from .answers import of_torch
from .checks import same_logits
from .folder import NAMES
from .int8 import BATCH, quantise
from .int8_gate import refuse_int8
from .manifest_of import HAIRS
from .net_graph import export_net, plain_net, save
from .source_run import SourceRun
from .whole_graph import whole_graph

_EXECUTORCH = 8  # images that student.pte is checked on


class Making(ABC):
    """One export under way; what a task asks of it stands in the children.

    Args:
        run: what is exported.
        wishes: see :class:`.run_export.Wishes`.
        place: where the files are written.
        say: takes lines on what is done.

    Attributes:
        score: key and title of the figure that int8 may not lose.
        parts: title of what ``measured`` has beside it, see
            :meth:`figures_by_part`.
        files: kind -> file, as far as they are written.
        measured: kind -> figures on validation.
        checks: what was compared.
        calibrated: training images that int8 has seen.
        val: the validation images; ``len`` of it, and ``batches(size)``.
    """

    score: ClassVar[tuple[str, str]]
    parts: ClassVar[str]

    def __init__(
        self, run: SourceRun, wishes, place: Path, say: Callable[[str], None]
    ) -> None:
        self.run, self.wishes, self.place, self.say = run, wishes, place, say
        self.files: dict[str, FileSpec] = {}
        self.measured: dict[str, dict] = {}
        self.checks: dict[str, dict] = {}
        self.calibrated = 0

    def make(self) -> Manifest:
        """Write all files but the card and the manifest.

        Raises:
            UserError: a file does not answer as it should.
        """
        self.say(f'{self.run.folder}: reading the validation images')
        self.val = self.read('val')
        if self.run.hairs_removed:
            self.say(f'ATTENTION: {HAIRS}')
        self._fp32()
        if self.wishes.int8:
            self._int8()
        self.fit()
        if self.wishes.with_preprocessing:
            for kind in list(self.measured):
                self._image(kind)
        if self.wishes.executorch:
            self._executorch()
        return self.manifest()

    @abstractmethod
    def read(self, split: str, count: int | None = None) -> Any:
        """Images of ``train`` or ``val``, at most so many.

        Raises:
            UserError: they are not here, or not those of the run.
        """

    @abstractmethod
    def measure(self, kind: str) -> None:
        """Let a written graph answer the validation images.

        Adds its figures to ``measured``; of ``fp32`` adds ``logits`` to
        ``checks``.

        Raises:
            UserError: the graph is not the trained net.
        """

    @abstractmethod
    def compare_int8(self) -> dict:
        """What int8 costs: ``points_lost`` of the score, its
        ``standard_error``, the ``limit`` and ``max_logit_difference``; of a
        classifier ``recall`` and ``recall_limit`` as well.
        """

    @abstractmethod
    def fit(self) -> None:
        """Fit to validation what comes behind the logits."""

    @property
    @abstractmethod
    def temperature(self) -> float:
        """That divides the logits."""

    @abstractmethod
    def check_image(self, kind: str, path: Path) -> dict:
        """Hold a graph that takes images against the one behind it.

        Args:
            kind: of the graph behind it.
            path: of the graph.

        Raises:
            UserError: they do not answer alike.
        """

    @abstractmethod
    def figures_by_part(self, kind: str) -> dict[str, float | None]:
        """What is told of a graph line by line, in [0, 1]."""

    @abstractmethod
    def manifest(self) -> Manifest:
        """Describe the files, when all is done."""

    def path(self, kind: str) -> Path:
        """Of a file."""
        return self.place / NAMES[kind]

    def _add(self, kind: str, takes: str, gives: str) -> None:
        self.files[kind] = file_spec(self.path(kind), takes, gives)

    def _fp32(self) -> None:
        self.say(f'{self.run.architecture}: writing {NAMES["fp32"]}')
        save(export_net(self.run), self.path('fp32'))
        self.measure('fp32')
        self._add('fp32', 'tensor', 'logits')

    def _int8(self) -> None:
        train = self.read('train', self.wishes.calibration_images)
        self.calibrated = len(train)
        self.say(f'int8: calibrating on {self.calibrated} training images')
        bits = self.wishes.weight_bits
        quantise(
            self.path('fp32'),
            self.path('int8'),
            watched(train.batches(BATCH), 'calibrating', len(train)),
            bits,
        )
        self.measure('int8')
        self._add('int8', 'tensor', 'logits')
        costs = self.compare_int8()
        found = self.checks['int8'] = dict(costs, weight_bits=bits)
        strict = self.wishes.int8_strict
        found['limit_note'] = refuse_int8(costs, self.score[1], strict)
        if found['limit_note']:
            self.say(f'warning: {found["limit_note"]}')

    def _image(self, kind: str) -> None:
        whole = f'{kind}_image'
        self.say(f'{NAMES[whole]}: putting the resize into the graph')
        net = onnx.load(self.path(kind))
        spec = self.run.spec
        save(whole_graph(net, spec, self.temperature), self.path(whole))
        self.checks[whole] = self.check_image(kind, self.path(whole))
        self._add(whole, 'image', 'probabilities')

    def _executorch(self) -> None:
        from .executorch_file import write_executorch

        self.say(f'{NAMES["executorch"]}: lowering to ExecuTorch')
        given = next(self.val.batches(_EXECUTORCH))
        found = write_executorch(self.run, self.path('executorch'), given)
        self.checks['executorch'] = same_logits(
            of_torch(plain_net(self.run), given),
            found,
            'student.pte is not the trained net',
        )
        self._add('executorch', 'tensor', 'logits')


def watched(
    batches: Iterator[np.ndarray], what: str, total: int
) -> Iterator[np.ndarray]:
    """Pass batches on and show how many images there were.

    Args:
        batches: (B, ...) each.
        what: is done to them.
        total: images of all batches.
    """
    with Progress(what, total, 'images') as progress:
        for batch in batches:
            yield batch
            progress.advance(len(batch))
