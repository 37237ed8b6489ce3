"""The interface of segmentation networks, for type checkers."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor, nn


class SegmentationModel(Protocol):
    """A network for training and prediction: DeepLabV3Plus, SmpModel, or an exported one in another runtime."""

    mean: Sequence[float]
    """Of the input, for images in [0, 1]; three values."""
    std: Sequence[float]

    @property
    def logits_stride(self) -> int:
        """Stride of `logits`."""

    @property
    def output_stride(self) -> Any:
        """Stride of the encoder's output: 8, 16 or 32."""

    @output_stride.setter
    def output_stride(self, value: Any) -> None: ...

    def logits(self, images: Tensor) -> Tensor:
        """Compute logits [N, C, h, w] at `logits_stride` from normalized images [N, 3, H, W]."""

    # As nn.Module has them.
    def modules(self) -> Iterator[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def eval(self) -> Any: ...

    def to(self, device: Any) -> Any: ...
