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
) -> tuple[dict[str, Any] | list[str] | None, list[str]]:
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
    given, lines = supported_options(path, options, _STUDENT_ONLY)
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
    if not handed:
        return given, lines
    names = ', '.join(f'{key}={value!r}' for key, value in handed.items())
    lines.append(f'{names} as in {cfg.filename}')
    given = as_dict(path, given, handed)
    return {**handed, **given}, lines


def as_dict(
    path: str, options: Options, handed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Read options for a config file as a dict of dotted keys.

    Args:
        path: the config file.
        options: texts or a dict.
        handed: options that come before them.
    """
    if not isinstance(options, list):
        return dict(options or {})
    texts = [text for text in options if not text.startswith('pair=')]
    pair = [t.partition('=')[2] for t in options if t not in texts]
    first = {**(handed or {}), **({'pair': pair[-1]} if pair else {})}
    found, dotted = split_options(texts, compose_config(path, first))
    guide = compose_config(path, {**first, **found})
    return {**first, **found, **read_dotted(guide, dotted)}


def supported_options(
    path: str, options: Options, left_out: tuple[str, ...]
) -> tuple[Options, list[str]]:
    """Keep the options of the command line that another stage takes as well.

    Args:
        path: config file of that stage.
        options: of the command line.
        left_out: keys that are not its business, with all below them.

    Returns:
        The options, and lines on those that its config has no place for.
    """
    lines: list[str] = []
    if not options:
        return None, lines
    kept: Any = {} if isinstance(options, dict) else []
    candidates = [
        option
        for option in options
        if not any(
            f'{_key(option)}.'.startswith(f'{name}.') for name in left_out
        )
    ]
    pair = [o for o in candidates if _key(o) == 'pair']
    base = compose_config(path, _chosen(options, pair)) if candidates else None
    for option in candidates:
        if option not in pair:
            try:
                apply_options(copy.deepcopy(base), _chosen(options, [option]))
            except NoPlaceError:
                lines.append(
                    f'{_key(option)} is left out, its config has no place '
                    'for it'
                )
                continue
        if isinstance(options, dict):
            kept[option] = options[option]
        else:
            kept.append(option)
    return kept, lines


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
