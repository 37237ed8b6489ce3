"""Reading weights into a model: our own safetensors and timm's original Xception; and writing our own."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..classes import LabelSet, from_dict
from ..config import Config, as_dict
from ..config import from_dict as config_from_dict
from ..errors import UserError
from ..files import whole
from . import timm

FORMAT = "seg"


@dataclass
class Report:
    """What a load did, by tensor name of the model (`unexpected`: of the file)."""

    source: str
    matched: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)
    """In the file, but made for another number of classes."""
    missing: list[str] = field(default_factory=list)
    """Not in the file: they keep their initial values."""
    unexpected: list[str] = field(default_factory=list)
    """In the file, but of no use to the model."""

    def __str__(self) -> str:
        total = len(self.matched) + len(self.reinitialised) + len(self.missing)
        text = f"{self.source}: {len(self.matched)} of {total} tensors read"
        for what in ("reinitialised", "missing", "unexpected"):
            if names := getattr(self, what):
                text += f"; {what}: {summary(names)}"
        return text


def summary(names: list[str]) -> str:
    """`aspp (31), decoder (18)`: how many tensors of each part; `a.b`, where it is one."""
    parts: dict[str, int] = {}
    for name in names:
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + 1
    return names[0] if len(names) == 1 else ", ".join(f"{part} ({count})" for part, count in parts.items())


def open_safetensors(path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises UserError where it is not one, or is cut short."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; model.weights is a path to a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error


def read_into(model: nn.Module, path) -> Report:
    """Copy the weights in `path` into `model`: the whole model from our own files, the backbone from timm's.

    Raises UserError where a tensor has another shape (other than the classifier's), or the backbone would not be complete.
    """
    tensors, metadata = open_safetensors(path)
    if metadata.get("format") == FORMAT:
        _check_placement(model, metadata, path)
    elif timm.is_legacy_xception(tensors):
        tensors = timm.from_legacy_xception(tensors)
    else:
        raise UserError(
            f"{path}: neither a file of this project nor timm's legacy_xception; a tensor in it: '{min(tensors, default='')}'"
        )
    return fit(model, tensors, str(path))


def fit(model: nn.Module, tensors: dict[str, torch.Tensor], source: str) -> Report:
    """Copy `tensors`, named as in `model`, into it; all or, where they do not fit, none (UserError)."""
    state = model.state_dict()
    report = Report(source)
    wrong = []
    for name, value in state.items():
        if name not in tensors:
            # Nothing reads this counter: the moving averages have a fixed momentum.
            if not name.endswith("num_batches_tracked"):
                report.missing.append(name)
        elif tensors[name].shape == value.shape:
            report.matched.append(name)
        elif name.startswith("classifier."):
            report.reinitialised.append(name)
        else:
            wrong.append(f"{name} is {list(tensors[name].shape)} in the file, {list(value.shape)} in the model")
    report.unexpected = [name for name in tensors if name not in state]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{source}: does not fit this model: {wrong[0]}{more}; {_fitting(report)}")
    absent = [name for name in report.missing if name.startswith("backbone.")]
    if absent or not report.matched:
        raise UserError(
            f"{source}: does not fill the backbone of this model: {len(absent)} of its tensors are missing, first "
            f"'{(absent or ['all'])[0]}'; {_fitting(report)}. "
            "Is model.backbone the network that the file was made for?"
        )
    with torch.no_grad():
        for name in report.matched:
            state[name].copy_(tensors[name])
    return report


def _fitting(report: Report) -> str:
    return f"{len(report.matched)} tensors fit" + (f": {summary(report.matched)}" if report.matched else "")


def _check_placement(model: nn.Module, metadata: dict[str, str], path) -> None:
    theirs = read_metadata(metadata, path).config.model.placement
    ours = getattr(model.backbone, "placement", theirs)
    if theirs != ours:
        raise UserError(f"{path}: weights of the '{theirs}' placement in a '{ours}' network; set model.placement={theirs}")


@dataclass
class Metadata:
    """What our own files say of themselves."""

    config: Config
    labels: LabelSet
    score: dict
    """Such as {"iteration": 2000, "miou": 0.41}; empty where never validated."""


def read_metadata(metadata: dict[str, str], path) -> Metadata:
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: has no configuration in its metadata; is it a best.safetensors of this project?")
    try:
        config, labels, score = (json.loads(metadata[key]) for key in ("config", "labels", "score"))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its metadata is damaged ({error})") from error
    return Metadata(config_from_dict(config, str(path)), from_dict(labels, str(path)), score)


def write(path, model: nn.Module, config: Config, labels: LabelSet, score: dict) -> None:
    """Write the model's weights with label set, configuration, input statistics and score in the metadata."""
    from safetensors.torch import save_file

    metadata = {
        "format": FORMAT,
        "config": json.dumps(as_dict(config)),
        "labels": json.dumps(labels.as_dict()),
        "input": json.dumps({"mean": list(model.mean), "std": list(model.std)}),
        "score": json.dumps(score),
    }
    # Channels-last weights share no layout with the file: contiguous copies do.
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with whole(path) as temporary:
        save_file(tensors, temporary, metadata)


def open_model(path, overrides=()) -> tuple[nn.Module, Metadata]:
    """The model that a weights file of ours describes, in evaluation mode, and its metadata. `overrides` change settings."""
    from ..models.factory import build_model

    tensors, raw = open_safetensors(path)
    metadata = read_metadata(raw, path)
    if overrides:
        metadata.config = config_from_dict(as_dict(metadata.config), str(path), overrides)
    model = build_model(metadata.config.model, len(metadata.labels))
    report = fit(model, tensors, str(path))
    if report.missing or report.reinitialised or report.unexpected:
        raise UserError(f"{report}; the file does not hold the model that its metadata describes")
    return model.eval(), metadata
