"""Opens WEIGHTS for prediction: weights of this project in PyTorch or converted to a runtime, or an exported model."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from ..config import as_dict, from_dict
from ..distributed import check_device_name
from ..distributed import device as find_device
from ..errors import UserError, did_you_mean, reason
from ..models.interface import SegmentationModel
from ..precision import Precision, require_precision
from ..weights.file import Metadata, read_metadata
from ..weights.loading import open_model
from ..weights.resolve import resolve_network
from . import EXPORTED_SUFFIXES, RUNTIMES, onnx, openvino
from .models import ExportedModel, Run, RuntimeModel
from .pytorch import fast_model

ON_CPU = ("onnx", "openvino")
"""The runtimes that compute only on the CPU."""


def open_runtime(
    weights: str | Path, runtime: str | None = None, overrides: Sequence[str] = (), device: str | None = None
) -> tuple[SegmentationModel, Metadata]:
    """Open a model for prediction.

    Args:
        weights: WEIGHTS as for `resolve_weights`.
        runtime: one of `RUNTIMES`; None: PyTorch, with batch norm as trained.
        overrides: `key=value` settings that replace those in the file.
        device: as for `seg.distributed.device`; None: auto.

    Returns:
        The model in evaluation mode, and its metadata. With a runtime, the model has the output stride of
        `metadata.config.evaluate`, and keeps it.

    Raises:
        UserError: the weights cannot be read, the runtime is unknown or not installed, the device is absent, an exported model
            has a different fixed setting, or the runtime or the hardware does not support the precision.
    """
    check_device_name(device or "auto")
    path = resolve_network(weights)
    if path.suffix in EXPORTED_SUFFIXES:
        check_on_cpu(device, f"{path}: an exported model")
        if runtime:
            raise UserError(f"{path}: an exported model has a fixed runtime; leave out the runtime {runtime}")
        exported, metadata = open_exported(path)
        exported.require(from_dict(as_dict(metadata.config), str(path), overrides).evaluate)
        return cast(SegmentationModel, exported), metadata
    model, metadata = open_model(path, overrides)
    if runtime in ON_CPU:
        check_on_cpu(device, f"the runtime {runtime}", "cpu")
    place, settings = find_device(device or "auto"), metadata.config.evaluate
    model.to(place)
    if runtime:
        return in_runtime(model, runtime, settings.output_stride, settings.precision), metadata
    require_precision(settings.precision, place, f"precision {settings.precision}")
    return model, metadata


def check_on_cpu(device: object, what: str, *accepted: str) -> None:
    """Raise a UserError if a device is chosen, other than auto and the accepted ones, for a runtime of the CPU only."""
    if device is not None and str(device) not in ("auto", *accepted):
        raise UserError(f"{what} runs on the CPU; leave out the device {device}")


def in_runtime(
    model: SegmentationModel, runtime: str, output_stride: int | None = None, precision: Precision = "float32"
) -> SegmentationModel:
    """Convert a model to a runtime.

    Args:
        model: a segmentation model; not changed.
        runtime: one of `RUNTIMES`. `onnx` and `openvino` compute on the CPU, with as many threads as PyTorch.
        output_stride: of the converted model, 8, 16 or 32; None: the model's. `onnx` and `openvino` cannot change it later.
        precision: in which the model will predict. `openvino` is converted to it; a Predictor takes PyTorch to it.

    Returns:
        A model in evaluation mode with batch norm folded, whose logits are equal up to rounding.

    Raises:
        UserError: the runtime is unknown or not installed, or it or the hardware lacks the precision.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"runtime {runtime}: unknown{did_you_mean(runtime, RUNTIMES)}")
    if runtime == "onnx" and precision != "float32":
        raise UserError(
            f"precision {precision}: ONNX Runtime computes in float32 on the CPU; choose the runtime openvino or torch"
        )
    here = torch.device("cpu") if runtime in ON_CPU else next(model.parameters()).device
    require_precision(precision, here, f"precision {precision}")
    model = fast_model(model, compiled=runtime == "compile")
    model.output_stride = output_stride or model.output_stride
    if runtime == "onnx":
        return RuntimeModel(model, onnx.onnx_logits(model.to("cpu")), runtime)
    if runtime == "openvino":
        return RuntimeModel(model, openvino.openvino_logits(model.to("cpu"), precision), runtime)
    return model


def open_exported(path: str | Path) -> tuple[ExportedModel, Metadata]:
    """Open an exported model of `seg export`.

    Args:
        path: an .onnx file, or an .xml file with its .bin beside it.

    Returns:
        The model, and its metadata.

    Raises:
        UserError: the file is missing, damaged or not an exported model, its runtime is not installed, or the processor lacks
            its precision.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such exported model; seg export writes one")
    open_run, stored = (onnx if path.suffix == ".onnx" else openvino).read_exported(path)
    metadata = read_metadata(stored, path)
    precision = metadata.config.evaluate.precision
    require_precision(precision, torch.device("cpu"), f"{path}: exported with precision {precision}")
    run = open_run(precision)
    return ExportedModel(_checked(run, path, len(metadata.labels)), metadata.config.evaluate, str(path)), metadata


def _checked(run: Run, path: Path, classes: int) -> Run:
    """Run an exported model once: a damaged one may open, and fail only when it runs."""

    def checked(images: np.ndarray) -> np.ndarray:
        try:
            masks = run(images)
        except Exception as error:  # the libraries' exceptions have no common base class
            raise UserError(f"{path}: the model does not run ({reason(error)}); export it again") from error
        if masks.dtype != np.uint8 or masks.shape != images.shape[:3] or masks.max() >= classes:
            raise UserError(f"{path}: the model does not return one of {classes} classes for each pixel; export it again")
        return masks

    return checked
