"""The Hugging Face Hub: download `hf:OWNER/NAME`, and upload folders of `seg share`."""

from pathlib import Path

from ..errors import UserError, reason
from ..extras import quiet_hub

SHARED = "model.safetensors"
"""The weights in a folder that `seg share` wrote, and on the Hub."""
FILES = (SHARED, "config.json", "README.md")
"""Files that `seg share` writes."""


def push(folder: str | Path, name: str) -> str:
    """Upload a folder of `seg share` to the Hugging Face Hub, with the token of `hf auth login` or HF_TOKEN.

    Args:
        folder: written by `seg share`.
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

    name, _, revision = source.removeprefix("hf:").partition("@")
    try:
        with quiet_hub():
            return Path(hf_hub_download(name, SHARED, revision=revision or None))
    except Exception as error:  # as in push
        raise UserError(
            f"{source}: cannot be downloaded ({reason(error)}); the form is hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
        ) from error
