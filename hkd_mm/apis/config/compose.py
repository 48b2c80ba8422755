# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a config file and ``--cfg-options`` to the config that is run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from hkd_mm.errors import UserError

from .knobs import KNOBS, propagate
from .options import at_their_place, check_options, parse_options
from .packed_options import (
    check_packed,
    is_packed,
    of_inner_dataset,
    take_switch,
)
from .packing import apply_packed
from .pairs import exchanged_pair
from .thresholds import check_mask_threshold
from .value_checks import check_seed

_WORDS = ('balanced', 'sqrt_balanced')
_POSITIVE = ('input_size', 'batch_size', 'max_epochs', 'patience')


def load_config(
    path: str | os.PathLike,
    cfg_options: list[str] | dict[str, Any] | None = None,
    read_data: bool = True,
) -> Config:
    """Read a config the way the tools do.

    The options are checked and merged, top-level values are carried to the
    places that follow them (the table stands in
    :mod:`hkd_mm.apis.config.knobs`), and ``class_weight='balanced'`` becomes
    numbers, so that the config a run writes down says all that was used.

    Args:
        path: a config file.
        cfg_options: ``key=value`` texts as on the command line, or a dict of
            dotted keys.
        read_data: look at the training split for the class weights; without
            it a word in ``class_weight`` becomes None.

    Returns:
        The config; ``Runner.from_cfg`` takes it after ``work_dir`` is set.

    Raises:
        UserError: the file cannot be read, or an option is unknown or of the
            wrong kind.
    """
    from .data_summary import resolve_class_weight

    cfg = compose_config(path, cfg_options)
    resolve_class_weight(cfg, read_data)
    return cfg


def compose_config(
    path: str | os.PathLike,
    cfg_options: list[str] | dict[str, Any] | None = None,
) -> Config:
    """:func:`load_config` without a look at the data.

    Words in ``class_weight`` are left for ``resolve_class_weight``.
    """
    from .nets import apply_net_names

    # Top-level options first: they may exchange whole nets.
    top, dotted = _split(cfg_options, _is_top)
    pair, top = _take_pair(top)
    with exchanged_pair(path, pair) as file:
        cfg = read_config(file)
        base = _base_values(file)
    object.__setattr__(cfg, '_filename', str(path))
    cfg.pop('pair', None)  # of a config that an earlier run wrote down
    if pair is not None:
        cfg.pair = pair
    _merge(cfg, take_switch(cfg, top))
    _check_knobs(cfg)
    apply_net_names(cfg)
    propagate(cfg, base)
    if is_packed(cfg):
        inner, dotted = _split(dotted, of_inner_dataset(cfg))
        _merge(cfg, inner)
        apply_packed(cfg)
    _merge(cfg, dotted)
    cfg.setdefault('device', 'auto')
    return cfg


def read_config(path: str | os.PathLike) -> Config:
    """``Config.fromfile`` whose failures are told in one line.

    Raises:
        UserError: missing, of another kind, or not executable.
    """
    if not os.path.isfile(path):
        raise UserError(
            f'config {path} does not exist; give a file such as '
            'configs/hybrid_wrn50_mbv2.py'
        )
    try:
        return Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # a config is code: anything may be raised
        reason = (str(error).strip().splitlines() or [''])[-1]
        raise UserError(
            f'config {path} cannot be read: {type(error).__name__}: {reason}'
        ) from error


def config_named(cfg: Config, key: str) -> str:
    """Where the file lies that a top-level value names.

    Args:
        cfg: the config.
        key: ``teacher_config`` or ``earlier_stage_config``.

    Raises:
        UserError: the config names none, or there is no such file.
    """
    name = cfg.get(key)
    if not name:
        ckpt = f'model.{dict(teacher_config="teacher").get(key, "student")}'
        raise UserError(
            f'{ckpt}_ckpt is None and the config names no {key} to train '
            f'one; set --cfg-options {ckpt}_ckpt=FILE'
        )
    from .nets import config_root

    folders = [Path(cfg.filename).resolve().parent] if cfg.filename else []
    for folder in [*folders, config_root(), Path.cwd()]:
        if (folder / name).is_file():
            return str(folder / name)
    without = {
        'teacher_config': '; give the weights of a trained one with '
        'model.teacher_ckpt, or a teacher_config of your own'
    }
    raise UserError(
        f'{key} {name} is not a file, neither beside {cfg.filename} nor in '
        f'{config_root()}{without.get(key, "")}'
    )


def _take_pair(options):
    """The value of ``pair``, and the options without it."""
    if isinstance(options, dict):
        return options.get('pair'), {
            k: v for k, v in options.items() if k != 'pair'
        }
    found = [text for text in options if text.startswith('pair=')]
    pair = found[-1].partition('=')[2] if found else None
    return pair, [text for text in options if text not in found]


def _is_top(key: str) -> bool:
    return '.' not in key or key.startswith('packed.')


def _split(
    options: list[str] | dict[str, Any] | None, chosen: Callable[[str], bool]
):
    """The options whose key is chosen, and the others."""
    options = options or []
    if isinstance(options, dict):
        first = {k: v for k, v in options.items() if chosen(k)}
        return first, {k: v for k, v in options.items() if k not in first}
    first = [text for text in options if chosen(text.partition('=')[0])]
    return first, [text for text in options if text not in first]


def _merge(cfg: Config, options: list[str] | dict[str, Any]) -> None:
    if not isinstance(options, dict):
        options = parse_options(options, cfg)
    options = at_their_place(cfg, options)
    check_options(cfg, options)
    cfg.merge_from_dict(options)


def _base_values(path: str) -> dict[str, list]:
    """Knob -> its values in all files, the deepest base first."""
    values: dict[str, list] = {}
    for name in Config._get_base_files(path):
        base_path, scope = Config._get_cfg_path(name, path)
        if scope is None:
            for knob, found in _base_values(base_path).items():
                values.setdefault(knob, []).extend(found)
    own = Config.fromfile(path, import_custom_modules=False)
    for knob in KNOBS:
        if knob in own:
            values.setdefault(knob, []).append(own[knob])
    return values


def _check_knobs(cfg: Config) -> None:
    """Refuse values that would otherwise fail late and obscurely."""
    for name in _POSITIVE:
        value = cfg.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f'{name}={value!r} must be a whole number >= 1')
    for name, kinds, said in (
        ('data_root', str, 'a path'),
        ('pretrained', bool, 'True or False'),
        ('split_file', (str, type(None)), 'a path or None'),
        ('classes', (list, tuple, str, type(None)), 'a list such as [A,B]'),
        ('seed', (int, type(None)), 'a whole number'),
        ('split_seed', int, 'a whole number'),
    ):
        if name in cfg and not isinstance(cfg[name], kinds):
            raise UserError(f'{name}={cfg[name]!r} must be {said}')
    for name in ('seed', 'split_seed'):
        check_seed(name, cfg.get(name))
    check_packed(cfg)
    check_mask_threshold(cfg)
    if cfg.get('device', 'auto') not in ('auto', 'cpu', 'cuda'):
        raise UserError(f'device={cfg.device!r} must be auto, cpu or cuda')
    weight = cfg.get('class_weight')
    numbers = isinstance(weight, (list, tuple)) and all(
        isinstance(w, (int, float)) and w > 0 for w in weight
    )
    if weight is not None and weight not in _WORDS and not numbers:
        raise UserError(
            f'class_weight={weight!r} must be balanced, '
            'sqrt_balanced, None or a list of numbers > 0, one a '
            'class'
        )
