# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Knowledge distillation for skin-disease classification on OpenMMLab.

Importing this package alone needs nothing of torch or OpenMMLab, so that a
student can be used without them (:mod:`hkd_mm.inference`). Training begins
with :mod:`hkd_mm.registry`, which every component imports.
"""

import os
import sys
from importlib import metadata
from itertools import chain

from hkd_mm import compat
from hkd_mm.io import runner_patches
from hkd_mm.version import __version__

# import name: accepted distributions, lowest, first refused, lowest to install
_WINDOWS = {
    'mmengine': ('onedl-mmengine mmengine', '0.10.7', '0.11', '0.10.12'),
    'mmcv': ('onedl-mmcv mmcv mmcv-lite', '2.1.0', '2.4', '2.3.6'),
    'mmpretrain': ('onedl-mmpretrain mmpretrain', '1.2.0', '1.4', '1.3.6'),
    'mmrazor': ('mmrazor', '1.0.0', '1.1', '1.0.0'),
}


def wait_passively() -> None:
    """Let idle OpenMP threads sleep, unless ``OMP_WAIT_POLICY`` is set.

    By default they spin for a while after each operator. On a core that
    another process or a loader worker wants too, an operator then waits for
    the thread that does not get to run (``docs/speed.md`` has numbers).

    libgomp, which torch's Linux wheels bundle, reads the variable once, when
    ``import torch`` loads it, so it is left alone after that. Every tool
    imports this package first; child processes inherit the variable.
    """
    if 'torch' not in sys.modules:
        os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def check_versions() -> None:
    """Hold the installed OpenMMLab packages against the tested windows.

    Raises:
        ImportError: a package is missing or outside its window; the message
            names the command that mends it.
    """
    from packaging.version import Version

    for name, (distributions, lowest, refused, best) in _WINDOWS.items():
        first, *others = distributions.split()
        command = f'pip install "{first}>={best},<{refused}"'
        known = (metadata.distributions(name=one) for one in (first, *others))
        found = next((one.version for one in chain(*known)), None)
        if found is None:
            raise ImportError(
                f'hkd_mm needs {name}, which is not installed. Mend it with: {command}'
            )
        if not Version(lowest) <= Version(found) < Version(refused):
            raise ImportError(
                f'hkd_mm works with {name} >= {lowest}, < {refused}, but '
                f'{found} is installed. Mend it with: {command}'
            )


def begin_training() -> None:
    """Check the installed packages and make them work together.

    Called before the first import of MMRazor; does so once.

    Raises:
        ImportError: as of :func:`check_versions`.
    """
    global _begun
    if not _begun:
        check_versions()
        compat.apply()
        _begun = True
        runner_patches.install()


wait_passively()
# else importing ONNX Runtime writes a device id for its telemetry
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
_begun = False
if sys.modules.get('mmengine'):  # a config of MMEngine imports this package
    begin_training()

__all__ = ['__version__', 'begin_training', 'check_versions', 'wait_passively']
