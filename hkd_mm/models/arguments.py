# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Constructor arguments, written down once and held against their kinds."""

from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from hkd_mm.errors import UserError
from hkd_mm.io.schema import validate

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Whole = Annotated[int, Field(ge=0, le=2**24)]
Count = Annotated[int, Field(ge=1, le=2**20)]
Views = Annotated[int, Field(ge=1, le=10_000)]  # more than a run has epochs


def checked(
    kind: Any, name: str, value: Any, owner: str = 'config', hint: str = ''
) -> Any:
    """A value of its kind, or an error with its name, dotted as in a config."""
    return validate(dict[Literal[name], kind], {name: value}, owner, hint)[name]


class Arguments:
    """A class whose annotated attributes are its constructor's arguments.

    As of a dataclass; each is held against its annotation and kept under its name.
    What else there is to make is made in ``__post_init__``.

    Raises:
        UserError: an argument is of the wrong kind or out of its range.
    """

    in_config = ''  # in front of their names, such as ``model.teacher_cache.``

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self, *parents) -> None:
        """Check all, then initialise the class behind this one."""
        owner = 'config' if self.in_config else type(self).__name__
        for item in fields(self):
            made = item.default_factory is not MISSING
            default = item.default_factory() if made else item.default
            given = (
                'has no default' if default is MISSING else f'is {default!r} by default'
            )
            hint = f'; {item.name} {given}'
            name, value = self.in_config + item.name, getattr(self, item.name)
            setattr(self, item.name, checked(item.type, name, value, owner, hint))
        super().__init__(*parents)

    def require(self, holds: bool, name: str, value: object, expected: str) -> None:
        """Refuse a value that does not go with another one, unless ``holds``."""
        if not holds:
            raise UserError(
                f'{type(self).__name__}: {name}={value!r} must be {expected}'
            )
