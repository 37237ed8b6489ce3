"""Images that are looked at in a smaller size."""

import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from seg.config import Config, InferenceConfig
from seg.data.prepare.scenes import scene
from seg.inference.looking_size import (
    enlarged_classes,
    enlarged_mask,
    looking_size,
    reduced,
    score_strips,
)
from seg.inference.predictor import Predictor
from seg.labels import VOC
from seg.models.ops.resize import resize
from seg.weights.file import Metadata
from tests.helpers.toy import Reader, refused, toy_sample, written


def enlarged_scores(*given):
    """All rows of `score_strips`: [classes, H, W]."""
    return torch.cat([rows for _, rows in score_strips(*given)], 1)


@pytest.mark.parametrize(
    "size, longest, trained, wanted",
    [
        ((3000, 4000), "auto", 500, (375, 500)),
        ((4000, 3000), "auto", 500, (500, 375)),
        ((751, 600), "auto", 500, (500, 399)),
        ((750, 600), "auto", 500, (750, 600)),  # 1.5 times as long is not far larger
        ((300, 200), "auto", 500, (300, 200)),
        ((3000, 4000), "auto", None, (3000, 4000)),
        ((3000, 4000), "native", 500, (3000, 4000)),
        ((3000, 4000), 1000, 500, (750, 1000)),
        ((501, 400), 500, None, (500, 399)),
        ((2, 40000), "auto", 500, (1, 500)),
    ],
)
def test_the_size_follows_the_setting(size, longest, trained, wanted):
    assert looking_size(size, longest, trained) == wanted


@pytest.mark.parametrize("value", ["half", 0, 32, 1.5, True, None])
def test_another_setting_is_refused(value):
    with refused("evaluate.longest", "auto, native, or from 33 to"):
        InferenceConfig(longest=value)


@pytest.mark.parametrize("size", [(60, 90), (57, 101), (21, 300)])
def test_scores_at_stride_1_are_interpolated_as_pytorch_does(size):
    """Independent: PyTorch's interpolation between pixels whose areas, not centers, have one border."""
    maps = torch.randn(1, 3, 19, 31)
    wanted = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
    found = enlarged_scores([maps], (19, 31), (19, 31), size)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_scores_of_a_stride_and_padding_are_those_of_the_reduced_image_interpolated():
    maps = torch.randn(1, 3, 9, 9)  # stride 4 of an input of 33x33, of which 30x25 are the image
    small = resize(maps, (33, 33))[:, :, :30, :25]
    wanted = F.interpolate(small, (240, 200), mode="bilinear", align_corners=False)[0]
    found = enlarged_scores([maps], (33, 33), (30, 25), (240, 200))
    # Between two pixels of the reduced image, the scores of the grid are linear, too, but for the pixels on it.
    torch.testing.assert_close(found, wanted, atol=0.2, rtol=0)
    torch.testing.assert_close(found[:, 4::8, 4::8], wanted[:, 4::8, 4::8], atol=0.2, rtol=0)
    assert (found - wanted).abs().mean() < 0.01


def test_the_mask_is_the_argmax_of_the_mean_softmax_computed_in_strips():
    maps = [torch.randn(1, 4, 9, 9), 3 * torch.randn(1, 4, 9, 9)]
    place = (33, 33), (33, 20), (150, 91)
    each = [enlarged_scores([one], *place).softmax(0) for one in maps]
    scores = enlarged_scores(maps, *place)
    torch.testing.assert_close(scores, (each[0] + each[1]) / 2)
    np.testing.assert_array_equal(enlarged_mask(maps, *place), scores.argmax(0).numpy())


def test_reducing_averages_areas():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert reduced(image, (60, 80)) is image
    wanted = sharpened(image.reshape(15, 4, 20, 4, 3).mean((1, 3)))
    np.testing.assert_allclose(reduced(image, (15, 20)), wanted, atol=1.5)  # means are rounded before
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[::2] = 255  # without a mean of areas, all black or all white
    assert np.abs(reduced(stripes, (100, 100)).astype(int) - 128).max() <= 1


def sharpened(means):
    """Each pixel plus 0.1 of its differences to both neighbors, along one axis and then along the other; from 0 to 255."""
    for axis in (0, 1):
        wide = np.concatenate([means.take([0], axis), means, means.take([-1], axis)], axis)
        before, after = (wide.take(range(start, start + means.shape[axis]), axis) for start in (0, 2))
        means = means + 0.1 * (means - before) + 0.1 * (means - after)
    return means.clip(0, 255)


