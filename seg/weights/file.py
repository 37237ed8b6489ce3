"""Weights files of this project: safetensors, with label set, configuration, input statistics and score in the metadata."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..config import Config, as_dict
from ..config import from_dict as config_from_dict
from ..errors import UserError, reason
from ..files import atomic_write
from ..labels import LabelSet, from_dict
from ..labels import load as load_labels
from ..models.factory import build_meta_model, build_model
from .describe import model_config_of, unwrapped
from .fitting import Report, Weights, fit, match

FORMAT = "seg"
"""The value of `format` in the metadata of our files."""
SCORE = {"iteration": int, "miou": int | float, "split": str, "iou": dict}
"""Keys of a score. `iou` has the IoU of each class by name; null if undefined."""

PARTS = ("backbone.", "aspp.", "dpc.", "decoder.")
"""The parts of a network without its classifier. A file may hold only the backbone, or all of them."""
ORIGIN = {"name", "address", "license", "trained_on", "scores"}
"""Keys of the origin of a published model."""


@dataclass
class Metadata:
    """Metadata of a weights file."""

    config: Config
    labels: LabelSet
    score: dict[str, Any]
    """Such as {"iteration": 2000, "miou": 0.41}, with the keys of `SCORE`; empty if never validated."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Of a converted published model: `PublishedModel.origin`; else empty."""
    trained_size: int | None = None
    """Median longest side of the training images, in pixels; None: unknown."""
    temperature: float = 1.0
    """Temperature of the softmax for probabilities (arXiv 1706.04599)."""

    def data_root(self) -> Path:
        """The data folder of the training. Raises UserError if it is not here."""
        root = Path(self.config.data.root)
        if not root.is_dir():
            if self.origin:
                raise UserError(f"{root}: no such data folder; give one with the classes of {self.origin['name']} with --data")
            place = "" if root.is_absolute() else f", which began in another folder than {Path.cwd()}"
            whose = f"it is the data.root of the training{place}"
            raise UserError(f"{root}: no such data folder; {whose}. Give the folder with --data")
        return root


def open_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Args:
        path: as `resolve_weights` gives it.

    Returns:
        Its tensors by name, and its metadata.

    Raises:
        UserError: it is missing, cut short, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix in (".onnx", ".xml"):
        raise UserError(f"{path}: an exported model, which can only predict; give the weights file that it was exported from")
    if not path.is_file():
        raise UserError(
            f"{path}: no such weights file; give a run's folder, a .safetensors file or a published model: seg models"
        )
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({reason(error)}); copy or download it again") from error


def store_temperature(path: str | Path, temperature: float) -> None:
    """Write a temperature into the metadata of a weights file of ours; its tensors are not changed.

    Raises:
        UserError: the file cannot be read or written.
    """
    from safetensors.torch import save_file

    tensors, metadata = open_safetensors(path)
    read_metadata(metadata, path)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata | {"temperature": json.dumps(temperature)})


def read_metadata(metadata: dict[str, str], path: str | Path) -> Metadata:
    """Parse the metadata that `write` stores.

    Args:
        metadata: the metadata of a file.
        path: the file, for messages.

    Raises:
        UserError: the file is not one of ours, or its metadata is damaged.
    """
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path}: has no configuration in its metadata; is it a best.safetensors of this project? "
            "Weights from elsewhere: see seg convert --help"
        )
    try:
        config, labels, score = (json.loads(metadata[key]) for key in ("config", "labels", "score"))
        if not is_score(score):
            raise ValueError(f"score is {score!r}")
        origin = json.loads(metadata.get("origin", "{}"))
        if not (isinstance(origin, dict) and set(origin) in (set(), ORIGIN)):
            raise ValueError(f"origin is {origin!r}")
        trained_size = json.loads(metadata.get("trained_size", "null"))
        if not (trained_size is None or (isinstance(trained_size, int) and trained_size > 0)):
            raise ValueError(f"trained_size is {trained_size!r}")
        temperature = json.loads(metadata.get("temperature", "1.0"))
        if not (isinstance(temperature, float) and 0 < temperature < math.inf):
            raise ValueError(f"temperature is {temperature!r}")
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is damaged ({reason(error)}); copy or download it again") from error
    read = config_from_dict(config, str(path)), from_dict(labels, str(path))
    return Metadata(*read, score, origin, trained_size, temperature)


