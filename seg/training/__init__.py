"""From a configuration to a trained model in a run folder.

`Trainer` trains a configuration. For your own training loop: `cross_entropy`, on stride-4 logits.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import no_attribute

if TYPE_CHECKING:
    from .callbacks import Callback
    from .losses import cross_entropy
    from .run_folder import Run
    from .trainer import Trainer

__all__ = ["Callback", "Run", "Trainer", "cross_entropy"]

_LOSS = "cross_entropy(net.logits(images), masks) is the loss of stride-4 logits; a configuration adds others by train.loss"
_SCHEDULE = "a configuration has train.schedule=poly or cosine; in your own loop, use torch.optim.lr_scheduler.PolynomialLR"
_HINTS = {
    **dict.fromkeys(("CrossEntropyLoss", "DiceLoss", "dice_loss", "FocalLoss", "LovaszLoss", "Loss", "losses"), _LOSS),
    **dict.fromkeys(("PolyLR", "PolynomialLR", "poly_lr", "CosineAnnealingLR"), _SCHEDULE),
    **dict.fromkeys(("fit", "train"), "seg.train(CONFIG) trains"),
}
_HOME = {"Callback": "callbacks", "Run": "run_folder", "Trainer": "trainer", "cross_entropy": "losses"}


def __getattr__(name: str) -> Any:
    # Imported on first use: a custom training loop does not need the trainer's imports.
    if name not in _HOME:
        raise no_attribute(__name__, name, _HINTS, __all__)
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
