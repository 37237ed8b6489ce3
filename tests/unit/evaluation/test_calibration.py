"""Calibration, compared with a naive computation and with SciPy's minimum."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from seg.config import Config, InferenceConfig
from seg.evaluation.calibration import BINS, PIXELS, Calibration, fit_temperature
from seg.inference.predictor import Predictor
from seg.labels import VOC
from seg.weights.file import Metadata
from tests.helpers.toy import picture, random_model


def naive_ece(probabilities, truth):
    """Expected calibration error of [classes, pixels], pixel by pixel."""
    bins = [[] for _ in range(15)]
    for column, label in zip(probabilities.T, truth, strict=True):
        if label != 255:
            sure = float(column.max())
            bins[min(14, math.floor(sure * 15))].append((sure, column.argmax() == label))
    total = sum(map(len, bins))
    gaps = (abs(sum(sure for sure, _ in one) - sum(right for _, right in one)) for one in bins)
    return sum(gaps) / total


def predictor_of(model, temperature=1.0, **settings):
    metadata = Metadata(Config(), VOC, {}, temperature=temperature)
    return Predictor(model, VOC, InferenceConfig(**{"canvas": None, **settings}), metadata=metadata)


def truth_of(size, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, size).astype(np.uint8)
    truth[rng.random(size) < 0.2] = 255
    return truth


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("settings", [{}, {"scales": [0.5, 1.0], "flip": True}])
def test_the_error_is_that_of_a_naive_computation(settings, temperature):
    assert BINS == 15
    predictor = predictor_of(random_model(), temperature, **settings)
    calibration, columns, labels = Calibration(temperature), [], []
    for number, size in enumerate([(70, 90), (41, 57)]):
        image, truth = picture(*size, number), truth_of(size, number)
        mask = calibration.add(predictor, image, truth)
        assert (mask == predictor.predict(image)).mean() > 0.999
        columns.append(predictor.probabilities(image).reshape(5, -1))
        labels.append(truth.ravel())
    columns, labels = np.concatenate(columns, 1), np.concatenate(labels)
    assert calibration.ece == pytest.approx(naive_ece(columns, labels), abs=1e-5) and calibration.ece > 0.05
    rows = calibration.rows()
    assert sum(row["pixels"] for row in rows) == (labels != 255).sum()
    for row in rows:
        if row["pixels"]:
            assert row["low"] - 1e-6 <= row["confidence"] <= row["high"] + 1e-6 and 0 <= row["accuracy"] <= 1


def test_the_fitted_temperature_is_the_minimum_and_lowers_the_error():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (4000, 6))
    shares = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    truth = torch.tensor([rng.choice(6, p=row) for row in shares])
    logits = torch.from_numpy(2.5 * true).float()  # too sure by a factor of 2.5
    found = fit_temperature(logits, truth)

    def loss(temperature):
        return torch.nn.functional.cross_entropy(logits.double() / temperature, truth).item()

    assert found == pytest.approx(minimize_scalar(loss, bounds=(0.5, 10), method="bounded").x, rel=1e-3)
    assert found == pytest.approx(2.5, rel=0.05)


def test_a_model_that_is_too_sure_gets_a_better_temperature():
    model = random_model()
    predictor = predictor_of(model)
    calibration = Calibration()
    image = picture(120, 130)
    with torch.no_grad():
        # The truth follows the model's own probabilities at a temperature of 4.
        shares = predictor_of(model, 4.0).probabilities(image)
        draws = np.random.default_rng(1).random((1, 120, 130))
        truth = (draws > shares.cumsum(0)).sum(0).clip(0, 4).astype(np.uint8)
    calibration.add(predictor, image, truth)
    calibration.gather()
    assert sum(map(len, calibration.truths)) == PIXELS
    assert calibration.fitted == pytest.approx(4, rel=0.25)
    assert calibration.fitted_ece < 0.5 * calibration.ece
    known = calibration.as_dict()
    assert known["fitted"]["temperature"] == calibration.fitted and known["ece"] == calibration.ece


def test_void_alone_has_no_temperature():
    calibration = Calibration()
    calibration.add(predictor_of(random_model()), picture(40, 50), np.full((40, 50), 255, np.uint8))
    calibration.gather()
    assert calibration.fitted is None and calibration.ece == 0 and calibration.as_dict()["fitted"] is None
