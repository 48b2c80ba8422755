# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``--cfg-options``: reading them, and refusing those that do nothing."""

import ast
import difflib
import json
import shlex
from typing import Any, NoReturn

from mmengine.config import Config, ConfigDict, DictAction

from hkd_mm.config.overrides import (
    EXCHANGES,
    OVERRIDES,
    PACKED,
    NoPlaceError,
    words,
)
from hkd_mm.config.renamed import check_renamed
from hkd_mm.config.schema import RUN_KEYS, names_of_group, names_of_type
from hkd_mm.config.tree import is_packed_dataset
from hkd_mm.errors import UserError

# Always text, whatever they look like: paths may hold blanks and commas.
_TEXT = frozenset(
    (
        'data_root split_file ann_file image_col label_col split_col '
        'teacher_ckpt student_ckpt ckpt '
        'teacher_config student_config previous_stage_config load_from '
        'work_dir out_dir dir checkpoint file store_dir'
    ).split()
)
_SIMILAR = 0.75  # difflib ratio from which a name counts as a slip


_POSITIVE = ('input_size', 'batch_size', 'max_epochs', 'patience')
_NAMES = ('teacher', 'student', 'network', 'dataset_type', 'device', 'pair')
_KINDS: dict[str, tuple[type | tuple, str]] = dict(
    data_root=(str, 'a path'),
    pretrained=(bool, 'True or False'),
    compiled=(bool, 'True or False'),
    channels_last=(bool, 'True or False'),
    packed=((bool, dict), 'True or False'),
    teacher_cache=((bool, dict, type(None)), 'True or False'),
    split_file=((str, type(None)), 'a path or None'),
    ann_file=((str, type(None)), 'a path or None'),
    group_cols=((list, tuple, str, type(None)), 'names such as patient_id,lesion_id'),
    **dict.fromkeys(
        ('image_col', 'label_col', 'split_col'),
        ((str, type(None)), 'the name of a column'),
    ),
    classes=((list, tuple, str, type(None)), 'a list such as [A,B]'),
    augment=((bool, list, type(None)), 'True or False'),
    seed=((int, type(None)), 'a whole number'),
    split_seed=(int, 'a whole number'),
    **dict.fromkeys(_NAMES, (str, 'a name')),
)
_MAX_SEED = 2**32  # numpy takes seeds below it


def split_options(
    options: list[str] | dict[str, Any], cfg: Config
) -> tuple[dict[str, Any], list[str] | dict[str, Any]]:
    """Read the top-level words, and leave dotted keys for later.

    Args:
        options: ``key=value`` texts, or a dict of dotted keys.

    Returns:
        Word -> value, ``packed.<name>`` among them, and the other options.

    Raises:
        UserError: not of the form ``key=value``, a word that nothing knows,
            or a value of the wrong kind.
    """
    if isinstance(options, dict):
        found = {k: v for k, v in options.items() if is_word(k)}
        rest: Any = {k: v for k, v in options.items() if k not in found}
        names = list(rest)
    else:
        pairs = [split_text(text) for text in options]
        found = {k: _read_word(k, v, cfg) for k, v in pairs if is_word(k)}
        rest = [f'{k}={v}' for k, v in pairs if not is_word(k)]
        names = [k for k, _ in pairs if not is_word(k)]
    for name in names:
        check_renamed({name.partition('.')[0]: None}, '--cfg-options')
        _check_head(cfg, name)
    for name in [key for key in found if key.startswith('packed.hair_rem')]:
        _join_hair_removal(found, name)
    for name, value in found.items():
        check_word(name, value)
    return found, rest


def is_word(key: str) -> bool:
    """Whether a key is a top-level word and no place in the config."""
    return key in OVERRIDES or key in EXCHANGES or key.startswith('packed.')


def split_text(text: str) -> tuple[str, str]:
    """Split ``key=value``, refusing what is not of that form."""
    key, equals, value = text.partition('=')
    if not equals or not key.strip():
        raise UserError(
            f'--cfg-options {text}: write key=value, without blanks around the "="'
        )
    return key.strip(), value


def _read_word(key: str, text: str, cfg: Config) -> Any:
    if key in ('classes', 'group_cols'):
        return read_names(text)
    if key in _NAMES:
        return text.strip('\'"')
    return _read_value(key, text, cfg.get(key))


def _read_value(key: str, text: str, old: Any) -> Any:
    verbatim = key.rsplit('.', 1)[-1] in _TEXT or (
        isinstance(old, str) and not text.startswith(('[', '('))
    )
    if verbatim:
        stripped = text.strip('\'"')
        return None if stripped == 'None' else stripped
    try:
        return DictAction._parse_iterable(text)
    except AssertionError:
        raise UserError(
            f'--cfg-options {key}={text}: the brackets of the value do not match'
        ) from None


