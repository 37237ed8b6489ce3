"""Confidence of a model: probabilities, the largest probability, and entropy."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

Strips = Iterator[tuple[slice, Tensor]]
"""Rows of an image, and their values: float32 [classes, rows, W]."""
TINY = 1e-30
"""Smallest probability in a logarithm."""


class Confidence(NamedTuple):
    """The confidence of a model at each pixel of an image."""

    mask: np.ndarray
    """uint8 [H, W]: the class."""
    probability: np.ndarray
    """float32 [H, W], from 1 / classes to 1: the probability of the class."""
    entropy: np.ndarray
    """float32 [H, W], from 0 (one class has probability 1) to 1 (all classes are equally probable): the entropy of the
    probabilities, divided by its largest value, the logarithm of the number of classes."""


def logit_strips(scores: Strips, are_logits: bool) -> Strips:
    """Yield inputs of the softmax: logits, or the logarithm of the mean of several softmaxes (scales and flip).

    Args:
        scores: of an image, as `score_strips` yields them.
        are_logits: whether the scores are logits, of a single scale without flip.
    """
    for place, rows in scores:
        yield place, rows if are_logits else rows.clamp(min=TINY).log()


def probabilities(logits: Strips, size: tuple[int, int], temperature: float = 1.0) -> np.ndarray:
    """Compute the probabilities of an image.

    Args:
        logits: see `logit_strips`.
        size: height and width of the image.
        temperature: divisor of the logits before the softmax (arXiv 1706.04599).

    Returns:
        float32 [classes, H, W], whose sum over classes is 1.
    """
    found: np.ndarray | None = None
    for place, rows in logits:
        if found is None:
            found = np.empty((len(rows), *size), np.float32)
        found[:, place] = (rows / temperature).softmax(0).cpu().numpy()
    assert found is not None  # an image has a row
    return found


def confidence(logits: Strips, size: tuple[int, int], temperature: float = 1.0) -> Confidence:
    """Compute the confidence of a model in an image; see `probabilities`. Only a few rows are in memory at a time."""
    mask, probability, entropy = (np.empty(size, kind) for kind in (np.uint8, np.float32, np.float32))
    for place, strip in logits:
        rows = (strip / temperature).softmax(0)
        best = rows.max(0)
        mask[place], probability[place] = best.indices.cpu().numpy(), best.values.cpu().numpy()
        spread = -(rows * rows.clamp(min=TINY).log()).sum(0) / math.log(max(2, len(rows)))
        entropy[place] = spread.clamp(0, 1).cpu().numpy()
    return Confidence(mask, probability, entropy)
