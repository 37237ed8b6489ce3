"""The Xceptions as ImageNet classifiers: arXiv 1610.02357, section 4.3."""

from torch import Tensor, nn

from .initialization import initialize_backbone, initialize_classifier
from .xception import Xception


class ImageClassifier(nn.Module):
    """Normalized images [N, 3, H, W] -> logits [N, num_classes]: global average pooling, dropout, classifier.

    Args:
        backbone: its features are pooled.
        num_classes: of the logits.
        dropout: probability, on the pooled features.
    """

    mean, std = Xception.mean, Xception.std

    def __init__(self, backbone: Xception, num_classes: int, dropout: float = 0.5):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.image_classifier = nn.Linear(backbone.channels, num_classes)
        initialize_backbone(backbone)
        initialize_classifier(self.image_classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, num_classes]."""
        _, x = self.backbone(images)
        logits: Tensor = self.image_classifier(self.dropout(x.mean((2, 3))))
        return logits
