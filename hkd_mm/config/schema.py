# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a config and its options may hold: one table, and the names beside it.

``RunConfig`` describes a whole config, ``Anywhere`` values by their name wherever
they stand, ``WORDS`` the top-level words of the command line. What constructors
take is asked of themselves, see :mod:`.value_checks`.
"""

import inspect
import json
import math
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
from hkd_mm.io.schema import validate


def _either(says: str, *kinds: Any) -> Any:
    """A value of one of several kinds, with one message for all of them."""
    adapters = [TypeAdapter(kind) for kind in kinds]

    def check(value: Any) -> Any:
        for adapter in adapters:
            try:
                return adapter.validate_json(json.dumps(value), strict=True)
            except ValidationError:
                continue
        raise ValueError(f'Input should be {says}')

    return Annotated[Any, AfterValidator(check)]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def _no_path(value: str) -> str:
    if '\0' in value:
        raise ValueError('Input should be a path without zero bytes')
    return value


Count = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Path = Annotated[str, Field(min_length=1, max_length=4095), AfterValidator(_no_path)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as numpy takes them
Group = dict[str, Any]


def group_of(closed: bool = False, **kinds: Any) -> Any:
    """A group of settings, each of which may be left out."""
    made = TypedDict('Group', kinds, total=False)
    made.__pydantic_config__ = ConfigDict(extra='forbid' if closed else 'allow')
    return made


_TYPE = dict(type=Required[Text])
Part = group_of(**_TYPE)  # what a registry builds
Loader = group_of(  # arguments of torch's DataLoader, and MMEngine's own
    closed=True,
    dataset=Part,
    batch_size=Annotated[int, Field(ge=1, le=10**6)],
    num_batch_per_epoch=Count,
    sampler=Part,
    batch_sampler=Part | None,
    shuffle=bool | None,
    drop_last=bool,
    num_workers=Annotated[int, Field(ge=0, le=256)],  # processes
    prefetch_factor=Annotated[int, Field(ge=1, le=1024)] | None,  # batches a worker
    persistent_workers=bool,
    timeout=Factor,  # seconds
    pin_memory=bool,
    pin_memory_device=str,
    in_order=bool,
    collate_fn=Part,
    worker_init_fn=Part | None,
    multiprocessing_context=Literal['fork', 'spawn', 'forkserver', None],
    generator=None,
)
Loop = group_of(type=Text, fp16=bool)  # validation and test
TrainLoop = group_of(
    type=Text,
    by_epoch=bool,
    max_epochs=Count,
    max_iters=Count,
    val_begin=Whole,
    val_interval=Count,
    dynamic_intervals=list | None,
    fast_forward_on_resume=bool,
)
ClipGrad = group_of(  # arguments of torch.nn.utils.clip_grad_norm_ and _value_
    closed=True,
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
    by_epoch=bool,
    convert_to_iter_based=bool,
    T_max=Count | None,
    total_steps=Count | None,
    milestones=list[Whole],
    gamma=Factor,
    eta_min=Factor | None,
    factor=Factor,
    start_factor=Factor,
    end_factor=Factor,
    power=Factor,
)
Randomness = group_of(True, seed=Seed | None, diff_rank_seed=bool, deterministic=bool)
AutoScaleLR = group_of(True, enable=bool, base_batch_size=Count)
Processes = group_of(
    True,
    mp_start_method=Literal['fork', 'spawn', 'forkserver'],
    opencv_num_threads=Whole,
)
# of torch.distributed.init_process_group; the timeout in seconds
Distribution = group_of(backend=Text, timeout=Count)
Environment = group_of(
    True,
    cudnn_benchmark=bool,
    mp_cfg=Processes,
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
Evaluator = Annotated[list[Group] | None, BeforeValidator(_as_list)]
# The top: what MMEngine's Runner and these tools read there. A config names values
# of its own as well.
_TOP = dict(
    model=group_of(**_TYPE, data_preprocessor=Preprocessor | None),
    data_preprocessor=Preprocessor | None,
    train_dataloader=Loader | None,
    val_dataloader=Loader | None,
    test_dataloader=Loader | None,
    train_cfg=TrainLoop | None,
    val_cfg=Loop | None,
    test_cfg=Loop | None,
    val_evaluator=Evaluator,
    test_evaluator=Evaluator,
    optim_wrapper=OptimWrapper | None,
    param_scheduler=Annotated[list[Scheduler] | None, BeforeValidator(_as_list)],
    auto_scale_lr=AutoScaleLR | None,
    default_hooks=dict[str, Part | None],
    custom_hooks=list[Part] | None,
    randomness=Randomness,
    env_cfg=Environment,
    log_processor=group_of(type=Text, window_size=Count, by_epoch=bool) | None,
    log_level=Literal['NOTSET', 'DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'],
    visualizer=Part | None,
    default_scope=Annotated[str, Field(pattern=r'^[A-Za-z_]\w*$')] | None,
    experiment_name=Annotated[str, Field(pattern=r'^[\w. -]+$', max_length=200)] | None,
    work_dir=Path | None,
    load_from=Path | None,
    resume=bool,
    launcher=Literal['none', 'pytorch', 'slurm', 'mpi'],
    device=Literal['auto', 'cpu', 'cuda'],
    sync_bn=Literal['torch', 'mmcv', None],
    find_unused_parameters=bool,
    model_wrapper_cfg=Part | None,
    compile=_either('True, False or a group of settings', bool, Group),
    efficient_conv_bn_eval=_either('True, False or names', bool, list[str], None),
    activation_checkpointing=list[str] | None,
    teacher_config=Path | None,
    student_config=Path | None,
    previous_stage_config=Path | None,
)
RUN_KEYS = frozenset(_TOP)
RunConfig = group_of(**_TOP)
# Values that mean the same in every part.
Anywhere = group_of(
    type=Text,
    num_classes=Annotated[int, Field(ge=-1, le=10**6)],  # -1: no last layer
    num_views=Count | None,
    data_root=Path | None,
    split_file=Path | None,
)
_PART = list[Part]
_SWITCH = _either('True or False', bool)
# Of the command line.
WORDS = group_of(
    **{
        'data_root': Path,
        'dataset_type': Text,
        'classes': _either('a list such as [A,B]', list[Text], Path, None),
        'split_file': Path | None,
        'split_ratios': Annotated[list[Factor], Field(min_length=2, max_length=3)],
        'split_seed': Seed,
        'input_size': Annotated[int, Field(ge=1, le=8192)],  # pixels of a side
        'batch_size': Annotated[int, Field(ge=1, le=10**6)],
        'sampler': Literal['balanced', None],
        'augment': _either('True, False or a list of operations', bool, _PART, None),
        'max_epochs': Count,
        'patience': Count,
        'pretrained': _SWITCH,
        'class_weight': _either(
            'balanced, sqrt_balanced, None or a list of numbers > 0, one a class',
            Literal['balanced', 'sqrt_balanced', None],
            list[Positive],
        ),
        'mask_threshold': Annotated[float, Field(gt=0, lt=1)],
        'seed': Seed | None,
        'teacher_cache': _either('True, False or a group', bool, Group, None),
        'channels_last': _SWITCH,
        'compiled': _SWITCH,
        'device': Literal['auto', 'cpu', 'cuda'],
        'pair': Path,
        'packed': _either('True, False or a group of settings', bool, Group),
        'teacher': Path,
        'student': Path,
        'network': Path,
        'packed.margin': Annotated[float, Field(ge=1, le=8)],
        'packed.store_dir': Path,
        'packed.in_memory': _either('True, False or None', bool, None),
        'packed.verify': _SWITCH,
        'packed.hair_removal': _either('True, False or a group', bool, Group, None),
        'packed.augment': _either('True, False or operations', bool, _PART, None),
        'packed.top_up': _either(
            'largest, a fraction, a number of images a class up to a million, or None',
            Literal['largest', None],
            Annotated[float, Field(gt=0, le=10**6)],
            Annotated[str, Field(pattern=r'^[0-9.]{1,7}$')],
        ),
        'packed.num_views': Count | None,
        'packed.seed': Seed,
    },
)

# Groups without a ``type``, or whose reader has no signature to ask.
_GROUPS = dict(
    dict.fromkeys(LOADERS, Loader),
    train_cfg=TrainLoop,
    val_cfg=Loop,
    test_cfg=Loop,
    optim_wrapper=OptimWrapper,
    clip_grad=ClipGrad,
    randomness=Randomness,
    auto_scale_lr=AutoScaleLR,
    env_cfg=Environment,
    mp_cfg=Processes,
    dist_cfg=Distribution,
)
_NAMES = dict(
    hair_removal='kernel threshold length radius',
    default_hooks='runtime_info timer sampler_seed logger param_scheduler '
    'checkpoint visualization',
)


def plain(value: Any) -> Any:
    """As it comes back from a JSON file; classes and functions by their names.

    Raises:
        UserError: nested too deeply.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=_named)
        return json.loads(text.encode('utf-8', 'replace'))
    except (RecursionError, ValueError, TypeError) as error:
        raise UserError(f'a value that no config can hold: {error}') from None


