"""The training state in `last.ckpt`."""

import pickle
import zipfile
from pathlib import Path

import torch

from ..errors import UserError, reason
from ..files import whole


def save(path, state: dict) -> None:
    """Write tensors and plain values, whole or not at all."""
    with whole(path) as temporary:
        torch.save(state, temporary)


def read(path) -> dict:
    """What `save` wrote, on the CPU. Never runs code from the file. Raises UserError for one that is damaged or foreign."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a whole checkpoint of this project ({reason(error)})") from error
