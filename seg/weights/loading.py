"""Load weights into a network."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import cast

from torch import nn

from ..config import as_dict
from ..config import from_dict as config_from_dict
from ..errors import UserError
from ..models.factory import build_meta_model, build_model
from ..models.interface import SegmentationModel
from .file import Metadata, open_safetensors, read_metadata
from .fitting import Report, Weights, fit, match
from .resolve import resolve_network
from .sources import open_source


def read_into(model: nn.Module, source: str | Path, *, partial: bool = False) -> Report:
    """Copy the weights of a source into a model.

    Args:
        model: a segmentation network or an image classifier of ours.
        source: see `sources.KINDS`.
        partial: accept weights that do not cover the whole backbone.

    Returns:
        What matched.

    Raises:
        UserError: a tensor other than the classifier's has another shape, the weights are for the other activation placement,
            or they do not cover the backbone and `partial` is false. Nothing is copied then.
    """
    weights = open_source(source)
    backbone = model.backbone
    theirs, ours = weights.activation_placement, getattr(backbone, "activation_placement", None)
    if theirs and ours and theirs != ours and getattr(backbone, "aligned", False):
        raise UserError(
            f"{source}: weights of the '{theirs}' placement in a '{ours}' network; set model.activation_placement={theirs}"
        )
    return fit(model, weights, partial=partial)


def open_model(source: str | Path, overrides: Sequence[str] = ()) -> tuple[SegmentationModel, Metadata]:
    """Build the segmentation network of a weights file of ours, and load the weights.

    Args:
        source: WEIGHTS as for `resolve_weights`, except for exported models.
        overrides: `key=value` settings over those in the file.

    Returns:
        The network in evaluation mode on the CPU, and the metadata, with the overrides applied.

    Raises:
        UserError: the file is missing, damaged or not one of ours, or holds no segmentation network.
    """
    tensors, raw = open_safetensors(resolve_network(source))
    metadata = read_metadata(raw, source)
    if overrides:
        metadata.config = config_from_dict(as_dict(metadata.config), str(source), overrides)
    if metadata.config.model.image_classes is not None:
        raise UserError(
            f"{source}: holds an image classifier, without segmentation classes; start a training from its backbone: "
            f"seg train CONFIG model.weights={quote(str(source))}"
        )
    weights = Weights(str(source), tensors, as_dict(metadata.config)["model"])
    # First without memory: the metadata of a damaged file may describe a network of any size.
    report = match(build_meta_model(metadata.config.model, len(metadata.labels)), weights)
    alone = all(name.startswith("backbone.") for name in report.matched)
    if report.missing and (alone or all(name.startswith("classifier.") for name in report.missing)):
        what = "a backbone only, such as ImageNet weights" if alone else "a network without its classifier"
        raise UserError(
            f"{source}: holds {what}, without segmentation classes; start a training from it: "
            f"seg train CONFIG model.weights={quote(str(source))}"
        )
    if report.missing or report.reinitialized or report.unexpected:
        raise UserError(f"{report}; the file does not hold the network that its metadata describes; copy or download it again")
    model = build_model(metadata.config.model, len(metadata.labels))
    fit(model, weights)
    return cast(SegmentationModel, model.eval()), metadata
