"""Probabilities, the largest of them, and entropy."""

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from scipy.stats import entropy

from seg import visualize
from seg.config import Config, InferenceConfig
from seg.inference.images import predict_images
from seg.inference.predictor import Predictor
from seg.labels import VOC
from seg.weights.file import Metadata
from tests.helpers.toy import picture, random_model

SETTINGS = [{}, {"scales": [0.5, 1.0], "flip": True}, {"tile": 257}, {"tile": 257, "flip": True}, {"longest": 60}]


def predictor_of(temperature=1.0, **settings):
    metadata = Metadata(Config(), VOC, {}, temperature=temperature)
    return Predictor(random_model(), VOC, InferenceConfig(**{"canvas": None, **settings}), metadata=metadata)


@pytest.mark.parametrize("settings", SETTINGS)
def test_confidence_is_that_of_the_probabilities(settings):
    predictor = predictor_of(**settings)
    image = picture(290, 260)
    shares = predictor.probabilities(image)
    assert shares.dtype == np.float32 and shares.shape == (5, 290, 260)
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    found = predictor.confidence(image)
    np.testing.assert_array_equal(found.mask, shares.argmax(0))
    np.testing.assert_allclose(found.probability, shares.max(0), atol=1e-6)
    np.testing.assert_allclose(found.entropy, entropy(shares, axis=0) / np.log(5), atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_temperature_changes_probabilities_and_not_the_mask(settings):
    image = picture(290, 260)
    plain, warm = predictor_of(**settings), predictor_of(2.0, **settings)
    shares = plain.probabilities(image).astype(float)
    np.testing.assert_allclose(warm.probabilities(image), softmax(np.log(shares.clip(1e-30)) / 2, axis=0), atol=1e-4)
    best = np.sort(shares, 0)
    clear = best[-1] - best[-2] > 1e-3
    assert (warm.probabilities(image).argmax(0) == plain.predict(image))[clear].all()
    np.testing.assert_array_equal(warm.predict(image), plain.predict(image))


def test_heat_maps_and_gray_images_are_written(tmp_path):
    image = picture(150, 200)
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = predictor_of()
    written, problems = predict_images(predictor, [tmp_path / "a.png"], tmp_path / "out", "confidence")
    assert written == [tmp_path / "out/a.png"] and not problems
    found = predictor.confidence(image)
    for folder, values in (("probability", found.probability), ("entropy", found.entropy)):
        with Image.open(tmp_path / f"out/{folder}/a.png") as gray:
            assert gray.mode == "L"
            np.testing.assert_allclose(np.asarray(gray), 255 * values, atol=0.51)
    with Image.open(tmp_path / "out/a.png") as drawn:
        pixels = np.asarray(drawn)
    assert pixels.shape[1] == 3 * 200 + 2 * 4
    top = pixels.shape[0] - visualize.scale_bar(pixels.shape[1], 3).shape[0] - 150
    np.testing.assert_array_equal(pixels[top : top + 150, :200], image)
    np.testing.assert_array_equal(pixels[top : top + 150, 204:404], visualize.heat(found.probability))
    np.testing.assert_array_equal(pixels[top : top + 150, 408:], visualize.heat(found.entropy))


def test_heat_gets_lighter_from_0_to_1():
    colors = visualize.heat(np.linspace(0, 1, 256)[None])[0].astype(float)
    lightness = colors @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= 0).all() and lightness[0] < 5 and lightness[-1] > 230
