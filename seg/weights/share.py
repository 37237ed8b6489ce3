"""Write a folder for the Hugging Face Hub: weights, settings and the model card."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from ..config import Config, as_dict
from ..files import write_json, write_text
from .file import write
from .hub import SHARED
from .loading import open_model
from .model_card import model_card


def share(weights: str | Path, out: str | Path, name: str = "OWNER/NAME") -> Path:
    """Write a folder for the Hugging Face Hub: model.safetensors, config.json and the model card README.md.

    Paths of this machine are removed: only the last part of paths of data and weights is kept.

    Args:
        weights: WEIGHTS as for `resolve_weights`, except for exported models.
        out: the folder to write.
        name: the name on the Hub that the card's example uses.

    Returns:
        The folder.

    Raises:
        UserError: the weights cannot be read, or the folder cannot be written.
    """
    model, metadata = open_model(weights)
    metadata.config = _portable(metadata.config)
    names, folder = metadata.labels.names, Path(out)
    write(folder / SHARED, cast(nn.Module, model), metadata)
    settings: dict[str, Any] = {
        "architectures": [metadata.config.model.smp or "DeepLabV3Plus"],
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "score": metadata.score,
        "origin": metadata.origin,
        "seg": as_dict(metadata.config),
    }
    write_json(folder / "config.json", settings)
    write_text(folder / "README.md", model_card(metadata, sum(p.numel() for p in model.parameters()), name))
    return folder


def _portable(config: Config) -> Config:
    """Keep only the last part of each path in a configuration."""

    def last(source: str | None) -> str | None:
        return source if source is None or source.startswith(("timm:", "hf:")) else Path(source).name

    data = config.data
    sources = [source | {"root": Path(source["root"]).name} for source in data.sources]
    return replace(
        config,
        runs="runs",
        model=replace(config.model, weights=last(config.model.weights)),
        data=replace(data, root=Path(data.root).name, labels=Path(data.labels).name, masks=last(data.masks), sources=sources),
    )