@pytest.mark.parametrize("factor", [3, 8])
@pytest.mark.parametrize("enlarge", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR])
def test_an_enlarged_image_comes_back_nearly_as_it_was(enlarge, factor):
    small = scene(0, 1, 120)[0]
    height, width = small.shape[:2]
    with Image.fromarray(small) as image:
        large = np.asarray(image.resize((width * factor, height * factor), enlarge))
    means = large.reshape(height, factor, width, factor, 3).mean((1, 3))

    def error(other):
        return np.sqrt(np.mean((other.astype(float) - small) ** 2))

    assert error(reduced(large, (height, width))) < 0.75 * error(means)


def test_a_model_that_gives_masks_alone_gets_smooth_edges():
    mask = np.zeros((20, 20), np.uint8)
    mask[np.add.outer(np.arange(20), np.arange(20)) > 20] = 12  # a diagonal
    large = enlarged_classes(mask, (200, 200))
    ideal = np.where(np.add.outer(np.arange(200), np.arange(200)) > 214, 12, 0)
    assert set(np.unique(large)) == {0, 12}
    assert (large != ideal).mean() < 0.5 * (mask.repeat(10, 0).repeat(10, 1) != ideal).mean()  # nearest neighbors


@pytest.mark.parametrize("small", [(33, 20), (150, 91)])
def test_strips_follow_each_other(small):
    maps, padded = [torch.randn(1, 4, 9, 9)], (max(small), max(small))
    places = [rows for rows, _ in score_strips(maps, padded, small, (150, 91))]
    assert [(rows.start, rows.stop) for rows in places] == [(0, 64), (64, 128), (128, 150)]
    if small == (150, 91):  # not reduced
        whole = resize(maps[0], padded)[0, :, :150, :91]
        torch.testing.assert_close(enlarged_scores(maps, padded, small, (150, 91)), whole, atol=1e-4, rtol=1e-4)


def test_the_mask_of_a_photo_of_12_megapixels_takes_little_memory():
    code = """
        import resource, numpy as np, torch
        from seg.config import Config, InferenceConfig
        from seg.inference.predictor import Predictor
        from seg.labels import VOC
        from seg.weights.file import Metadata
        from tests.helpers.toy import Reader
        torch.set_num_threads(1)
        predictor = Predictor(Reader(9), VOC, InferenceConfig(), metadata=Metadata(Config(), VOC, {}, trained_size=257))
        predictor.predict(np.zeros((200, 250, 3), np.uint8))
        image = np.zeros((3000, 4000, 3), np.uint8) + 50
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mask = predictor.predict(image)
        assert mask.shape == (3000, 4000) and (mask == 5).all()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 150, "MiB above the image; its scores alone would be 412"


def predictor(**settings):
    return Predictor(
        Reader(), VOC, InferenceConfig(**{"canvas": None, **settings}), metadata=Metadata(Config(), VOC, {}, {}, 64)
    )


@pytest.mark.parametrize("settings", [{}, {"canvas": 97}, {"scales": [1.0, 1.5], "flip": True}])
def test_a_large_photo_has_the_mask_of_the_small_one_at_its_own_size(settings):
    mask = toy_sample(0)[1]
    mask = np.where(mask == 255, 0, mask).astype(np.uint8)
    large = np.kron(mask, np.ones((7, 7), np.uint8))
    found = predictor(**settings)(written(large))
    assert found.shape == large.shape
    inside = cv2.dilate(large, np.ones((29, 29))) == cv2.erode(large, np.ones((29, 29)))
    assert (found == large)[inside].mean() > 0.99 and (found == large).mean() > 0.9
    scores = predictor(**settings).probabilities(written(large))
    assert scores.shape == (21, *large.shape)
    np.testing.assert_allclose(scores.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(scores.argmax(0), found)


def test_images_of_several_sizes_keep_their_order_and_size():
    images = [
        written(np.full(size, index, np.uint8)) for index, size in enumerate([(48, 64), (480, 640), (300, 100), (64, 48)])
    ]
    masks = predictor()(images)
    assert [mask.shape for mask in masks] == [image.shape[:2] for image in images]
    assert [int(np.median(mask)) for mask in masks] == [0, 1, 2, 3]


def test_evaluation_is_native_unless_told_otherwise():
    assert predictor().native().config.longest == "native"
    assert predictor(longest=100).native().config.longest == 100
    image = np.zeros((480, 640, 3), np.uint8)
    assert predictor().looking_size(image) == (48, 64) and predictor().native().looking_size(image) == (480, 640)
