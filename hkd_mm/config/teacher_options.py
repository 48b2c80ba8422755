# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What of a distillation holds for the training of its teacher as well."""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from hkd_mm.config.cfg_options import Options, is_word, parse_options
from hkd_mm.config.compose import apply_options, compose_config
from hkd_mm.config.overrides import DATA, NoPlaceError
from hkd_mm.config.tree import packed_datasets, preprocessor
from hkd_mm.io.schema import plain

_STUDENT_ONLY = (
    'model teacher student pair unlabelled_root teacher_cache teacher_input_size '
    'packed.partners loss_balance teacher_config teacher_network student_config '
    'previous_stage_config work_dir load_from resume'
).split()


def teacher_options(
    cfg: Config, path: str, options: Options
) -> tuple[dict[str, Any], list[str]]:
    """Options with which a teacher's config is trained, and lines on them for the user.

    Its config says how. Handed over are the images and split of the distillation, the
    network that ``teacher=NAME`` asked for where no config trains it, and above these
    the options of the command line that it has a place for, but what is the student's.
    """
    teacher = compose_config(path)
    handed = _data_of(cfg, teacher)
    if side := preprocessor(cfg).get('teacher_size'):
        handed['input_size'] = side
    if cfg.get('teacher_network'):
        handed['network'] = cfg.teacher_network
    return _with_handed(cfg, teacher, handed, options, _STUDENT_ONLY)


def _data_of(cfg: Config, stage: Config) -> dict[str, Any]:
    handed: dict[str, Any] = {}
    for word in DATA:
        value = plain(cfg.get(word))
        # None: names that the data itself has, which a list may spell out
        unsaid = word == 'classes' and value is None
        if word in cfg and not unsaid and plain(stage.get(word)) != value:
            handed[word] = value
    hair = [
        plain(node.get('hair_removal')) or None
        for one in (cfg, stage)
        for loader, node in packed_datasets(one)
        if loader == 'train_dataloader'
    ]
    if len(hair) == 2 and hair[0] != hair[1]:
        handed['packed.hair_removal'] = hair[0]
    return handed


def _with_handed(
    cfg: Config,
    stage: Config,
    handed: dict[str, Any],
    options: Options,
    left_out: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    if handed:
        apply_options(stage, handed)
    skipped = tuple(f'{name}.' for name in left_out)
    own = parse_options(options).items()
    own = {key: value for key, value in own if not f'{key}.'.startswith(skipped)}
    given, refused = places_of(stage, own)
    lines = [f'{key} is left out, its config has no place for it' for key in refused]
    if handed:
        names = ', '.join(f'{key}={value!r}' for key, value in handed.items())
        lines.append(f'{names} as in {cfg.filename}')
    return {**handed, **given}, lines


def stage_options(
    cfg: Config, path: str, options: Options, left_out: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """As :func:`teacher_options`, of a previous stage, without ``left_out``."""
    pair = {'pair': cfg.on_pair} if cfg.get('on_pair') else {}
    stage = compose_config(path, pair)
    handed = _data_of(cfg, stage)
    given, lines = _with_handed(cfg, stage, handed, options, [*left_out, 'pair'])
    return {**pair, **given}, lines


def places_of(
    base: Config, options: Options
) -> tuple[dict[str, Any], dict[str, NoPlaceError]]:
    """Try options one by one, dotted keys after all words; ``base`` stays as it is.

    Returned are those the config has a place for, and key -> reason of the others.
    """
    options = parse_options(options)
    refused: dict[str, NoPlaceError] = {}
    guide = copy.deepcopy(base)
    for words in (True, False):
        taken = {}
        for key, value in options.items():
            if is_word(key) != words:
                continue
            try:
                apply_options(copy.deepcopy(guide), {key: value})
                taken[key] = value
            except NoPlaceError as error:
                refused[key] = error
        if taken:
            apply_options(guide, taken)
    return {key: v for key, v in options.items() if key not in refused}, refused
