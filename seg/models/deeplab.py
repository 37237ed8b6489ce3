"""DeepLab V3+: backbone, atrous spatial pyramid pooling, decoder, classifier. arXiv 1802.02611."""

from torch import Tensor, nn

from .aspp import ASPP
from .decoder import Decoder
from .layers import SeparableConv, resize


def truncated_normal(conv: nn.Conv2d, std: float) -> None:
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)


class DeepLabV3Plus(nn.Module):
    """Images N,3,H,W, normalised with `mean` and `std`, any H, W >= 33 -> logits N,classes,H,W.

    decoder None is DeepLab V3: the classifier on the ASPP output.
    Weights start as in the released code: truncated normals and, in the head's 1x1 convolutions, Glorot uniform.
    """

    mean = std = (0.5, 0.5, 0.5)
    """Of the input, for images in [0, 1], as timm states them; here they give `2/255 * x - 1`."""

    def __init__(self, backbone: nn.Module, aspp: ASPP, decoder: Decoder | None, classes: int):
        super().__init__()
        self.backbone = backbone
        self.aspp = aspp
        self.decoder = decoder
        self.classifier = nn.Conv2d(aspp.channels if decoder is None else decoder.channels, classes, 1)
        self.output_stride = backbone.output_stride
        self._initialise()

    def _initialise(self) -> None:
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                truncated_normal(module, 0.09)
        for part in filter(None, (self.aspp, self.decoder)):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight)
            for module in part.modules():
                if isinstance(module, SeparableConv):
                    truncated_normal(module.depthwise, 0.33)
                    truncated_normal(module.pointwise, 0.06)
        truncated_normal(self.classifier, 0.01)
        nn.init.zeros_(self.classifier.bias)

    @property
    def output_stride(self) -> int:
        """8, 16 or 32; may be set on a live model: the weights are the same, strides become atrous rates."""
        return self.backbone.output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        self.backbone.output_stride = value
        self.aspp.set_output_stride(value)

    @property
    def logits_stride(self) -> int:
        """Stride of `logits`: 4, or the output stride where there is no decoder."""
        return self.output_stride if self.decoder is None else 4

    def logits(self, images: Tensor) -> Tensor:
        """Logits before the last resize: N,classes,ceil(H/s),ceil(W/s) at stride `logits_stride`."""
        low_level, x = self.backbone(images)
        x = self.aspp(x)
        if self.decoder is not None:
            x = self.decoder(x, low_level)
        return self.classifier(x)

    def forward(self, images: Tensor) -> Tensor:
        return resize(self.logits(images), images.shape[-2:])