def is_score(value: Any) -> bool:
    """Whether the keys of `SCORE` in a value have the right types."""
    if not isinstance(value, dict) or not all(isinstance(value[key], kind) for key, kind in SCORE.items() if key in value):
        return False
    return all(iou is None or isinstance(iou, int | float) for iou in value.get("iou", {}).values())


def file_metadata(model: nn.Module, about: Metadata) -> dict[str, str]:
    """Make the metadata of a model's file, for `read_metadata`, with the input statistics."""
    return {
        "format": FORMAT,
        "config": json.dumps(as_dict(about.config)),
        "labels": json.dumps(about.labels.as_dict()),
        "input": json.dumps({"mean": list(model.mean), "std": list(model.std)}),  # type: ignore[arg-type]
        "score": json.dumps(about.score),
        "origin": json.dumps(about.origin),
        "trained_size": json.dumps(about.trained_size),
        "temperature": json.dumps(about.temperature),
    }


def write(path: str | Path, model: nn.Module, about: Metadata, *, only: str | tuple[str, ...] = "") -> None:
    """Write a model's weights and their metadata, atomically.

    Args:
        path: the .safetensors file.
        model: a network that `about.config.model` builds.
        about: configuration, classes, score, and origin of the weights.
        only: write only the tensors whose names start with this, or one of these, such as `backbone.`.

    Raises:
        UserError: the file cannot be written.
    """
    from safetensors.torch import save_file

    # safetensors stores contiguous tensors only; channels-last weights are not.
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items() if name.startswith(only)}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, file_metadata(model, about))


def write_weights(
    path: str | Path,
    weights: Weights,
    labels: LabelSet,
    settings: dict[str, Any],
    origin: dict[str, Any] | None = None,
    trained_size: int | None = None,
) -> Report:
    """Write weights from another source: a whole network, a network without its classifier, or a backbone.

    Args:
        path: the .safetensors file.
        weights: the tensors.
        labels: the classes; as many as the classifier has, if there is one.
        settings: of a configuration, without the section `model`.
        origin, trained_size: see `Metadata`.

    Returns:
        A report of the matched tensors. Tensors that are `missing` are not written.

    Raises:
        UserError: the weights fit no network, or the file cannot be written.
    """
    config = config_from_dict({**settings, "model": weights.settings}, weights.source)
    # First without memory: a damaged file may describe a network of any size.
    match(build_meta_model(config.model, len(labels)), weights)
    model = build_model(config.model, len(labels))
    report = fit(model, weights)
    absent = {name.split(".")[0] + "." for name in report.missing}
    if absent and absent != {"classifier."} and not all(name.startswith("backbone.") for name in report.matched):
        raise UserError(f"{report}; not a whole network, nor a network without classifier, nor a backbone")
    only = tuple(part for part in PARTS if part not in absent) if absent else ""
    write(path, model, Metadata(config, labels, weights.score, origin or {}, trained_size), only=only)
    return report


def save(
    path: str | Path,
    network: nn.Module,
    labels: LabelSet | Sequence[str] | str,
    *,
    config: Config | None = None,
    score: dict[str, Any] | None = None,
) -> None:
    """Write a network of your own training loop as a weights file for every verb and `seg.load`.

    Args:
        path: the .safetensors file to write.
        network: a network of `seg.models`, also inside torch.compile, DistributedDataParallel or AveragedModel.
        labels: its classes: a label set; a built-in one's name, such as "voc", or its YAML file; or the names of the classes in
            order.
        config: settings to store, such as how to predict; its model section is replaced by that of the network.
        score: score of the network, with keys of `SCORE`, such as {"miou": 0.41, "split": "val"}.

    Raises:
        UserError: the network is not one of ours or holds a NaN or an infinite value, the number of labels is not that of its
            classes, a score is malformed, or the file cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise UserError(f"{path}: a weights file ends in .safetensors; name it {Path(path).with_suffix('.safetensors')}")
    network = unwrapped(network)
    model_config = model_config_of(network)
    if isinstance(labels, str):
        labels = load_labels(labels)
    if not isinstance(labels, LabelSet):
        labels = from_dict({"classes": list(labels)}, "labels")
    classes = network.num_classes
    if len(labels) != classes:
        raise UserError(f"{path}: {len(labels)} labels for a network of {classes} classes; give a name for each, in order")
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f"{path}: not written: tensor '{name}' of the network holds a NaN or an infinite value")
    if not is_score(score or {}):
        raise UserError(f"{path}: score={score!r}: must be a mapping such as {{'miou': 0.41, 'split': 'val'}}")
    write(path, network, Metadata(replace(config or Config(), model=model_config), labels, score or {}))
