# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every argument of a loss, connector or augmentation is held to its kind."""

import inspect
import math
from dataclasses import fields
from types import NoneType
from typing import get_args

import pytest
from mmengine.registry import MODELS as ROOT

from hkd_mm import models
from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Arguments
from hkd_mm.registry import MODELS, TASK_UTILS

assert models and ROOT
KINDS = sorted(
    {
        kind
        for registry in (MODELS, TASK_UTILS)
        for kind in registry.module_dict.values()
        if inspect.isclass(kind) and issubclass(kind, Arguments)
    },
    key=lambda kind: kind.__name__,
)
ARGUMENTS = [
    (kind, item.name, item.type)
    for kind in KINDS
    for item in fields(kind)
    if item.name != 'init_cfg'
]
# of no kind that there is
WRONG = (math.nan, math.inf, -math.inf, -(10**400), {}, object(), b'1', '\ud800')


@pytest.mark.parametrize(
    'kind, name, takes',
    ARGUMENTS,
    ids=[f'{kind.__name__}-{name}' for kind, name, _ in ARGUMENTS],
)
def test_what_is_no_value_of_an_argument_is_refused_by_its_name(kind, name, takes):
    optional = NoneType in get_args(takes)
    for value in (*WRONG, *([] if optional else [None])):
        with pytest.raises(UserError, match=name) as told:
            kind(**{name: value})
        assert '\n' not in str(told.value)
        assert (kind.in_config or kind.__name__) in str(told.value)


def test_there_are_many():
    assert len(KINDS) > 50


def test_kinds_are_kept_as_they_are_written():
    loss = MODELS.build(dict(type='hkd_mm.MLKDLoss', taus=[1, 2.5], alpha=0))
    assert loss.taus == (1.0, 2.5) and loss.alpha == 0
    # True is no number, and 1 is not True
    for name, value in dict(alpha=True, taus=2.0, gather=1, quantile='0.5').items():
        with pytest.raises(UserError, match=name):
            MODELS.build(dict(type='hkd_mm.MLKDLoss', **{name: value}))
