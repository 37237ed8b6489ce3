"""Load weights into a network, and report what matched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ..config import as_dict
from ..config import from_dict as config_from_dict
from ..errors import UserError
from ..models.factory import build_meta_model, build_model
from ..models.interface import SegmentationModel
from .file import Metadata, open_safetensors, read_metadata
from .sources import Weights, open_source

CLASSIFIERS = ("classifier.", "image_classifier.", "network.segmentation_head.")


@dataclass
class Report:
    """What loading weights did, by the names of the network's tensors (`unexpected`: of the source's)."""

    source: str
    matched: list[str] = field(default_factory=list)
    reinitialized: list[str] = field(default_factory=list)
    """In the source, but for another number of classes: they keep their initial values."""
    missing: list[str] = field(default_factory=list)
    """Not in the source: they keep their initial values."""
    unexpected: list[str] = field(default_factory=list)
    """In the source, but unused."""
    notes: list[str] = field(default_factory=list)
    """What a warm start did, one line for each layer."""

    def __str__(self) -> str:
        total = len(self.matched) + len(self.reinitialized) + len(self.missing)
        text = f"{self.source}: {len(self.matched)} of {total} tensors read"
        if self.reinitialized:
            text += f"; reinitialized: {', '.join(self.reinitialized)}"
        for what in ("missing", "unexpected"):
            if names := getattr(self, what):
                text += f"; {what}: {summary(names)}"
        return "\n".join([text, *(f"  {note}" for note in self.notes)])


def summary(names: list[str]) -> str:
    """Count tensors by part, such as `aspp (31), decoder (18)`; a single tensor is named."""
    parts: dict[str, int] = {}
    for name in names:
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + 1
    return names[0] if len(names) == 1 else ", ".join(f"{part} ({count})" for part, count in parts.items())


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


def fit(model: nn.Module, weights: Weights, *, partial: bool = False) -> Report:
    """Copy tensors into a model: all that `match` finds, or none.

    Raises:
        UserError: as `match`, or a tensor holds a NaN or an infinite value.
    """
    report = match(model, weights, partial=partial)
    state, tensors = model.state_dict(), weights.tensors
    for name in report.matched:
        if tensors[name].is_complex() or not tensors[name].to(state[name].dtype).isfinite().all():
            raise UserError(
                f"{weights.source}: tensor '{name}' holds a value that is no finite number; copy, download or train it again"
            )
    with torch.no_grad():
        for name in report.matched:
            state[name].copy_(tensors[name])
    return report


def match(model: nn.Module, weights: Weights, *, partial: bool = False) -> Report:
    """Report what `fit` would do, by names and shapes alone.

    Args:
        model: the network; it may be on the meta device.
        weights: the tensors.
        partial: accept tensors that do not cover the whole backbone.

    Raises:
        UserError: the tensors do not fit the model.
    """
    state, tensors = model.state_dict(), weights.tensors
    report = Report(weights.source)
    backbone = next(name for name, module in model.named_modules() if module is model.backbone) + "."
    wrong = []
    for name, value in state.items():
        if name not in tensors:
            # Nothing reads this counter: our batch norms have a fixed momentum.
            if not name.endswith("num_batches_tracked"):
                report.missing.append(name)
        elif tensors[name].shape == value.shape:
            report.matched.append(name)
        elif name.startswith(CLASSIFIERS) and tensors[name].shape[1:] == value.shape[1:]:
            report.reinitialized.append(name)
        else:
            wrong.append(f"{name} is {list(tensors[name].shape)} in the file, {list(value.shape)} in the model")
    report.unexpected = [name for name in tensors if name not in state]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(
            f"{weights.source}: does not fit this model: {wrong[0]}{more}; {_fitting(report)}{_remedy(model, weights)}"
        )
    absent = [name for name in report.missing if name.startswith(backbone)]
    if not report.matched or (absent and not partial):
        raise UserError(
            f"{weights.source}: does not fill the backbone of this model: {len(absent)} of its tensors are missing, first "
            f"'{(absent or ['all'])[0]}'; {_fitting(report)}{_remedy(model, weights)}; "
            "set model.weights_use=partial to use what fits"
        )
    return report


def _fitting(report: Report) -> str:
    return f"{len(report.matched)} tensors fit" + (f": {summary(report.matched)}" if report.matched else "")


def _remedy(model: nn.Module, weights: Weights) -> str:
    made_for, ours = weights.settings["backbone"], getattr(model.backbone, "name", None)
    if made_for == "xception" and getattr(model.backbone, "aligned", False):
        return ". They are the original Xception's: set model.weights_use=warm_start to start from its layers"
    return f". They look like weights of model.backbone={made_for}" if made_for != ours else ""


def open_model(source: str | Path, overrides: Sequence[str] = ()) -> tuple[SegmentationModel, Metadata]:
    """Build the segmentation network that a weights file of ours describes, and load the weights.

    Args:
        source: WEIGHTS as `resolve_weights` takes them, except for exported models.
        overrides: `key=value` settings over those in the file.

    Returns:
        The network in evaluation mode on the CPU, and the metadata, with the overrides applied.

    Raises:
        UserError: there is no such file, it is not one of ours, is damaged, or holds no segmentation network.
    """
    tensors, raw = open_safetensors(source)
    metadata = read_metadata(raw, source)
    if overrides:
        metadata.config = config_from_dict(as_dict(metadata.config), str(source), overrides)
    if metadata.config.model.image_classes is not None:
        raise UserError(
            f"{source}: holds an image classifier, without segmentation classes; start a training from its backbone: "
            f"seg train CONFIG model.weights={source}"
        )
    weights = Weights(str(source), tensors, as_dict(metadata.config)["model"])
    # First without memory: the metadata of a damaged file may describe a network of any size.
    report = match(build_meta_model(metadata.config.model, len(metadata.labels)), weights)
    if report.missing and all(name.startswith("backbone.") for name in report.matched):
        raise UserError(
            f"{source}: holds a backbone only, such as ImageNet weights, without segmentation classes; start a training from "
            f"it: seg train CONFIG model.weights={source}"
        )
    if report.missing or report.reinitialized or report.unexpected:
        raise UserError(f"{report}; the file does not hold the network that its metadata describes; copy or download it again")
    model = build_model(metadata.config.model, len(metadata.labels))
    fit(model, weights)
    return cast(SegmentationModel, model.eval()), metadata
