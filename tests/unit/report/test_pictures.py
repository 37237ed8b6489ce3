import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from seg.report.pictures import SIDE, Picture, planes
from tests.helpers.toy import toy_sample


@pytest.mark.parametrize("size", [(48, 64), (1, 3), (500, 375), (SIDE, SIDE), (2000, 3)])
def test_a_small_mask_takes_the_pixels_at_its_centers(size):
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, 256, size, dtype=np.uint8) for _ in range(2))
    picture = Picture.of(truth, prediction)
    height, width = picture.height, picture.width
    assert max(height, width) == min(SIDE, max(size)) and picture.photo is None
    small = planes(picture.masks, width, height)
    for mask, got in zip((truth, prediction), small, strict=True):
        rows = [int((y + 0.5) * size[0] / height) for y in range(height)]
        columns = [int((x + 0.5) * size[1] / width) for x in range(width)]
        assert got.tolist() == [[mask[y, x] for x in columns] for y in rows]


def test_the_photo_is_the_resized_image():
    image, mask = toy_sample(0, (600, 800))
    picture = Picture.of(mask, mask, image)
    photo = Image.open(BytesIO(picture.photo))
    assert photo.format == "WEBP" and photo.size == (picture.width, picture.height) == (SIDE, SIDE * 3 // 4)
    expected = np.asarray(Image.fromarray(image).resize(photo.size, Image.Resampling.BOX), np.float64)
    assert np.abs(np.asarray(photo.convert("RGB")) - expected).mean() < 6


def test_1449_images_of_usual_size_fit_into_the_largest_page():
    image, mask = toy_sample(1, (375, 500))
    picture = Picture.of(mask, mask, image)
    assert 4 / 3 * (len(picture.photo) + len(picture.masks)) < 60e6 / 1449


@pytest.mark.parametrize(
    "masks, size",
    [
        (b"no zlib", (4, 4)),
        (zlib.compress(bytes(16)), (4, 4)),
        (zlib.compress(bytes(64)), (4, 4)),
        (zlib.compress(bytes(10**8)), (4, 4)),
        (zlib.compress(bytes(32))[:-5], (4, 4)),
        (zlib.compress(b""), (0, 4)),
        (zlib.compress(bytes(2 * 10**6)), (1000, 1000)),
    ],
)
def test_damaged_masks_are_refused(masks, size):
    with pytest.raises(ValueError):
        planes(masks, *size)
