"""Entry points of torch.hub: one for each published model, under its name.

network = torch.hub.load("OWNER/seg", "xception65_voc_trainval")
logits = network(images)  # [N, 3, H, W], normalized with network.mean and network.std -> [N, 21, H, W]

`seg.load(NAME)` takes the same names, and gives masks of images of any kind.
"""

from collections.abc import Callable as _Callable

from torch import nn as _nn

from seg.labels import BUILT_IN as _LABELS
from seg.weights.zoo import MODELS as _MODELS
from seg.weights.zoo import PublishedModel as _PublishedModel

dependencies = ["torch", "torchvision", "numpy", "omegaconf", "safetensors", "google_crc32c"]


def _entry(model: _PublishedModel) -> _Callable[[], _nn.Module]:
    def load() -> _nn.Module:
        import seg.models

        if model.labels is None:
            return getattr(seg.models, model.backbone)(weights=model.name).eval()
        build, classes = getattr(seg.models, f"deeplabv3plus_{model.backbone}"), len(_LABELS[model.labels])
        return build(classes, weights=model.name, context=model.context).eval()

    what = "the network" if model.labels else "the backbone"
    load.__doc__ = f"Return {what} of {model.name} in evaluation mode. The first time, {model.megabytes} MB are downloaded."
    return load


globals().update({name: _entry(model) for name, model in _MODELS.items()})
