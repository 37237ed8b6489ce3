"""From files to samples to batches.

For your own training loop: `VOCSegmentation`, a torch Dataset, and `TrainTransform`, its augmentation.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import no_attribute

if TYPE_CHECKING:
    from .dataset import VOCSegmentation
    from .transforms import TrainTransform

__all__ = ["TrainTransform", "VOCSegmentation"]

_DATASET = "VOCSegmentation reads every data set in VOC layout; seg data init FOLDER makes one of yours"
_HINTS = {
    "DataLoader": "use torch.utils.data.DataLoader with a VOCSegmentation",
    **dict.fromkeys(("VOCDataset", "VOC", "Dataset", "SegmentationDataset", "Cityscapes", "CocoDetection"), _DATASET),
    "ValTransform": "not needed for validation: Predictor.predict accepts the images of VOCSegmentation",
}
_HOME = {"TrainTransform": "transforms", "VOCSegmentation": "dataset"}


def __getattr__(name: str) -> Any:
    # Imported on first use: reading a folder's lists does not need torch.
    if name not in _HOME:
        raise no_attribute(__name__, name, _HINTS, __all__)
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
