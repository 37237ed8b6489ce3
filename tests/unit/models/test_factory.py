from dataclasses import replace

import pytest
import torch
from torch import nn

from seg.config import ASPPConfig, DecoderConfig, ModelConfig
from seg.errors import UserError
from seg.models import smp
from seg.models.deeplab import DeepLabV3Plus
from seg.models.factory import build_model
from seg.models.layers import POST, PRE, ConvNorm, SeparableConv2d
from seg.models.ops.resize import resize


def build(classes=7, **options):
    with torch.device("meta"):
        return build_model(ModelConfig(**options), classes)


def test_defaults_are_the_papers_best_network():
    model = build(21)
    assert isinstance(model, DeepLabV3Plus)
    assert len(model.backbone.flow) == 3 + 16 + 2 and model.backbone.channels == 2048
    assert model.output_stride == 16
    assert model.aspp.out_channels == 256 and model.aspp.atrous_rates == (6, 12, 18) and model.aspp.pooling is not None
    assert model.decoder.reduce.conv.out_channels == 48
    assert model.classifier.weight.shape == (21, 256, 1, 1)


@pytest.mark.parametrize("name, modules", [("xception", 13), ("xception41", 13), ("xception65", 21), ("xception71", 23)])
def test_backbone_and_width_reach_the_model(name, modules):
    backbone = build(backbone=name, width=0.25).backbone
    # The original has 14 modules with its stem, which is not one of the flow's here.
    assert len(backbone.flow) == modules
    assert backbone.channels == 512 and backbone.low_level_channels == 64


MERGED = [replace(PRE, after=True), replace(PRE, before=False, after=True), replace(PRE, before=False)]
"""The ReLU before a convolution stands after the one before it, within a module."""
TAPPED = [replace(PRE, after=True), replace(PRE, before=False), PRE]
"""Except where the output of the second convolution is needed before ReLU."""


@pytest.mark.parametrize("activation_placement, wanted, tapped", [("paper", [POST] * 3, [POST] * 3), ("tf", MERGED, TAPPED)])
def test_the_activation_placement_applies_to_all_modules_but_the_last(activation_placement, wanted, tapped):
    flow = build(backbone="xception41", width=0.125, activation_placement=activation_placement).backbone.flow
    found = {name: [conv.activation_placement for conv in module.convs] for name, module in flow.items()}
    assert found.pop("exit2") == [POST] * 3
    assert found.pop("entry2") == tapped
    assert all(placements == wanted for placements in found.values())


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride_reaches_backbone_and_aspp(stride):
    model = build(output_stride=stride, width=0.125)
    assert model.backbone.output_stride == stride
    assert model.aspp.atrous[0].depthwise.dilation == (6 * 16 // stride,) * 2


def test_aspp_options_reach_the_model():
    options = ASPPConfig(channels=24, atrous_rates=[2, 5], separable=False, image_pooling=False, dropout=0.4)
    aspp = build(width=0.125, aspp=options).aspp
    assert aspp.out_channels == 24 and aspp.project.conv.weight.shape == (24, 3 * 24, 1, 1)
    assert [conv.conv.dilation for conv in aspp.atrous] == [(2, 2), (5, 5)]
    assert aspp.pooling is None and aspp.dropout.p == 0.4


def test_decoder_options_reach_the_model():
    options = DecoderConfig(low_level_channels=8, convolutions=[[3, 40], [1, 24]], separable=False)
    model = build(width=0.125, decoder=options)
    assert model.decoder.reduce.conv.out_channels == 8
    assert [type(conv) for conv in model.decoder.convs] == [ConvNorm, ConvNorm]
    assert [conv.conv.weight.shape for conv in model.decoder.convs] == [(40, 264, 3, 3), (24, 40, 1, 1)]
    assert model.classifier.weight.shape == (7, 24, 1, 1)


def test_separable_options_of_aspp_and_decoder_are_their_own():
    model = build(width=0.125, aspp=ASPPConfig(separable=False))
    assert not any(isinstance(module, SeparableConv2d) for module in model.aspp.modules())
    assert all(isinstance(conv, SeparableConv2d) for conv in model.decoder.convs)


def test_no_decoder_puts_the_classifier_on_the_aspp():
    model = build(width=0.125, decoder=None, aspp=ASPPConfig(channels=40))
    assert model.decoder is None and model.classifier.weight.shape == (7, 40, 1, 1)
    assert model.logits(torch.empty(1, 3, 65, 65, device="meta")).shape == (1, 7, 5, 5)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_unknown_architecture_is_a_user_error_with_the_nearest_name():
    with pytest.raises(UserError) as error:
        build_model(ModelConfig(smp="DeeplabV3Pluss", backbone="resnet18"), 7)
    assert "DeeplabV3Pluss" in one_line(error) and "did you mean 'DeepLabV3Plus'?" in one_line(error)


@pytest.mark.parametrize("encoder", ["resnet188", "tu-resnet188", ""])
def test_an_unknown_encoder_is_a_user_error(encoder):
    with pytest.raises(UserError) as error:
        build_model(ModelConfig(smp="Unet", backbone=encoder), 7)
    assert f"model.backbone={encoder}" in one_line(error)


@pytest.mark.parametrize("architecture, encoder", [("DPT", "resnet18"), ("UnetPlusPlus", "mit_b0")])
def test_an_encoder_that_does_not_fit_its_architecture_is_a_user_error(architecture, encoder):
    with pytest.raises(UserError) as error:
        build_model(ModelConfig(smp=architecture, backbone=encoder), 7)
    assert architecture in one_line(error) and encoder in one_line(error)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["DeepLabV3", "DeepLabV3Plus"])
