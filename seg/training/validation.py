"""Validations during a training: scores, pictures, and the files of the best weights."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

from .. import distributed
from ..config import Config
from ..data.training_data import TrainingData
from ..evaluation.evaluator import evaluate_model
from ..evaluation.metrics import Scores
from ..inference.predictor import Predictor
from ..labels import LabelSet
from ..models.interface import SegmentationModel
from ..precision import Precision
from ..runtimes.pytorch import fast_model
from ..visualize import comparison
from ..weights.file import Metadata, open_safetensors, read_metadata, write
from .run_folder import BEST, kept_weights, weights_of

PICTURES = 4
"""Validation images drawn in TensorBoard."""


class Validator:
    """Scores a network on the validation split, and saves the weights of the best validations.

    Args:
        config: every setting; `evaluate` says how to predict, and on which share of the images.
        labels: the classes.
        data: the splits.
    """

    def __init__(self, config: Config, labels: LabelSet, data: TrainingData):
        self.config, self.labels, self.trained_size = config, labels, data.trained_size
        nth = config.evaluate.every_nth
        self.split = replace(data.val, ids=data.val.ids[::nth], images=data.val.images[::nth], masks=data.val.masks[::nth])
        self.share = f"{len(self.split)} of {len(data.val)} images" if nth > 1 else ""
        """Share of the images in words, such as "10 of 20 images"; empty: all."""

    def __call__(self, model: nn.Module, precision: Precision) -> tuple[Scores, dict[str, np.ndarray]]:
        """Score the network. Returns the scores, and pictures uint8 [H, W, 3] of the first images by name."""
        pictures: dict[str, np.ndarray] = {}

        def keep_picture(index: int, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
            if len(pictures) < PICTURES:
                pictures[self.split.ids[index]] = comparison(image, prediction, self.labels, truth)

        fast = fast_model(cast(SegmentationModel, model))
        predictor = Predictor(fast, self.labels, self.config.evaluate, precision=precision)
        return evaluate_model(predictor, self.split, keep_picture), pictures

    def keep(self, model: nn.Module, scores: Scores, iteration: int, better: bool) -> None:
        """Write best.safetensors if the scores are the best so far, and keep the weights of the best validations.

        Args:
            model: the network that has been scored.
            scores: its scores.
            iteration: iterations done.
            better: whether no earlier scores are as good.
        """
        if not distributed.is_main():
            return
        iou = {name: None if np.isnan(v) else float(v) for name, v in zip(self.labels.names, scores.iou, strict=True)}
        # The split's name is printed with the score in reports and model cards, so it says the share of the images.
        split = f"{self.split.name}, {self.share}" if self.share else self.split.name
        score = {"iteration": iteration, "miou": scores.miou, "split": split, "iou": iou}
        about = Metadata(self.config, self.labels, score, trained_size=self.trained_size)
        if better:
            write(self.config.folder / BEST, model, about)
        if self.config.train.keep_best > 1:
            # Each file stores its score, so a resumed run needs no list of them.
            kept = {path: _miou(path) for path in kept_weights(self.config.folder)}
            path = weights_of(self.config.folder, iteration)
            kept[path] = scores.miou
            best = sorted(kept, key=lambda each: kept[each], reverse=True)[: self.config.train.keep_best]
            if path in best:
                write(path, model, about)
            for other in kept.keys() - set(best) - {path}:
                other.unlink()


def _miou(path: Path) -> float:
    return float(read_metadata(open_safetensors(path)[1], path).score["miou"])
