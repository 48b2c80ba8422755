# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Options of an export, and the files that it writes."""

from dataclasses import dataclass, field

from hkd_mm.errors import UserError

NAMES = dict(
    fp32='student.onnx',
    int8='student_int8.onnx',
    fp32_image='student_image.onnx',
    int8_image='student_int8_image.onnx',
    executorch='student.pte',
)


OPSETS = range(15, 23)


@dataclass(frozen=True)
class ExportOptions:
    """Options of ``tools/export.py``, which describes them."""

    int8: bool = True
    with_preprocessing: bool = False
    executorch: bool = False
    calibration_images: int = 512
    weight_bits: int = 8
    opset: int = 18
    ir_version: int | None = None
    int8_limit: float = 1.0
    int8_recall_limit: float = 5.0
    int8_strict: bool = False
    confident_accuracy: float = 0.9
    cfg_options: list[str] | dict = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least, most in (
            ('calibration_images', 1, 10**9),
            ('confident_accuracy', 0.001, 0.999),
            ('int8_limit', 0, 100),
            ('int8_recall_limit', 0, 100),
            ('opset', OPSETS[0], OPSETS[-1]),
            ('ir_version', 8, 13),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UserError(
                    f'--{name.replace("_", "-")} {value:g} must lie between {least} '
                    f'and {most}'
                )
