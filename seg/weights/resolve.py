"""Resolves WEIGHTS, the argument of every verb and of `seg.load`, to a file on this machine."""

from pathlib import Path
from shlex import quote

from ..config import RUN_CONFIG
from ..errors import UserError
from ..files import expand
from . import published, zoo
from .hub import SHARED, download

BEST = "best.safetensors"
"""The best weights in a run's folder."""
PICKLES = (".pt", ".pth", ".pkl", ".bin")


def resolve_weights(source: str | Path) -> Path:
    """Find the file of WEIGHTS.

    Args:
        source: the name of a published model (fetched and converted at the first use), a run's folder (its best.safetensors),
            a folder that `seg share` wrote, `hf:OWNER/NAME` (fetched), or the path of a .safetensors, .onnx or .xml file. A
            name of a published model is never a path: write ./NAME for a folder of that name.

    Returns:
        The path of the file. It is not opened here.

    Raises:
        UserError: a folder has no weights yet, weights cannot be downloaded, a name is misspelled, or the source must be
            converted first or has no segmentation classes.
    """
    text = str(source)
    if text in zoo.MODELS:
        return published.get(text)
    if text.startswith("hf:"):
        return download(text)
    if text.startswith("timm:"):
        raise UserError(
            f"{text}: a backbone trained on ImageNet, without segmentation classes; start a training from it: "
            f"seg train CONFIG model.weights={text}"
        )
    if text.startswith("tf:"):
        raise UserError(
            f"{text}: a TensorFlow checkpoint; convert it first: seg convert {quote(text)} --out model.safetensors, "
            "and give that file"
        )
    path = expand(source)
    if path.is_dir():
        return weights_in(path)
    if path.is_file() and path.suffix == ".ckpt":
        raise UserError(f"{path}: a training state, which only seg train --resume reads; give the run's folder, {path.parent}")
    if path.is_file() and path.suffix in PICKLES:
        raise UserError(
            f"{path}: a pickle, which seg never opens because it can run code; save the network with seg.save, or "
            "its state_dict with safetensors.torch.save_file, and convert that with seg convert"
        )
    if not path.exists():
        zoo.refuse_misspelled(text)
    return path


def resolve_network(source: str | Path) -> Path:
    """`resolve_weights` for prediction. Published backbones are refused before the download: they have no segmentation classes.

    Raises:
        UserError: as `resolve_weights`, or the source is a published backbone.
    """
    model = zoo.MODELS.get(str(source))
    if model and model.labels is None:
        raise UserError(
            f"{source}: a backbone trained on ImageNet, without segmentation classes; start a training from it: "
            f"seg train CONFIG model.weights={source}"
        )
    return resolve_weights(source)


def weights_in(folder: Path) -> Path:
    """Find the weights in a run's folder, or in one that `seg share` wrote.

    Raises:
        UserError: the folder has none yet.
    """
    for name in (BEST, SHARED):
        if (folder / name).is_file():
            return folder / name
    if any((folder / name).exists() for name in (RUN_CONFIG, "last.ckpt")):
        raise UserError(f"{folder}: has no {BEST} yet; a training writes it at its first validation (train.validate_every)")
    raise UserError(f"{folder}: not the folder of a run: it has no {BEST}; give a run's folder, such as runs/NAME, or a file")
