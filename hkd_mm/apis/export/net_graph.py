# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The student as an ONNX graph of standard operators."""

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from hkd_mm.errors import UserError

from .resize_graph import OPSET
from .source_run import SourceRun


class _Logits(nn.Module):
    """A classifier from normalised RGB images to its logits."""

    def __init__(self, net: nn.Module, swapped: bool) -> None:
        super().__init__()
        self.net, self.swapped = net, swapped

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float32 to (N, C)."""
        images = images.flip(1) if self.swapped else images
        return self.net(images, mode='tensor')


def plain_net(run: SourceRun) -> nn.Module:
    """From normalised RGB images (N, 3, H, W) to logits (N, C)."""
    return _Logits(run.net, run.swapped).eval()


def export_net(run: SourceRun) -> onnx.ModelProto:
    """Make the graph: any batch, BatchNorm folded, weights inside.

    Args:
        run: whose student.

    Returns:
        A checked model from ``images`` float32 (N, 3, H, W) to ``logits``
        (N, C), or (N, C, H, W) of a segmentor, which may take one channel.

    Raises:
        UserError: the net has something that ONNX cannot express.
    """
    channels = getattr(run.net, 'in_channels', 3)
    example = torch.zeros(2, channels, *run.spec.size)
    try:
        program = torch.onnx.export(
            plain_net(run),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=['images'],
            output_names=['logits'],
            dynamic_shapes=dict(images={0: torch.export.Dim('N')}),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f'{run.architecture} cannot be written as ONNX '
            f'({reason[0] if reason else "no reason given"})'
        ) from error
    model = tidied(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    _check_ends(model, run)
    return model


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out what tells of the machine that wrote it, in place."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        part.ClearField('metadata_props')
        part.ClearField('doc_string')
    graph.name = 'student'
    del model.functions[:]
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check the whole model once more and write it."""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _check_ends(model: onnx.ModelProto, run: SourceRun) -> None:
    shape = model.graph.output[0].type.tensor_type.shape.dim
    dense = getattr(run.net, 'dense', False)
    wanted = run.net.num_classes if dense else len(run.classes)
    if len(shape) != (4 if dense else 2) or shape[1].dim_value != wanted:
        found = [dim.dim_value or dim.dim_param for dim in shape]
        raise UserError(
            f'{run.architecture} gives {found} where {wanted} logits '
            f'{"a pixel" if dense else "an image"} are expected'
        )
