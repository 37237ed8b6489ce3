"""Int8 quantization of exported models, with NNCF."""

import io
import logging
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from torch import nn

from ..extras import import_extra
from ..models.xception import Xception


def quantize(graph: Any, format: str, images: list[np.ndarray], fine: int) -> Any:
    """Quantize the dense convolutions of a graph to int8, by NNCF's post-training quantization.

    Each output channel of a weight has its own scale, and biases are corrected. Depthwise convolutions, sums and the first
    `fine` dense convolutions stay in float32: they take little time, and quantizing them would cause most of the difference.

    Args:
        graph: an `onnx.ModelProto` or an `openvino.Model`.
        format: `onnx` or `openvino`.
        images: uint8 RGB images [h, w, 3] that set the scales of the activations.
        fine: see `fine_convolutions`.

    Returns:
        The quantized graph, of the same kind.

    Raises:
        UserError: NNCF is not installed.
    """
    nncf = import_extra("nncf")
    if format == "onnx":
        name = graph.graph.input[0].name
        data = nncf.Dataset(images, lambda image: {name: image[None]})
        convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
        dense = [node.name for node in convolutions if _groups(node) == 1]
        exact = nncf.IgnoredScope(names=[n.name for n in convolutions if _groups(n) > 1] + dense[:fine], types=["Add"])
    else:
        data = nncf.Dataset(images, lambda image: image[None])
        dense = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
        exact = nncf.IgnoredScope(names=dense[:fine], types=["GroupConvolution", "Add"])
    # NNCF logs a line for each layer to standard output, and draws its progress bars there even when its log is silent.
    nncf.set_log_level(logging.WARNING)
    with redirect_stdout(io.StringIO()):
        return nncf.quantize(graph, data, subset_size=len(images), preset=nncf.QuantizationPreset.MIXED, ignored_scope=exact)


def fine_convolutions(model: nn.Module) -> int:
    """Count the dense convolutions up to the low-level features, which determine the borders in the masks.

    Args:
        model: a segmentation model.

    Returns:
        Their number; 0 if the backbone is not an Xception.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, Xception):
        return 0
    modules: list[nn.Module] = [backbone.conv1, backbone.conv2]
    for name, module in backbone.flow.items():
        modules.append(module)
        if name == backbone.feature_blocks[0]:
            break
    return sum(isinstance(part, nn.Conv2d) and part.groups == 1 for module in modules for part in module.modules())


def _groups(node: Any) -> int:
    """The groups of an ONNX convolution node."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
