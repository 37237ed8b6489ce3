"""Convert weights from any source to a weights file of this project."""

from pathlib import Path

from ..errors import UserError
from ..labels import VOC, LabelSet
from .file import write_weights
from .fitting import Report
from .sources import open_source


def convert(source: str | Path, out: str | Path, labels: LabelSet | None = None) -> Report:
    """Write the network of a source to a .safetensors file: the whole network, or the parts that the source has.

    Args:
        source: see `sources.KINDS`.
        out: the file to write.
        labels: the classes of the network; None: those of the source, or the 21 of VOC.

    Returns:
        A report of the matched tensors. If some are `missing`, the file holds only the backbone, or everything but the
        classifier: a training can start from it.

    Raises:
        UserError: the source cannot be read or does not fit a network, or has another number of classes than the label set.
    """
    weights = open_source(source)
    labels = labels or weights.labels or VOC
    if weights.classes not in (None, len(labels)):
        raise UserError(
            f"{source}: has {weights.classes} classes, the label set {len(labels)}; name them with --labels FILE.yaml"
        )
    return write_weights(out, weights, labels, {"name": "converted"})
