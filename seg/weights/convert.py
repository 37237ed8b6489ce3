"""From any source of weights to a file of our own."""

from ..config import from_dict
from ..errors import UserError
from ..labels import VOC, LabelSet
from ..models.factory import build_meta_model, build_model
from .file import write
from .loading import Report, fit, match
from .sources import Weights, open_source


def convert(source, out, labels: LabelSet | None = None) -> Report:
    """Write the network of `source` to the file `out`: the whole of it, or its backbone where there is no more.

    labels: classes of the network where the source does not name them; None: VOC's, which must be 21.
    Raises UserError as `open_source` and `fit` do, or where the classes are not as many as the labels.
    """
    weights = open_source(source)
    classes = _classes(weights)
    labels = labels or weights.labels or VOC
    if classes not in (None, len(labels)):
        raise UserError(f"{source}: has {classes} classes, the label set {len(labels)}; name them with --labels FILE.yaml")
    config = from_dict({"name": "converted", "model": weights.settings}, str(source))
    match(
        build_meta_model(config.model, len(labels)), weights
    )  # before memory is asked for, which a damaged file may do without end
    model = build_model(config.model, len(labels))
    report = fit(model, weights)
    if report.missing and not all(name.startswith("backbone.") for name in report.matched):
        raise UserError(f"{report}; neither a whole network nor a backbone alone")
    # A backbone alone is written alone: it starts a training, and is never taken for a whole model.
    write(out, model, config, labels, weights.score, only="backbone." if report.missing else "")
    return report


def _classes(weights: Weights) -> int | None:
    """Channels of the classifier; None where there is none."""
    for name in ("classifier.bias", "network.segmentation_head.0.bias"):
        if name in weights.tensors:
            return len(weights.tensors[name])
    return None
