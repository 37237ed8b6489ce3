"""Scores of predictions: confusion matrix, IoU, boundary quality, comparison."""

from .metrics import ConfusionMatrix, Scores

__all__ = ["ConfusionMatrix", "Scores"]
