# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``student.pte``: the student for ExecuTorch, on mobile devices."""

from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from hkd_mm.errors import UserError
from hkd_mm.export.onnx_graphs import plain_network
from hkd_mm.inference.backends import first_line
from hkd_mm.inference.run_folder import SourceRun


def require_executorch() -> None:
    """Refuse to begin without ExecuTorch, or with one of another torch."""
    try:
        from executorch.backends.xnnpack.partition import (  # noqa: F401
            xnnpack_partitioner,
        )
        from executorch.exir import to_edge_transform_and_lower  # noqa: F401
        from executorch.runtime import Runtime  # noqa: F401
    except Exception as error:  # missing, or built for another torch
        raise UserError(
            '--executorch needs executorch in the version for torch '
            f'{torch.__version__} ({first_line(error)[:120]}); install it, or '
            'leave the option out'
        ) from None


def write_executorch(run: SourceRun, path: Path, images: np.ndarray) -> np.ndarray:
    """Lower the network to XNNPACK for one image at a time, and run the file.

    Returns:
        Its logits (N, C) of normalised images (N, 3, H, W) float32.

    Raises:
        UserError: ExecuTorch cannot express the network.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    example = (torch.zeros(1, run.spec.channels, *run.spec.size),)
    try:
        program = to_edge_transform_and_lower(
            torch.export.export(plain_network(run), example),
            partitioner=[XnnpackPartitioner()],
        ).to_executorch()
    except Exception as error:
        raise UserError(
            f'executorch {metadata.version("executorch")} with torch '
            f'{torch.__version__} cannot lower {run.architecture} '
            f'({first_line(error)[:160]}); leave --executorch out'
        ) from error
    path.write_bytes(program.buffer)
    method = Runtime.get().load_program(path).load_method('forward')
    parts = [
        method.execute([torch.from_numpy(image[None])])[0].numpy() for image in images
    ]
    return np.concatenate(parts)
