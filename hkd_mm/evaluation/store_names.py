# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Names of samples that are known by their row in a packed store."""

from torch import Tensor

from hkd_mm.structures.packed_samples import row_of


class StoreNames:
    """Looks sample ids up in the packed store that a data set names."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._ids: list[str] = []

    def __call__(
        self, dataset_meta: dict | None, index: Tensor
    ) -> list[str | None]:
        """Sample ids, None each where the data set names no store.

        Args:
            dataset_meta: with ``packed_store``, the folder.
            index: (N,) int64, rows with the number of the copy.
        """
        folder = (dataset_meta or {}).get('packed_store')
        if folder is None:
            return [None] * len(index)
        if folder != self._folder:
            from hkd_mm.datasets.packed.store import read_ids

            self._folder, self._ids = folder, read_ids(folder)
        return [self._ids[row] for row in row_of(index).tolist()]
