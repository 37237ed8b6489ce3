"""ONNX and ONNX Runtime, in float32 on the CPU, with as many threads as PyTorch."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, reason
from ..extras import import_extra
from ..models.layers import LogitsModule
from .models import Open, Run
from .pytorch import export_program

IR_VERSION, OPSET = 9, 18
"""Versions of exported files: ONNX Runtime 1.17 supports up to 9 and 20."""
NEWEST_IR_VERSION, NEWEST_OPSET = 11, 23
"""The newest versions that PyTorch supports; they need ONNX Runtime 1.22."""


def onnx_logits(model: nn.Module) -> Run:
    """Convert the `logits` of a model on the CPU to ONNX Runtime.

    Args:
        model: a segmentation model on the CPU, at the output stride that the converted network keeps.

    Returns:
        float32 [N, 3, H, W] -> float32 logits [N, classes, h, w], for any N, H and W.

    Raises:
        UserError: a library is not installed.
    """
    import_extra("onnxruntime")  # first: the conversion takes a while
    graph = to_onnx(export_program(LogitsModule(model), torch.zeros(2, 3, 65, 97), (0, 2, 3)))
    return session_runner(open_session(graph.SerializeToString(), "the network"))


def to_onnx(
    program: torch.export.ExportedProgram,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    axes: Sequence[str] = (),
    newest: bool = False,
) -> Any:
    """Convert a graph of PyTorch operators to an `onnx.ModelProto`.

    Args:
        program: the graph.
        inputs, outputs: their names; empty: the exporter's.
        axes: names of the first axes of the first input whose size is free; others keep the exporter's.
        newest: use `NEWEST_IR_VERSION` and `NEWEST_OPSET`, not `IR_VERSION` and `OPSET`.

    Raises:
        UserError: a library is not installed.
    """
    import_extra("onnxscript")
    version = NEWEST_OPSET if newest else OPSET
    converted = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=version,
        input_names=list(inputs) or None,
        output_names=list(outputs) or None,
    )
    assert converted is not None  # with dynamo=True
    model = converted.model_proto
    model.ir_version = NEWEST_IR_VERSION if newest else IR_VERSION
    _clean(model.graph, axes)
    return model


def _clean(graph: Any, axes: Sequence[str]) -> None:
    """Name the free axes, and remove the exporter's notes: older versions have none, and they contain paths of this machine."""
    values = (*graph.input, *graph.output, *graph.value_info)
    for item in (graph, *graph.node, *graph.initializer, *values):
        item.ClearField("metadata_props")
    dimensions = graph.input[0].type.tensor_type.shape.dim
    names = {dim.dim_param: name for dim, name in zip(dimensions, axes, strict=False) if dim.dim_param}
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:  # a symbol, or a formula of symbols
                dim.dim_param = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), dim.dim_param)


def open_session(model: bytes | Path, name: str) -> Any:
    """Open an ONNX model with ONNX Runtime.

    Args:
        model: the serialized model, or its file.
        name: what it is, for messages.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        UserError: ONNX Runtime is not installed, or cannot run the model.
    """
    onnxruntime = import_extra("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions have no common base class
        raise UserError(f"{name}: ONNX Runtime cannot run this model ({reason(error)}); export it again") from error


def session_runner(session: Any) -> Run:
    """Return a function from the only input of a session to its first output, as arrays."""
    name, first = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda array: session.run([first], {name: array})[0]


def read_exported(path: Path) -> tuple[Open, dict[str, str]]:
    """Read an exported .onnx file: a function that opens it, and its metadata. Raises UserError if it is damaged."""
    session = open_session(path, str(path))
    try:
        return lambda precision: session_runner(session), session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: its metadata is damaged ({reason(error)}); export it again") from error
