# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Everything that makes frozen upstream releases work together.

One function a workaround; each says the symptom, the versions that show it
and when it can be deleted. :func:`apply` runs all of them, in order, before
the first import of ``mmrazor``.
"""

import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import re
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

_QUANTIZATION = 'mmrazor.structures.quantization.backend_config'
_DEEP = (
    'mmrazor.structures.graph.channel_flow',
    'mmrazor.models.task_modules.tracer.fx_tracer',
)
# module of MMRazor: what it imports for one class or function of its own
_POSTPONED = {
    'mmrazor.models.distillers.ofd_distiller': 'scipy.stats',
    'mmrazor.models.task_modules.predictor.metric_predictor': 'scipy.stats',
    'mmrazor.models.task_modules.predictor.handler.carts_handler': 'sklearn.tree',
}
_BACKENDS = ('academic', 'native', 'openvino', 'tensorrt')

# What silence_upstream drops: how warnings of mmcv begin
_WARNED = (
    # without compiled operators, which no network here needs
    'Fail to import ``MultiScaleDeformableAttention',
    # of the first ColorJitter of each worker; mmpretrain passes alpha alone
    "Only use 'alpha' for pillow backend",
)
# How lines of mmengine's loggers, and of print_log without one, begin
_MMENGINE = (
    # mmengine's own CheckpointHook asks for both
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    # level DEBUG, but print_log without a logger prints all levels
    'Could not import OneDL',
    # the start line names the checkpoint
    'Loads checkpoint by ',
)


def import_mmrazor_without_version_check() -> None:
    """Let ``import mmrazor`` pass with today's mmcv.

    Symptom: ``AssertionError: MMCV==2.3.6 is used but incompatible`` from
    ``mmrazor/__init__.py``. The code itself works with every mmcv 2.x.
    Versions: mmrazor 1.0.0 (frozen since 2023) with mmcv > 2.1.0.
    Delete when: mmrazor publishes a release that admits mmcv >= 2.2.
    """
    if 'mmrazor' in sys.modules:
        return
    spec = importlib.util.find_spec('mmrazor')
    assert spec is not None, 'hkd_mm.check_versions() runs before this'
    package = importlib.util.module_from_spec(spec)
    # The body of mmrazor/__init__.py holds nothing but the check and these two
    # names, so a package with the right __path__ and both of them equals it.
    sys.modules['mmrazor'] = package
    package.__version__ = importlib.import_module('mmrazor.version').__version__
    package.digit_version = importlib.import_module('mmengine.utils').digit_version


def stand_in_for_quantization_backends() -> None:
    """Let ``import mmrazor.models`` pass on torch >= 2.0.

    Symptom: ``ImportError: cannot import name '_Conv2dBNQConfig...'`` (and others) from
    ``torch.ao.quantization`` inside ``mmrazor.structures.quantization.backend_config``.
    Versions: mmrazor 1.0.0 with torch >= 2.0.
    Delete when: mmrazor's quantisation supports torch >= 2.0. Until then its
    quantisers raise when used; hkd_mm quantises through ONNX Runtime.
    """
    if _QUANTIZATION in sys.modules:
        return

    def unavailable(*args, **kwargs) -> NoReturn:
        raise RuntimeError(
            "MMRazor's quantisation does not work with torch >= 2.0; "
            'hkd_mm quantises the exported student through ONNX Runtime.'
        )

    module = types.ModuleType(_QUANTIZATION)
    module.__spec__ = importlib.machinery.ModuleSpec(_QUANTIZATION, None)
    module.BackendConfigs = dict.fromkeys(_BACKENDS)
    for name in _BACKENDS:
        setattr(module, f'get_{name}_backend_config', unavailable)
        setattr(module, f'get_{name}_backend_config_dict', unavailable)
    module.__all__ = [name for name in vars(module) if name[0] != '_']
    sys.modules[_QUANTIZATION] = module


def remember_pretty_texts() -> None:
    """Let a config that did not change be formatted by yapf only once.

    Symptom: every checkpoint takes half a second or more, for
    ``Runner.save_checkpoint`` formats the whole config anew for its ``meta``.
    Versions: mmengine 0.10.7, onedl-mmengine 0.10.12.
    Delete when: ``Config.pretty_text`` or its callers keep the text.
    """
    from mmengine.config import Config

    upstream = Config.pretty_text.fget
    if hasattr(upstream, 'texts'):
        return
    texts: dict[str, str] = {}

    def pretty_text(self: Config) -> str:
        key = repr((self._cfg_dict, self._format_python_code))
        if key not in texts:
            while len(texts) > 7:  # a run has one or two
                texts.pop(next(iter(texts)))
            texts[key] = upstream(self)
        return texts[key]

    pretty_text.texts = texts
    Config.pretty_text = property(pretty_text, doc=upstream.__doc__)


def silence_upstream() -> None:
    """Drop what upstream tells every user and no user can act on.

    Symptom: each entry of the tables above, with its reason.
    Versions: onedl-mmcv 2.3.6, onedl-mmengine 0.10.12, onedl-mmpretrain
    1.3.6, torch 2.11; an entry goes when its line no longer comes.
    """
    import mmengine.logging.logger

    for text in _WARNED:
        warnings.filterwarnings('ignore', text, UserWarning, r'mmcv\.')
    logging.getLogger('torch.utils.cpp_extension').addFilter(_is_not_of_cuda)
    logged = re.compile('|'.join(_MMENGINE))
    # MMLogger is no child of the root logger, and has an instance a run
    mmengine.logging.MMLogger.filter = lambda self, record: (
        not logged.match(record.getMessage()) and logging.Logger.filter(self, record)
    )

    def without_noise(*words: object) -> None:
        if not logged.match(str(words[0])):
            builtins.print(*words)

    # what print_log calls where it is given no logger
    mmengine.logging.logger.print = without_noise


def _is_not_of_cuda(record: logging.LogRecord) -> bool:
    """Of torch.compile on a machine with a CUDA toolkit and without a GPU."""
    return not record.getMessage().startswith('No CUDA runtime is found')


Execute = Callable[[types.ModuleType, Callable[[], None]], None]
_around: dict[str, Execute] = {}  # module -> what executes it


def around_import(name: str, execute: Execute) -> None:
    """Have a module that is not imported yet executed by a function.

    It is given the module, and what runs the module's code.
    """
    if not _around:
        sys.meta_path.insert(0, _Finder())
    _around[name] = execute


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in _around:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        run = super().exec_module
        _around[self.name](module, lambda: run(module))


class _Later:
    """A module, or what a module holds, imported when it is first used."""

    def __init__(self, module: str, name: str | None = None) -> None:
        self._later = module, name

    def _loaded(self) -> Any:
        module, name = self._later
        found = importlib.import_module(module)
        return getattr(found, name) if name else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    def __call__(self, *args, **kwargs) -> Any:
        return self._loaded()(*args, **kwargs)


def postpone_scipy_and_sklearn() -> None:
    """Let ``import mmrazor.models`` load neither scipy.stats nor sklearn.

    Symptom: the first iteration comes 1.3 s of CPU time later. MMRazor loads
    both for its OFD distiller and two predictors of its architecture search.
    Versions: mmrazor 1.0.0.
    Delete when: mmrazor imports them where it uses them.
    """

    def execute(module: types.ModuleType, run: Callable[[], None]) -> None:
        def import_later(name, variables=None, local=None, names=(), level=0):
            postponed = name == _POSTPONED[module.__name__]
            # a package that is not installed raises here, as it would
            if not postponed or not importlib.util.find_spec(name.split('.')[0]):
                return builtins.__import__(name, variables, local, names, level)
            if names:
                found = {item: _Later(name, item) for item in names}
            else:  # import a.b as c
                found = {name.split('.')[-1]: _Later(name)}
            return types.SimpleNamespace(**found)

        # names of the module's own builtins: no other module sees this
        own = {**vars(builtins), '__import__': import_later}
        vars(module)['__builtins__'] = own
        run()

    for name in _POSTPONED:
        around_import(name, execute)


def keep_recursion_limit() -> None:
    """Put Python's recursion limit back after modules that raise it to 2^20.

    Symptom: what is nested too deeply (a JSON text, a config) takes the process
    down with a segmentation fault in place of a ``RecursionError``.
    Versions: mmrazor 1.0.0.
    Delete when: mmrazor leaves the limit alone.
    """

    def execute(module: types.ModuleType, run: Callable[[], None]) -> None:
        limit = sys.getrecursionlimit()
        run()
        sys.setrecursionlimit(limit)

    for name in _DEEP:
        around_import(name, execute)


def apply() -> None:
    """Run every workaround; safe to call any number of times."""
    import_mmrazor_without_version_check()
    stand_in_for_quantization_backends()
    keep_recursion_limit()
    postpone_scipy_and_sklearn()
    remember_pretty_texts()
    silence_upstream()
