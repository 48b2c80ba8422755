# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What of a distillation holds for the training of its teacher as well."""

import copy
from typing import Any

from mmengine.config import Config

from .compose import Options, apply_options, compose_config
from .options import read_dotted, split_options
from .overrides import NoPlaceError

# A teacher sees the student's images and must not know its test images.
_DATA = (
    'data_root',
    'classes',
    'split_file',
    'split_ratios',
    'split_seed',
    'input_size',
)
_STUDENT_ONLY = (
    'model',
    'teacher',
    'student',
    'pair',
    'teacher_cache',
    'teacher_config',
    'teacher_network',
    'student_config',
    'earlier_stage_config',
    'work_dir',
    'load_from',
    'resume',
)


def teacher_options(
    cfg: Config, path: str, options: Options
) -> tuple[dict[str, Any], list[str]]:
    """List the options with which a teacher's config is trained.

    The teacher's config says how it is trained. Handed over are, the later
    ones before the earlier:

    - the images and the split of the distillation, where they differ;
    - the network that ``teacher=NAME`` asked for, where no config trains it;
    - the options of the command line but for ``model.*`` and what is the
      student's, as far as the teacher's config has a place for them.

    Args:
        cfg: the distillation.
        path: the teacher's config file.
        options: of the command line.

    Returns:
        The options for :func:`hkd_mm.apis.config.compose.load_config`, and
        lines for the user on what was handed over and what was left out.
    """
    teacher = compose_config(path)
    handed: dict[str, Any] = {}
    for word in _DATA:
        value = _plain(cfg.get(word))
        # None: names that the data itself has, which a list may spell out
        unsaid = word == 'classes' and value is None
        if word in cfg and not unsaid and _plain(teacher.get(word)) != value:
            handed[word] = value
    if cfg.get('teacher_network'):
        handed['network'] = cfg.teacher_network
    if handed:
        apply_options(teacher, handed)
    given, lines = _supported(teacher, options, _STUDENT_ONLY)
    if handed:
        names = ', '.join(f'{key}={value!r}' for key, value in handed.items())
        lines.append(f'{names} as in {cfg.filename}')
    return {**handed, **given}, lines


def supported_options(
    path: str, options: Options, left_out: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Keep the options of the command line that another stage takes as well.

    Args:
        path: config file of that stage.
        options: of the command line; ``pair`` is kept.
        left_out: keys that are not its business, with all below them.

    Returns:
        The options as a dict of dotted keys, and lines on those that its
        config has no place for.
    """
    pair = {}
    for option in options or []:
        if _key(option) == 'pair':
            pair['pair'] = (
                options[option]
                if isinstance(options, dict)
                else option.partition('=')[2]
            )
    base = compose_config(path, pair)
    given, lines = _supported(base, options, (*left_out, 'pair'))
    return {**pair, **given}, lines


def _supported(
    base: Config, options: Options, left_out: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Those options of a command line that a config has places for."""
    lines: list[str] = []
    kept: list[str] = []
    for option in options or []:
        key = _key(option)
        if any(f'{key}.'.startswith(f'{name}.') for name in left_out):
            continue
        try:
            apply_options(copy.deepcopy(base), _chosen(options, [option]))
        except NoPlaceError:
            lines.append(f'{key} is left out, its config has no place for it')
            continue
        kept.append(option)
    if isinstance(options, dict):
        return _chosen(options, kept), lines
    found, dotted = split_options(kept, base)
    guide = copy.deepcopy(base)
    apply_options(guide, found)
    return {**found, **read_dotted(guide, dotted)}, lines


def _chosen(options: Any, keys: list[str]) -> Any:
    if isinstance(options, dict):
        return {key: options[key] for key in keys}
    return keys


def _key(option: str) -> str:
    return option.partition('=')[0].strip()


def _plain(value: Any) -> Any:
    """Without mmengine's kind of dict; a list for a tuple."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