def _named(value: Any) -> str:
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else str(value)


def check_config(cfg: Config) -> None:
    """Hold a config against the table.

    Raises:
        UserError: a value of the wrong kind or out of its range.
    """
    source = f'config {cfg.filename}'
    found = plain(cfg._cfg_dict)
    validate(RunConfig, found, source)
    parts = dict(nodes(found))
    validate(dict[str, Anywhere], parts, source)
    for place, node in parts.items():
        for key, value in node.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, float) and not math.isfinite(number):
                    if key != 'norm_type':
                        raise UserError(
                            f'{source}: {place}.{key}={number} is no finite number'
                        )


def nodes(node: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """Yield every dict below a node under its dotted key."""
    if isinstance(node, dict) and place:
        yield place, node
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in parts:
        if isinstance(value, (dict, list)):
            yield from nodes(value, f'{place}.{key}'.lstrip('.'))


def _signature(function) -> tuple[set[str], bool]:
    parameters = inspect.signature(function).parameters.values()
    names = {
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return names - {'self'}, any(p.kind is p.VAR_KEYWORD for p in parameters)


def teacher_groups() -> dict[str, type]:
    """Groups of a model that are settings of its frozen teacher."""
    from hkd_mm.models.algorithms.teacher_inference import TeacherInference
    from hkd_mm.models.teacher_cache import TeacherCache

    return dict(teacher_cache=TeacherCache, teacher_inference=TeacherInference)


def names_of_group(name: str) -> set[str]:
    """Names that are read from a group without a ``type``.

    Args:
        name: last part of the group's dotted name.
    """
    if name in ('teacher_cache', 'teacher_inference'):
        return _signature(teacher_groups()[name].__init__)[0]
    if name in _GROUPS:
        return set(_GROUPS[name].__annotations__)
    return set(_NAMES.get(name, '').split())


def class_of_type(name: str, default_scope: str):
    """The registered class or function behind a config's ``type``, or None."""
    from mmengine import registry as roots

    names = [name] if '.' in name else [f'{default_scope}.{name}', name]
    for root in vars(roots).values():
        if not isinstance(root, roots.Registry):
            continue
        for candidate in names:
            found = root.get(candidate)
            if found is not None:
                return found
    return None


def names_of_type(name: str, default_scope: str) -> tuple[set[str], bool]:
    """Constructor arguments of a registered type.

    Returns:
        The names, those of its bases included as far as ``**kwargs`` passes
        them on, and whether it may take others too.
    """
    found = class_of_type(name, default_scope)
    if found is None:  # the registry will say so itself
        return {'type'}, True
    if not inspect.isclass(found):
        names, open_ended = _signature(found)
        return names | {'type'}, open_ended
    names, open_ended = {'type'}, False
    for base in found.__mro__[:-1]:
        if '__init__' not in vars(base):
            continue
        more, open_ended = _signature(base.__init__)
        names |= more
        if not open_ended:
            break
    # **kwargs may go to a function instead of a base, as in timm's networks.
    return names, open_ended or _signature(found.__init__)[1]
