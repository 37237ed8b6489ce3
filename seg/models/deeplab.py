"""DeepLab V3+: backbone, ASPP or dense prediction cell, decoder, classifier. arXiv 1802.02611."""

from collections.abc import Iterator

from torch import Tensor, nn

from ..errors import UserError
from .aspp import ASPP
from .decoder import Decoder
from .dpc import DensePredictionCell
from .initialization import initialize_backbone, initialize_classifier, truncated_normal
from .ops.resize import resize
from .xception import Xception


class DeepLabV3Plus(nn.Module):
    """Semantic segmentation: normalized images [N, 3, H, W], any H, W >= 33 -> logits [N, num_classes, H, W].

    Images in [0, 1] are normalized with the attributes `mean` and `std`: `(image - mean) / std`.

    Args:
        backbone: gives features at stride 4 and at its output stride.
        context: takes the backbone's features. It becomes the attribute `aspp` or `dpc`; the other one is None.
        decoder: None is DeepLab V3: the classifier follows the context.
        num_classes: of the logits.
        initialization: released or he; see `initialize`.
    """

    mean, std = Xception.mean, Xception.std

    def __init__(
        self,
        backbone: Xception,
        context: ASPP | DensePredictionCell,
        decoder: Decoder | None,
        num_classes: int,
        initialization: str = "released",
    ):
        super().__init__()
        self.backbone = backbone
        self.aspp = context if isinstance(context, ASPP) else None
        self.dpc = context if isinstance(context, DensePredictionCell) else None
        self.decoder = decoder
        self.classifier = nn.Conv2d(context.out_channels if decoder is None else decoder.out_channels, num_classes, 1)
        self.output_stride = backbone.output_stride
        initialize(self, initialization)

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return self.classifier.out_channels

    @property
    def output_stride(self) -> int:
        """8, 16 or 32; 8 or 16 with a dense prediction cell. Setting it on a live network keeps the weights: strides become
        dilations, or back."""
        return self.backbone.output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        if self.dpc is not None:
            self.dpc.check_output_stride(value)
        self.backbone.output_stride = value
        self.context.set_output_stride(value)

    @property
    def logits_stride(self) -> int:
        """Stride of `logits`: 4, or the output stride if there is no decoder."""
        return self.output_stride if self.decoder is None else self.backbone.low_level_stride

    @property
    def context(self) -> ASPP | DensePredictionCell:
        """The ASPP or the dense prediction cell."""
        context = self.aspp or self.dpc
        assert context is not None
        return context

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the backbone, for a learning rate of their own."""
        yield from self.backbone.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters: context, decoder and classifier."""
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone."):
                yield parameter

    def logits(self, images: Tensor) -> Tensor:
        """Logits before the last resize: [N, num_classes, ceil(H/s), ceil(W/s)] at the stride s = `logits_stride`.

        Raises:
            UserError: the images are not floating point [N, 3, H, W].
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"images {str(images.dtype).removeprefix('torch.')} {list(images.shape)}: must be floating point [N, 3, H, W]: "
                "(RGB / 255 - net.mean) / net.std. A seg.Predictor takes images as they are read"
            )
        *low_levels, x = self.backbone(images)
        x = self.context(x)
        if self.decoder is not None:
            x = self.decoder(x, *low_levels)
        logits: Tensor = self.classifier(x)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Full-size logits [N, num_classes, H, W]."""
        return resize(self.logits(images), images.shape[-2:])


def initialize(model: DeepLabV3Plus, method: str = "released") -> None:
    """Draw the weights of a DeepLab V3+.

    Args:
        method: released: as the released code, truncated normals, and Glorot uniform in the head's dense convolutions. he: as
            in `initialize_backbone`.
    """
    initialize_backbone(model.backbone, method)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or name.startswith("backbone."):
            continue
        if method == "he":
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif name.endswith("depthwise"):
            truncated_normal(module, 0.33)
        elif name.endswith("pointwise"):
            truncated_normal(module, 0.06)
        else:
            nn.init.xavier_uniform_(module.weight)
    initialize_classifier(model.classifier)
