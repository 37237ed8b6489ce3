"""Reads the supported sources of weights: tensors under our names, and the settings of their network."""

import inspect
import json
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ..errors import UserError, reason
from . import tensorflow, timm
from .file import FORMAT, open_safetensors, read_metadata
from .fitting import Weights
from .resolve import resolve_weights

KINDS = (
    "the name of a published model (see seg models), a .safetensors file of this project or of timm's Xceptions, a run's "
    "folder, hf:OWNER/NAME, tf:PATH/model.ckpt-N, timm:NAME such as timm:xception65.tf_in1k, or a folder that "
    "segmentation-models-pytorch saved"
)


def open_source(source: str | Path) -> Weights:
    """Read weights.

    Args:
        source: one of `KINDS`.

    Raises:
        UserError: the source is missing or damaged, or its network is not supported.
    """
    text = str(source)
    scheme, _, name = text.partition(":")
    if scheme == "tf":
        return tensorflow.open_checkpoint(text, name.removesuffix(".index"))
    if scheme == "timm":
        return _timm(text, timm.download(name))
    path = Path(text)
    if _is_smp_folder(path):
        return _smp(path)
    if path.suffix == ".index" or Path(f"{text}.index").is_file():
        return tensorflow.open_checkpoint(text, text.removesuffix(".index"))
    tensors, metadata = open_safetensors(resolve_weights(text))
    if metadata.get("format") == FORMAT:
        read = read_metadata(metadata, text)
        return Weights(text, tensors, asdict(read.config.model), read.labels, read.score)
    return _timm(text, tensors)


def _timm(source: str, theirs: dict[str, Tensor]) -> Weights:
    if (backbone := timm.backbone_of(theirs)) is None:
        raise UserError(
            f"{source}: not weights of a supported network (it has a tensor '{min(theirs, default='')}'); give {KINDS}"
        )
    settings = {"backbone": backbone} | ({} if backbone == "xception" else {"activation_placement": "tf"})
    return Weights(source, timm.to_ours(theirs), settings)


def _is_smp_folder(path: Path) -> bool:
    """Whether this may be a folder of segmentation-models-pytorch: not a run, and not of `seg share`."""
    if not (path / "config.json").is_file():
        return False
    try:
        return "seg" not in json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return True  # for its message


def _smp(folder: Path) -> Weights:
    """Read a folder written by `save_pretrained` of segmentation-models-pytorch: config.json and model.safetensors."""
    from ..models.smp import ARCHITECTURES  # costs seconds

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architecture, encoder = config.pop("_model_class"), config.pop("encoder_name")
        signature = inspect.signature(ARCHITECTURES[architecture].__init__).parameters
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder}: not a folder that segmentation-models-pytorch saved: config.json: {reason(error)}"
        ) from error
    for key, value in config.items():
        default = 3 if key == "in_channels" else signature[key].default if key in signature else None
        default = list(default) if isinstance(default, tuple) else default
        if key not in ("classes", "encoder_weights", "encoder_output_stride") and value != default:
            raise UserError(f"{folder}: {key}={value}: only models with the library's default, {default}, are supported")
    tensors, _ = open_safetensors(folder / "model.safetensors")
    settings = {"smp": architecture, "backbone": encoder, "weights": config.get("encoder_weights")}
    if "encoder_output_stride" in config:
        settings["output_stride"] = config["encoder_output_stride"]
    return Weights(str(folder), {f"network.{name}": value for name, value in tensors.items()}, settings)