def read_names(text: str) -> Any:
    """Read a list of names; what stands in quotes is taken as it is.

    Args:
        text: ``["Mole, flat",2]``, ``[A,B]``, ``A,B``, None or a file.

    Returns:
        A list of str, None, or the text where it is no list.
    """
    text = text.strip()
    if text == 'None':
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if isinstance(found, (list, tuple)) and all(
        isinstance(name, str) and name for name in found or ['']
    ):
        return list(found)
    if not text.startswith(('[', '(')) and ',' not in text:
        return text.strip('\'"')
    inner = text
    if text.startswith(('[', '(')):
        if not text.endswith(']' if text[0] == '[' else ')'):
            raise UserError(
                f'--cfg-options classes={text}: the brackets of the value do not match'
            )
        inner = text[1:-1]
    names = [name.strip().strip('\'"') for name in inner.split(',')]
    if '' in names:
        raise UserError(
            f'--cfg-options classes={text}: a name is empty; put names with '
            'commas into quotes, as in ["Mole, flat","2"]'
        )
    return names


def option_text(key: str, value: Any) -> str:
    """Write ``key=value`` so that a shell and :func:`read_names` take it."""
    if isinstance(value, (list, tuple)):
        value = json.dumps(list(value), ensure_ascii=False)
    return shlex.quote(f'{key}={value}')


def _join_hair_removal(found: dict[str, Any], name: str) -> None:
    """``packed.hair_removal.kernel=9`` is part of ``packed.hair_removal``."""
    head, _, part = name.partition('hair_removal.')
    if part:
        whole = found.setdefault(f'{head}hair_removal', {})
        if not isinstance(whole, dict):
            whole = found[f'{head}hair_removal'] = {}
        whole[part] = found.pop(name)


def check_word(name: str, value: Any) -> None:
    """Refuse a value that would otherwise fail late and obscurely."""
    if name.startswith('packed.') and name not in PACKED:
        known = ', '.join(key.removeprefix('packed.') for key in PACKED)
        raise UserError(
            f'packed has no "{name.removeprefix("packed.")}"; known there: {known}'
        )
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in _POSITIVE and (not whole or value < 1):
        raise UserError(f'{name}={value!r} must be a whole number >= 1')
    kinds, description = _KINDS.get(name, (object, ''))
    if not isinstance(value, kinds) or (
        name in ('seed', 'split_seed') and isinstance(value, bool)
    ):
        raise UserError(f'{name}={value!r} must be {description}')
    if name in ('seed', 'split_seed'):
        check_seed(name, value)
    if name == 'device' and value not in ('auto', 'cpu', 'cuda'):
        raise UserError(f'device={value!r} must be auto, cpu or cuda')
    if name == 'class_weight':
        _check_class_weight(value)
    if name == 'packed.hair_removal':
        from hkd_mm.datasets.packed.hair_removal import hair_settings

        hair_settings(value)
    if name == 'packed.top_up':
        from hkd_mm.datasets.packed.top_up import target_of

        target_of(value)


def check_seed(name: str, value: Any) -> None:
    """Refuse seeds that numpy does not take."""
    if isinstance(value, int) and not 0 <= value < _MAX_SEED:
        raise UserError(
            f'{name}={value} must be None or a whole number from 0 to {_MAX_SEED - 1}'
        )


def _check_class_weight(value: Any) -> None:
    numbers = isinstance(value, (list, tuple)) and all(
        isinstance(w, (int, float)) and w > 0 for w in value
    )
    if value not in (None, 'balanced', 'sqrt_balanced') and not numbers:
        raise UserError(
            f'class_weight={value!r} must be balanced, '
            'sqrt_balanced, None or a list of numbers > 0, one a '
            'class'
        )


def _check_head(cfg: Config, key: str) -> None:
    """Refuse a key whose first part nothing knows, before anything else."""
    known = {*cfg._cfg_dict, *words(), *RUN_KEYS}
    if key.partition('.')[0] not in known:
        refuse_name(key, key.split('.'), known)


def read_dotted(cfg: Config, options: list[str] | dict[str, Any]) -> dict[str, Any]:
    """Read texts of dotted keys with the config's values as the guide."""
    if isinstance(options, dict):
        return options
    pairs = [split_text(text) for text in options]
    return {key: _read_value(key, text, lookup(cfg, key)[0]) for key, text in pairs}


def apply_dotted(cfg: Config, options: list[str] | dict[str, Any]) -> None:
    """Set dotted keys, in place.

    Args:
        options: ``key=value`` texts, read with the config's own values as
            the guide: where a value is text, or names a path, the new one is
            taken as it stands; elsewhere mmengine's rules hold. Or a dict.
    """
    options = apply_overrides(cfg, read_dotted(cfg, options))
    check_options(cfg, options)
    cfg.merge_from_dict(options)
    check_renamed(cfg._cfg_dict, '--cfg-options')


