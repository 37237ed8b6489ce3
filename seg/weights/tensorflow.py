"""Checkpoints of the released TensorFlow DeepLab: translates variable names, and infers the network.

Names and layouts: tensorflow/models, research/deeplab (model.py, core/xception.py).
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from .fitting import Weights
from .tensor_bundle import read_bundle

VARIANTS = {"xception_41": "xception41", "xception_65": "xception65", "xception_71": "xception71"}
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
HEAD = {
    "image_pooling": "aspp.pooling",
    "aspp0": "aspp.conv1x1",
    "concat_projection": "aspp.project",
    "meta_architecture/concat_projection": "dpc.project",
    "decoder/feature_projection0": "decoder.reduce",
}
MODULE = re.compile(r"(entry|middle|exit)_flow/block(\d+)/unit_(\d+)/xception_module/(shortcut|separable_conv(\d)_(\w+?))")
NUMBERED = re.compile(r"(aspp|meta_architecture/branch|decoder/decoder_conv)(\d)(?:_(depthwise|pointwise))?")
SLOTS = ("/Momentum", "/ExponentialMovingAverage", "/Adam", "/Adam_1", "/RMSProp", "/RMSProp_1")


def variable_name(name: str) -> str | None:
    """Translate a variable name of the released code.

    Args:
        name: such as `xception_65/entry_flow/conv1_1/weights`, without `:0`.

    Returns:
        The name of our tensor; None if our networks have no such tensor.
    """
    scope, _, leaf = name.rpartition("/")
    norm = scope.endswith("/BatchNorm") and leaf in NORM
    scope = scope.removesuffix("/BatchNorm") if norm else scope
    if name.startswith("logits/semantic/"):
        return {"weights": "classifier.weight", "biases": "classifier.bias"}.get(leaf)
    if re.fullmatch(r"xception_\d+/logits", scope):
        return {"weights": "image_classifier.weight", "biases": "image_classifier.bias"}.get(leaf)
    if not norm and leaf not in ("weights", "depthwise_weights"):
        return None
    place, kind = _place(scope)
    if place is None:
        return None
    if kind in ("depthwise", "pointwise"):
        tail = {"depthwise": "depthwise_norm", "pointwise": "norm"}[kind] if norm else kind
    else:
        tail = "norm" if norm else "conv"
    return f"{place}.{tail}.{NORM[leaf] if norm else 'weight'}"


def _place(scope: str) -> tuple[str | None, str | None]:
    """Return our module for a scope, and `depthwise` or `pointwise` if it is half of a separable convolution."""
    if scope in HEAD:
        return HEAD[scope], None
    if match := NUMBERED.fullmatch(scope):
        part, index, kind = match.groups()
        if part == "aspp":
            return f"aspp.atrous.{int(index) - 1}", kind
        return f"{'dpc.branches' if part.startswith('meta') else 'decoder.convs'}.{index}", kind
    variant, _, rest = scope.partition("/")
    if variant not in VARIANTS:
        return None, None
    if match := re.fullmatch(r"entry_flow/conv1_([12])", rest):
        return f"backbone.conv{match[1]}", None
    if match := MODULE.fullmatch(rest):
        flow, block, unit, what, index, kind = match.groups()
        module = f"backbone.flow.{flow}{unit if flow == 'middle' else block}"
        return (f"{module}.shortcut", None) if what == "shortcut" else (f"{module}.convs.{int(index) - 1}", kind)
    return None, None


def layout(name: str, value: np.ndarray) -> torch.Tensor:
    """Convert a variable to PyTorch's axis order: HWIO -> OIHW, depthwise HWC1 -> C1HW; the ImageNet classifier, 11IO -> OI."""
    if value.ndim == 4:
        value = value.transpose((2, 3, 0, 1) if name.endswith("depthwise_weights") else (3, 2, 0, 1))
    if re.fullmatch(r"xception_\d+/logits/weights", name):
        value = value[:, :, 0, 0]
    return torch.from_numpy(value.copy(order="C"))


def read_checkpoint(prefix: str | Path) -> dict[str, torch.Tensor]:
    """Read the variables of a checkpoint.

    Args:
        prefix: its path without `.index`, such as PATH/model.ckpt-30000.

    Returns:
        Tensors under our names and in PyTorch's axis order, without optimizer slots, averages and global_step. A variable that
        our networks do not have keeps its name.

    Raises:
        UserError: as `read_bundle`, or the checkpoint holds no Xception.
    """
    variables = read_bundle(prefix)
    tensors = {}
    for name, value in variables.items():
        if name == "global_step" or name.endswith(SLOTS):
            continue
        tensors[variable_name(name) or name] = layout(name, value)
    if not any(name.startswith("backbone.") for name in tensors):
        found = ", ".join(sorted({name.split("/")[0] for name in variables})[:6])
        raise UserError(f"{prefix}: holds no Xception 41, 65 or 71 of the released DeepLab; its scopes: {found or 'none'}")
    return tensors


def open_checkpoint(source: str, prefix: str | Path) -> Weights:
    """Read a checkpoint, and infer its network; see `read_checkpoint`. `source` is its name in messages."""
    tensors = read_checkpoint(prefix)
    return Weights(source, tensors, model_settings(tensors))


def model_settings(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Infer the `model` section of a configuration from the names and shapes of the tensors of `read_checkpoint`."""
    middle = {name.split(".")[2] for name in tensors if name.startswith("backbone.flow.middle")}
    deep = "backbone.flow.entry5.shortcut.conv.weight" in tensors
    settings: dict[str, Any] = {
        "backbone": "xception71" if deep else f"xception{41 if len(middle) == 8 else 65}",
        "activation_placement": "tf",
    }
    if "dpc.project.conv.weight" in tensors:
        settings["context"] = "dpc"
    elif "aspp.project.conv.weight" in tensors:
        settings["aspp"] = _aspp_settings(tensors)
    else:
        return settings
    settings["decoder"] = None
    if "decoder.reduce.conv.weight" in tensors:
        count = len({name.split(".")[2] for name in tensors if name.startswith("decoder.convs.")})
        kind = "pointwise" if "decoder.convs.0.pointwise.weight" in tensors else "conv"
        channels = [len(tensors[f"decoder.convs.{i}.{kind}.weight"]) for i in range(count)]
        settings["decoder"] = {
            "low_level_channels": len(tensors["decoder.reduce.conv.weight"]),
            "convolutions": [[3, c] for c in channels],
            "separable": kind == "pointwise",
        }
    return settings


def _aspp_settings(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    rates = len({name.split(".")[2] for name in tensors if name.startswith("aspp.atrous.")})
    return {
        "channels": len(tensors["aspp.project.conv.weight"]),
        "separable": "aspp.atrous.0.pointwise.weight" in tensors,
        "image_pooling": "aspp.pooling.conv.weight" in tensors,
        "atrous_rates": [6, 12, 18][:rates],
    }
