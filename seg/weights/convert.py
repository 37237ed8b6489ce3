"""Convert weights from any source to a weights file of this project."""

from pathlib import Path

from ..config import from_dict
from ..errors import UserError
from ..labels import VOC, LabelSet
from ..models.factory import build_meta_model, build_model
from .file import write
from .loading import Report, fit, match
from .sources import Weights, open_source


def convert(source: str | Path, out: str | Path, labels: LabelSet | None = None) -> Report:
    """Write the network of a source to a .safetensors file: the whole network, or its backbone if there is no more.

    Args:
        source: see `sources.KINDS`.
        out: the file to write.
        labels: the classes of the network; None: those that the source names, or the 21 of VOC.

    Returns:
        What matched. If something is `missing`, the file holds the backbone only.

    Raises:
        UserError: the source cannot be read or does not fit a network, or has another number of classes than the label set.
    """
    weights = open_source(source)
    classes = classes_in(weights)
    labels = labels or weights.labels or VOC
    if classes not in (None, len(labels)):
        raise UserError(f"{source}: has {classes} classes, the label set {len(labels)}; name them with --labels FILE.yaml")
    config = from_dict({"name": "converted", "model": weights.settings}, str(source))
    # First without memory: a damaged file may describe a network of any size.
    match(build_meta_model(config.model, len(labels)), weights)
    model = build_model(config.model, len(labels))
    report = fit(model, weights)
    if report.missing and not all(name.startswith("backbone.") for name in report.matched):
        raise UserError(f"{report}; neither a whole network nor a backbone alone")
    # A backbone is written without the randomly initialized head, so that nobody takes it for a trained network.
    write(out, model, config, labels, weights.score, only="backbone." if report.missing else "")
    return report


def classes_in(weights: Weights) -> int | None:
    """Return the number of channels of the classifier; None if there is no classifier."""
    for name in ("classifier.bias", "network.segmentation_head.0.bias"):
        if name in weights.tensors:
            return len(weights.tensors[name])
    return None
