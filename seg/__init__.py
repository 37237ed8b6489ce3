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

_MODULES = ("config", "data", "evaluation", "inference", "labels", "models", "training", "visualize", "weights")
_NETWORK = "seg.models.deeplabv3plus_xception65(num_classes=21) makes a network"
_HINTS = {
    "predict": "seg.load(WEIGHTS).predict(IMAGE)",
    "Config": "it is seg.config.Config; seg.config.load reads a configuration",
    "DeepLabV3Plus": _NETWORK,
    "create_model": _NETWORK,
    "list_models": "dir(seg.models) has the networks; `seg models` lists the published models",
    "from_pretrained": "seg.load takes a published model's name, a run's folder, a file or hf:OWNER/NAME",
    "Trainer": "seg.train(CONFIG) trains; the class is seg.training.Trainer",
    "fit": "seg.train(CONFIG) trains",
    "Dataset": "seg.data.VOCSegmentation is the data set",
}
"""What to write instead of names of other libraries."""
_HOMES = {"Predictor": "inference.predictor", "Callback": "training.callbacks"}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import seg` does not wait for torch.
    import importlib

    if name in __all__:
        return getattr(importlib.import_module(f".{_HOMES.get(name, 'api')}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    from .errors import no_attribute

    raise no_attribute("seg", name, _HINTS, [*__all__, *_MODULES])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
