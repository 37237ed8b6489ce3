"""DeepLab V3+: backbone, atrous spatial pyramid pooling, decoder, classifier. arXiv 1802.02611."""

from torch import Tensor, nn

from .aspp import ASPP
from .decoder import Decoder
from .layers import resize


def truncated_normal(conv: nn.Module, std: float) -> None:
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)


def initialize(model: nn.Module, how: str) -> None:
    """Draw the weights of a DeepLab. `released`: as the released code, truncated normals and, in the head's convolutions that
    are not separable, Glorot uniform. `he`: normal by the number of outputs (arXiv 1502.01852), and each residual branch that
    ends in batch norm starts at zero (arXiv 1706.02677, section 5.1): from scratch this learns faster.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if how == "he":
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif name.startswith("backbone."):
            truncated_normal(module, 0.09)
        elif name.endswith("depthwise"):
            truncated_normal(module, 0.33)
        elif name.endswith("pointwise"):
            truncated_normal(module, 0.06)
        else:
            nn.init.xavier_uniform_(module.weight)
    if how == "he":
        for module in model.backbone.flow.values():
            if module.shortcut is not None and not module.convs[-1].activation_placement.after:
                nn.init.zeros_(module.convs[-1].norm.weight)
    truncated_normal(model.classifier, 0.01)
    nn.init.zeros_(model.classifier.bias)


class DeepLabV3Plus(nn.Module):
    """Images N,3,H,W, normalized with `mean` and `std`, any H, W >= 33 -> logits N,classes,H,W.

    decoder None is DeepLab V3: the classifier on the ASPP output.
    initialization: see `initialize`.
    """

    mean = std = (0.5, 0.5, 0.5)
    """Of the input, for images in [0, 1], as timm states them; here they give `2/255 * x - 1`."""

    def __init__(self, backbone: nn.Module, aspp: ASPP, decoder: Decoder | None, classes: int, initialization="released"):
        super().__init__()
        self.backbone = backbone
        self.aspp = aspp
        self.decoder = decoder
        self.classifier = nn.Conv2d(aspp.channels if decoder is None else decoder.channels, classes, 1)
        self.output_stride = backbone.output_stride
        initialize(self, initialization)

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
        *low_levels, x = self.backbone(images)
        x = self.aspp(x)
        if self.decoder is not None:
            x = self.decoder(x, *low_levels)
        return self.classifier(x)

    def forward(self, images: Tensor) -> Tensor:
        return resize(self.logits(images), images.shape[-2:])
