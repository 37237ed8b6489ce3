"""Our own weights files: safetensors whose metadata holds label set, configuration, input statistics and score."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..config import Config, as_dict
from ..config import from_dict as config_from_dict
from ..errors import UserError, reason
from ..files import atomic_write
from ..labels import LabelSet, from_dict

FORMAT = "seg"


def local(source) -> Path:
    """The path of a file, fetched first where it is `hf:OWNER/NAME`."""
    if str(source).startswith("hf:"):
        from .hub import download

        return download(str(source))
    return Path(source)


def open_safetensors(path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, or of `hf:OWNER/NAME`. Raises UserError where it is not one, or cut short."""
    from safetensors import SafetensorError, safe_open

    path = local(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; give a .safetensors file, or see seg convert --help for other sources")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({reason(error)}); copy or download it again") from error


@dataclass
class Metadata:
    """What our own files say of themselves."""

    config: Config
    labels: LabelSet
    score: dict
    """Such as {"iteration": 2000, "miou": 0.41}; empty where never validated."""


def read_metadata(metadata: dict[str, str], path) -> Metadata:
    """Raises UserError where it is not the metadata of `write`."""
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path}: has no configuration in its metadata; is it a best.safetensors of this project? "
            "Weights from elsewhere: see seg convert --help"
        )
    try:
        config, labels, score = (json.loads(metadata[key]) for key in ("config", "labels", "score"))
        if not is_score(score):
            raise ValueError(f"score is {score!r}")
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is damaged ({reason(error)}); copy or download it again") from error
    return Metadata(config_from_dict(config, str(path)), from_dict(labels, str(path)), score)


SCORE = {"iteration": int, "miou": int | float, "split": str, "iou": dict}
"""What a score may say, and `iou` of each class by its name, null where undefined."""


def is_score(value) -> bool:
    if not isinstance(value, dict) or not all(isinstance(value[key], kind) for key, kind in SCORE.items() if key in value):
        return False
    return all(iou is None or isinstance(iou, int | float) for iou in value.get("iou", {}).values())


def describe(model: nn.Module, config: Config, labels: LabelSet, score: dict) -> dict[str, str]:
    """The metadata of a file that holds the model: what `read_metadata` reads, and the statistics of its input."""
    return {
        "format": FORMAT,
        "config": json.dumps(as_dict(config)),
        "labels": json.dumps(labels.as_dict()),
        "input": json.dumps({"mean": list(model.mean), "std": list(model.std)}),
        "score": json.dumps(score),
    }


def write(path, model: nn.Module, config: Config, labels: LabelSet, score: dict, *, only: str = "") -> None:
    """Write the model's weights (those whose names begin with `only`), and in the metadata what they are."""
    from safetensors.torch import save_file

    metadata = describe(model, config, labels, score)
    # Channels-last weights share no layout with the file: contiguous copies do.
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items() if name.startswith(only)}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata)
