# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a config file and ``--cfg-options`` to the config that runs.

``Config.fromfile(path)`` is what runs; options change it in this order: ``pair``
exchanges the file of ``configs/_base_/pairs/`` that the config inherits (teacher,
student, images, schedule), ``teacher``, ``student`` and ``network`` exchange networks,
``packed`` the way images are read, the other top-level words set their places
(:mod:`hkd_mm.config.overrides`), and dotted keys come last.
"""

import os
import sysconfig
import traceback
from pathlib import Path

from mmengine.config import Config

from hkd_mm.config import overrides
from hkd_mm.config.cfg_options import (
    Options,
    apply_dotted,
    check_renamed,
    lookup,
    parse_options,
    refuse_name,
    split_options,
)
from hkd_mm.config.networks import apply_network_names, config_root
from hkd_mm.config.packing import check_pipelines, set_packed
from hkd_mm.config.schema import check_config
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import constructor_arguments

_PAIRS = '_base_/pairs'


def _read_on_pair(path: str | os.PathLike, pair: str) -> Config:
    """Read a config with another pair in place of the one that it, or a base, inherits.

    mmengine has no hook between a file and its bases, so the function that lists the
    bases of a file is replaced meanwhile.
    """
    folder = config_root() / _PAIRS
    known = sorted(file.stem for file in folder.glob('*.py'))
    if pair not in known:
        raise UserError(f'pair={pair}: known in configs/{_PAIRS}: {", ".join(known)}')
    listed, exchanged = Config._get_base_files, []

    def base_files(filename: str) -> list[str]:
        found = listed(filename)
        own = [name for name in found if Path(name).parent.name == 'pairs']
        exchanged.extend(own)
        return [str(folder / f'{pair}.py') if name in own else name for name in found]

    Config._get_base_files = staticmethod(base_files)
    try:
        cfg = read_config(path)
    except UserError as error:
        if not exchanged:
            raise
        raise UserError(
            f'pair={pair} does not go with {path}, which builds on a value of the pair '
            f'that it inherits ({error}); take another pair, or a config of configs/zoo'
        ) from error
    finally:
        Config._get_base_files = staticmethod(listed)
    if not exchanged:
        raise UserError(
            f'pair={pair}: {path} does not inherit a file of configs/{_PAIRS},'
            ' so there is no pair to exchange; take a config of configs/zoo'
        )
    cfg.on_pair = pair
    if cfg.get('class_weight') is not None:  # the losses are the child's
        try:
            overrides.apply_override(cfg, 'class_weight', cfg.class_weight)
        except overrides.NoPlaceError:  # none of them takes weights
            cfg.class_weight = None
    return cfg


def load_config(
    path: str | os.PathLike, cfg_options: Options = None, read_data: bool = True
) -> Config:
    """Read a config the way the tools do, with the numbers of its data.

    Without ``read_data`` the training split is not looked at for class names and class
    weights; a word in ``class_weight`` becomes None.

    Raises:
        UserError: the file cannot be read, or an option is unknown, without
            a place, or of the wrong kind.
    """
    from hkd_mm.config.data_summary import resolve_data

    cfg = compose_config(path, cfg_options)
    resolve_data(cfg, read_data)
    return cfg


def compose_config(path: str | os.PathLike, cfg_options: Options = None) -> Config:
    """Read a config and apply options; without any as ``Config.fromfile(path)``."""
    options = parse_options(cfg_options)
    pair = options.pop('pair', None)
    cfg = read_config(path) if pair is None else _read_on_pair(path, str(pair))
    check_config(cfg)
    overrides.check_top_level(cfg)
    check_pipelines(cfg)
    if options:
        apply_options(cfg, options)
    return cfg


def apply_options(cfg: Config, options: Options) -> None:
    """Apply options other than ``pair`` to a config, in place."""
    found, dotted = split_options(parse_options(options), cfg)
    roles = ('teacher', 'student', 'network')
    networks = {role: found.pop(role) for role in roles if role in found}
    apply_network_names(cfg, networks, found.get('pretrained'))
    if networks and cfg.get('class_weight') is not None:
        overrides.apply_override(cfg, 'class_weight', cfg.class_weight)
    set_packed(cfg, found)
    for word in [*overrides.OVERRIDES, *overrides.PACKED]:
        if word in found:
            overrides.apply_override(cfg, word, found[word])
    if dotted:
        apply_dotted(cfg, dotted)
    check_config(cfg)
    if dotted:
        overrides.settle_top_level(cfg)


def check_early(config: str, options: Options) -> None:
    """Refuse mistakes in options before torch is imported.

    In the words of :func:`compose_config`, which sees what this does not.
    """
    if not options or not os.path.isfile(config):
        return
    cfg = read_config(config)
    words, keys = split_options(parse_options(options), cfg)
    if any(word in overrides.EXCHANGES for word in words):
        return  # parts of the config will be others
    for key in keys:
        _, node, missing = lookup(cfg, key)
        if not missing or not isinstance(node, dict):
            continue
        head = key[: -len('.'.join(missing))] + missing[0]
        kind = node.get('type')
        if not isinstance(kind, str) or f'{head}.type' in keys:
            continue
        found = constructor_arguments(kind)
        if found is None or found.is_open or 'dataset' in node:
            continue
        known = {*node, *found.names, 'type', '_delete_'}
        if missing[0] not in known:
            refuse_name(key, missing, known)


def read_config(path: str | os.PathLike) -> Config:
    """Call ``Config.fromfile``; failures become one line."""
    if not os.path.isfile(path):
        raise UserError(
            f'config {path} is no file; give one such as configs/hybrid_wrn50_mbv2.py'
        )
    try:
        cfg = Config.fromfile(path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a config is code: anything may come
        raise UserError(f'config {path} cannot be read: {_reason(error)}') from error
    check_renamed(cfg._cfg_dict, path)
    return cfg


def _reason(error: BaseException) -> str:
    while str(error).startswith('Failed to import') and error.__context__:
        error = error.__context__  # mmengine hides it
    lines = str(error).strip().splitlines()
    line = f'{type(error).__name__}: {lines[-1] if lines else ""}'
    frames = traceback.extract_tb(error.__traceback__)
    names = [frame.name for frame in frames]
    if 'import_modules_from_strings' not in names:
        return line
    packages = ('<', sysconfig.get_path('stdlib'), sysconfig.get_path('purelib'))
    own = [
        (frame.filename, frame.lineno)
        for frame in frames[names.index('import_modules_from_strings') + 1 :]
        if not frame.filename.startswith(packages)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        own.append((error.filename, error.lineno))
        line = f'{type(error).__name__}: {error.msg}'
    if own:
        return 'custom import: {}, line {}: {}'.format(*own[-1], line)
    return (
        f'custom import: {line}; add the folder that holds it to PYTHONPATH, '
        'such as PYTHONPATH=.'
    )


def config_named(cfg: Config, key: str) -> str:
    """Path of the file that a top-level value such as ``teacher_config`` names."""
    name = cfg.get(key)
    if not name:
        ckpt = f'model.{dict(teacher_config="teacher").get(key, "student")}'
        raise UserError(
            f'{ckpt}_ckpt is None and the config names no {key} to train '
            f'one; set --cfg-options {ckpt}_ckpt=FILE'
        )
    folders = [Path(cfg.filename).resolve().parent] if cfg.filename else []
    for folder in [*folders, config_root(), Path.cwd()]:
        if (folder / name).is_file():
            return str(folder / name)
    way = '; give the weights of a trained one with model.teacher_ckpt, or a '
    way += 'teacher_config of your own'
    raise UserError(
        f'{key} {name} is not a file, neither beside {cfg.filename} nor in '
        f'{config_root()}{way if key == "teacher_config" else ""}'
    )
