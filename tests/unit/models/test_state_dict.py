"""Names of the tensors: weights files depend on them."""

import pytest
import torch

from seg.config import DecoderConfig, ModelConfig
from seg.models.factory import build_model

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm(name):
    return [f"{name}.{tensor}" for tensor in NORM]


def conv_norm(name):
    return [f"{name}.conv.weight", *norm(f"{name}.norm")]


def separable(name, norm_between=True):
    middle = norm(f"{name}.depthwise_norm") if norm_between else []
    return [f"{name}.depthwise.weight", *middle, f"{name}.pointwise.weight", *norm(f"{name}.norm")]


def backbone(blocks, norm_between):
    """Names of the tensors of blocks, given by name, number of convolutions, and whether the shortcut has one."""
    names = [*conv_norm("backbone.conv1"), *conv_norm("backbone.conv2")]
    for block, count, shortcut in blocks:
        for index in range(count):
            names += separable(f"backbone.flow.{block}.convs.{index}", norm_between)
        names += conv_norm(f"backbone.flow.{block}.shortcut") if shortcut else []
    return names


MIDDLE = [f"middle{i}" for i in range(1, 9)]
ALIGNED = [
    *((f"entry{i}", 3, True) for i in (1, 2, 3)),
    *((name, 3, False) for name in MIDDLE),
    ("exit1", 3, True),
    ("exit2", 3, False),
]
ORIGINAL = [
    *((f"entry{i}", 2, True) for i in (1, 2, 3)),
    *((name, 3, False) for name in MIDDLE),
    ("exit1", 2, True),
    ("exit2", 2, False),
]
ASPP = [
    *conv_norm("aspp.pooling"),
    *conv_norm("aspp.conv1x1"),
    *(name for index in range(3) for name in separable(f"aspp.atrous.{index}")),
    *conv_norm("aspp.project"),
]
DECODER = [*conv_norm("decoder.reduce"), *separable("decoder.convs.0"), *separable("decoder.convs.1")]
CONV3 = [*conv_norm("decoder.reduce3"), *separable("decoder.convs3.0"), *separable("decoder.convs3.1")]
CLASSIFIER = ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize(
    "config, wanted",
    [
        (ModelConfig(backbone="xception41"), [*backbone(ALIGNED, True), *ASPP, *DECODER, *CLASSIFIER]),
        (ModelConfig(backbone="xception"), [*backbone(ORIGINAL, False), *ASPP, *DECODER, *CLASSIFIER]),
        (ModelConfig(backbone="xception41", decoder=None), [*backbone(ALIGNED, True), *ASPP, *CLASSIFIER]),
        (
            ModelConfig(backbone="xception41", decoder=DecoderConfig(conv3=True)),
            [*backbone(ALIGNED, True), *ASPP, *CONV3, *DECODER, *CLASSIFIER],
        ),
        (
            ModelConfig(backbone="xception", image_classes=1000),
            [*backbone(ORIGINAL, False), "image_classifier.weight", "image_classifier.bias"],
        ),
    ],
    ids=["aligned", "original", "no decoder", "conv3", "image classifier"],
)
def test_the_names_of_the_state_dict_do_not_change(config, wanted):
    with torch.device("meta"):
        assert list(build_model(config, 21).state_dict()) == wanted
