"""The Xceptions as they are trained on ImageNet: arXiv 1610.02357, section 4.3."""

from torch import Tensor, nn

from .deeplab import truncated_normal


class ImageClassifier(nn.Module):
    """Images N,3,H,W, normalized with `mean` and `std` -> logits N,classes: global average pooling, dropout, classifier."""

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, backbone: nn.Module, classes: int, dropout: float = 0.5):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.image_classifier = nn.Linear(backbone.channels, classes)
        for module in backbone.modules():
            if isinstance(module, nn.Conv2d):
                truncated_normal(module, 0.09)
        truncated_normal(self.image_classifier, 0.01)
        nn.init.zeros_(self.image_classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        _, x = self.backbone(images)
        return self.image_classifier(self.dropout(x.mean((2, 3))))
