"""Answers to the arguments that users of torchvision, timm and segmentation-models-pytorch try first."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import UserError, did_you_mean

IMAGENET_WEIGHTS = {
    "xception": "timm:legacy_xception.tf_in1k",
    "xception41": "timm:xception41.tf_in1k",
    "xception65": "timm:xception65.tf_in1k",
    "xception71": "timm:xception71.tf_in1k",
}

_WEIGHTS = "use weights='{imagenet}'"
_CLASSES = "did you mean num_classes?"
_STRIDE = "use output_stride=8, 16 or 32"
_RGB = "the network takes RGB images, with 3 channels; leave it out"
_BACKBONE = "the function's name chooses the backbone, such as deeplabv3plus_xception71"
_NO_AUXILIARY = "the network has no auxiliary classifier; leave it out"
_LOGITS = "the network gives logits; call softmax(1) on them"
_DROPOUT = "use aspp={{'dropout': 0.1}}"
_FEATURES = "{backbone}() gives feature maps; leave it out"
HINTS = {
    "pretrained": _WEIGHTS,
    "pretrained_backbone": _WEIGHTS,
    "weights_backbone": _WEIGHTS,
    "encoder_weights": _WEIGHTS,
    "checkpoint_path": "use weights=PATH",
    "classes": _CLASSES,
    "n_classes": _CLASSES,
    "num_labels": _CLASSES,
    "stride": _STRIDE,
    "encoder_output_stride": _STRIDE,
    "replace_stride_with_dilation": _STRIDE,
    "in_channels": _RGB,
    "in_chans": _RGB,
    "backbone": _BACKBONE,
    "encoder_name": _BACKBONE,
    "aux_loss": _NO_AUXILIARY,
    "aux_params": _NO_AUXILIARY,
    "activation": _LOGITS,
    "atrous_rates": "use aspp={{'atrous_rates': [6, 12, 18]}}",
    "decoder_atrous_rates": "use aspp={{'atrous_rates': [6, 12, 18]}}",
    "decoder_channels": "use decoder={{'convolutions': [[3, 256], [3, 256]]}}",
    "dropout": _DROPOUT,
    "drop_rate": _DROPOUT,
    "upsampling": "the logits already have the size of the image; leave it out",
    "features_only": _FEATURES,
    "out_indices": _FEATURES,
    "progress": "leave it out",
}
"""What to write instead of an argument of another library."""
BACKBONE_HINTS = {
    "num_classes": "it gives feature maps; the segmentation network is deeplabv3plus_{backbone}(num_classes=21)",
    "context": "it gives feature maps; ASPP is a part of deeplabv3plus_{backbone}()",
    "aspp": "it gives feature maps; ASPP is a part of deeplabv3plus_{backbone}()",
    "decoder": "it gives feature maps; the decoder is a part of deeplabv3plus_{backbone}()",
}
"""The same for the functions that give a backbone alone."""


def check_keywords(function: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise a TypeError with the right spelling if a keyword argument is not one of `known`.

    Args:
        function: the constructor's name, for the message.
        given: the keyword arguments.
        known: the names of the constructor's options.
    """
    backbone = function.removeprefix("deeplabv3plus_")
    arguments = ["output_stride", "weights", *known]
    hints = HINTS
    if function == backbone:
        hints = {
            **HINTS,
            **dict.fromkeys(("classes", "n_classes", "num_labels"), BACKBONE_HINTS["num_classes"]),
            **BACKBONE_HINTS,
        }
    else:
        arguments = ["num_classes", *arguments]
    for keyword in given:
        if keyword in arguments:
            continue
        if keyword in hints:
            hint = f": {hints[keyword].format(backbone=backbone, imagenet=IMAGENET_WEIGHTS[backbone])}"
        else:
            hint = did_you_mean(keyword, arguments)
        raise TypeError(f"{function}() has no argument '{keyword}'{hint}")


def check_num_classes(function: str, value: Any) -> int:
    """The number of classes as an int. Raises UserError unless it is a whole number from 1."""
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        backbone = function.removeprefix("deeplabv3plus_")
        raise UserError(
            f"{function}: num_classes={value!r}: must be a whole number from 1; for feature maps, call seg.models.{backbone}()"
        )
    return count
