"""From files to samples to batches.

For your own training loop: `VOCSegmentation`, a torch Dataset, and `TrainTransform`, its augmentation.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import VOCSegmentation
    from .transforms import TrainTransform

__all__ = ["TrainTransform", "VOCSegmentation"]

_HOME = {"TrainTransform": "transforms", "VOCSegmentation": "dataset"}


def __getattr__(name: str) -> Any:
    # On first use: reading a folder's lists does not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module 'seg.data' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
