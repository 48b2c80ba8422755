# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Image decoding, safe checkpoints, atomic files, locks, progress."""

from hkd_mm.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    atomic_files='AtomicBackend incomplete_marker mark_incomplete',
    checkpoints='latest_intact_checkpoint load_weights safe_load student_state_dict',
    images='IMAGE_SUFFIXES prepare prepare_stored read_rgb read_stored',
    input_spec='InputSpec normalised windowed',
    locks='locked only_writer',
    progress='Progress parallel_map',
)
