"""Networks by name, for a training loop of your own: plain modules, also under torch.compile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ..config import ModelConfig, from_dict
from ..errors import UserError
from .deeplab import DeepLabV3Plus
from .factory import build_backbone, build_deeplab
from .habits import check_keywords, check_num_classes
from .initialization import initialize_backbone
from .pretrained import followed_settings, load_weights, open_weights
from .xception import Xception

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack

    from ..config import ASPPConfig, DecoderConfig


class BackboneOptions(TypedDict, total=False):
    """Options of all constructors. `seg.config.ModelConfig` describes them and has their defaults."""

    activation_placement: Literal["paper", "tf"] | None
    """None: that of the weights; without weights, paper."""
    width: float
    initialization: Literal["released", "he"]
    residual: bool
    separable_activation: Literal["none", "relu", "elu"] | None
    spatial_groups: int | None


class SegmentationOptions(BackboneOptions, total=False):
    """Options of the `deeplabv3plus_...` constructors. `aspp` and `decoder` may be mappings of their settings."""

    context: str
    """aspp, or dpc: a dense prediction cell (arXiv 1809.04184)."""
    aspp: ASPPConfig | dict[str, Any]
    decoder: DecoderConfig | dict[str, Any] | None
    """None: no decoder (DeepLab V3)."""


def deeplabv3plus_xception41(
    num_classes: int = 21,
    output_stride: int = 16,
    weights: str | PathLike[str] | None = None,
    **options: Unpack[SegmentationOptions],
) -> DeepLabV3Plus:
    """DeepLab V3+ on the aligned Xception-41: 28.1 M parameters. See `deeplabv3plus_xception65` for arguments and result."""
    return _segmentation_network("xception41", num_classes, output_stride, weights, dict(options))


def deeplabv3plus_xception65(
    num_classes: int = 21,
    output_stride: int = 16,
    weights: str | PathLike[str] | None = None,
    **options: Unpack[SegmentationOptions],
) -> DeepLabV3Plus:
    """DeepLab V3+ on the aligned Xception-65, the paper's best network (arXiv 1802.02611): 41.1 M parameters.

    Args:
        num_classes: channels of the logits.
        output_stride: 8, 16 or 32: stride of the encoder's features. It can be set on the network later.
        weights: where to start from: anything that the setting `model.weights` takes, such as timm:xception65.tf_in1k
            (ImageNet), a .safetensors file, tf:PATH/model.ckpt-N or hf:OWNER/NAME. They fill the backbone; the head too, if
            they hold one. A classifier of another number of classes is initialized. None: initial weights.
        options: see SegmentationOptions.

    Returns:
        The network in training mode. Images [N, 3, H, W], normalized with its `mean` and `std`, any H, W >= 33 -> logits
        [N, num_classes, H, W]. `net.logits(images)` gives them at stride 4.

    Raises:
        UserError: an argument is out of range, or the weights cannot be read or are those of another network.
        TypeError: an unknown argument; the message has the right one.
    """
    return _segmentation_network("xception65", num_classes, output_stride, weights, dict(options))


def deeplabv3plus_xception71(
    num_classes: int = 21,
    output_stride: int = 16,
    weights: str | PathLike[str] | None = None,
    **options: Unpack[SegmentationOptions],
) -> DeepLabV3Plus:
    """DeepLab V3+ on the aligned Xception-71: 43.5 M parameters. See `deeplabv3plus_xception65` for arguments and result."""
    return _segmentation_network("xception71", num_classes, output_stride, weights, dict(options))


def deeplabv3plus_xception(
    num_classes: int = 21,
    output_stride: int = 16,
    weights: str | PathLike[str] | None = None,
    **options: Unpack[SegmentationOptions],
) -> DeepLabV3Plus:
    """DeepLab V3+ on the original Xception (arXiv 1610.02357). See `deeplabv3plus_xception65` for arguments and result."""
    return _segmentation_network("xception", num_classes, output_stride, weights, dict(options))


def xception41(
    output_stride: int = 16, weights: str | PathLike[str] | None = None, **options: Unpack[BackboneOptions]
) -> Xception:
    """The aligned Xception-41 as a backbone. See `xception65` for arguments and result."""
    return _backbone("xception41", output_stride, weights, dict(options))


def xception65(
    output_stride: int = 16, weights: str | PathLike[str] | None = None, **options: Unpack[BackboneOptions]
) -> Xception:
    """The aligned Xception-65 as a backbone (arXiv 1802.02611, figure 4).

    Args:
        output_stride: 8, 16 or 32: stride of the high-level features. It can be set on the network later.
        weights: as for `deeplabv3plus_xception65`; of a whole network, the backbone's are taken.
        options: see BackboneOptions.

    Returns:
        The backbone in training mode. Images [N, 3, H, W], normalized with its `mean` and `std` -> a pair of feature maps:
        low-level [N, net.low_level_channels, H/4, W/4] and high-level [N, net.channels, H/s, W/s], s being
        `net.output_stride`; sizes are rounded up. At width 1, the channels are 256 and 2048.

    Raises:
        UserError: an argument is out of range, or the weights cannot be read or are those of another network.
        TypeError: an unknown argument; the message has the right one.
    """
    return _backbone("xception65", output_stride, weights, dict(options))


def xception71(
    output_stride: int = 16, weights: str | PathLike[str] | None = None, **options: Unpack[BackboneOptions]
) -> Xception:
    """The aligned Xception-71 as a backbone. See `xception65` for arguments and result."""
    return _backbone("xception71", output_stride, weights, dict(options))


def xception(
    output_stride: int = 16, weights: str | PathLike[str] | None = None, **options: Unpack[BackboneOptions]
) -> Xception:
    """The original Xception as a backbone (arXiv 1610.02357). See `xception65` for arguments and result."""
    return _backbone("xception", output_stride, weights, dict(options))


def _segmentation_network(
    backbone: str, num_classes: Any, output_stride: Any, weights: Any, options: dict[str, Any]
) -> DeepLabV3Plus:
    function = f"deeplabv3plus_{backbone}"
    check_keywords(function, options, SegmentationOptions.__annotations__)
    num_classes = check_num_classes(function, num_classes)
    source = open_weights(function, backbone, weights)
    with _named_as_arguments():
        config = _model_config(function, backbone, output_stride, followed_settings(function, options, source))
        model = build_deeplab(config, build_backbone(config), num_classes)
    if source is not None:
        load_weights(function, model, source)
    return model


def _backbone(name: str, output_stride: Any, weights: Any, options: dict[str, Any]) -> Xception:
    check_keywords(name, options, BackboneOptions.__annotations__)
    source = open_weights(name, name, weights)
    with _named_as_arguments():
        config = _model_config(name, name, output_stride, followed_settings(name, options, source))
        backbone = build_backbone(config)
    initialize_backbone(backbone, config.initialization)
    if source is not None:
        load_weights(name, backbone, source)
    return backbone


def _model_config(function: str, backbone: str, output_stride: Any, options: dict[str, Any]) -> ModelConfig:
    settings = {"backbone": backbone, "output_stride": output_stride, **options}
    return from_dict({"model": {key: _plain(value) for key, value in settings.items()}}, function).model


def _plain(value: Any) -> Any:
    """A value as a YAML file has it: mappings and lists instead of dataclasses and tuples."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def _named_as_arguments() -> Iterator[None]:
    """Errors name arguments, not settings of a configuration file: `width`, not `model.width`."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("model.", "")) from error
