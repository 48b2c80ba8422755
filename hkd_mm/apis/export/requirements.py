# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Packages that only an export needs."""

from hkd_mm.errors import UserError

_PACKAGES = dict(
    onnx='onnx>=1.17,<2',
    onnxscript='onnxscript>=0.5',
    onnxruntime='onnxruntime>=1.20',
)


def require_packages(executorch: bool = False) -> None:
    """Refuse to begin without them.

    Raises:
        UserError: one is missing, or does not go with this torch.
    """
    for module, package in _PACKAGES.items():
        try:
            __import__(module)
        except ImportError:
            raise UserError(
                f'an export needs {module}, which is not installed; pip '
                f'install "{package}"'
            ) from None
    if executorch:
        from .executorch_file import require_executorch

        require_executorch()
