"""The dense prediction cell: arXiv 1809.04184. The one that the released code has for Cityscapes, its best."""

import torch
from torch import Tensor, nn

from ..errors import UserError
from .aspp import EPS
from .layers import POST, ConvNorm, SeparableConv2d

CELL = ((None, (1, 6)), (0, (18, 15)), (1, (6, 3)), (0, (1, 1)), (0, (6, 21)))
"""Each branch's input, None being the backbone's features and n the output of branch n, and its atrous rates (vertical,
horizontal) at output stride 16."""


class DensePredictionCell(nn.Module):
    """Context at several scales, in place of the ASPP: [N, in_channels, h, w] -> [N, out_channels, h, w].

    Five separable 3x3 convolutions with different atrous rates in each direction. The first one reads the backbone's features,
    the others read its output or that of another one. They are concatenated, and projected by a 1x1 convolution.

    Args:
        in_channels: channels of the backbone's features.
        out_channels: channels of each branch and of the output.
        dropout: probability, on the concatenated branches: before the projection, not after it as in the ASPP.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, *, dropout: float = 0.1):
        super().__init__()
        self.branches = nn.ModuleList(
            SeparableConv2d(in_channels if source is None else out_channels, out_channels, POST, eps=EPS) for source, _ in CELL
        )
        self.dropout = nn.Dropout(dropout)
        self.project = ConvNorm(len(CELL) * out_channels, out_channels, 1, eps=EPS)
        self.out_channels = out_channels
        self.set_output_stride(16)

    @staticmethod
    def check_output_stride(output_stride: int) -> None:
        """Check that the cell works at an output stride.

        Raises:
            UserError: it is 32, at which some rates would be below 1.
        """
        if output_stride > 16:
            raise UserError(
                f"output stride {output_stride}: a dense prediction cell works at 8 and 16 only; choose one of them"
            )

    def set_output_stride(self, output_stride: int) -> None:
        """Adapt the dilations to the backbone's output stride: those of `CELL` at 16, twice those at 8.

        Raises:
            UserError: as `check_output_stride`.
        """
        self.check_output_stride(output_stride)
        for (_, rates), conv in zip(CELL, self.branches, strict=True):
            assert isinstance(conv, SeparableConv2d)
            vertical, horizontal = (rate * 16 // output_stride for rate in rates)
            conv.depthwise.dilation = conv.depthwise.padding = (vertical, horizontal)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, in_channels, h, w] -> [N, out_channels, h, w]."""
        outputs: list[Tensor] = []
        for (source, _), conv in zip(CELL, self.branches, strict=True):
            outputs.append(conv(x if source is None else outputs[source]))
        out: Tensor = self.project(self.dropout(torch.cat(outputs, 1)))
        return out
