"""From a source of weights into a model, with a report of what matched."""

from dataclasses import dataclass, field

import torch
from torch import nn

from ..config import as_dict
from ..config import from_dict as config_from_dict
from ..errors import UserError
from .file import Metadata, open_safetensors, read_metadata
from .sources import Weights, open_source

CLASSIFIERS = ("classifier.", "image_classifier.", "network.segmentation_head.")


@dataclass
class Report:
    """What a load did, by tensor name of the model (`unexpected`: of the source)."""

    source: str
    matched: list[str] = field(default_factory=list)
    reinitialized: list[str] = field(default_factory=list)
    """In the source, but made for another number of classes."""
    missing: list[str] = field(default_factory=list)
    """Not in the source: they keep their initial values."""
    unexpected: list[str] = field(default_factory=list)
    """In the source, but of no use to the model."""
    notes: list[str] = field(default_factory=list)
    """What a warm start did, a line a layer."""

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
    """`aspp (31), decoder (18)`: how many tensors of each part; `a.b`, where it is one."""
    parts: dict[str, int] = {}
    for name in names:
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + 1
    return names[0] if len(names) == 1 else ", ".join(f"{part} ({count})" for part, count in parts.items())


def read_into(model: nn.Module, source, *, partial: bool = False) -> Report:
    """Copy the weights of `source` (see source.KINDS) into `model`.

    Raises UserError where a tensor has another shape (other than the classifier's), the weights are of the other placement, or,
    unless `partial`, the backbone would not be complete. Then nothing is copied.
    """
    weights = open_source(source)
    theirs, ours = weights.activation_placement, getattr(model.backbone, "activation_placement", None)
    if theirs and ours and theirs != ours and model.backbone.aligned:
        raise UserError(
            f"{source}: weights of the '{theirs}' placement in a '{ours}' network; set model.activation_placement={theirs}"
        )
    return fit(model, weights, partial=partial)


def fit(model: nn.Module, weights: Weights, *, partial: bool = False) -> Report:
    """Copy the tensors into the model, all that fit or, where they do not, none (UserError)."""
    report = match(model, weights, partial=partial)
    state, tensors = model.state_dict(), weights.tensors
    for name in report.matched:
        if tensors[name].is_complex() or not tensors[name].to(state[name].dtype).isfinite().all():
            raise UserError(
                f"{weights.source}: tensor '{name}' holds what is no finite number; copy, download or train it again"
            )
    with torch.no_grad():
        for name in report.matched:
            state[name].copy_(tensors[name])
    return report


def match(model: nn.Module, weights: Weights, *, partial: bool = False) -> Report:
    """What `fit` would do, by names and shapes alone: the model may be on the meta device. Raises UserError as it does."""
    state, tensors = model.state_dict(), weights.tensors
    report = Report(weights.source)
    backbone = next(name for name, module in model.named_modules() if module is model.backbone) + "."
    wrong = []
    for name, value in state.items():
        if name not in tensors:
            # Nothing reads this counter: the moving averages have a fixed momentum.
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
            "model.weights_use=partial takes less than a backbone"
        )
    return report


def _fitting(report: Report) -> str:
    return f"{len(report.matched)} tensors fit" + (f": {summary(report.matched)}" if report.matched else "")


def _remedy(model: nn.Module, weights: Weights) -> str:
    made_for, ours = weights.settings["backbone"], getattr(model.backbone, "name", None)
    if made_for == "xception" and getattr(model.backbone, "aligned", False):
        return ". They are the original Xception's: model.weights_use=warm_start begins from its layers"
    return f". They look like model.backbone={made_for}'s" if made_for != ours else ""


def open_model(path, overrides=()) -> tuple[nn.Module, Metadata]:
    """The model that a weights file of ours describes, in evaluation mode, and its metadata. `overrides` change settings."""
    from ..models.factory import build_meta_model, build_model

    tensors, raw = open_safetensors(path)
    metadata = read_metadata(raw, path)
    if overrides:
        metadata.config = config_from_dict(as_dict(metadata.config), str(path), overrides)
    if metadata.config.model.image_classes is not None:
        raise UserError(
            f"{path}: holds an image classifier, which has no masks; model.weights of a training takes its backbone"
        )
    weights = Weights(str(path), tensors, as_dict(metadata.config)["model"])
    # What the file says of its network may ask for more memory than there is: first, whether it is of that size.
    report = match(build_meta_model(metadata.config.model, len(metadata.labels)), weights)
    if report.missing or report.reinitialized or report.unexpected:
        raise UserError(f"{report}; the file does not hold the model that its metadata describes")
    model = build_model(metadata.config.model, len(metadata.labels))
    fit(model, weights)
    return model.eval(), metadata
