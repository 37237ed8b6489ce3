"""Initial weights of backbones and classifiers."""

from torch import nn

from .xception import Xception


def truncated_normal(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    """Draw the layer's weights from a normal distribution cut off at two standard deviations."""
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)


def initialize_backbone(backbone: Xception, method: str = "released") -> None:
    """Draw the weights of a backbone.

    Args:
        method: released: truncated normals, as the released code. he: normal by the number of outputs (arXiv 1502.01852), and
            each residual branch that ends in batch norm starts at zero (arXiv 1706.02677, section 5.1). It learns faster from
            scratch.
    """
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            if method == "he":
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            else:
                truncated_normal(module, 0.09)
    if method == "he":
        for block in backbone.blocks():
            *_, last = block.separable_convs()
            if block.shortcut is not None and not last.activation_placement.after:
                nn.init.zeros_(last.norm.weight)


def initialize_classifier(classifier: nn.Conv2d | nn.Linear) -> None:
    """Draw small weights for a classifier; its biases are zero."""
    truncated_normal(classifier, 0.01)
    nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]