@pytest.mark.parametrize("stride", [8, 16])
def test_smp_models_with_an_output_stride_are_built_with_it_and_keep_it(architecture, stride):
    model = build_model(ModelConfig(smp=architecture, backbone="resnet18", output_stride=stride), 7).eval()
    assert model.output_stride == stride
    assert model.backbone(torch.zeros(1, 3, 64, 64))[-1].shape[-1] == 64 // stride
    model.output_stride = stride
    with pytest.raises(UserError, match=f"{stride}; leave it out"):
        model.output_stride = 24 - stride
    assert model.output_stride == stride


def test_smp_models_without_output_stride_report_32():
    model = build_model(ModelConfig(smp="Unet", backbone="resnet18", output_stride=8), 7)
    assert model.output_stride == 32
    with pytest.raises(UserError, match="32; leave it out"):
        model.output_stride = 8


def test_encoder_weights_are_downloaded_only_if_pretrained(monkeypatch):
    asked = []

    def network(encoder, **options):
        asked.append(options["encoder_weights"])
        return nn.Identity()

    def preprocessing(encoder, weights):
        return {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}

    monkeypatch.setitem(smp.ARCHITECTURES, "Unet", network)
    monkeypatch.setattr(smp.library.encoders, "get_preprocessing_params", preprocessing)
    config = ModelConfig(smp="Unet", backbone="resnet18", weights="imagenet")
    build_model(config, 7)
    assert asked == [None]
    model = build_model(config, 7, pretrained=True)
    assert asked == [None, "imagenet"]
    assert model.mean == (0.1, 0.2, 0.3) and model.std == (0.4, 0.5, 0.6)


# arXiv 1802.02611, table 1 (channels of the reduction) and table 2 (structure of the decoder).
TABLE_1 = [{"low_level_channels": channels} for channels in (8, 16, 32, 48, 64)]
TABLE_2 = [
    {"convolutions": convolutions} for convolutions in ([[3, 256]], [[3, 256]] * 2, [[3, 256]] * 3, [[3, 128]], [[1, 256]])
]


@pytest.mark.parametrize("decoder", [*TABLE_1, *TABLE_2, {"convolutions": [[3, 256]], "conv3": True}], ids=str)
@pytest.mark.parametrize("backbone", ["xception", "xception71"])
def test_the_papers_decoders_are_configurations(backbone, decoder):
    model = build(21, backbone=backbone, decoder=DecoderConfig(**decoder))
    assert model(torch.empty(1, 3, 65, 97, device="meta")).shape == (1, 21, 65, 97)
    assert model.decoder.reduce.conv.out_channels == decoder.get("low_level_channels", 48)
    kernels = [[conv.depthwise if isinstance(conv, SeparableConv2d) else conv.conv] for conv in model.decoder.convs]
    wanted = decoder.get("convolutions", [[3, 256]] * 2)
    assert [conv.kernel_size[0] for (conv,) in kernels] == [kernel for kernel, _ in wanted]
    assert model.classifier.in_channels == wanted[-1][1]
    assert hasattr(model.decoder, "convs3") == decoder.get("conv3", False)


@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_conv3_joins_the_features_at_stride_8_first(stride):
    torch.manual_seed(0)
    config = ModelConfig(backbone="xception41", width=0.125, output_stride=stride, decoder=DecoderConfig(conv3=True))
    model = build_model(config, 5).eval()
    low_level, conv3, x = model.backbone(torch.rand(1, 3, 65, 97))
    assert [tuple(f.shape[-2:]) for f in (low_level, conv3)] == [(17, 25), (9, 13)]
    seen = {}
    for name in ("convs3", "convs"):
        getattr(model.decoder, name).register_forward_hook(lambda m, i, o, name=name: seen.update({name: (i[0], o)}))
    y = model.aspp(x)
    model.decoder(y, low_level, conv3)
    torch.testing.assert_close(seen["convs3"][0], torch.cat([resize(y, (9, 13)), model.decoder.reduce3(conv3)], 1))
    torch.testing.assert_close(seen["convs"][0][:, :256], resize(seen["convs3"][1], (17, 25)))


def test_the_experiments_of_the_xception_paper_reach_the_model():
    model = build(residual=False, separable_activation="elu", spatial_groups=4)
    conv = model.backbone.flow["middle1"].convs[0]
    assert (model.backbone.flow["middle1"].shortcut, conv.activation_placement.separable_activation, conv.depthwise.groups) == (
        None,
        "elu",
        4,
    )
    with pytest.raises(UserError, match=r"model\.spatial_groups=3: must divide the channels of every layer"):
        build(spatial_groups=3)


@pytest.mark.parametrize(
    "weights, published", [("imagenet", "imagenet"), ("./folder", None), ("a.safetensors", None), (None, None)]
)
def test_only_a_plain_name_means_published_weights(weights, published):
    assert ModelConfig(smp="Unet", backbone="resnet18", weights=weights).published == published
    assert ModelConfig(weights=weights).published is None
