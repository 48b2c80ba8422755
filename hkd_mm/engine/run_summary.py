# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""History of the epochs, and the figures of a finished run."""

import os
from collections.abc import Callable
from pathlib import Path

from mmengine.model import is_model_wrapper
from torch import nn
from typing_extensions import Required, TypedDict

from hkd_mm.engine.run_data import split_hash
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.io.files import to_json
from hkd_mm.io.schema import read_as
from hkd_mm.models.arguments import Count
from hkd_mm.models.networks.complexity import complexity


class Record(TypedDict, total=False):
    """What is known of an epoch, counted from 1.

    ``train`` has the mean of each logged loss, ``val`` the metrics.
    """

    epoch: Required[Count]
    train: dict[str, float | None]
    lr: float | None
    seconds: float
    images: int
    val: dict[str, float | bool | None]
    val_seconds: float
    confusion: list[list[float]]


class History:
    """Records of epochs, written to a JSON file after each change."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records: dict[int, Record] = {}

    def load(
        self, up_to: int, warn: Callable[[str], None], *sources: str | Path
    ) -> None:
        """Take over the epochs of the run that is resumed, so far as they can be read.

        Args:
            up_to: last epoch that the resumed checkpoint contains.
            warn: takes a line where nothing can be taken over.
            sources: files beside the own one. That is set aside where it is damaged.
        """
        why = 'history.json of the resumed run was not found'
        for source in (self.path, *map(Path, sources)):
            if not source.is_file():
                continue
            try:
                records = read_as(list[Record], source)
            except UserError as error:
                why = str(error)
                if source == self.path:
                    aside = source.with_name(f'{source.name}.damaged')
                    os.replace(source, aside)
                    why += f' (it is {aside} now)'
                continue
            self.records = {r['epoch']: r for r in records if r['epoch'] <= up_to}
            return
        warn(f'{why}: curves and times begin at epoch {up_to + 1}')

    def add(self, epoch: int, **fields) -> None:
        """Put fields into the record of an epoch and write the file."""
        record = self.records.setdefault(epoch, dict(epoch=epoch))
        record.update(fields)
        AtomicBackend().put_text(to_json(self.ordered()), self.path)

    def ordered(self) -> list[dict]:
        return [self.records[epoch] for epoch in sorted(self.records)]

    def total(self, key: str) -> float:
        return sum(record.get(key, 0) for record in self.records.values())

    def validated(self) -> list[int]:
        return [r['epoch'] for r in self.ordered() if 'val' in r]


def bare_model(model: nn.Module) -> nn.Module:
    """The model without the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def best_checkpoint(runner) -> str | None:
    """The best checkpoint of this run, if validation chose one."""
    infos = runner.message_hub.runtime_info
    paths = [infos[key] for key in infos if key.startswith('best_ckpt')]
    return next((p for p in paths if p and os.path.isfile(p)), None)


def last_checkpoint(runner) -> str | None:
    """The newest checkpoint that this run wrote."""
    path = runner.message_hub.get_info('last_ckpt')
    return path if path and os.path.isfile(path) else None


def summarise(runner, history: History, input_size: tuple[int, int]) -> dict:
    """Collect what a run came to.

    Returns:
        ``config``, ``seed``, ``split_hash``, ``best`` and ``last`` (``epoch`` and
        validation metrics each, or None), ``epochs``, ``training_minutes`` (without
        validation), ``validation_minutes``, ``images_per_second`` of training,
        ``student`` and ``teacher`` (``parameters``, ``gmacs``, ``gflops`` = 2 x gmacs,
        ``input_size``, height and width), ``checkpoint`` (``file`` and ``megabytes`` of
        the best one, else of the last), ``loss_factors`` (of a balanced run, by part).
    """
    best, last = best_checkpoint(runner), last_checkpoint(runner)
    kept, validated = best or last, history.validated()
    seconds, filename = history.total('seconds'), runner.cfg.filename
    model = bare_model(runner.model)
    report = dict(
        config=Path(filename).name if filename else None,
        seed=runner.seed,
        split_hash=split_hash(runner.train_dataloader.dataset),
        best=_of_epoch(history, safe_load(best)['meta']['epoch']) if best else None,
        last=_of_epoch(history, validated[-1]) if validated else None,
        epochs=max(history.records, default=0),
        training_minutes=seconds / 60,
        validation_minutes=history.total('val_seconds') / 60,
        images_per_second=history.total('images') / seconds if seconds else None,
        checkpoint=kept
        and dict(file=os.path.basename(kept), megabytes=os.path.getsize(kept) / 1e6),
        student=_costs(getattr(model, 'student', model), input_size),
    )
    if hasattr(model, 'teacher'):
        own = getattr(model.data_preprocessor, 'teacher_size', None)
        report['teacher'] = _costs(model.teacher, (own, own) if own else input_size)
    if factors := runner.message_hub.runtime_info.get('loss_factors'):
        report['loss_factors'] = factors
    return report


def _of_epoch(history: History, epoch: int) -> dict:
    return dict(epoch=epoch, **history.records.get(epoch, {}).get('val', {}))


def _costs(model: nn.Module, input_size: tuple[int, int]) -> dict:
    costs = complexity(model, input_size)
    return dict(**costs, gflops=2 * costs['gmacs'], input_size=list(input_size))
