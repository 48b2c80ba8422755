# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Several trainings in one process: what ``tools/train_together.py`` does."""

import json
import sys
import traceback
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hkd_mm.engine.together import Group
from hkd_mm.errors import UserError

from .children import terminated_as_exit
from .cli import user_line
from .train import train


def main(args: Namespace) -> None:
    """Train what the file asks for; its ``reasons`` say what failed."""
    path = Path(args.trainings)
    try:
        asked = json.loads(path.read_text(encoding='utf-8'))
        trainings, reasons = asked['trainings'], Path(asked['reasons'])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f'{path} names no trainings ({type(error).__name__}: {error}); '
            'tools/compare.py --together writes it'
        ) from None
    failed = train_together(trainings)
    reasons.write_text(json.dumps(failed, indent=1) + '\n', encoding='utf-8')


def train_together(
    trainings: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Train side by side, batch for batch, off one stream and one teacher.

    What is shared, and that each comes out as it would alone, is told in
    :class:`hkd_mm.engine.together.Group`. One that fails leaves the others
    to go on.

    Args:
        trainings: name -> arguments of :func:`hkd_mm.apis.train.train`. One
            that the others build on is to be trained before.

    Returns:
        Name -> reason, of those that failed.
    """
    group = Group()
    failed: dict[str, str] = {}

    def one(name: str) -> None:
        joined = []

        def join(runner) -> None:
            joined.append(runner)
            group.join(name, runner)

        try:
            train(**trainings[name], on_runner=join)
        except Exception as error:  # of this training: the others go on
            failed[name] = _reason(error)
            print(f'error: {name}: {failed[name]}', file=sys.stderr)
        finally:
            for runner in joined:
                group.leave(runner)

    with terminated_as_exit():
        group.turns.run({name: partial(one, name) for name in trainings})
    return failed


def _reason(error: Exception) -> str:
    """One line; a defect of ours prints its traceback too."""
    line = user_line(error)
    if line is None:
        traceback.print_exception(error)
        line = f'{type(error).__name__}: {error}'
    return line
