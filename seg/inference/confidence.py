"""How sure a model is: probabilities, the largest of them, and entropy."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

Strips = Iterator[tuple[slice, Tensor]]
"""Rows of an image, and their values: float32 [classes, rows, W]."""
TINY = 1e-30
"""Least probability of which a logarithm is taken."""


class Confidence(NamedTuple):
    """What a model is sure of at each pixel of an image."""

    mask: np.ndarray
    """uint8 [H, W]: the class."""
    probability: np.ndarray
    """float32 [H, W], from 1 / classes to 1: the probability of that class."""
    entropy: np.ndarray
    """float32 [H, W], from 0 (one class alone) to 1 (all classes alike): the entropy of the probabilities as a share of its
    largest value, the logarithm of the number of classes."""


def logit_strips(scores: Strips, are_logits: bool) -> Strips:
    """What softmax makes probabilities of: logits, or the logarithms of the mean of several softmaxes, as of scales and flip.

    Args:
        scores: of an image, as `score_strips` gives them.
        are_logits: of a single scale without flip.
    """
    for place, rows in scores:
        yield place, rows if are_logits else rows.clamp(min=TINY).log()


def probabilities(logits: Strips, size: tuple[int, int], temperature: float = 1.0) -> np.ndarray:
    """Compute the probabilities of an image.

    Args:
        logits: see `logit_strips`.
        size: height and width of the image.
        temperature: what logits are divided by before the softmax.

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
    """Compute what a model is sure of in an image; see `probabilities`. Few rows of them are in memory at a time."""
    mask, probability, entropy = (np.empty(size, kind) for kind in (np.uint8, np.float32, np.float32))
    for place, strip in logits:
        rows = (strip / temperature).softmax(0)
        best = rows.max(0)
        mask[place], probability[place] = best.indices.cpu().numpy(), best.values.cpu().numpy()
        spread = -(rows * rows.clamp(min=TINY).log()).sum(0) / math.log(max(2, len(rows)))
        entropy[place] = spread.clamp(0, 1).cpu().numpy()
    return Confidence(mask, probability, entropy)
