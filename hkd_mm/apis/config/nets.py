# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The nets of ``configs/_base_/models`` by name, for any pair of them."""

import difflib
from copy import deepcopy
from pathlib import Path, PurePosixPath

from mmengine import Config

from hkd_mm.errors import UserError

from .places import dicts

_MODELS = '_base_/models'
# Top-level value of a config -> the part of a distillation model it names.
_ROLES = dict(teacher='teacher', student='architecture')


def config_root() -> Path:
    """The ``configs`` folder: of the repository, else of the installation."""
    package = Path(__file__).resolve().parents[2]
    for root in (package.parent / 'configs', package / '.mim' / 'configs'):
        if (root / _MODELS).is_dir():
            return root
    raise UserError(
        f'no configs beside {package} and none in its .mim '
        'folder; install hkd_mm again with pip install .'
    )


def net_names() -> list[str]:
    """Sorted names of the nets that ``teacher`` and ``student`` can take."""
    return sorted(path.stem for path in (config_root() / _MODELS).glob('*.py'))


def net_config(
    name: str, num_classes: int = 6, pretrained: bool = True
) -> dict:
    """The classifier config of a net.

    Args:
        name: one of :func:`net_names`.
        num_classes: size of its last layer.
        pretrained: start from ImageNet weights where the net has any.

    Returns:
        A dict of its own, the ``model`` of ``configs/_base_/models/<name>``.

    Raises:
        UserError: there is no such net.
    """
    names = net_names()
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f'did you mean {close[0]}? ' if close else ''
        raise UserError(
            f'no net is called {name!r}; {hint}known: '
            f'{", ".join(names)} (configs/{_MODELS})'
        )
    net = Config.fromfile(config_root() / _MODELS / f'{name}.py').model
    set_net(net, num_classes=num_classes, pretrained=pretrained)
    return net.to_dict()


def set_net(
    net: dict, num_classes: int | None = None, pretrained: bool | None = None
) -> None:
    """Set the classes and the switch for ImageNet weights, in place.

    Args:
        net: classifier config of timm's or mmpretrain's kind.
        num_classes: written wherever the net has the key; None leaves it.
        pretrained: written wherever the net has the key with a bool; None
            leaves it. Nets without published weights have no such key.
    """
    for part in dicts(net):
        if num_classes is not None and 'num_classes' in part:
            part['num_classes'] = num_classes
        if pretrained is not None and isinstance(part.get('pretrained'), bool):
            part['pretrained'] = pretrained


def apply_net_names(cfg: Config) -> None:
    """Put the nets named by ``teacher`` and ``student`` into the model.

    A name replaces the whole net of the config, keeps its number of classes,
    and is set back to None, so that the dumped config says the same thing
    once. A named teacher also moves ``teacher_config`` to its own file.

    Args:
        cfg: a distillation config, changed in place; others are left alone
            unless they carry such a name.

    Raises:
        UserError: no net has that name, or the config distils nothing.
    """
    for role, part in _ROLES.items():
        name = cfg.get(role)
        if name is None:
            continue
        model = cfg.get('model') or {}
        if not model.get(part):
            raise UserError(
                f'{role}={name!r}: this config has no model.{part}'
                '; take a distillation config such as '
                'configs/hybrid_wrn50_mbv2.py'
            )
        # The teacher's weights are teacher_ckpt; only the student starts
        # from ImageNet here.
        net = net_config(
            name,
            number_of_classes(model[part]),
            role == 'student' and cfg.get('pretrained', True),
        )
        # a student made of nets, as of SimKD, has that part exchanged
        whole = model.get('architecture') or {}
        if role == 'teacher' or role not in whole:
            model[part] = net
        if role in whole:
            whole[role] = deepcopy(net)
        cfg[role] = None
        if role == 'teacher' and cfg.get('teacher_config'):
            cfg.teacher_config = _renamed(cfg.teacher_config, name)


def fetch_net_weights(model: dict) -> None:
    """Have the ImageNet weights at hand; one process of many fetches them.

    Args:
        model: config of a classifier or a distillation; a teacher's weights
            are its checkpoint, and nothing is fetched for it.

    Raises:
        UserError: weights that training would start from cannot be fetched.
    """
    from mmengine.dist import barrier, is_main_process

    from hkd_mm.models.backbones import (
        shufflenet_v1,
        shufflenet_v2,
        timm_classifier,
    )

    if not is_main_process():
        barrier()
        return
    trained = {k: model[k] for k in model if k not in ('teacher', 'teachers')}
    for net in dicts(trained):
        kind = str(net.get('type', ''))
        if not net.get('pretrained'):
            continue
        if kind == 'hkd_mm.ShuffleNetV1':
            shufflenet_v1.published_weights()
        elif kind == 'hkd_mm.ShuffleNetV2':
            shufflenet_v2.published_weights()
        elif kind == 'hkd_mm.TimmClassifier' and not (
            net.get('pretrained_cfg_overlay') or {}
        ).get('file'):
            timm_classifier.published_weights(net['model_name'])
    barrier()


def _renamed(path: str, name: str) -> str:
    """``teachers/wrn50_skin.py`` -> ``teachers/<name>_skin.py``."""
    old = PurePosixPath(path)
    known = [net for net in net_names() if old.stem.startswith(f'{net}_')]
    if not known:
        raise UserError(
            f'teacher={name!r}: cannot tell which config trains it from '
            f'teacher_config={path!r}; set teacher_config as well'
        )
    data = old.stem[len(max(known, key=len)) :]
    return str(old.with_name(f'{name}{data}.py'))


def number_of_classes(net: dict) -> int:
    """Size of the last layer of a classifier's config."""
    counts = [
        part['num_classes'] for part in dicts(net) if 'num_classes' in part
    ]
    return counts[-1] if counts else 6
