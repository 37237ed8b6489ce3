"""Determines the configuration of a network from its modules."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ..config import ASPPConfig, DecoderConfig, ModelConfig
from ..errors import UserError
from ..models.aspp import ASPP
from ..models.decoder import Decoder
from ..models.deeplab import DeepLabV3Plus
from ..models.factory import build_meta_model
from ..models.layers import ConvNorm, SeparableConv2d
from ..models.xception import Xception, XceptionBlock


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside torch.compile, DistributedDataParallel, DataParallel or AveragedModel; else the network."""
    while True:
        if isinstance(network, DistributedDataParallel | DataParallel | AveragedModel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # torch.compile's
            network = inner
        else:
            return network


def model_config_of(network: nn.Module) -> ModelConfig:
    """Determine the configuration of a network from its modules.

    Args:
        network: a segmentation network made by `build_model` or a constructor of `seg.models`.

    Returns:
        The configuration, from which `build_model` makes an equivalent network. `initialization` is the default: it matters
        only before training.

    Raises:
        UserError: the network has another class, or a part of it was replaced.
    """
    what = type(network).__name__
    if type(network) is DeepLabV3Plus:
        config = _of_deeplab(network)
    else:
        from ..models.smp import SmpModel  # costs seconds

        if type(network) is not SmpModel:
            raise UserError(
                f"{what}: not a segmentation network of seg; save one made by seg.models, such as deeplabv3plus_xception65, or "
                "by a configuration. Of other networks, save the state_dict with safetensors.torch.save_file"
            )
        settings: dict[str, Any] = {"output_stride": network.output_stride, "weights": network.weights}
        config = ModelConfig(backbone=network.encoder, smp=network.architecture, **settings)
    twin = build_meta_model(config, network.num_classes)
    ours, theirs = _structure(network), _structure(twin)
    changed = [name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name)]
    if changed:
        raise UserError(
            f"{what}: its part '{changed[0]}' was replaced; a weights file can only hold unchanged networks of seg.models or "
            "of configurations"
        )
    return config


def _of_deeplab(network: DeepLabV3Plus) -> ModelConfig:
    backbone = network.backbone
    if type(backbone) is not Xception:
        raise UserError(f"backbone {type(backbone).__name__}: not an Xception of seg, the only backbone that can be saved")
    settings = ("activation_placement", "width", "output_stride", "residual", "separable_activation", "spatial_groups")
    return ModelConfig(
        backbone=backbone.name,
        context="aspp" if network.aspp is not None else "dpc",
        aspp=_of_aspp(network.aspp) if network.aspp is not None else ASPPConfig(),
        decoder=None if network.decoder is None else _of_decoder(network.decoder),
        **{name: getattr(backbone, name) for name in settings},
    )


def _of_aspp(aspp: ASPP) -> ASPPConfig:
    return ASPPConfig(
        channels=aspp.out_channels,
        atrous_rates=list(aspp.atrous_rates),
        separable=all(isinstance(conv, SeparableConv2d) for conv in aspp.atrous),
        image_pooling=aspp.pooling is not None,
        dropout=aspp.dropout.p,
    )


def _of_decoder(decoder: Decoder) -> DecoderConfig:
    # A 1x1 convolution is never separable.
    reduce, convs = decoder.reduce, list(decoder.convs.children())
    assert isinstance(reduce, ConvNorm)
    spatial = [conv for conv in convs if _kernel_and_channels(conv)[0] == 3]
    return DecoderConfig(
        low_level_channels=reduce.conv.out_channels,
        convolutions=[list(_kernel_and_channels(conv)) for conv in convs],
        separable=all(isinstance(conv, SeparableConv2d) for conv in spatial),
        conv3=hasattr(decoder, "reduce3"),
    )


def _kernel_and_channels(conv: nn.Module) -> tuple[int, int]:
    if isinstance(conv, SeparableConv2d):
        return 3, conv.pointwise.out_channels
    assert isinstance(conv, ConvNorm)
    return conv.conv.kernel_size[0], conv.conv.out_channels


def _structure(network: nn.Module) -> dict[str, Any]:
    """Signature of a network's function: the shapes of its tensors, and the settings of its modules."""
    found: dict[str, Any] = {name: value.shape for name, value in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            found[f"{name}."] = (module.stride, module.padding, module.dilation, module.groups)
        elif isinstance(module, _BatchNorm):
            found[f"{name}."] = module.eps
        elif isinstance(module, SeparableConv2d):
            found[f"{name}."] = module.activation_placement
        elif isinstance(module, ConvNorm):
            found[f"{name}."] = module.activate
        elif isinstance(module, XceptionBlock):
            found[f"{name}."] = (module.pool, module.tensorflow_padding, module.stride, module.dilation)
    return found
