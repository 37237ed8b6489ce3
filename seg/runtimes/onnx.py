"""ONNX and ONNX Runtime. Float32 on the CPU, with as many threads as PyTorch."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, reason
from ..extras import import_extra
from ..models.layers import LogitsModule
from .models import Run
from .pytorch import export_program


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


def to_onnx(program: torch.export.ExportedProgram) -> Any:
    """Convert a graph of PyTorch operators to an `onnx.ModelProto`. Raises UserError where a library is not installed."""
    import_extra("onnxscript")
    converted = torch.onnx.export(program, dynamo=True, verbose=False)
    assert converted is not None  # with dynamo=True
    return converted.model_proto


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
        raise UserError(f"{name}: not a model that ONNX Runtime runs ({reason(error)}); export it again") from error


def session_runner(session: Any) -> Run:
    """Return a function from the only input of a session to its only output, as arrays."""
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})[0]


def read_exported(path: Path) -> tuple[Run, dict[str, str]]:
    """Open an exported .onnx file: the function that runs it, and its metadata. Raises UserError where it is damaged."""
    session = open_session(path, str(path))
    try:
        return session_runner(session), session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: its metadata is damaged ({reason(error)}); export it again") from error
