"""Matches tensors of a source with those of a network."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..labels import LabelSet

CLASSIFIERS = ("classifier.", "image_classifier.", "network.segmentation_head.")


@dataclass
class Weights:
    """Tensors under our names, and the known settings of their network."""

    source: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    """The `model` section of a configuration that builds the network."""
    labels: LabelSet | None = None
    score: dict[str, Any] = field(default_factory=dict)

    @property
    def activation_placement(self) -> str | None:
        """Of the aligned Xceptions; None for networks without that choice."""
        aligned = self.settings["backbone"] in ("xception41", "xception65", "xception71")
        return self.settings.get("activation_placement") if aligned else None

    @property
    def classes(self) -> int | None:
        """Number of channels of the classifier; None if there is no classifier."""
        for name in ("classifier.bias", "network.segmentation_head.0.bias"):
            if name in self.tensors:
                return len(self.tensors[name])
        return None


@dataclass
class Report:
    """Report of loading weights, by the names of the network's tensors (`unexpected`: of the source's)."""

    source: str
    matched: list[str] = field(default_factory=list)
    reinitialized: list[str] = field(default_factory=list)
    """In the source, but for another number of classes: they keep their initial values."""
    missing: list[str] = field(default_factory=list)
    """Not in the source: they keep their initial values."""
    unexpected: list[str] = field(default_factory=list)
    """In the source, but unused."""
    notes: list[str] = field(default_factory=list)
    """Notes of a warm start, one line for each layer."""

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


def fit(model: nn.Module, weights: Weights, *, partial: bool = False) -> Report:
    """Copy tensors into a model: all matching tensors, or none.

    Raises:
        UserError: as `match`, or a tensor holds a NaN or an infinite value.
    """
    report = match(model, weights, partial=partial)
    state, tensors = model.state_dict(), weights.tensors
    for name in report.matched:
        if tensors[name].is_complex() or not tensors[name].to(state[name].dtype).isfinite().all():
            raise UserError(
                f"{weights.source}: tensor '{name}' holds a NaN or an infinite value; copy, download or train it again"
            )
    with torch.no_grad():
        for name in report.matched:
            state[name].copy_(tensors[name])
    return report


def match(model: nn.Module, weights: Weights, *, partial: bool = False) -> Report:
    """Report what `fit` would do, from names and shapes only.

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
            "set model.weights_use=partial to use the tensors that fit"
        )
    return report


def _fitting(report: Report) -> str:
    return f"{len(report.matched)} tensors fit" + (f": {summary(report.matched)}" if report.matched else "")


def _remedy(model: nn.Module, weights: Weights) -> str:
    made_for, ours = weights.settings["backbone"], getattr(model.backbone, "name", None)
    if made_for == "xception" and getattr(model.backbone, "aligned", False):
        return ". They are the original Xception's: set model.weights_use=warm_start to start from its layers"
    return f". They look like weights of model.backbone={made_for}" if made_for != ours else ""
