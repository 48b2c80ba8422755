# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A runner whose name no other run of the process has."""

import uuid
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner


class NamedRunner(Runner):
    """A runner under a name of its own.

    MMEngine keeps a logger, a hub and a visualizer per name and process, and
    makes the name of the config's and the second: two runs begun in one
    second would write into each other's folders.

    Args:
        args: as of ``Runner``.
        experiment_name: what the name begins with; None takes the config's.
        cfg: as of ``Runner``.
        kwargs: as of ``Runner``.
    """

    def __init__(
        self,
        *args: Any,
        experiment_name: str | None = None,
        cfg: Config | dict | None = None,
        **kwargs: Any,
    ) -> None:
        file = getattr(cfg, 'filename', None) or 'run'
        name = f'{experiment_name or Path(file).stem}_{uuid.uuid4().hex[:8]}'
        super().__init__(*args, experiment_name=name, cfg=cfg, **kwargs)
