"""Checks with a bound, and the weights and images of a comparison, drawn from names and seeds."""

import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from seg.config import from_dict
from seg.models.factory import build_model
from seg.models.xception import FAMILY
from seg.weights.fitting import Weights, fit
from seg.weights.tensorflow import VARIANTS, layout, variable_name

FORWARD = 1e-5
"""Bound on the error of logits and end points, relative to the largest value of each tensor."""
ARGMAX = 1e-4
"""Bound on the share of pixels whose class differs."""


@dataclass
class Check:
    """The error of one comparison and its bound."""

    what: str
    error: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound."""
        return self.error <= self.bound  # NaN gives False

    def __str__(self) -> str:
        return f"{self.what} {self.error:.1e} of {self.bound:.0e}{'' if self.holds else ' FAILS'}"


def worst(what: str, checks: list[Check]) -> list[Check]:
    """Return the check that is nearest to its bound, or above it, named after the group `what`; nothing without checks."""
    if not checks:
        return []
    found = max(checks, key=lambda check: (not check.holds, check.error / check.bound if check.bound else 0.0))
    return [Check(f"{what} ({len(checks)}; {found.what})", found.error, found.bound)]


def relative(got: Any, wanted: Any) -> float:
    """Return the largest difference, relative to the largest value of `wanted`; NaN if the shapes differ."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if got.shape != wanted.shape:
        return float("nan")
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-12))


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the value of a released variable from its name, float32; convolutions by He's rule."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    leaf = name.rpartition("/")[2]
    if leaf in ("weights", "depthwise_weights"):
        inputs = 1 if leaf == "depthwise_weights" else shape[2]
        value = rng.normal(0, np.sqrt(2 / (shape[0] * shape[1] * inputs)), shape)
        if name.startswith("logits/"):
            value -= value.mean(axis=(0, 1, 2), keepdims=True)
    elif leaf in ("gamma", "moving_variance"):
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.normal(0, 0.1, shape)
    if leaf == "gamma":
        value = value * damping(name)
    return value.astype(np.float32)


def damping(name: str) -> float:
    """Return the factor of a batch norm scale that keeps random activations from growing with depth."""
    if name.endswith("shortcut/BatchNorm/gamma"):
        return 0.7
    if name.endswith("separable_conv3_pointwise/BatchNorm/gamma") and "exit_flow/block2" not in name:
        return 0.1 if "/middle_flow/" in name else 0.2
    return 1.0


CONTEXT = {
    "aspp": (("aspp1", "aspp2", "aspp3"), ("image_pooling", "aspp0", "concat_projection")),
    "dpc": (tuple(f"meta_architecture/branch{i}" for i in range(5)), ("meta_architecture/concat_projection",)),
}
"""Scopes of the separable and of the 1x1 convolutions of the ASPP and of the dense prediction cell."""


def variables(variant: str, context: str = "aspp") -> list[str]:
    """Return the names of the released network's variables, of the backbone and the head."""
    scopes = [f"{variant}/entry_flow/conv1_{i}" for i in (1, 2)]
    for row in FAMILY[VARIANTS[variant]][0]:
        flow, number = re.fullmatch(r"([a-z]+)(\d+)", row.name).groups()
        block, unit = (1, number) if flow == "middle" else (number, 1)
        module = f"{variant}/{flow}_flow/block{block}/unit_{unit}/xception_module"
        scopes += [f"{module}/separable_conv{i}_{half}" for i in (1, 2, 3) for half in ("depthwise", "pointwise")]
        scopes += [f"{module}/shortcut"] * (row.shortcut == "conv")
    separable, dense = CONTEXT[context]
    separable += tuple(f"decoder/decoder_conv{i}" for i in (0, 1))
    scopes += [f"{scope}_{half}" for scope in separable for half in ("depthwise", "pointwise")]
    scopes += [*dense, "decoder/feature_projection0"]
    names = []
    for scope in scopes:
        names.append(f"{scope}/{'depthwise_weights' if scope.endswith('_depthwise') else 'weights'}")
        names += [f"{scope}/BatchNorm/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")]
    return [
        *names,
        "logits/semantic/weights",
        "logits/semantic/biases",
        f"{variant}/logits/weights",
        f"{variant}/logits/biases",
    ]


def build(case: dict[str, Any], **settings: Any) -> tuple[nn.Module, dict[str, str]]:
    """Build the network of a case with drawn weights, in evaluation mode.

    Args:
        case: an entry of the manifest.
        settings: more settings of `model`.

    Returns:
        The network, and the released name of each of its tensors.

    Raises:
        ValueError: a tensor of ours has no released name.
    """
    stride = case.get("output_stride") or 32
    model = {"backbone": VARIANTS[case["variant"]], "activation_placement": "tf", "output_stride": stride, **settings}
    model["context"] = case.get("head", "aspp")
    if case.get("atrous_rates"):
        model["aspp"] = {"atrous_rates": [rate * stride // 16 for rate in case["atrous_rates"]], "dropout": 0.0}
    if case.get("decoder_output_stride", 4) is None:
        model["decoder"] = None
    network = build_model(from_dict({"model": model}, "oracle").model, case.get("num_classes", 21)).eval()
    state, released, tensors = network.state_dict(), {}, {}
    for name in variables(case["variant"], model["context"]):
        ours = variable_name(name)
        if ours in state:
            shape = tuple(state[ours].shape)
            if len(shape) == 4:
                shape = tuple(shape[i] for i in ((2, 3, 0, 1) if name.endswith("depthwise_weights") else (2, 3, 1, 0)))
            elif len(shape) == 2:
                shape = (1, 1, *shape[::-1])
            released[ours], tensors[ours] = name, layout(name, draw(name, shape))
    report = fit(network, Weights("oracle", tensors, {}))
    if report.missing or report.unexpected:
        raise ValueError(f"not all tensors have a released name: {report}")
    return network, released


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """Draw an image, uint8 [h, w, 3]: three quarters blocks of 16 pixels, one quarter noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    blocks = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.int64)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.int64)
    return ((3 * blocks.repeat(16, 0).repeat(16, 1)[:height, :width] + noise) // 4).astype(np.uint8)


def draw_label(seed: int, height: int, width: int, classes: int = 21) -> np.ndarray:
    """Draw a mask, uint8 [h, w]: blocks of 8 pixels of one class, 15 % of the pixels void."""
    rng = np.random.Generator(np.random.PCG64(seed))
    blocks = rng.integers(0, classes, (height // 8 + 1, width // 8 + 1), dtype=np.int64)
    label = blocks.repeat(8, 0).repeat(8, 1)[:height, :width].copy()
    label[rng.random((height, width)) < 0.15] = 255
    return label.astype(np.uint8)


def nhwc(x: torch.Tensor) -> np.ndarray:
    """Return a tensor as an array; one of four dimensions goes from N,C,H,W to N,H,W,C."""
    return x.detach().permute(0, 2, 3, 1).numpy() if x.ndim == 4 else x.detach().numpy()
