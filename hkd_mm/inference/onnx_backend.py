# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run a network from an ONNX file; needs nothing of training."""

import os
import platform
from importlib.util import find_spec

import numpy as np

from hkd_mm.errors import UserError

_CPUINFO = '/proc/cpuinfo'  # of Linux
_PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}


class OnnxBackend:
    """Compute logits of prepared images; several threads may call it.

    Args:
        path: takes ``images`` (N, C, H, W) float32, gives ``logits``.
        threads: of ONNX Runtime; None for one a core.
        device: ``cpu`` (also None) or ``cuda``, which takes onnxruntime-gpu.

    Attributes:
        channels: of the images.

    Raises:
        UserError: ONNX Runtime is missing, too old for the file, has no
            such device, or would do without it.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        try:
            import onnxruntime as runtime
        except ImportError as error:
            raise UserError(
                f'ONNX Runtime cannot be imported ({error}); fix it with: '
                'pip install onnxruntime'
            ) from None
        provider = _PROVIDERS.get(device or 'cpu')
        if provider not in runtime.get_available_providers():
            raise UserError(
                f'device {device!r}: this ONNX Runtime cannot use it; leave '
                'it out for the CPU, or pip install onnxruntime-gpu for cuda'
            )
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors only
        if threads is not None:
            options.intra_op_num_threads = threads
        # Threads that wait by spinning take the cores that decode images.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        try:
            self._session = runtime.InferenceSession(
                os.fspath(path), options, providers=[provider]
            )
        except Exception as error:  # ONNX Runtime's share no base class
            text = str(error).splitlines()[0] if str(error) else repr(error)
            raise UserError(
                f'{path} cannot be opened by ONNX Runtime '
                f'{runtime.__version__} ({text}); take a newer one, or '
                'export again'
            ) from None
        self._session.disable_fallback()  # to the CPU, at the first error
        taken = self._session.get_providers()
        if provider not in taken:
            raise UserError(
                f'device {device!r}: ONNX Runtime {runtime.__version__} took '
                f'{", ".join(taken)} instead, for the libraries it was built '
                'for (CUDA, cuDNN) cannot be loaded; fix them, or leave '
                'device out for the CPU'
            )
        given = self._session.get_inputs()[0]
        self._input, self.channels = given.name, given.shape[1]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 -> (N, classes, ...) float32."""
        return self._session.run(None, {self._input: images})[0]


def may_overflow() -> bool:
    """Whether 8-bit weights may overflow on this processor.

    True for an x86 one without VNNI, as far as Linux knows.
    """
    if platform.machine().lower() not in ('x86_64', 'amd64'):
        return False
    try:
        with open(_CPUINFO, encoding='utf-8') as file:
            return 'vnni' not in file.read()
    except OSError:
        return False


def available() -> bool:
    """Whether ONNX Runtime is installed; does not import it."""
    return find_spec('onnxruntime') is not None
