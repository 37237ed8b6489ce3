"""DeepLab V3+ on the modified Xception: train, evaluate mIoU, look at masks.

`seg.load` opens a model; what it and its `Segmenter` refuse comes as `seg.UserError`, one clear line.
"""

from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    from .api import Segmenter, load

__version__ = "0.2.0"
__all__ = ["Segmenter", "UserError", "load"]


def __getattr__(name: str):
    # `import seg` does not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module 'seg' has no attribute '{name}'")
    from . import api

    return getattr(api, name)
