# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``--cfg-options``: reading them, and refusing those that do nothing."""

import difflib
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from hkd_mm.errors import UserError

from .knobs import KNOBS
from .packed_options import is_wrapper

# Always text, whatever they look like: paths may hold blanks and commas.
_TEXT = frozenset(
    (
        'data_root',
        'split_file',
        'ann_file',
        'teacher_ckpt',
        'student_ckpt',
        'ckpt',
        'teacher_config',
        'student_config',
        'earlier_stage_config',
        'load_from',
        'work_dir',
        'out_dir',
        'dir',
        'checkpoint',
        'file',
        'store_dir',
    )
)
_SIMILAR = 0.75  # difflib ratio from which a name counts as a slip


def parse_options(texts: list[str], cfg: Config) -> dict[str, Any]:
    """Read ``key=value`` texts with the config's own values as the guide.

    Args:
        texts: as given on the command line.
        cfg: where a value is text, or names a path, the new one is taken as
            it stands; elsewhere mmengine's rules hold (``a,b`` and ``[a,b]``
            are lists, numbers are numbers).

    Returns:
        Dotted key -> value, ready for ``Config.merge_from_dict``.

    Raises:
        UserError: not of the form ``key=value``, or unbalanced brackets.
    """
    options = {}
    for text in texts:
        key, equals, value = text.partition('=')
        if not equals or not key.strip():
            raise UserError(
                f'--cfg-options {text}: write key=value, without '
                'blanks around the "="'
            )
        key = key.strip()
        verbatim = key.rsplit('.', 1)[-1] in _TEXT or (
            isinstance(_lookup(cfg, key)[0], str)
            and not value.startswith(('[', '('))
        )
        if verbatim:
            stripped = value.strip('\'"')
            options[key] = None if stripped == 'None' else stripped
            continue
        try:
            options[key] = DictAction._parse_iterable(value)
        except AssertionError:
            raise UserError(
                f'--cfg-options {text}: the brackets of the value do not match'
            ) from None
    return options


def at_their_place(cfg: Config, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a data set inside of a packed one, by their whole key.

    ``test_dataloader.dataset.split`` names the same whether a config packs
    its images or not.

    Args:
        cfg: the config.
        options: dotted key -> value.

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
    outer = _lookup(cfg, f'{loader}.dataset')[0] if mark else None
    if not isinstance(outer, dict) or not is_wrapper(outer):
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

    Raises:
        UserError: unknown key (with close matches) or a value of the wrong
            kind.
    """
    for key, value in options.items():
        old, node, missing = _lookup(cfg, key)
        if not missing:
            _check_kind(key, old, value)
        else:
            _check_name(cfg, key, node, missing, options)


def _lookup(cfg: Any, key: str) -> tuple[Any, Any, list[str]]:
    """(value or None, deepest node reached, segments not found)."""
    node = cfg._cfg_dict if isinstance(cfg, Config) else cfg
    parts = key.split('.')
    for index, part in enumerate(parts):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif (
            isinstance(node, (list, tuple))
            and part.isdigit()
            and int(part) < len(node)
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
            raise UserError(
                f'--cfg-options {key} must be True or False, {hint}'
            )
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
        if found[1:] == ['dataset'] and is_wrapper(node):
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
    close = close or difflib.get_close_matches(missing[0], known, 3, 0.5)
    prefix = '.'.join(found) + '.' if found else ''
    hint = (
        'did you mean ' + ' or '.join(prefix + name for name in close)
        if close
        else 'known there: ' + ', '.join(sorted(known)[:8])
    )
    raise UserError(f'--cfg-options {key}: the config has no "{head}"; {hint}')


def _known_names(
    cfg: Config, path: list[str], node: ConfigDict
) -> tuple[set[str], bool]:
    """Names that may stand in a group, and whether others may as well."""
    from .schema import names_of_group, names_of_type

    names = set(node)
    if not path:
        return names | set(KNOBS) | names_of_group(''), False
    if isinstance(node.get('type'), str):
        more, open_ended = names_of_type(
            node['type'], cfg.get('default_scope', 'mmpretrain')
        )
        return names | more | names_of_group(path[-1]), open_ended
    return names | names_of_group(path[-1]), False
