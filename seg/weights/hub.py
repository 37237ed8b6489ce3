"""Models on the Hugging Face Hub: download `hf:OWNER/NAME`, and write and upload a folder as the Hub's users expect it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Config, as_dict
from ..errors import UserError, reason
from ..files import write_json, write_text
from .file import write
from .loading import open_model
from .model_card import model_card
from .resolve import SHARED

FILES = (SHARED, "config.json", "README.md")
"""What `share` writes and `push` uploads."""


def share(weights: str | Path, out: str | Path, name: str = "OWNER/NAME") -> Path:
    """Write a folder for the Hugging Face Hub: model.safetensors, config.json and the model card README.md.

    Paths of this machine are left out: of data and weights, only the last part of the path is kept.

    Args:
        weights: WEIGHTS as `resolve_weights` takes them, except for exported models.
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
    write(folder / SHARED, model, metadata.config, metadata.labels, metadata.score)
    settings: dict[str, Any] = {
        "architectures": [metadata.config.model.smp or "DeepLabV3Plus"],
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "score": metadata.score,
        "seg": as_dict(metadata.config),
    }
    write_json(folder / "config.json", settings)
    write_text(folder / "README.md", model_card(metadata, sum(p.numel() for p in model.parameters()), name))
    return folder


def push(folder: str | Path, name: str) -> str:
    """Upload what `share` wrote to the Hugging Face Hub, with the token of `hf auth login` or HF_TOKEN.

    Args:
        folder: what `share` wrote.
        name: OWNER/NAME; the repository is created if it does not exist.

    Returns:
        Its address.

    Raises:
        UserError: the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        hub = HfApi()
        address = hub.create_repo(name, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="Add the model")
    except Exception as error:  # exceptions of the library, of its HTTP client and of the system have no common base class
        raise UserError(
            f"{name}: cannot be pushed ({reason(error)}); log in with hf auth login, and check the network; {folder} is kept"
        ) from error
    return str(address)


def download(source: str) -> Path:
    """Download the weights of a model on the Hugging Face Hub, or take them from its cache.

    Args:
        source: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.

    Returns:
        The path of model.safetensors.

    Raises:
        UserError: there is no such model, or the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the library warns of each attempt; the error below is enough
    name, _, revision = source.removeprefix("hf:").partition("@")
    try:
        return Path(hf_hub_download(name, SHARED, revision=revision or None))
    except Exception as error:  # as in push
        raise UserError(
            f"{source}: cannot be downloaded ({reason(error)}); the form is hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
        ) from error


def _portable(config: Config) -> Config:
    """Keep only the last part of each path in a configuration."""

    def last(source: str | None) -> str | None:
        return source if source is None or source.startswith(("timm:", "hf:")) else Path(source).name

    data = config.data
    return replace(
        config,
        runs="runs",
        model=replace(config.model, weights=last(config.model.weights)),
        data=replace(data, root=Path(data.root).name, labels=Path(data.labels).name, masks=last(data.masks)),
    )
