"""Evaluations of toy images for the tests of the report."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg.evaluation.boundary import Boundary
from seg.evaluation.metrics import ImageScore, Scores, confusion_matrix
from seg.labels import LabelSet
from seg.report.pictures import Picture
from tests.helpers.toy import toy_sample

AWKWARD = "</script><b>\"&' été 火"
LABELS = LabelSet(("background", "disc", AWKWARD, "diamond", "bar"), tuple((50 * i, 200 - 50 * i, 30) for i in range(5)))
PLACE = {0: 0, 1: 1, 8: 2, 12: 3, 15: 4, 255: 255}
NAMES = [AWKWARD, *(f"toy_{number}" for number in range(1, 6))]
SPACE, MINUS, NONE = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}", "\N{EN DASH}"
SETTINGS = {"weights": AWKWARD, "scales": [0.5, 1.0], "flip": True, "canvas": None, "tile": 1}


def samples(wrong: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield image, truth and prediction of each of NAMES; the share of wrong pixels grows with the number, up to `wrong`."""
    for number in range(len(NAMES)):
        image, mask = toy_sample(number)
        truth = np.vectorize(PLACE.get)(mask).astype(np.uint8)
        if number == 5:
            truth[:] = 255
        rng = np.random.default_rng(number)
        spoilt = rng.random(truth.shape) < wrong * number / 4
        yield image, truth, np.where(spoilt, rng.integers(0, 5, truth.shape), truth % 255).astype(np.uint8)


def evaluation(wrong: float = 0.5) -> tuple[Scores, dict[int, Picture], Boundary]:
    """Score the samples; return scores, pictures and boundary scores."""
    each, pictures, boundary = [], {}, Boundary(LABELS)
    for index, (image, truth, prediction) in enumerate(samples(wrong)):
        each.append(ImageScore.of(NAMES[index], confusion_matrix(truth, prediction, 5)))
        pictures[index] = Picture.of(truth, prediction, image)
        boundary.add(truth, prediction)
    return Scores.over(LABELS, each), pictures, boundary


def scripts(path: Path) -> dict[str, Any]:
    """Read the JSON scripts of a page, by their id."""
    found = re.findall(
        r'<script type="application/json" id="(.*?)">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL
    )
    return {name: json.loads(text) for name, text in found}


def better() -> tuple[Scores, dict[str, Any], dict[int, Picture]]:
    """Return scores, settings and pictures of an evaluation with fewer wrong pixels."""
    scores, pictures, _ = evaluation(0.2)
    return scores, {"weights": "better"}, pictures


ABSENT, ONLY_PREDICTED = 6, 7
"""Classes of `various`: neither in the ground truth nor predicted, and predicted only."""


WRONG = (0.03, 0.26, 0.3, 0.36, 0.4, 0.55)


def various(photos: bool = True) -> tuple[Scores, dict[int, Picture]]:
    """Score 30 images of three shapes, in which WRONG of the pixels of each class are predicted as the next class."""
    labels = LabelSet(tuple("abcdefgh"), tuple((30 * i, 255 - 30 * i, 60) for i in range(8)))
    each, pictures = [], {}
    for number in range(30):
        size = ((50, 60), (60, 30), (20, 60))[number % 3]
        truth = np.sort(np.random.default_rng(number).integers(0, 6, size, np.uint8), axis=1)
        prediction = truth.copy()
        for index in range(6):
            places = np.flatnonzero(truth == index)
            prediction.flat[places[: round(len(places) * WRONG[index])]] = (index + 1) % 6
        if number < 3:
            prediction[0] = ONLY_PREDICTED
        image = np.full((*size, 3), 8 * number, np.uint8)
        each.append(ImageScore.of(f"image_{number}", confusion_matrix(truth, prediction, len(labels))))
        pictures[number] = Picture.of(truth, prediction, image if photos else None)
    return Scores.over(labels, each), pictures
