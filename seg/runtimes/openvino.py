"""OpenVINO on the CPU, with as many threads as PyTorch."""

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, reason
from ..extras import import_extra
from ..models.layers import LogitsModule
from ..precision import Precision
from ..weights.file import FORMAT
from .models import Open, Run

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names of the precisions."""


@functools.cache
def core() -> Any:
    """Return the process's only `openvino.Core`.

    Two of them, freed in the order of their creation, make the next Ctrl-C a segmentation fault: each installs an alternate
    signal stack, and the first one's is in use when it is freed.
    """
    found = import_extra("openvino").Core()
    found.get_property("CPU", "FULL_DEVICE_NAME")  # loads the CPU plugin, which installs that stack, before another core can
    return found


def openvino_logits(model: nn.Module, precision: Precision = "float32") -> Run:
    """Convert the `logits` of a model on the CPU to OpenVINO.

    Args:
        model: a segmentation model on the CPU, at the output stride that the converted network keeps.
        precision: float32 or bfloat16.

    Returns:
        float32 [N, 3, H, W] -> float32 logits [N, classes, h, w], for any N, H and W.

    Raises:
        UserError: OpenVINO is not installed.
    """
    openvino = import_extra("openvino")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of sizes compared in Python: the result is the same for all images
        return compiled(openvino.convert_model(LogitsModule(model), example_input=torch.zeros(2, 3, 65, 97)), precision)


def from_onnx(model: Any) -> Any:
    """Convert an `onnx.ModelProto` to an `openvino.Model`."""
    return core().read_model(model.SerializeToString())


def compiled(model: Any, precision: Precision = "float32") -> Run:
    """Compile an `openvino.Model` for the CPU: a function from its only input to its first output, as arrays."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        # OpenVINO's default is bfloat16 on processors that support it. Int8 layers stay int8.
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    network = core().compile_model(model, "CPU", settings)
    return lambda array: network([array])[0]


def read_exported(path: Path) -> tuple[Open, dict[str, str]]:
    """Read an exported .xml file: a function that opens it, and its metadata. Raises UserError if it is damaged."""
    if not path.with_suffix(".bin").is_file():
        raise UserError(
            f"{path.with_suffix('.bin')}: no such file; an OpenVINO model is two files, .xml and .bin, side by side"
        )
    try:
        model = core().read_model(path)
    except RuntimeError as error:
        raise UserError(f"{path}: OpenVINO cannot read this model ({reason(error)}); export it again") from error
    keys = ("format", "config", "labels", "score")
    metadata = {key: model.get_rt_info([FORMAT, key]).astype(str) for key in keys if model.has_rt_info([FORMAT, key])}
    return functools.partial(compiled, model), metadata
