"""Architectures of segmentation-models-pytorch behind the interface of our own. Importing this module takes seconds."""

from typing import Any

import segmentation_models_pytorch as library  # type: ignore[import-untyped, unused-ignore]
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError, did_you_mean, reason
from ..extras import quiet_hub
from .ops.batch_norm import SinglePixelBatchNorm2d

ARCHITECTURES: dict[str, Any] = {cls.__name__: cls for cls in library.MODEL_ARCHITECTURES_MAPPING.values()}


class SmpModel(nn.Module):
    """Semantic segmentation by a library's network: normalized images [N, 3, H, W], any H, W >= 33 -> logits [N, C, H, W].

    The network sees images padded to a multiple of 32, and its logits are cut back.

    Args:
        architecture: of segmentation-models-pytorch, such as Unet.
        encoder: its backbone, such as resnet50.
        num_classes: of the logits.
        output_stride: 16 or 8 in DeepLabV3 and DeepLabV3Plus. The other architectures have 32.
        weights: name of the encoder's published weights, which give `mean` and `std`. None: those of ImageNet.
        download: download those weights.

    Raises:
        UserError: unknown names, or parts that do not fit together.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    logits_stride = 1

    def __init__(
        self, architecture: str, encoder: str, *, num_classes: int, output_stride: int, weights: str | None, download: bool
    ):
        super().__init__()
        self.architecture, self.encoder, self.weights, self.num_classes = architecture, encoder, weights, num_classes
        if architecture not in ARCHITECTURES:
            raise UserError(f"model.smp={architecture}: not an architecture{did_you_mean(architecture, ARCHITECTURES)}")
        strided = architecture in ("DeepLabV3", "DeepLabV3Plus")
        options = {"encoder_output_stride": output_stride} if strided else {}
        names = library.encoders.get_encoder_names()
        if encoder not in names and not encoder.startswith("tu-"):
            raise UserError(
                f"model.backbone={encoder}: not an encoder of segmentation-models-pytorch{did_you_mean(encoder, names)}"
            )
        try:
            if weights is not None:
                params = library.encoders.get_preprocessing_params(encoder, weights)
                self.mean, self.std = tuple(params["mean"]), tuple(params["std"])
            with quiet_hub():
                self.network = ARCHITECTURES[architecture](
                    encoder, encoder_weights=weights if download else None, classes=num_classes, **options
                )
        except (KeyError, ValueError, RuntimeError, NotImplementedError, OSError) as error:
            raise UserError(
                f"model.smp={architecture} with model.backbone={encoder} cannot be built: {reason(error)}"
            ) from error
        for module in self.network.modules():
            if type(module) is nn.BatchNorm2d:  # lets every architecture train on a single image
                module.__class__ = SinglePixelBatchNorm2d
        self._output_stride = output_stride if strided else 32

    @property
    def backbone(self) -> nn.Module:
        """The library's encoder."""
        encoder: nn.Module = self.network.encoder
        return encoder

    @property
    def output_stride(self) -> int:
        """Stride of the encoder's last features. It is fixed when the network is built."""
        return self._output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        if value != self._output_stride:
            raise UserError(
                f"output stride {value}: networks of segmentation-models-pytorch keep the one they were built with, "
                f"{self._output_stride}; leave it out, or train with model.output_stride={value}"
            )

    def logits(self, images: Tensor) -> Tensor:
        """The same as the forward pass: the library's networks end at the full size."""
        return self.forward(images)

    def forward(self, images: Tensor) -> Tensor:
        """Full-size logits [N, num_classes, H, W]."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 32, 0, -height % 32))
        logits: Tensor = self.network(padded)
        return logits[..., :height, :width]
