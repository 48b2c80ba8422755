# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a config and its options may hold: one table, and the names beside it.

``RunConfig`` describes a whole config, ``Anywhere`` values by their name wherever
they stand, ``WORDS`` the top-level words of the command line. What constructors
take is asked of themselves, see :mod:`.value_checks`.
"""

import inspect
import json
import math
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from mmengine.config import Config
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import Required, TypedDict

from hkd_mm.config.tree import LOADERS
from hkd_mm.errors import UserError
from hkd_mm.io.schema import plain, validate


def _either(says: str, *kinds: Any) -> Any:
    adapters = [TypeAdapter(kind) for kind in kinds]

    def check(value: Any) -> Any:
        for adapter in adapters:
            try:
                return adapter.validate_json(json.dumps(value), strict=True)
            except ValidationError:
                continue
        raise ValueError(f'Input should be {says}')

    return Annotated[Any, AfterValidator(check)]


Count = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Path = Annotated[str, Field(pattern=r'^[^\x00]+$', max_length=4095)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as numpy takes them
Group = dict[str, Any]
_ONE_OR_MORE = BeforeValidator(lambda value: value if type(value) is list else [value])


def _schedules(value: Any) -> list:
    """One, several, or either of these for each optimizer by its name."""
    listed = value if type(value) is list else [value]
    parts = [*value.values()] if type(value) is dict else []
    if not parts or not all(type(part) in (dict, list) for part in parts):
        return listed
    return [one for part in parts for one in (part if type(part) is list else [part])]


def group_of(closed: bool = False, /, **kinds: Any) -> Any:
    """A group of settings, each of which may be left out."""
    made = TypedDict('Group', kinds, total=False)
    made.__pydantic_config__ = ConfigDict(extra='forbid' if closed else 'allow')
    return made


def _each(names: str, kind: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), kind)


_Level = Literal[
    'NOTSET', 'DEBUG', 'INFO', 'WARN', 'WARNING', 'ERROR', 'FATAL', 'CRITICAL'
]
_TYPE = dict(type=Required[Text])
Part = group_of(**_TYPE)  # what a registry builds
Loader = group_of(  # arguments of torch's DataLoader, and MMEngine's own
    True,
    dataset=Part,
    batch_size=Annotated[int, Field(ge=1, le=10**6)],
    num_batch_per_epoch=Count,
    **_each('sampler batch_sampler', Part | None),
    **_each('drop_last persistent_workers pin_memory in_order', bool),
    disable_subprocess_warning=bool,
    shuffle=bool | None,
    num_workers=Annotated[int, Field(ge=0, le=256)],  # processes
    prefetch_factor=Annotated[int, Field(ge=1, le=1024)] | None,  # batches a worker
    timeout=Factor,  # seconds
    pin_memory_device=str,
    collate_fn=Part,
    worker_init_fn=Part | None,
    multiprocessing_context=Literal['fork', 'spawn', 'forkserver', None],
    generator=None,
)
Loop = group_of(type=Text, fp16=bool)  # validation and test
TrainLoop = group_of(
    type=Text,
    **_each('max_epochs max_iters val_interval', Count),
    val_begin=Whole,
    dynamic_intervals=list | None,
    **_each('by_epoch fast_forward_on_resume', bool),
)
ClipGrad = group_of(  # arguments of torch.nn.utils.clip_grad_norm_ and _value_
    True,
    type=Literal['norm', 'value'],
    max_norm=Positive,
    norm_type=Annotated[float, Field(gt=0)],  # inf is the largest gradient
    clip_value=Positive,
    error_if_nonfinite=bool,
    foreach=bool | None,
)
OptimWrapper = group_of(
    type=Text,
    optimizer=group_of(**_TYPE, lr=Factor, weight_decay=Factor),
    constructor=Text,
    paramwise_cfg=Group | None,
    accumulative_counts=Count,
    clip_grad=ClipGrad | None,
    dtype=Text | None,
    loss_scale=Any,
    use_fsdp=bool,
)
Scheduler = group_of(  # of the learning rate or another parameter
    **_TYPE,
    begin=Whole,
    end=Count,
    **_each('T_max total_steps', Count | None),
    milestones=list[Whole],
    eta_min=Factor | None,
    **_each('gamma factor start_factor end_factor power', Factor),
    **_each('by_epoch convert_to_iter_based', bool),
)
Randomness = group_of(True, seed=Seed | None, diff_rank_seed=bool, deterministic=bool)
AutoScaleLR = group_of(True, enable=bool, base_batch_size=Count)
_START = Literal['fork', 'spawn', 'forkserver']
Multiprocessing = group_of(True, mp_start_method=_START, opencv_num_threads=Whole)
# of torch.distributed.init_process_group; the timeout in seconds
Distribution = group_of(backend=Text, timeout=Count)
Environment = group_of(
    True,
    cudnn_benchmark=bool,
    mp_cfg=Multiprocessing,
    dist_cfg=Distribution,
    resource_limit=Count,
)
Preprocessor = group_of(
    type=Text,
    mean=list[Finite] | None,  # a channel
    std=list[Positive] | None,
    to_rgb=bool | None,
    augment=list[Part] | None,
)
# Groups without a ``type``, or whose reader has no signature to ask.
_AT_TOP = dict(
    dict.fromkeys(LOADERS, Loader),
    train_cfg=TrainLoop,
    **_each('val_cfg test_cfg', Loop),
    optim_wrapper=OptimWrapper,
    auto_scale_lr=AutoScaleLR,
)
_GROUPS = dict(
    _AT_TOP,
    clip_grad=ClipGrad,
    randomness=Randomness,
    env_cfg=Environment,
    mp_cfg=Multiprocessing,
    dist_cfg=Distribution,
)
# The top: what MMEngine's Runner and these tools read there. A config names values
# of its own as well.
_TOP = dict(
    {name: group | None for name, group in _AT_TOP.items()},
    model=group_of(**_TYPE, data_preprocessor=Preprocessor | None),
    data_preprocessor=Preprocessor | None,
    **_each(
        'val_evaluator test_evaluator', Annotated[list[Group | None], _ONE_OR_MORE]
    ),
    param_scheduler=Annotated[list[Scheduler | None], BeforeValidator(_schedules)],
    default_hooks=dict[str, Part | None],
    custom_hooks=list[Part] | None,
    randomness=Randomness,
    env_cfg=Environment,
    log_processor=group_of(type=Text, window_size=Count, by_epoch=bool) | None,
    log_level=_either('a level of logging such as INFO, or a number', _Level, Whole),
    visualizer=Part | None,
    default_scope=Annotated[str, Field(pattern=r'^[A-Za-z_]\w*$')] | None,
    experiment_name=Annotated[str, Field(pattern=r'^[\w. -]+$', max_length=200)] | None,
    **_each('work_dir load_from teacher_config student_config', Path | None),
    previous_stage_config=Path | None,
    **_each('resume find_unused_parameters', bool),
    launcher=Literal['none', 'pytorch', 'slurm', 'mpi'],
    device=Literal['auto', 'cpu', 'cuda'],
    sync_bn=Literal['torch', 'mmcv', None],
    model_wrapper_cfg=Part | None,
    compile=_either('True, False or a group of settings', bool, Group),
    efficient_conv_bn_eval=_either('True, False or names', bool, list[str], None),
    activation_checkpointing=list[str] | None,
)
RUN_KEYS = frozenset(_TOP)
RunConfig = group_of(**_TOP)
# Values that mean the same in every part.
Anywhere = group_of(
    type=Text,
    num_classes=Annotated[int, Field(ge=-1, le=10**6)],  # -1: no last layer
    num_views=_either('an integer >= 1, or a list of them', Count, list[Count], None),
    input_size=_either('pixels', Count, list[Count], None),
    pipeline=list[Part] | None,
    data_root=Path | None,
    split_file=Path | None,
)
_PARTS = _either('True, False or a list of operations', bool, list[Part], None)
_GROUP = _either('True, False or a group of settings', bool, Group, None)
# Of the command line.
WORDS = group_of(
    dataset_type=Text,
    classes=_either('a list such as [A,B], or a file', list[Text], Path, None),
    split_ratios=_either(
        'shares such as (0.8,0.1,0.1) or 8:1:1',
        Annotated[list[Factor], Field(min_length=2, max_length=3)],
        Text,
    ),
    input_size=Annotated[int, Field(ge=1, le=8192)],  # pixels of a side
    teacher_input_size=Annotated[int, Field(ge=1, le=8192)],
    batch_size=Annotated[int, Field(ge=1, le=10**6)],
    sampler=Literal['balanced', None],
    mask_threshold=Annotated[float, Field(gt=0, lt=1)],
    class_weight=_either(
        'balanced, sqrt_balanced, None or a list of numbers > 0, one a class',
        Literal['balanced', 'sqrt_balanced', None],
        list[Positive],
    ),
    loss_balance=_either(
        'True, False, a number > 0, or numbers by part such as dict(kd=0.3)',
        bool,
        Positive,
        dict[str, Positive | None],
    ),
    device=Literal['auto', 'cpu', 'cuda'],
    seed=Seed | None,
    group_cols=_either('names such as patient_id,lesion_id', list[Text], Text, None),
    augment=_PARTS,
    **_each('split_file ann_file unlabelled_root', Path | None),
    **_each('image_col label_col split_col', Text | None),
    **_each('max_epochs patience', Count),
    **_each('packed teacher_cache packed.hair_removal', _GROUP),
    **_each('pretrained channels_last compiled', bool),
    **_each('data_root pair teacher student network packed.store_dir', Path),
    **_each('split_seed packed.seed', Seed),
    **{
        'packed.margin': Annotated[float, Field(ge=1, le=8)],
        'packed.in_memory': bool | None,
        'packed.verify': Literal['all', 'sample'],
        'packed.augment': _PARTS,
        'packed.num_views': Count | None,
        'packed.partners': Literal['batch', 'split'],
        'packed.top_up': _either(
            'largest, a fraction, a number of images a class up to a million, or None',
            Literal['largest', None],
            Annotated[float, Field(gt=0, le=10**6)],
            Annotated[str, Field(pattern=r'^[0-9.]{1,7}$')],
        ),
    },
)

_NAMES = dict(
    hair_removal='kernel threshold length radius',
    default_hooks='runtime_info timer sampler_seed logger param_scheduler '
    'checkpoint visualization',
)


def check_config(cfg: Config) -> None:
    """Hold a config against the table."""
    source = f'config {cfg.filename}'
    found = plain(cfg._cfg_dict, 'replace')
    validate(RunConfig, found, source)
    parts = dict(nodes(found))
    validate(dict[str, Anywhere], parts, source)
    values = ((f'{at}.{k}', v) for at in parts for k, v in parts[at].items())
    for key, value in values:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                if not key.endswith('norm_type'):
                    raise UserError(f'{source}: {key}={number} is no finite number')


def nodes(node: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """Yield every dict below a node under its dotted key."""
    if isinstance(node, dict) and place:
        yield place, node
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in parts:
        if isinstance(value, (dict, list)):
            yield from nodes(value, f'{place}.{key}'.lstrip('.'))


def teacher_groups() -> dict[str, type]:
    """Groups of a model that are settings of its frozen teacher."""
    from hkd_mm.models.algorithms.teacher_precision import TeacherInference
    from hkd_mm.models.teacher_cache import TeacherCache

    return dict(teacher_cache=TeacherCache, teacher_inference=TeacherInference)


def names_of_group(name: str) -> set[str]:
    """Names that are read from a group, by the last part of its dotted name."""
    if name in ('teacher_cache', 'teacher_inference'):
        return set(arguments(teacher_groups()[name])[0])
    if name in _GROUPS:
        return set(_GROUPS[name].__annotations__)
    return set(_NAMES.get(name, '').split())


_CLASSES: dict[str, Any] = {}  # by the names of types


def class_of_type(name: str, default_scope: str):
    """The registered class or function behind a config's ``type``, or None."""
    from mmengine import registry as roots

    names = [name] if '.' in name else [f'{default_scope}.{name}', name]
    registries = [r for r in vars(roots).values() if isinstance(r, roots.Registry)]
    if names[0] not in _CLASSES:  # most registries are asked in vain, which takes time
        found = (root.get(one) for root in registries for one in names)
        _CLASSES[names[0]] = next((one for one in found if one is not None), None)
    # what is registered later may still be found
    return _CLASSES[names[0]] or _CLASSES.pop(names[0])


