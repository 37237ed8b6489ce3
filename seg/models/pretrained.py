"""Weights for the named constructors."""

import importlib
import os
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UserError
from .deeplab import DeepLabV3Plus
from .habits import IMAGENET_WEIGHTS

HEAD = ("aspp.", "dpc.", "decoder.")
FOLLOWED = ("activation_placement", "separable_activation")


def _reader() -> Any:
    """The module that reads weights, looked up when it is needed: seg.weights imports seg.models, so an import statement here
    would be a circle."""
    return importlib.import_module("..weights.loading", __package__)


def open_weights(function: str, backbone: str, weights: Any) -> Any:
    """Read a source of weights: its `seg.weights.sources.Weights`, or None without one.

    Args:
        function: the constructor's name, for messages.
        backbone: the backbone that the weights must be of.
        weights: the constructor's argument.

    Raises:
        UserError: they cannot be read, or are those of another network.
    """
    if weights is None:
        return None
    imagenet = f"weights='{IMAGENET_WEIGHTS[backbone]}'"
    if not isinstance(weights, str | os.PathLike) or not os.fspath(weights):
        raise UserError(f"{function}: weights={weights!r}: must be the name or path of weights; ImageNet weights: {imagenet}")
    name = os.fspath(weights)
    try:
        source = _reader().open_source(name)
    except UserError as error:
        understood = name.startswith(("timm:", "tf:", "hf:")) or Path(name).exists()
        raise UserError(f"{function}: {error}" + ("" if understood else f". ImageNet weights: {imagenet}")) from error
    theirs = source.settings["backbone"]
    if source.settings.get("smp"):
        theirs = f"{source.settings['smp']} on {theirs} of segmentation-models-pytorch"
    if theirs != backbone:
        raise UserError(f"{function}: {name}: weights of {theirs}, not of {backbone}; ImageNet weights: {imagenet}")
    return source


def followed_settings(function: str, options: dict[str, Any], source: Any) -> dict[str, Any]:
    """The constructor's options, with the activations that the weights were trained with where none are given.

    Tensors do not show where their network had ReLU: with another placement they fit, but the network computes nonsense.

    Raises:
        UserError: the option given is not that of the weights.
    """
    chosen = {key: value for key, value in options.items() if key not in FOLLOWED or value is not None}
    if source is None:
        return chosen
    trained_with = {
        "activation_placement": source.activation_placement,
        "separable_activation": source.settings.get("separable_activation"),
    }
    for key, theirs in trained_with.items():
        if theirs is not None and chosen.setdefault(key, theirs) != theirs:
            raise UserError(
                f"{function}: {key}='{chosen[key]}': the weights {source.source} were trained with '{theirs}'; leave it out"
            )
    return chosen


def load_weights(function: str, network: nn.Module, source: Any) -> None:
    """Copy the weights into a DeepLab V3+ or a backbone.

    Raises:
        UserError: they do not fill the backbone, or only a part of the head.
    """
    model = network
    if not isinstance(network, DeepLabV3Plus):
        model = nn.Module()
        model.backbone = network
    report = _reader().fit(model, source)
    if model is not network or not any(name.startswith(HEAD) for name in report.matched):
        return
    odd = [name for name in (*report.missing, *report.unexpected) if name.startswith(HEAD)]
    if odd:
        raise UserError(
            f"{function}: {source.source}: another context or decoder than this network's: {len(odd)} tensors differ, "
            f"first '{odd[0]}'; set the options context, aspp and decoder as in the training of the weights"
        )
