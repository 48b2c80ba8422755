# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Run a network from an ONNX file, or in torch.

Both files may come from anybody. ONNX needs nothing of training. Weights for torch are
read without running code that could hide in them, and of the network that they name
only registered parts are built. The config of a work dir is Python and runs when read.
"""

import os
import platform
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError, first_line
from hkd_mm.lazy import require

STUDENT = 'student.pth'
_CPUINFO = '/proc/cpuinfo'  # of Linux
_PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}
_SECONDS = 60.0  # for opening a file, and for the first image
_LARGEST = 4096  # pixels of a side
# Where an ONNX file (protobuf) may have what is refused: message -> field -> content.
_FIELDS: dict[str, dict[int, str]] = dict(
    model={7: 'graph', 20: 'training', 25: 'functions'},
    graph={1: 'node', 5: 'tensor', 15: 'sparse'},
    node={4: 'operator', 5: 'attribute'},
    attribute={5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph'}
    | {22: 'sparse', 23: 'sparse'},
    sparse={1: 'tensor', 2: 'tensor'},
    tensor={13: 'data in other files'},
)
_REFUSED = ('training', 'functions', 'data in other files')
_ENDLESS = (b'Loop', b'Scan')


class OnnxBackend:
    """Compute logits of prepared images; several threads may call it.

    One blank image goes through the network at once: what does not run, or does not
    end, is refused before it is used.

    Args:
        path: takes ``images`` (N, C, H, W) float32, gives ``logits``.
        threads: None for one a core.
        device: ``cpu`` (also None) or ``cuda``, which takes onnxruntime-gpu.
        shape: (C, H, W) that it is to take; None for any.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int | None = None,
        device: str | None = None,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        runtime = require('onnxruntime', 'an exported student', 'onnxruntime')
        provider = _PROVIDERS.get(device or 'cpu')
        if provider not in runtime.get_available_providers():
            raise UserError(
                f'device {device!r}: this ONNX Runtime cannot use it; leave '
                'it out for the CPU, or pip install onnxruntime-gpu for cuda'
            )
        runtime.disable_telemetry_events()  # of Windows, and where it came before us
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions
        if threads is not None:
            options.intra_op_num_threads = threads
        # Threads that wait by spinning take the cores that decode images.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self._path = path
        try:
            _refuse_odd(memoryview(Path(path).read_bytes()), 'model')
            words = (os.fspath(path), options, [provider])
            # may compute what is constant, for as long as the file likes
            self._session = _in_time(runtime.InferenceSession, *words)
        except Exception as error:  # ONNX Runtime's share no base class
            raise UserError(
                f'{path} cannot be opened by ONNX Runtime {runtime.__version__} '
                f'({first_line(error)}); take a newer one, or export again'
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
        self._options = runtime.RunOptions()
        self._options.log_severity_level = 4
        self.channels = self._check_ends(shape)

    def _check_ends(self, shape: tuple[int, int, int] | None) -> int:
        """Refuse a network of other inputs and outputs; return the channels."""
        ends = (self._session.get_inputs(), self._session.get_outputs())
        found = [(one.name, one.type) for end in ends for one in end]
        if found != [('images', 'tensor(float)'), ('logits', 'tensor(float)')]:
            raise UserError(
                f'{self._path} is no exported network: it has {found}, not one float '
                'input "images" and one float output "logits"; export it again'
            )
        given = ends[0][0].shape
        sizes = all(isinstance(n, int) and 0 < n <= _LARGEST for n in given[1:])
        if len(given) != 4 or not sizes or (shape and tuple(given[1:]) != shape):
            raise UserError(
                f'{self._path} takes images {given}, and {shape or "(C, H, W)"} is '
                'wanted after the batch; export it again'
            )
        blank = np.zeros((1, *given[1:]), np.float32)
        try:
            _in_time(self.logits, blank)
        except TimeoutError as error:
            self._options.terminate = True
            raise UserError(
                f'{self._path} does not run on images of {blank.shape} ({error}); '
                'export it again'
            ) from None
        return given[1]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 -> (N, classes, ...) float32."""
        try:
            return self._session.run(None, dict(images=images), self._options)[0]
        except Exception as error:
            raise UserError(
                f'{self._path} does not run on images of {images.shape} '
                f'({first_line(error)}); export it again'
            ) from None


def _in_time(task: Callable[..., Any], *words: Any) -> Any:
    """Call in a thread; it is left behind at a ``TimeoutError``."""
    done: Future = Future()

    def work() -> None:
        try:
            done.set_result(task(*words))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    if not wait([done], _SECONDS).done:
        raise TimeoutError(f'it did not end within {_SECONDS:.0f} s')
    return done.result()


def _refuse_odd(message: memoryview, kind: str, depth: int = 0) -> None:
    """Refuse by a ``ValueError`` what may not end, or reads other files.

    Functions are refused as well: twofold calls of each other unfold to any length.
    """
    if depth > 50:
        raise ValueError('nested too deeply')
    for number, content in _fields(message):
        name = _FIELDS[kind].get(number)
        if name in _REFUSED or (name == 'operator' and content in _ENDLESS):
            found = content.tobytes().decode() if name == 'operator' else name
            raise ValueError(f'it has {found}, which no exported network has')
        if name in _FIELDS and isinstance(content, memoryview):
            _refuse_odd(content, name, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and content of each field of a protobuf message."""
    at, end = 0, len(message)

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise ValueError('damaged')
            byte, at = message[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < end:
        tag = varint()
        if tag & 7 == 0:
            content = varint()
        else:
            size = {1: 8, 5: 4}.get(tag & 7)
            if tag & 7 == 2:
                size = varint()
            if size is None or at + size > end:
                raise ValueError('damaged')
            content, at = message[at : at + size], at + size
        yield (tag & 0xFFFFFFFF) >> 3, content


def may_overflow() -> bool:
    """Whether 8-bit weights may overflow: on x86 without VNNI, as Linux knows."""
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


class TorchBackend:
    """Compute logits of prepared images; several threads may call it.

    The network is a plain classifier or segmentor, ``swapped`` where it takes BGR;
    torch has one number of ``threads`` for the whole process.
    """

    def __init__(
        self,
        network: Any,
        swapped: bool,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        if device is None:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        try:
            self._network = network.to(device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f'device {device!r}: {first_line(error)}') from None
        self._device, self._swapped = device, swapped

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32, RGB or grey -> (N, classes, ...) float32."""
        import torch

        with torch.inference_mode():
            ready = torch.from_numpy(images).to(self._device)
            ready = ready.flip(1) if self._swapped else ready
            logits = self._network(ready, mode='tensor')
        return logits.float().cpu().numpy()


def load_weights(path: str | os.PathLike) -> tuple[Any, bool]:
    """Network of a ``.safetensors``, whose header names it, and if it takes BGR."""
    _check_packages()
    from hkd_mm.engine.student_loading import load_student, statistics_of, takes_bgr

    if Path(path).suffix != '.safetensors':
        raise UserError(f'{path}: weights are read from .safetensors only')
    network, meta = load_student(path)
    return network, takes_bgr(network, statistics_of(meta))


def read_unexported(path: Path) -> Any:
    """``SourceRun`` of a finished run: its work dir, or the ``student.pth`` in it."""
    folder = path.parent if path.name == STUDENT else path
    if not (folder / STUDENT).is_file():
        raise UserError(
            f'{path} holds neither manifest.json nor {STUDENT}; give a '
            'folder of tools/export.py, or the work dir of a finished run'
        )
    _check_packages()
    from hkd_mm.inference.run_folder import read_run

    return read_run(folder)


def _check_packages() -> None:
    try:
        import torch  # noqa: F401

        import hkd_mm.registry  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'the torch backend needs what training needs ({error}); with '
            'an exported folder, backend="onnx" does without'
        ) from None
