"""Architectures of segmentation-models-pytorch behind the interface of our own. Importing this costs seconds."""

import segmentation_models_pytorch as library
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError, did_you_mean, reason
from .layers import SinglePixelBatchNorm2d

ARCHITECTURES = {cls.__name__: cls for cls in library.MODEL_ARCHITECTURES_MAPPING.values()}


class SmpModel(nn.Module):
    """`architecture` over `encoder`: images N,3,H,W, normalized with `mean` and `std`, any H, W >= 33 -> logits N,classes,H,W.

    output_stride: 16 and, where the architecture has it as an option, 8; fixed when built (32 where it has none).
    Images are padded to a multiple of 32 for the network and the logits cut back.
    weights: name of the encoder's published weights, whose input statistics hold; None: ImageNet's statistics. `download`
    fetches those weights.
    """

    def __init__(
        self, architecture: str, encoder: str, *, classes: int, output_stride: int, weights: str | None, download: bool
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise UserError(f"model.smp={architecture}: not an architecture{did_you_mean(architecture, ARCHITECTURES)}")
        strided = architecture in ("DeepLabV3", "DeepLabV3Plus")
        options = {"encoder_output_stride": output_stride} if strided else {}
        names = library.encoders.get_encoder_names()
        if encoder not in names and not encoder.startswith("tu-"):
            raise UserError(
                f"model.backbone={encoder}: not an encoder of segmentation-models-pytorch{did_you_mean(encoder, names)}"
            )
        self.mean, self.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        try:
            if weights is not None:
                params = library.encoders.get_preprocessing_params(encoder, weights)
                self.mean, self.std = tuple(params["mean"]), tuple(params["std"])
            self.network = ARCHITECTURES[architecture](
                encoder, encoder_weights=weights if download else None, classes=classes, **options
            )
        except (KeyError, ValueError, RuntimeError, NotImplementedError, OSError) as error:
            raise UserError(
                f"model.smp={architecture} with model.backbone={encoder} cannot be built: {reason(error)}"
            ) from error
        for module in self.network.modules():
            if type(module) is nn.BatchNorm2d:  # so that one image a batch can be trained on, whatever is pooled where
                module.__class__ = SinglePixelBatchNorm2d
        self._output_stride = output_stride if strided else 32

    @property
    def backbone(self) -> nn.Module:
        return self.network.encoder

    @property
    def output_stride(self) -> int:
        return self._output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        if value != self._output_stride:
            raise UserError(
                f"output stride {value}: models of segmentation-models-pytorch keep the one they were built with, "
                f"{self._output_stride}; leave it out, or train with model.output_stride={value}"
            )

    logits_stride = 1

    def logits(self, images: Tensor) -> Tensor:
        """The same as the model's output: the library's networks end at the full size."""
        return self(images)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 32, 0, -height % 32))
        return self.network(padded)[..., :height, :width]
