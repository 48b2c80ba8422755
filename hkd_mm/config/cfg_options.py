# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``--cfg-options``: reading them, and refusing those that do nothing."""

import ast
import difflib
import json
import shlex
from typing import Any, NoReturn

from mmengine.config import Config, DictAction

from hkd_mm.config.overrides import EXCHANGES, OVERRIDES, PACKED, NoPlaceError, words
from hkd_mm.config.schema import RUN_KEYS, WORDS, names_of_group, names_of_type
from hkd_mm.config.tree import dicts, is_packed_dataset
from hkd_mm.errors import UserError
from hkd_mm.io.schema import plain, validate

# Always text, whatever they look like: paths may hold blanks and commas.
_TEXT = frozenset(
    (
        'data_root unlabelled_root split_file ann_file image_col label_col split_col '
        'teacher_ckpt student_ckpt ckpt teacher_config student_config '
        'previous_stage_config load_from work_dir out_dir dir checkpoint file store_dir'
    ).split()
)
_SIMILAR = 0.75  # difflib ratio from which a name counts as a slip
_NAMES = ('teacher', 'student', 'network', 'dataset_type', 'device', 'pair')

# Registered names and keys that have changed; an entry stays for one release.
RENAMED = {
    'hkd_mm.VanishedMasksHook': 'hkd_mm.MasksLostByResizeHook',
    'earlier_stage_config': 'previous_stage_config',
}


def check_renamed(config: dict[str, Any], source: object) -> None:
    """Refuse an old name among the keys and types of a config, named by ``source``."""
    for node in dicts(config):
        for name in (*node, node.get('type')):
            if isinstance(name, str) and name in RENAMED:
                raise UserError(
                    f'{source}: {name} is now called {RENAMED[name]}; write that'
                )


Options = list[str] | dict[str, Any] | None


class Typed(str):
    """A value as it was typed, to be read with the config's own as the guide."""


def parse_options(options: Options) -> dict[str, Any]:
    """Options by their keys; the values of ``key=value`` texts are :class:`Typed`."""
    if isinstance(options, dict):
        return dict(options)
    found = {}
    for text in options or ():
        key, equals, value = text.partition('=')
        key = key.strip()
        if not equals or not all(part == part.strip() != '' for part in key.split('.')):
            raise UserError(
                f'--cfg-options {text[:60]}: write key=value, the parts of the key '
                'with dots between and without blanks'
            )
        found[key] = Typed(value)
    return found


