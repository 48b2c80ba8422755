# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The networks of ``configs/_base_/models`` by name, for any pair of them."""

import difflib
from copy import deepcopy
from pathlib import Path, PurePosixPath

from mmengine import Config

from hkd_mm.config.overrides import NoPlaceError
from hkd_mm.config.tree import TEACHERS, dicts, number_of_classes
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name

_MODELS = '_base_/models'
# Top-level value of a config -> the part of a distillation model it names.
_ROLES = dict(teacher='teacher', student='architecture')


def config_root() -> Path:
    """The ``configs`` folder: of the repository, else of the installation."""
    package = Path(__file__).resolve().parents[1]
    for root in (package.parent / 'configs', package / '.mim' / 'configs'):
        if (root / _MODELS).is_dir():
            return root
    raise UserError(
        f'no configs beside {package} and none in its .mim '
        'folder; install hkd_mm again with pip install .'
    )


def network_names() -> list[str]:
    """Sorted names that ``teacher`` and ``student`` can take."""
    return sorted(path.stem for path in (config_root() / _MODELS).glob('*.py'))


def network_config(name: str, num_classes: int = 6, pretrained: bool = True) -> dict:
    """The classifier config of a name, or of ``timm:NAME``, a dict of its own."""
    if name.startswith('timm:'):
        network = _timm_config(name.removeprefix('timm:'))
    else:
        names = network_names()
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f'did you mean {close[0]}? ' if close else ''
            raise UserError(
                f'no network is called {name!r}; {hint}known: {", ".join(names)} '
                f'(configs/{_MODELS}), and timm:NAME for any of timm.list_models()'
            )
        file = config_root() / _MODELS / f'{name}.py'
        network = Config.fromfile(file, import_custom_modules=False).model
        network = network.to_dict()
    set_network(network, num_classes=num_classes, pretrained=pretrained)
    return network


def _timm_config(name: str) -> dict:
    import timm

    # model_name.tag names weights, as in timm
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        known = ', '.join(f'timm:{other}' for other in close or ['ghostnet_050'])
        raise UserError(
            f'timm has no network {name!r}; timm.list_models() lists them, as {known}'
        )
    return dict(
        type='hkd_mm.TimmClassifier',
        model_name=name,
        num_classes=6,
        pretrained=timm.models.is_model_pretrained(name),
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    )


def set_network(
    network: dict, num_classes: int | None = None, pretrained: bool | None = None
) -> None:
    """Set the classes and the switch for ImageNet weights, if any, in place."""
    for part in dicts(network):
        if num_classes is not None and 'num_classes' in part:
            part['num_classes'] = num_classes
        if pretrained is not None and isinstance(part.get('pretrained'), bool):
            part['pretrained'] = pretrained


def apply_network_names(
    cfg: Config, names: dict[str, str], pretrained: bool | None
) -> None:
    """Put named networks into the model, which keep its number of classes.

    A named teacher also moves ``teacher_config`` to the file that trains it; where
    there is none, ``teacher_network`` tells what that file is to train.
    """
    for role, name in names.items():
        model = cfg.get('model') or {}
        part = _ROLES.get(role)
        if part is None and 'architecture' in model:
            raise NoPlaceError(
                f'network={name!r} is of a config that trains one network; '
                'this one distils, so say student= or teacher='
            )
        if part is not None and not model.get(part):
            raise NoPlaceError(
                f'{role}={name!r} would change nothing: this config has no '
                f'model.{part}; take a distillation config such as '
                'configs/hybrid_wrn50_mbv2.py, or say network= to change '
                'the one network that this config trains'
            )
        old = model[part] if part else model
        # A teacher's weights are teacher_ckpt.
        starts = role != 'teacher' and pretrained is not False
        starts = starts and all(p.get('pretrained') is not False for p in dicts(old))
        network = network_config(name, number_of_classes(old), starts)
        if part is None:
            cfg._cfg_dict.pop('model')
            cfg.model = network
            continue
        # a student made of networks, as of SimKD, has that part exchanged
        whole = model.get('architecture') or {}
        if role == 'teacher' or role not in whole:
            model[part] = network
        if role in whole:
            whole[role] = deepcopy(network)
        if role == 'teacher' and cfg.get('teacher_config'):
            _move_teacher_config(cfg, name)


def fetch_network_weights(model: dict) -> None:
    """Have the ImageNet weights at hand; one process of many fetches them."""
    from mmengine.dist import barrier, is_main_process

    from hkd_mm.models.networks import backbones, timm_classifier

    if not is_main_process():
        barrier()
        return
    for network in dicts(model, skip=TEACHERS):
        kind = network.get('type') if network.get('pretrained') else None
        file = (network.get('pretrained_cfg_overlay') or {}).get('file')
        if kind in ('hkd_mm.ShuffleNetV1', 'hkd_mm.ShuffleNetV2'):
            backbones.published_weights(int(kind[-1]))
        elif kind == 'hkd_mm.TimmClassifier' and not file:
            name = network.get('select_from') or network['model_name']
            timm_classifier.published_weights(name)
    barrier()


def _move_teacher_config(cfg: Config, name: str) -> None:
    old = PurePosixPath(cfg.teacher_config)
    known = [own for own in network_names() if old.stem.startswith(f'{own}_')]
    if known:
        data = old.stem[len(max(known, key=len)) :]
        new = str(old.with_name(f'{name}{data}.py'))
        if (config_root() / new).is_file():
            cfg.teacher_config = new
            return
    cfg.teacher_network = name


def check_same_network(
    teacher: dict, trained: dict, path: str, part: str = 'teacher'
) -> None:
    """Refuse to train one network for hours and then load it into another."""
    if essence(teacher) == essence(trained) or (_shapes(teacher) == _shapes(trained)):
        return
    role = dict(architecture='student').get(part, part)
    way = f'set {role}_config to a file that trains it, or model.{role}_ckpt to its '
    way += 'checkpoint'
    for name in network_names():
        if essence(network_config(name)) == essence(teacher):
            way = f'write {role}={name} in place of model.{part}.*'
    raise UserError(f'{path} trains another network than model.{part}; {way}')


def essence(network: dict) -> dict:
    """What of a classifier config decides about its weights, but its classes."""
    loose = ('pretrained', 'loss', 'data_preprocessor', 'num_classes', 'ckpt')
    found = {key: value for key, value in network.items() if key not in loose}
    for key, value in found.items():
        if key == 'type' or isinstance(value, dict):
            found[key] = type_name(value) if key == 'type' else essence(value)
    return found


def _shapes(network: dict) -> dict:
    from mmengine.registry import DefaultScope

    from hkd_mm.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        state = MODELS.build(deepcopy(network)).state_dict()
    return {key: value.shape for key, value in state.items()}
