"""Models that run outside of PyTorch, with the interface of a PyTorch model."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import InferenceConfig
from ..errors import UserError
from ..models.interface import SegmentationModel
from ..precision import Precision

Run = Callable[[np.ndarray], np.ndarray]
"""A converted network: from its only input to its only output, as arrays."""


Open = Callable[[Precision], Run]
"""Opens an exported model in a precision."""


class RuntimeModel(nn.Module):
    """A network converted to another runtime, with the attributes that inference uses of a model.

    Args:
        model: the PyTorch model that was converted, at its current output stride.
        run: float32 [N, 3, H, W] -> float32 logits [N, classes, h, w], for any N, H and W.
        runtime: the runtime's name, for messages.
    """

    def __init__(self, model: SegmentationModel, run: Run, runtime: str) -> None:
        super().__init__()
        self.mean, self.std, self.logits_stride = model.mean, model.std, model.logits_stride
        self.run, self.runtime = run, runtime
        self._output_stride: int = model.output_stride

    @property
    def output_stride(self) -> int:
        """The output stride of the conversion, which cannot change. Setting another one raises UserError."""
        return self._output_stride

    @output_stride.setter
    def output_stride(self, value: int) -> None:
        if value != self._output_stride:
            raise UserError(
                f"output stride {value}: this network was converted to the runtime {self.runtime} at output stride "
                f"{self._output_stride}, which cannot change; convert the weights again at {value}, or leave it out"
            )

    def logits(self, images: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            images: float32 [N, 3, H, W], normalized.

        Returns:
            float32 [N, classes, h, w] at stride `logits_stride`, on the CPU.
        """
        return torch.from_numpy(self.run(images.contiguous().cpu().numpy()))


class ExportedModel(nn.Module):
    """An exported model: uint8 RGB to the class of each pixel, with the inference settings of its export.

    Args:
        run: uint8 [N, H, W, 3] -> uint8 [N, H, W], for any N, H and W.
        config: the inference settings that are part of the exported model.
        name: the file, for messages.
    """

    def __init__(self, run: Run, config: InferenceConfig, name: str = "the exported model") -> None:
        super().__init__()
        self.run, self.config, self.name = run, config, name

    @property
    def output_stride(self) -> int | None:
        """The output stride of the export, which cannot change. Setting another one raises UserError."""
        return self.config.output_stride

    @output_stride.setter
    def output_stride(self, value: int | None) -> None:
        self._require("output_stride", value)

    def require(self, config: InferenceConfig) -> None:
        """Check that the exported model follows these settings.

        Args:
            config: the wanted settings; an output stride of None means the model's own.

        Raises:
            UserError: a setting differs from that of the export; the message names both values.
        """
        for field in fields(config):
            if field.name != "longest":  # an image is reduced before the model sees it
                self._require(field.name, getattr(config, field.name))

    def _require(self, key: str, wanted: Any) -> None:
        own = getattr(self.config, key)
        if wanted == own or (key == "output_stride" and wanted is None):
            return
        raise UserError(
            f"{self.name}: evaluate.{key}={json.dumps(wanted)}: this exported model has a fixed {key}={json.dumps(own)}; leave "
            "out the setting, or use the weights file that the model was exported from"
        )

    def masks(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Predict the class of each pixel.

        Args:
            images: uint8 RGB images [h, w, 3], of any sizes.

        Returns:
            uint8 masks [h, w], one for each image.
        """
        return [self.run(image[None])[0] for image in images]