def split_options(
    options: dict[str, Any], cfg: Config
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Words and their values, ``packed.<name>`` among them, and the dotted keys."""
    found = {k: _read_word(k, v, cfg) for k, v in options.items() if is_word(k)}
    rest = {k: v for k, v in options.items() if k not in found}
    known = {*cfg._cfg_dict, *words(), *RUN_KEYS}
    for name in rest:  # a head that nothing knows, before anything else
        head = name.partition('.')[0]
        check_renamed({head: None}, '--cfg-options')
        if head not in known:
            refuse_name(name, name.split('.'), known)
    if isinstance(found.get('packed'), dict):
        group = found.pop('packed')
        found.update({f'packed.{key}': value for key, value in group.items()})
        found['packed'] = True
    hair = 'packed.hair_removal'
    for name in [key for key in found if key.startswith(f'{hair}.')]:
        whole = found.get(hair)
        found[hair] = {**(whole if isinstance(whole, dict) else {})}
        found[hair][name.removeprefix(f'{hair}.')] = found.pop(name)
    for name, value in found.items():
        check_word(name, value)
    return found, rest


def is_word(key: str) -> bool:
    """Whether a key is a top-level word and no place in the config."""
    return key in OVERRIDES or key in EXCHANGES or key.startswith('packed.')


def _read_word(key: str, text: Any, cfg: Config) -> Any:
    if isinstance(text, Typed):
        if key in ('classes', 'group_cols'):
            return read_names(text)
        if key in _NAMES:
            return text.strip('\'"')
    return _read_value(key, text, cfg.get(key))


def _read_value(key: str, text: Any, old: Any) -> Any:
    if not isinstance(text, Typed):
        return text
    verbatim = key.rsplit('.', 1)[-1] in _TEXT or (
        isinstance(old, str) and not text.startswith(('[', '('))
    )
    if verbatim:
        stripped = text.strip('\'"')
        return None if stripped == 'None' else stripped
    try:
        return DictAction._parse_iterable(str(text))
    except (AssertionError, RecursionError):
        raise UserError(
            f'--cfg-options {key}={text:.200}: the brackets of the value do not match, '
            'or are too many'
        ) from None


def read_names(text: str) -> Any:
    """Read ``["Mole, flat",2]``, ``[A,B]`` or ``A,B``; None, or a text that is no list.

    What stands in quotes is taken as it is.
    """
    text = text.strip()
    if text == 'None':
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if isinstance(found, (list, tuple)) and found and {*map(type, found)} == {str}:
        return list(found)
    closing = dict(zip('[(', '])')).get(text[:1])
    if closing is None and ',' not in text:
        return text.strip('\'"')
    inner = text[1:-1] if closing else text
    names = [name.strip().strip('\'"') for name in inner.split(',')]
    if closing and not text.endswith(closing):
        raise UserError(
            f'--cfg-options classes={text}: the brackets of the value do not match'
        )
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


def check_word(name: str, value: Any) -> None:
    """Refuse a value that would otherwise fail late and obscurely."""
    if name.startswith('packed.') and name not in PACKED:
        known = ', '.join(key.removeprefix('packed.') for key in PACKED)
        raise UserError(
            f'packed has no "{name.removeprefix("packed.")}"; known there: {known}'
        )
    given = repr(value)
    given = given if len(given) <= 60 else f'{given[:57]}...'
    validate(WORDS, {name: plain(value, 'replace')}, f'--cfg-options {name}={given}')
    if name == 'packed.hair_removal':
        from hkd_mm.datasets.packed.hair_removal import hair_settings

        hair_settings(value)
    if name == 'packed.top_up':
        from hkd_mm.datasets.packed.top_up import target_of

        target_of(value)


def apply_dotted(cfg: Config, options: dict[str, Any]) -> None:
    """Set dotted keys, in place.

    A typed value is taken as it stands where the old one is text, or names a path;
    elsewhere mmengine's rules hold. Refused is what would be ignored or fail late: a
    key is known when the config holds it, when the constructor at that place takes
    it, or when the options give its group a ``type`` as well.
    """
    options = {k: _read_value(k, v, lookup(cfg, k)[0]) for k, v in options.items()}
    options = apply_overrides(cfg, options)
    for key, value in options.items():
        old, node, missing = lookup(cfg, key)
        if missing:
            _check_name(cfg, key, node, missing, options)
        else:
            _check_kind(key, old, value)
    cfg.merge_from_dict(options)
    check_renamed(cfg._cfg_dict, '--cfg-options')


def apply_overrides(cfg: Config, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a data set inside of a packed one, by their whole key."""
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
    inner = outer.get('dataset') or {}
    names = _known_names(cfg, [*path, 'dataset'], inner)[0]
    return names - {'pipeline', 'serialize_data', 'lazy_init'}


def lookup(cfg: Any, key: str) -> tuple[Any, Any, list[str]]:
    """(value or None, deepest node reached, segments not found)."""
    node = cfg._cfg_dict if isinstance(cfg, Config) else cfg
    parts = key.split('.')
    for index, part in enumerate(parts):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, (list, tuple)) and part in map(str, range(len(node))):
            node = node[int(part)]
        else:
            return None, node, parts[index:]
    return node, node, []


def _check_kind(key: str, old: Any, new: Any) -> None:
    if old is None or new is None:
        return
    if isinstance(old, dict) and not isinstance(new, dict):
        names = ', '.join(f'{key}.{name}' for name in list(old)[:3])
        raise UserError(
            f'--cfg-options {key} is a group of settings; set one of them, such as '
            f'{names}'
        )
    switch = isinstance(old, bool)
    number = isinstance(old, (int, float)) and not switch
    if (switch or number) and (
        not isinstance(new, (int, float)) or isinstance(new, bool) is not switch
    ):
        kind = 'True or False' if switch else 'a number'
        raise UserError(
            f'--cfg-options {key} must be {kind}, got {new!r}; the config has '
            f'{key}={old!r}'
        )


def _check_name(
    cfg: Config, key: str, node: Any, missing: list[str], options: dict[str, Any]
) -> None:
    found = key.split('.')[: -len(missing)]
    place = '.'.join(found)
    if not isinstance(node, dict):
        of = f'a list of {len(node)}' if isinstance(node, (list, tuple)) else repr(node)
        raise UserError(
            f'--cfg-options {key}: {place} is {of} and has no "{missing[0]}"'
        )
    if '.'.join([*found, missing[0], 'type']) in options:
        return
    known, open_ended = _known_names(cfg, found, node)
    if found[1:] == ['dataset'] and is_packed_dataset(node):
        known = known | _inner_names(cfg, found, node)
    close = difflib.get_close_matches(missing[0], known, 3, _SIMILAR)
    if missing[0] not in known and (close or not open_ended):
        refuse_name(key, missing, known)


def refuse_name(key: str, missing: list[str], known: set[str]) -> NoReturn:
    """Refuse a key; ``missing`` are its last parts. Names that come close are told."""
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


def _known_names(cfg: Config, path: list[str], node: dict) -> tuple[set[str], bool]:
    """Names that may stand in a group, and whether others may as well."""
    if not path:
        return {*node, *words(), *RUN_KEYS}, False
    names, open_ended = {*node, *names_of_group(path[-1])}, False
    if isinstance(node.get('type'), str):
        scope = cfg.get('default_scope', 'mmpretrain')
        more, open_ended = names_of_type(node['type'], scope)
        names |= more
    return names, open_ended
