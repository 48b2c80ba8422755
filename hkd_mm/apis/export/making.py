# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The files of an export, each checked once it is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from hkd_mm.evaluation.temperature import fit_temperature
from hkd_mm.inference.manifest import FileSpec, Manifest, file_spec

from .answers import batches, of_graph, of_photographs, of_torch, probabilities
from .checks import (
    compare_int8,
    figures,
    refuse_int8,
    same_logits,
    same_probabilities,
)
from .folder import NAMES
from .int8 import BATCH, quantise
from .manifest_of import HAIRS, manifest_of
from .net_graph import export_net, plain_net, save
from .samples import balanced_choice, read_samples
from .source_run import SourceRun
from .sure import fit_threshold
from .whole_graph import whole_graph

_PHOTOGRAPHS = 32  # that graphs with a resize are checked on
_TINY = 1e-300  # probabilities come from logits, nothing is rounded


class Making:
    """One export under way.

    Args:
        run: what is exported.
        wishes: see :class:`.run_export.Wishes`.
        place: where the files are written.
        say: takes lines on what is done.

    Attributes:
        files: kind -> file, as far as they are written.
        measured: kind -> figures on validation.
        checks: what was compared.
        temperature: fitted on validation.
        threshold: of sure answers, fitted on validation.
        val: the validation images.
    """

    def __init__(
        self, run: SourceRun, wishes, place: Path, say: Callable[[str], None]
    ) -> None:
        self.run, self.wishes, self.place, self.say = run, wishes, place, say
        self.files: dict[str, FileSpec] = {}
        self.measured: dict[str, dict] = {}
        self.checks: dict[str, dict] = {}
        self.logits: dict[str, np.ndarray] = {}
        self.temperature = 1.0
        self.calibrated = 0

    def make(self) -> Manifest:
        """Write all files but the card and the manifest.

        Raises:
            UserError: a file does not answer as it should.
        """
        self.say(f'{self.run.folder}: reading the validation images')
        self.val = read_samples(self.run, 'val')
        if self.run.hairs_removed:
            self.say(f'ATTENTION: {HAIRS}')
        self._fp32()
        scores = probabilities(self.logits['fp32'])
        labels = self.val.labels
        self.temperature = fit_temperature(scores, labels, _TINY)
        if self.wishes.int8:
            self._int8()
        self.threshold = fit_threshold(self)
        if self.wishes.with_preprocessing:
            for kind in list(self.logits):
                self._image(kind)
        if self.wishes.executorch:
            self._executorch()
        return manifest_of(self)

    def _path(self, kind: str) -> Path:
        return self.place / NAMES[kind]

    def _add(self, kind: str, takes: str, gives: str) -> None:
        self.files[kind] = file_spec(self._path(kind), takes, gives)

    def _measure(self, kind: str) -> None:
        run, val = self.run, self.val
        self.logits[kind] = of_graph(self._path(kind), val.images, run.spec)
        self.measured[kind] = figures(
            self.logits[kind], val.labels, run.classes
        )
        self._add(kind, 'tensor', 'logits')

    def _fp32(self) -> None:
        run = self.run
        self.say(f'{run.architecture}: writing {NAMES["fp32"]}')
        save(export_net(run), self._path('fp32'))
        trained = of_torch(plain_net(run), self.val.images, run.spec)
        self._measure('fp32')
        self.checks['logits'] = same_logits(trained, self.logits['fp32'])

    def _int8(self) -> None:
        wanted = self.wishes.calibration_images
        train = read_samples(self.run, 'train', wanted)
        self.calibrated = len(train.labels)
        self.say(f'int8: calibrating on {self.calibrated} training images')
        quantise(
            self._path('fp32'),
            self._path('int8'),
            batches(train.images, self.run.spec, BATCH),
            self.wishes.weight_bits,
        )
        self._measure('int8')
        costs = compare_int8(
            self.logits['fp32'],
            self.logits['int8'],
            self.val.labels,
            self.measured,
            self.wishes.int8_limit,
        )
        bits = self.wishes.weight_bits
        self.checks['int8'] = dict(costs, weight_bits=bits)
        if doubt := refuse_int8(costs):
            self.say(f'warning: {doubt}')

    def _image(self, kind: str) -> None:
        whole = f'{kind}_image'
        self.say(f'{NAMES[whole]}: putting the resize into the graph')
        net = onnx.load(self._path(kind))
        save(
            whole_graph(net, self.run.spec, self.temperature),
            self._path(whole),
        )
        chosen = balanced_choice(self.val.labels, _PHOTOGRAPHS, 0)
        photographs = [self.val.paths[place] for place in chosen]
        self.checks[whole] = same_probabilities(
            whole,
            probabilities(self.logits[kind][chosen], self.temperature),
            of_photographs(self._path(whole), photographs),
        )
        self._add(whole, 'image', 'probabilities')

    def _executorch(self) -> None:
        from .executorch_file import write_executorch

        self.say(f'{NAMES["executorch"]}: lowering to ExecuTorch')
        images = self.val.images[:8]
        given = next(batches(images, self.run.spec))
        found = write_executorch(self.run, self._path('executorch'), given)
        trained = of_torch(plain_net(self.run), images, self.run.spec)
        self.checks['executorch'] = same_logits(
            trained, found, 'student.pte is not the trained net'
        )
        self._add('executorch', 'tensor', 'logits')
