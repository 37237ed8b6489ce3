"""Calibration: whether 80 % of the pixels predicted with a confidence of 80 % are correct (arXiv 1706.04599)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import distributed
from ..labels import VOID

if TYPE_CHECKING:  # saved masks are scored without torch
    from torch import Tensor

    from ..inference.predictor import Predictor

BINS = 15
PIXELS = 1000
"""Number of pixels per image, evenly spread, to fit the temperature: those of VOC's val take 120 MB."""
RANGE = (0.05, 20.0)
"""Range of the fitted temperature."""


class Calibration:
    """Measures confidence and accuracy over the pixels of an evaluation. Void pixels are ignored.

    Args:
        temperature: of the probabilities.
    """

    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature
        self.pixels, self.correct = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        self.confidence = np.zeros(BINS)
        """Sum of the largest probabilities of the pixels in each bin."""
        self.logits: list[np.ndarray] = []
        """Logits of the pixels for the fit: float32 [pixels, classes]."""
        self.truths: list[np.ndarray] = []
        self.fitted: float | None = None
        """The temperature with the smallest negative log-likelihood, after `fit`; None if there are no pixels."""

    def add(self, predictor: Predictor, image: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Predict an image and add its pixels.

        Args:
            predictor: the model.
            image: uint8 [h, w, 3].
            truth: uint8 [h, w], class index or 255.

        Returns:
            The mask, uint8 [h, w].
        """
        mask = np.empty(truth.shape, np.uint8)
        labeled = np.flatnonzero(truth != VOID)
        kept = np.zeros(truth.shape, bool)
        kept.ravel()[labeled[np.linspace(0, len(labeled) - 1, min(PIXELS, len(labeled))).astype(int)]] = True
        for rows, logits in predictor.logit_strips(image):
            best = (logits / self.temperature).softmax(0).max(0)
            mask[rows] = best.indices.cpu().numpy()
            known = truth[rows] != VOID
            self._count(best.values.cpu().numpy()[known], mask[rows][known] == truth[rows][known])
            if kept[rows].any():
                self.logits.append(logits.cpu().numpy()[:, kept[rows]].T)
                self.truths.append(truth[rows][kept[rows]])
        return mask

    def _count(self, confidence: np.ndarray, right: np.ndarray) -> None:
        bins = _bins(confidence)
        self.pixels += np.bincount(bins, minlength=BINS)
        self.correct += np.bincount(bins[right], minlength=BINS)
        self.confidence += np.bincount(bins, confidence, BINS)

    def gather(self) -> None:
        """Add up the images of all processes, and fit the temperature."""
        self.pixels = distributed.all_reduce_sum_array(self.pixels)
        self.correct = distributed.all_reduce_sum_array(self.correct)
        self.confidence = distributed.all_reduce_sum_array(self.confidence)
        parts = distributed.all_gather((self.logits, self.truths))
        self.logits, self.truths = ([one for part in parts for one in part[which]] for which in (0, 1))
        if self.logits:
            self.fitted = fit_temperature(*self._samples())

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over all pixels of |accuracy - mean confidence| of the pixel's bin."""
        return _ece(self.pixels, self.correct, self.confidence)

    @property
    def fitted_ece(self) -> float:
        """The expected calibration error at the fitted temperature, over the pixels of the fit."""
        assert self.fitted is not None
        logits, truth = self._samples()
        best = (logits / self.fitted).softmax(1).max(1)
        confidence, right = best.values.numpy(), (best.indices == truth).numpy()
        bins = _bins(confidence)
        pixels, correct = (np.bincount(one, minlength=BINS) for one in (bins, bins[right]))
        return _ece(pixels, correct, np.bincount(bins, confidence, BINS))

    def _samples(self) -> tuple[Tensor, Tensor]:
        import torch

        return torch.from_numpy(np.concatenate(self.logits)), torch.from_numpy(np.concatenate(self.truths)).long()

    def rows(self) -> list[dict[str, Any]]:
        """Limits, number of pixels, mean confidence and accuracy of each bin (None without pixels)."""
        found = []
        for number, (pixels, correct, total) in enumerate(zip(self.pixels, self.correct, self.confidence, strict=True)):
            means = (float(total / pixels), float(correct / pixels)) if pixels else (None, None)
            row: dict[str, Any] = {"low": number / BINS, "high": (number + 1) / BINS, "pixels": int(pixels)}
            found.append(row | {"confidence": means[0], "accuracy": means[1]})
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        known: dict[str, Any] = {"temperature": self.temperature, "ece": self.ece, "bins": self.rows()}
        if self.fitted is None:
            return known | {"fitted": None}
        return known | {"fitted": {"temperature": self.fitted, "ece": self.fitted_ece, "pixels": sum(map(len, self.truths))}}


def _bins(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence: low <= confidence < high, the last one with 1."""
    bins: np.ndarray = (confidence * BINS).astype(int).clip(0, BINS - 1)
    return bins


def _ece(pixels: np.ndarray, correct: np.ndarray, confidence: np.ndarray) -> float:
    return float(np.abs(correct - confidence).sum() / max(1, pixels.sum()))


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """Return the temperature T that minimizes the mean of -log softmax(logits / T)[truth].

    The mean is convex in 1 / T, so bisection finds where its slope is 0.

    Args:
        logits: float32 [pixels, classes].
        truth: int64 [pixels].
    """
    logits = logits - logits.amax(1, keepdim=True)
    right = logits.gather(1, truth[:, None]).double().mean()
    low, high = RANGE
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        expected = ((logits / middle).softmax(1) * logits).sum(1).double().mean()
        low, high = (middle, high) if expected > right else (low, middle)
    return round(math.sqrt(low * high), 4)