def apply_overrides(cfg: Config, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a data set inside of a packed one, by their whole key.

    ``test_dataloader.dataset.split`` names the same whether a config packs
    its images or not.

    Raises:
        UserError: one place is named in both ways.
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        place = _inner_key(cfg, key)
        if place in found or (place != key and place in options):
            raise UserError(
                f'--cfg-options names {place} twice, once as {key}; leave one '
                'of them out'
            )
        found[place] = value
    return found


def _inner_key(cfg: Config, key: str) -> str:
    loader, mark, rest = key.partition('.dataset.')
    outer = lookup(cfg, f'{loader}.dataset')[0] if mark else None
    if not isinstance(outer, dict) or not is_packed_dataset(outer):
        return key
    path, name = [loader, 'dataset'], rest.partition('.')[0]
    if name in _known_names(cfg, path, outer)[0]:
        return key
    inner = f'{loader}.dataset.dataset.{rest}'
    return inner if name in _inner_names(cfg, path, outer) else key


def _inner_names(cfg: Config, path: list[str], outer: dict) -> set[str]:
    """Of the data set inside of a packed one; what packing drops is none."""
    inner = outer.get('dataset') or {}
    names = _known_names(cfg, [*path, 'dataset'], inner)[0]
    return names - {'pipeline', 'serialize_data', 'lazy_init'}


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Refuse options that would be ignored or would fail late.

    A key is known when the config holds it, when the constructor at that
    place takes it, or when the options give its group a ``type`` as well.
    """
    for key, value in options.items():
        old, node, missing = lookup(cfg, key)
        if not missing:
            _check_kind(key, old, value)
        else:
            _check_name(cfg, key, node, missing, options)


def lookup(cfg: Any, key: str) -> tuple[Any, Any, list[str]]:
    """(value or None, deepest node reached, segments not found)."""
    node = cfg._cfg_dict if isinstance(cfg, Config) else cfg
    parts = key.split('.')
    for index, part in enumerate(parts):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif (
            isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node)
        ):
            node = node[int(part)]
        else:
            return None, node, parts[index:]
    return node, node, []


def _check_kind(key: str, old: Any, new: Any) -> None:
    if old is None or new is None:
        return
    hint = f'got {new!r}; the config has {key}={old!r}'
    if isinstance(old, bool):
        if not isinstance(new, bool):
            raise UserError(f'--cfg-options {key} must be True or False, {hint}')
    elif isinstance(old, (int, float)):
        if isinstance(new, bool) or not isinstance(new, (int, float)):
            raise UserError(f'--cfg-options {key} must be a number, {hint}')
    elif isinstance(old, dict) and not isinstance(new, dict):
        names = ', '.join(f'{key}.{name}' for name in list(old)[:3])
        raise UserError(
            f'--cfg-options {key} is a group of settings; set '
            f'one of them, such as {names}'
        )


def _check_name(
    cfg: Config,
    key: str,
    node: Any,
    missing: list[str],
    options: dict[str, Any],
) -> None:
    found = key.split('.')[: -len(missing)]
    head = '.'.join([*found, missing[0]])
    if any(other == f'{head}.type' for other in options):
        return
    if isinstance(node, dict):
        known, open_ended = _known_names(cfg, found, node)
        if found[1:] == ['dataset'] and is_packed_dataset(node):
            known = known | _inner_names(cfg, found, node)
        close = difflib.get_close_matches(missing[0], known, 3, _SIMILAR)
        if missing[0] in known or (open_ended and not close):
            return
    elif isinstance(node, (list, tuple)):
        raise UserError(
            f'--cfg-options {key}: {".".join(found)} is a list '
            f'of {len(node)}; there is no "{missing[0]}" in it'
        )
    else:
        raise UserError(
            f'--cfg-options {key}: {".".join(found)} is '
            f'{node!r} and has no "{missing[0]}"'
        )
    refuse_name(key, missing, known)


def refuse_name(key: str, missing: list[str], known: set[str]) -> NoReturn:
    """Refuse a key with the names that come close.

    Args:
        missing: its last parts, from the first that is not there.
        known: names that could stand at that place.
    """
    close = difflib.get_close_matches(missing[0], known, 3, _SIMILAR)
    close = close or difflib.get_close_matches(missing[0], known, 3, 0.5)
    prefix = key.removesuffix('.'.join(missing))
    hint = (
        'did you mean ' + ' or '.join(prefix + name for name in close)
        if close
        else 'known there: ' + ', '.join(sorted(known)[:8])
    )
    raise NoPlaceError(
        f'--cfg-options {key}: the config has no "{prefix}{missing[0]}"; {hint}'
    )


def _known_names(
    cfg: Config, path: list[str], node: ConfigDict
) -> tuple[set[str], bool]:
    """Names that may stand in a group, and whether others may as well."""
    names = set(node)
    if not path:
        return names | set(words()) | names_of_group(''), False
    if isinstance(node.get('type'), str):
        more, open_ended = names_of_type(
            node['type'], cfg.get('default_scope', 'mmpretrain')
        )
        return names | more | names_of_group(path[-1]), open_ended
    return names | names_of_group(path[-1]), False
