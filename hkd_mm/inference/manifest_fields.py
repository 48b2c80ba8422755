# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Parts of a manifest."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """How a photograph becomes what the net sees.

    Attributes:
        size: (H, W) in pixels.
        resize: ``area``: ``cv2.INTER_AREA``, to whole numbers of 0..255.
        colour: ``RGB``, order of the channels.
        mean: of each channel, in 0..255; subtracted.
        std: of each channel, in 0..255; divided by afterwards.
    """

    size: tuple[int, int]
    resize: str
    colour: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Threshold:
    """Below which probability an answer is "not sure".

    Attributes:
        probability: in [0, 1], after temperature scaling; None where no
            threshold kept the rule: then every answer is "not sure".
        rule: in words.
        coverage: share of the validation images that are answered.
        accuracy: of those answers, those to one lesion counted as one; 0
            where there are none.
        n: validation images that it was fitted on.
    """

    probability: float | None
    rule: str
    coverage: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class FileSpec:
    """One file of the folder.

    Attributes:
        path: name of the file in the folder.
        sha256: of its bytes, in hexadecimal.
        bytes: its length.
        takes: ``tensor``: normalised float32 (N, 3, H, W); ``image``: RGB
            uint8 (N, H, W, 3) of any size.
        gives: ``logits`` or ``probabilities``, (N, C).
    """

    path: str
    sha256: str
    bytes: int
    takes: str
    gives: str
