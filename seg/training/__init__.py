"""From a configuration to a trained model in a run folder.

`Trainer` trains a configuration. For your own training loop: `cross_entropy`, on stride-4 logits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .callbacks import Callback
    from .losses import cross_entropy
    from .run_folder import Run
    from .trainer import Trainer

__all__ = ["Callback", "Run", "Trainer", "cross_entropy"]

_HOME = {"Callback": "callbacks", "Run": "run_folder", "Trainer": "trainer", "cross_entropy": "losses"}


def __getattr__(name: str) -> Any:
    # On first use: a loop of your own does not wait for what only the trainer imports.
    if name not in _HOME:
        raise AttributeError(f"module 'seg.training' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
