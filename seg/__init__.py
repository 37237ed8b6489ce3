"""DeepLab V3+ on the modified Xception: train, evaluate mIoU, look at masks.

`seg.load` opens a model, `seg.train` trains one, `seg.evaluate` scores one, `seg.export` writes one for other programs, and
`seg.save` stores a network of your own training loop. Mistakes are raised as `seg.UserError`, with one clear line.
"""

from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from .api import evaluate, export, load, save, train
    from .inference.predictor import Predictor
    from .training.callbacks import Callback

__version__ = "0.2.0"
__all__ = ["Callback", "Predictor", "UserError", "evaluate", "export", "load", "save", "train"]

_HOMES = {"Predictor": "inference.predictor", "Callback": "training.callbacks"}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import seg` does not wait for torch.
    import importlib

    if name in __all__:
        return getattr(importlib.import_module(f".{_HOMES.get(name, 'api')}", __name__), name)
    if name in ("data", "evaluation", "inference", "labels", "models", "training", "visualize", "weights"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'seg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "data", "evaluation", "models", "training"])
