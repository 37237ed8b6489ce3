"""From one image to its class probabilities: canvas, scales and flip as in the released evaluation code."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import EvaluateConfig
from ..data.augment import PAD
from ..data.loader import normalise
from ..models.layers import resize


def canvas_size(side: int, canvas: int | None) -> int:
    """Side of the padded canvas: `canvas`, or for a larger image the next 16 k + 1; the side itself where canvas is None."""
    if canvas is None or side <= canvas:
        return canvas or side
    return (side - 2) // 16 * 16 + 17


def scaled(side: int, scale: float) -> int:
    """`side` at a scale, counted between the centres of the outer pixels as align_corners does."""
    return int((side - 1) * scale + 1)


def pad_to_canvas(image: np.ndarray, canvas: int | None) -> Tensor:
    """uint8 [h, w, 3] -> float32 [1, 3, H, W] in 0..255: padded with 127.5 at the bottom and right, to the canvas and to 33."""
    height, width = image.shape[:2]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    rows, columns = (max(33, canvas_size(side, canvas)) - side for side in (height, width))
    return F.pad(x, (0, columns, 0, rows), value=PAD)


@torch.inference_mode()
def infer(model: nn.Module, image: np.ndarray, policy: EvaluateConfig) -> Tensor:
    """Scores [classes, h, w] of a uint8 RGB image [h, w, 3], at its own size: their argmax is the prediction.

    Logits for a single scale without flip; else the mean of the softmaxes over scales and flips, in the order of the released
    code: each scale's logits resized to the size of the logits at scale 1 where they are smaller, then to the image's size.
    The model is in evaluation mode and has the policy's output stride.
    """
    device = next(model.parameters()).device
    padded = pad_to_canvas(image, policy.canvas).to(device, memory_format=torch.channels_last)
    size = padded.shape[-2:]
    single = len(policy.scales) == 1 and not policy.flip
    total = None
    for scale in policy.scales:
        images = normalise(resize(padded, [scaled(side, scale) for side in size]), model.mean, model.std)
        for mirrored in (False, True) if policy.flip else (False,):
            logits = model.logits(images.flip(3) if mirrored else images).float()
            if mirrored:
                logits = logits.flip(3)
            if scale < 1:
                logits = resize(logits, [scaled(side, 1 / model.logits_stride) for side in size])
            scores = resize(logits, size)
            if not single:
                scores = scores.softmax(1)
            total = scores if total is None else total + scores
    total = total[0, :, : image.shape[0], : image.shape[1]]
    return total if single else total / (len(policy.scales) * (1 + policy.flip))


def predict_mask(model: nn.Module, image: np.ndarray, policy: EvaluateConfig) -> np.ndarray:
    """uint8 [h, w]: the class of every pixel of a uint8 RGB image [h, w, 3]."""
    return infer(model, image, policy).argmax(0).to(torch.uint8).cpu().numpy()


class output_stride:
    """Evaluation mode and the output stride `value` (None: the model's) for a while; then both as they were."""

    def __init__(self, model: nn.Module, value: int | None):
        self.model, self.value = model, model.output_stride if value is None else value

    def __enter__(self):
        self.before = self.model.output_stride
        self.model.output_stride = self.value  # first: a model may refuse it
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()

    def __exit__(self, *_):
        for module, training in self.modes:
            module.training = training
        self.model.output_stride = self.before
