# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What is imported late: public names of a package, and optional packages."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from hkd_mm.errors import UserError


def require(module: str, use: str, package: str) -> ModuleType:
    """Import an optional package.

    Args:
        use: what needs it, for the message.
        package: as ``pip install`` takes it.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f'{use} needs {module} ({error}); pip install {package}'
        ) from None


def lazy_exports(
    package: str, root: str | None = None, **modules: str
) -> tuple[Callable, list[str]]:
    """Return ``__getattr__`` and ``__all__`` of a package.

    Args:
        package: ``__name__`` of the package.
        root: package that the modules are in, where it is another one.
        modules: name of a module in it -> its public names, by blanks.

    Raises:
        AttributeError: of ``__getattr__``, for any other name.
    """
    places = {
        name: module for module, names in modules.items() for name in names.split()
    }

    def __getattr__(name: str):
        if name not in places:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        found = getattr(import_module(f'{root or package}.{places[name]}'), name)
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__, sorted(places)