def arguments(kind: Any) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """What a class or function takes by name -> (annotation, default), bases included.

    Also returned is whether it may take others too.
    """
    functions = [kind]
    if inspect.isclass(kind):
        inits = (vars(base).get('__init__') for base in kind.__mro__[:-1])
        functions = [init for init in inits if init is not None]
    found: dict[str, tuple[Any, Any]] = {}
    passes_on = []
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        try:
            hints = typing.get_type_hints(function)
        except (NameError, TypeError, AttributeError):
            hints = {}  # of another package, for its type checker
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found.setdefault(p.name, (hints.get(p.name, Any), p.default))
        passes_on.append(any(p.kind is p.VAR_KEYWORD for p in parameters))
        if not passes_on[-1]:
            break
    found.pop('self', None)
    # to a function instead of a base, as in timm's networks, if not to a base
    return found, any(passes_on[:1])


def takes(node: dict, name: str) -> bool:
    """Whether a part has an argument of that name, or is not registered."""
    kind = class_of_type(str(node.get('type', '')), 'mmpretrain')
    return kind is None or name in arguments(kind)[0]


def names_of_type(name: str, default_scope: str) -> tuple[set[str], bool]:
    """Constructor arguments of a registered type, as of :func:`arguments`."""
    found = class_of_type(name, default_scope)
    if found is None:  # the registry will say so itself
        return {'type'}, True
    names, is_open = arguments(found)
    return {'type', *names}, is_open
