"""The Python interface: load a model, train, evaluate, export, save. The command line calls the same functions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from . import distributed
from .config import Config, as_dict, from_dict
from .config import load as load_config
from .errors import UserError, did_you_mean
from .inference.predictor import Predictor
from .labels import LabelSet
from .precision import require_precision
from .runtimes import EXPORTED_SUFFIXES
from .runtimes.open import ON_CPU, check_on_cpu, in_runtime, open_runtime
from .weights.loading import open_model
from .weights.resolve import resolve_network

if TYPE_CHECKING:
    from .evaluation.metrics import Scores
    from .runtimes.export import Export
    from .training.callbacks import Callback
    from .training.run_folder import Run


def load(weights: Any, device: torch.device | str | None = None, runtime: str | None = None, **settings: Any) -> Predictor:
    """Load a model to predict masks with.

    Args:
        weights: the name of a published model, such as "xception65_voc_trainval", a run's folder, a .safetensors file of ours,
            `hf:OWNER/NAME`, or an exported .onnx or .xml.
        device: "cpu", "cuda", a certain GPU such as "cuda:1", "mps" or "xpu"; None or "auto" takes CUDA, else MPS, else XPU,
            else the CPU.
        runtime: inference engine: "torch", "compile", "onnx" or "openvino"; None is PyTorch, as trained.
        settings: of `seg.config.InferenceConfig`, instead of the stored ones: output_stride, scales, flip, canvas (None: the
            size of each image), longest ("auto", "native" or pixels), tile, precision ("bfloat16" where the hardware has it).
            An exported model has fixed settings.

    Raises:
        UserError: there is no such file or device, or a setting is wrong.
    """
    _check_weights(weights, "seg.load")
    path = resolve_network(weights)
    exported = path.suffix in EXPORTED_SUFFIXES
    if exported:
        check_on_cpu(device, f"{path}: an exported model")
    elif runtime in ON_CPU:
        check_on_cpu(device, f"the runtime {runtime}", "cpu")
    model, metadata = open_runtime(path, runtime) if exported else open_model(path)
    config = as_dict(metadata.config)
    config["evaluate"] |= settings
    metadata.config = from_dict(config, "seg.load")
    if exported:
        return Predictor.of(model, metadata)
    predictor = Predictor.of(model, metadata).to(distributed.device(device or "auto"))
    settled = predictor.config
    if runtime is None:
        require_precision(settled.precision, predictor.device, f"precision {settled.precision}")
        return predictor
    return Predictor.of(in_runtime(model, runtime, settled.output_stride, settled.precision), metadata)


def _check_weights(weights: Any, function: str) -> None:
    """Raise UserError if a network is given instead of the name of weights."""
    if not isinstance(weights, str | PathLike):
        raise UserError(
            f"{function}: {type(weights).__name__} is not the name of weights; seg.save(net, 'net.safetensors', labels=[...]) "
            "stores a network, and seg.load opens that file"
        )


def train(
    config: Config | str | Path,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    callbacks: "Iterable[Callback]" = (),
    resume: bool = False,
    quiet: bool = False,
) -> "Run":
    """Train a model into the folder runs/NAME.

    Args:
        config: the name of a configuration that comes with the package, such as "voc_mini", a YAML file, or a Config.
        overrides: settings that replace those of the configuration: strings such as "train.iterations=500", or a mapping such
            as {"train.iterations": 500}.
        callbacks: called after steps, validations and at the end; see `Callback`.
        resume: continue from the newest good checkpoint of the folder.
        quiet: print no progress.

    Returns:
        The run: `best` (weights file), `folder`, `metrics` (the logged values), `miou` and `stopped`.

    Raises:
        UserError: a setting, the data or the folder is wrong, or the run cannot continue.
    """
    from .training.trainer import Trainer

    if isinstance(config, Config):
        if overrides:
            raise UserError("seg.train: overrides are for a configuration by name or file; change the Config instead")
    else:
        config = load_config(config, _as_strings(overrides))
    return Trainer(config, resume=resume, quiet=quiet, callbacks=tuple(callbacks)).run()


def _as_strings(overrides: Iterable[str] | Mapping[str, Any]) -> list[str]:
    if isinstance(overrides, Mapping):
        return [f"{key}={json.dumps(value, default=str)}" for key, value in overrides.items()]  # JSON is YAML
    return [overrides] if isinstance(overrides, str) else list(overrides)


def evaluate(
    weights: Any,
    data: str | Path | None = None,
    split: str | None = None,
    *,
    device: torch.device | str | None = None,
    runtime: str | None = None,
    **settings: Any,
) -> "Scores":
    """Score a model on a split of a data set, each image at its own size.

    Args:
        weights: as for `load`, or a Predictor.
        data: folder in VOC layout; None is that of the training.
        split: name of a list in ImageSets/Segmentation; None is the validation split of the training.
        device, runtime, settings: see `load`; not with a Predictor.

    Returns:
        The scores: `miou`, `iou["cat"]`, `pixel_accuracy`, `as_dict()`.

    Raises:
        UserError: there is no such file or folder, an image or mask cannot be read, or a setting is wrong.
    """
    from .evaluation.evaluator import evaluate_split

    if isinstance(weights, Predictor):
        if device or runtime or settings:
            raise UserError("seg.evaluate: a Predictor has its device, runtime and settings; give these to seg.load")
        predictor = weights
    else:
        predictor = load(weights, device, runtime, **settings)
    return evaluate_split(predictor, data, split).scores


def export(model: Any, out: str | Path, **options: Any) -> "Export":
    """Export a model as one file for other programs; the suffix of the file chooses the format.

    Args:
        model: a Predictor, or weights as for `load`.
        out: FILE.onnx, FILE.xml (OpenVINO), FILE.pt2 (torch.export) or FILE.safetensors (weights only).
        options: `calibrate`, images for int8 quantization; `confidence` and `newest`; see `seg.runtimes.export.export`.

    Returns:
        A report of the file and its agreement with the model.

    Raises:
        UserError: the suffix is unknown, a library is not installed, or the exported model differs from the model.
    """
    from .runtimes.export import FORMATS
    from .runtimes.export import export as write

    formats = {suffix: name for name, suffix in FORMATS.items()}
    suffix = Path(out).suffix
    if suffix not in formats:
        raise UserError(f"{out}: the suffix chooses the format{did_you_mean(suffix, formats)}")
    if not isinstance(model, Predictor):
        _check_weights(model, "seg.export")
        model = load(model, "cpu")
    predictor: Predictor = model
    if predictor.metadata is None:
        raise UserError("seg.export: save the network with seg.save first, and export that file")
    metadata = replace(predictor.metadata, config=replace(predictor.metadata.config, evaluate=predictor.config))
    return write(predictor.model, metadata, formats[suffix], out, **options)


def save(
    network: nn.Module, path: str | Path, labels: LabelSet | Sequence[str] | str, *, score: dict[str, Any] | None = None
) -> Path:
    """Save a network of your own training loop, for `load` and every verb.

    Args:
        network: one of our networks, made by `seg.models` or a configuration.
        path: FILE.safetensors.
        labels: a LabelSet, the names of the classes in index order, or a label set as `data.labels` names it, such as "voc".
        score: score of the network, such as {"miou": 0.41, "split": "val"}.

    Returns:
        The path.

    Raises:
        UserError: it is another kind of network, or the number of labels differs from that of its outputs.
    """
    from .weights.file import save as write

    write(path, network, labels, score=score)
    return Path(path)
