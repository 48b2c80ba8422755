# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Base of both metrics: names of samples and classes."""

from typing import Any

from mmengine.evaluator import BaseMetric
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.structures.packed_samples import row_of


class StoredMetric(BaseMetric):
    """A metric that looks sample ids up in the data set's packed store."""

    def __init__(
        self,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix or 'unprefixed', collect_dir)
        self.prefix = prefix  # set late: upstream warns when it is None
        self.last: dict[str, Any] | None = None
        self._folder: str | None = None
        self._ids: list[str] = []

    def sample_names(self, index: Tensor) -> list[str | None]:
        """Ids of rows, (N,) int64; None each where the data set names no store."""
        folder = (self.dataset_meta or {}).get('packed_store')
        if folder is None:
            return [None] * len(index)
        if folder != self._folder:
            from hkd_mm.datasets.packed.store import read_ids

            self._folder, self._ids = folder, read_ids(folder)
        return [self._ids[row] for row in row_of(index).tolist()]

    def class_names(self, count: int) -> list[str]:
        """Names from the data set, else ``class_0`` and so on."""
        names = (self.dataset_meta or {}).get('classes')
        if names is None:
            return [f'class_{index}' for index in range(count)]
        if len(names) != count:
            raise UserError(
                f'the network has {count} classes but the data set has '
                f'{len(names)} ({", ".join(names)}): set num_classes of the '
                'network, or the top-level classes, accordingly'
            )
        return list(names)
