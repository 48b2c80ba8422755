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
    """Options of the command line.

    Attributes:
        int8: write an int8 network as well.
        with_preprocessing: write graphs that take images as they are.
        executorch: write a ``.pte`` for mobile devices.
        calibration_images: training images that int8 is calibrated on.
        weight_bits: of int8, 8 or 7, see :func:`.int8.quantise`.
        opset: of ONNX.
        ir_version: of the ONNX format; None for the least that has the opset.
        int8_limit: points of balanced accuracy, or of Dice, that int8 may lose.
        int8_recall_limit: points of one class's recall that int8 may lose.
        int8_strict: refuse losses above a limit that may be chance, too.
        confident_accuracy: that confident answers are to reach, in (0, 1).
        cfg_options: changes to the config of the run.
    """

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
