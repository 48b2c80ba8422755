# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``tools/export.py`` does."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.inference.manifest_fields import Manifest

from .requirements import require_packages


@dataclass(frozen=True)
class Wishes:
    """The words of the command line.

    Attributes:
        int8: write an int8 net as well.
        with_preprocessing: write graphs that take photographs.
        executorch: write a ``.pte`` for mobile devices.
        calibration_images: training images that int8 is calibrated on.
        weight_bits: of int8, 8 or 7, see :func:`.int8.quantise`.
        int8_limit: points of balanced accuracy, or of Dice, that int8 may
            lose.
        int8_recall_limit: points of one class's recall that int8 may lose.
        int8_strict: refuse losses above a limit that may be chance, too.
        sure_accuracy: that sure answers are to reach, in (0, 1).
        cfg_options: changes to the config of the run.
    """

    int8: bool = True
    with_preprocessing: bool = False
    executorch: bool = False
    calibration_images: int = 512
    weight_bits: int = 8
    int8_limit: float = 1.0
    int8_recall_limit: float = 5.0
    int8_strict: bool = False
    sure_accuracy: float = 0.9
    cfg_options: list[str] | dict = field(default_factory=list)


def main(args: Namespace) -> None:
    """Export as the command line says."""
    words = vars(args)
    names = Wishes.__dataclass_fields__
    wishes = Wishes(**{k: v for k, v in words.items() if k in names})
    export(args.run_dir, args.out, wishes)


def export(
    run_dir: str | Path,
    out: str | Path | None = None,
    wishes: Wishes | None = None,
    say: Callable[[str], None] = print,
) -> Manifest:
    """Make a folder that a student is used from, of a finished run.

    Training images calibrate, validation images measure; the test split is
    not read.

    Args:
        run_dir: work dir of the run.
        out: the folder; ``<run_dir>/export`` by default.
        wishes: what is to be in it.
        say: takes lines on what is done.

    Returns:
        The manifest, written last.

    Raises:
        UserError: anything that the user can mend, and a net that does not
            answer as the trained one; an earlier export is then left as it
            was.
    """
    wishes = wishes or Wishes()
    _check(wishes)
    require_packages(wishes.executorch)
    from .card import card_text
    from .folder import publish, staging
    from .source_run import read_run
    from .table import print_table

    out = Path(out) if out else Path(run_dir) / 'export'
    run = read_run(run_dir, wishes.cfg_options)
    with staging(out) as place:
        making = _kind(run)(run, wishes, place, say)
        try:
            manifest = making.make()
        finally:
            if 'fp32' in making.measured:
                print_table(making)
        publish(place, out, manifest, card_text(manifest, run))
    say(f'wrote {out}')
    return manifest


def _kind(run) -> type:
    if run.dense:
        from .segmentor_making import SegmentorMaking

        return SegmentorMaking
    from .classifier_making import ClassifierMaking

    return ClassifierMaking


def _check(wishes: Wishes) -> None:
    if wishes.calibration_images < 1:
        raise UserError(
            f'--calibration-images {wishes.calibration_images} must be 1 or '
            'more'
        )
    if not 0 < wishes.sure_accuracy < 1:
        raise UserError(
            f'--sure-accuracy {wishes.sure_accuracy:g} must lie between 0 '
            'and 1'
        )
    for name in ('int8_limit', 'int8_recall_limit'):
        value = getattr(wishes, name)
        if not np.isfinite(value) or value < 0:
            raise UserError(
                f'--{name.replace("_", "-")} {value:g} must be 0 or more '
                'points'
            )
