"""The interface of segmentation networks, and how one is put into evaluation mode."""

import contextlib
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


@contextlib.contextmanager
def evaluation_mode(model: SegmentationModel, output_stride: int | None) -> Iterator[None]:
    """Put a model into evaluation mode at an output stride, and restore both afterwards.

    Raises:
        UserError: the model cannot honor the output stride.
    """
    before = model.output_stride
    model.output_stride = output_stride  # First: a model may refuse it, and then nothing else has changed.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        model.output_stride = before
