# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What of a distillation holds for the training of its teacher as well."""

import copy
from typing import Any

from mmengine.config import Config

from hkd_mm.config.cfg_options import is_word, read_dotted, split_options
from hkd_mm.config.compose import Options, apply_options, compose_config
from hkd_mm.config.overrides import NoPlaceError
from hkd_mm.config.schema import plain
from hkd_mm.config.tree import packed_datasets, preprocessor

# A teacher sees the student's images and must not know its test images.
DATA = (
    'data_root ann_file image_col label_col group_cols split_col classes split_file '
    'split_ratios split_seed input_size'
).split()
_STUDENT_ONLY = (
    'model teacher student pair teacher_cache teacher_input_size loss_balance '
    'teacher_config teacher_network student_config previous_stage_config work_dir '
    'load_from resume'
).split()


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

    Returns:
        The options for :func:`hkd_mm.config.compose.load_config`, and
        lines for the user on what was handed over and what was left out.
    """
    teacher = compose_config(path)
    handed = _data_of(cfg, teacher)
    if side := preprocessor(cfg).get('teacher_size'):
        handed['input_size'] = side
    if cfg.get('teacher_network'):
        handed['network'] = cfg.teacher_network
    return _with_handed(cfg, teacher, handed, options, tuple(_STUDENT_ONLY))


def _data_of(cfg: Config, stage: Config) -> dict[str, Any]:
    """Words on images and split in which a stage differs from its student."""
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
    left_out: tuple[str, ...],
) -> tuple[dict[str, Any], list[str]]:
    if handed:
        apply_options(stage, handed)
    given, lines = _supported(stage, options, left_out)
    if handed:
        names = ', '.join(f'{key}={value!r}' for key, value in handed.items())
        lines.append(f'{names} as in {cfg.filename}')
    return {**handed, **given}, lines


def stage_options(
    cfg: Config, path: str, options: Options, left_out: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """List the options with which a previous stage of a student is trained.

    Args:
        left_out: keys that are not its business, with all below them.

    Returns:
        The options as a dict of dotted keys, and lines on those that its
        config has no place for.
    """
    pair = {'pair': cfg.on_pair} if cfg.get('on_pair') else {}
    stage = compose_config(path, pair)
    handed = _data_of(cfg, stage)
    given, lines = _with_handed(cfg, stage, handed, options, (*left_out, 'pair'))
    return {**pair, **given}, lines


def _supported(
    base: Config, options: Options, left_out: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Those options of a command line that a config has places for."""
    skipped = tuple(f'{name}.' for name in left_out)
    own = [o for o in options or [] if not f'{_key(o)}.'.startswith(skipped)]
    kept, refused = places_of(base, _chosen(options, own))
    lines = [
        f'{_key(option)} is left out, its config has no place for it'
        for option in refused
    ]
    if isinstance(options, dict):
        return _chosen(options, kept), lines
    found, dotted = split_options(kept, base)
    guide = copy.deepcopy(base)
    apply_options(guide, found)
    return {**found, **read_dotted(guide, dotted)}, lines


def places_of(
    base: Config, options: list[str] | dict[str, Any]
) -> tuple[list[str], dict[str, NoPlaceError]]:
    """Try options one by one, dotted keys after all words.

    Args:
        base: a composed config, which stays as it is.

    Returns:
        The options (of a dict: the keys) that the config has a place for, in
        their order, and those that it refuses with the reason.
    """
    options = options or []
    refused: dict[str, NoPlaceError] = {}
    guide = copy.deepcopy(base)
    for words in (True, False):
        taken = []
        for option in options:
            if is_word(_key(option)) != words:
                continue
            try:
                apply_options(copy.deepcopy(guide), _chosen(options, [option]))
                taken.append(option)
            except NoPlaceError as error:
                refused[option] = error
        if taken:
            apply_options(guide, _chosen(options, taken))
    return [o for o in options if o not in refused], refused


def _chosen(options: Any, keys: list[str]) -> Any:
    if isinstance(options, dict):
        return {key: options[key] for key in keys}
    return keys


def _key(option: str) -> str:
    return option.partition('=')[0].strip()
