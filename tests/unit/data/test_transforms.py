import os
import subprocess
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg.config import DataConfig
from seg.data.transforms import RandomCrop, TrainTransform, draw_scale, named_transforms, resize_image, resize_mask
from tests.helpers.paths import FIXTURES
from tests.helpers.toy import refused, toy_sample, written

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

# Computed by TensorFlow's kernels as the released DeepLab code calls them: an image and a mask, and both at each scale.
RELEASED = np.load(FIXTURES / "oracle" / "preprocess.npz")


def config(**settings):
    return DataConfig(**{"crop_size": 33, "scale_min": 1.0, "scale_max": 1.0, "flip": 0.0, **settings})


def positions(height, width):
    """An image that holds row and column of each pixel."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([y, x, 0 * x], 2)


def draws(settings, image, mask, count):
    """Crop and mask of each of the first samples."""
    augment = RandomCrop(settings)
    return [augment(image, mask, np.random.default_rng(number))[:2] for number in range(count)]


def exact(image, size):
    """The image resized in float64, side by side."""
    image = image.astype(np.float64)
    for axis, new in enumerate(size):
        last = image.shape[axis] - 1
        position = np.arange(new) * last / max(1, new - 1)
        low = position.astype(int)
        fraction = np.expand_dims(position - low, [other for other in range(3) if other != axis])
        image = image.take(low, axis) * (1 - fraction) + image.take(np.minimum(low + 1, last), axis) * fraction
    return image


def nearest(mask, size):
    """The resized mask: TensorFlow's kernel takes a position times a float32 step, rounded half away from zero."""
    rows, columns = (
        np.minimum(np.floor((np.arange(new, dtype=np.float32) * step).astype(np.float64) + 0.5), side - 1).astype(int)
        for side, new in zip(mask.shape, size, strict=True)
        for step in [np.float32(side - 1) / np.float32(max(1, new - 1))]
    )
    return mask[rows[:, None], columns]


def sides(settings):
    """Height and width of the crops."""
    return settings.crop_size if isinstance(settings.crop_size, list) else [settings.crop_size] * 2


def plain(image, mask, settings, rng):
    """Crop, mask and valid area of the plain pipeline: resize the whole image, pad, crop, flip."""
    scale, crop = draw_scale(settings, rng), sides(settings)
    size = tuple(max(1, int(np.float32(side) * np.float32(scale))) for side in mask.shape)
    top, left = (int(rng.integers(max(0, side - new) + 1)) for side, new in zip(size, crop, strict=True))
    flip = rng.random() < settings.flip
    made = []
    for whole, fill in ((exact(image, size), 127.5), (nearest(mask, size), 255), (np.ones(size, bool), False)):
        padded = np.full((*map(max, crop, size), *whole.shape[2:]), fill, whole.dtype)
        padded[: size[0], : size[1]] = whole
        part = padded[top : top + crop[0], left : left + crop[1]]
        made.append(part[:, ::-1] if flip else part)
    return made


def chi_square(counts):
    """Chi-squared statistic of counts with equal expectation: its mean is their number minus one, its variance twice that."""
    counts = np.asarray(counts)
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


@pytest.mark.parametrize("scale", SCALES)
def test_resizes_are_those_of_the_released_code(scale):
    image, mask = RELEASED[f"scaled_image_{scale:.2f}"], RELEASED[f"scaled_label_{scale:.2f}"]
    got = resize_image(RELEASED["image"], mask.shape)
    if image.shape[:2] != mask.shape:  # every third pixel is stored
        got = got[::3, ::3]
    assert np.abs(got - image).max() <= 0.51
    np.testing.assert_array_equal(resize_mask(RELEASED["label"], mask.shape), mask)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [(51, 67), (20, 27), (41, 54), (1, 1), (2, 90), (82, 3), (300, 200)])
def test_bilinear_resize_equals_torchs_with_aligned_corners_up_to_rounding(size, mirror):
    image = RELEASED["image"]
    whole = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    wanted = F.interpolate(whole, size, mode="bilinear", align_corners=True)[0].permute(1, 2, 0).numpy()
    got = resize_image(image, size, mirror=mirror)
    assert got.dtype == np.uint8
    assert np.abs(got - wanted[:, :: -1 if mirror else 1]).max() <= 0.51


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [(51, 67), (82, 108), (20, 27), (41, 54)])
def test_a_resized_window_is_that_part_of_the_resized_image(size, mirror):
    image, mask = RELEASED["image"], RELEASED["label"]
    whole, labels, turn = exact(image, size), resize_mask(mask, size), -1 if mirror else 1
    for window in ((0, 0, 1, 1), (3, 5, 18, 20), (0, 7, *size), (size[0] - 1, size[1] - 2, *size)):
        top, left, bottom, right = window
        wanted = whole[top:bottom, left:right][:, ::turn]
        assert np.abs(resize_image(image, size, window, mirror) - wanted).max() <= 0.51
        np.testing.assert_array_equal(resize_mask(mask, size, window, mirror), labels[top:bottom, left:right][:, ::turn])


@pytest.mark.parametrize("shape", [(9, 40000), (40000, 9), (40, 5000)])
@pytest.mark.parametrize("scale", [0.75, 1.75])
def test_resizing_is_exact_at_the_far_end_of_a_large_image(shape, scale):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    size = tuple(int(side * scale) for side in shape)
    window = (*(max(0, side - 65) for side in size), *size)
    got = resize_image(image, size, window)
    assert np.abs(got - exact(image, size)[window[0] :, window[1] :]).max() <= 0.51


def test_resizing_to_the_same_size_copies_the_image():
    image = RELEASED["image"].copy()
    for mirror in (False, True):
        got = resize_image(image, image.shape[:2], mirror=mirror)
        np.testing.assert_array_equal(got, image[:, :: -1 if mirror else 1])
        assert not np.shares_memory(got, image)


@pytest.mark.parametrize("transforms", [(), ("ToGray",)])
def test_a_fourth_channel_changes_nothing(transforms):
    image, mask = toy_sample(3)
    more = np.dstack([image, np.random.default_rng(0).integers(0, 256, mask.shape, dtype=np.uint8)])
    settings = config(scale_min=0.5, scale_max=2.0, flip=0.5, transforms=list(transforms))
    for got, wanted in zip(draws(settings, more, mask, 12), draws(settings, image, mask, 12), strict=True):
        np.testing.assert_array_equal(got[0], wanted[0])


def shapes():
    """Image sizes: usual, thin, one pixel wide, and exactly the crop of 33 at one scale."""
    rng = np.random.default_rng(0)
    return [
        (1, 1),
        (1, 70),
        (70, 1),
        (2, 3),
        (33, 33),
        (66, 66),
        (34, 32),
        (50, 41),
        *map(tuple, rng.integers(1, 120, (24, 2))),
    ]


@pytest.mark.parametrize("crop, step", [(33, 0.25), (33, 0.0), ([33, 70], 0.25), ([90, 40], 0.0)])
def test_a_single_resampling_equals_the_plain_pipeline_up_to_rounding(crop, step):
    rng, settings = np.random.default_rng(0), DataConfig(crop_size=crop, scale_step=step)
    for shape in shapes():
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        mask = rng.integers(0, 22, shape).astype(np.uint8)
        for number in range(12):
            pixels, target, extent = RandomCrop(settings)(image, mask, np.random.default_rng(number))
            wanted, labels, inside = plain(image, mask, settings, np.random.default_rng(number))
            np.testing.assert_array_equal(target, labels)
            there = np.zeros(sides(settings), bool)
            there[: extent[0], extent[1] : extent[2]] = True
            np.testing.assert_array_equal(there, inside)
            assert np.abs(pixels - wanted)[inside].max() <= 0.51


def nearest_index(side, new):
    """Source index of each position of a side resized by nearest neighbor."""
    return resize_mask(np.arange(side)[None], (1, new))[0]


@pytest.mark.parametrize("side", [500, 375, 333, 486, 281, 334, 366, 499, 442, 112, 357, 54, 2])
def test_nearest_resize_rounds_halves_up(side):
    for scale in SCALES:
        new = int(side * scale)
        got = nearest_index(side, new)
        # TensorFlow's kernel: the position times a float32 step, rounded half away from zero.
        step = np.float32(side - 1) / np.float32(max(1, new - 1))
        kernel = np.floor((np.arange(new, dtype=np.float32) * step).astype(np.float64) + 0.5)
        np.testing.assert_array_equal(got, np.minimum(kernel, side - 1))
        # The rule in exact arithmetic differs only where float32 cannot hold an exact half.
        for position in range(new):
            exact = Fraction(position * (side - 1), max(1, new - 1))
            if got[position] != min((exact + Fraction(1, 2)).__floor__(), side - 1):
                assert exact % 1 == Fraction(1, 2) and got[position] == exact - Fraction(1, 2)


def test_exact_halves_are_rounded_up():
    # 5 of a side to 9: every second position lies in the middle between two pixels.
    assert nearest_index(5, 9).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("size", [(375, 500), (333, 500), (281, 500), (500, 334), (366, 499)])
def test_scaled_sizes_are_truncated(size):
    image, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    for scale in (0.5, 0.75, 1.25, 1.75):
        _, target = draws(config(crop_size=900, scale_min=scale, scale_max=scale), image, mask, 1)[0]
        labeled = np.argwhere(target != 255).max(0) + 1
        assert labeled.tolist() == [int(side * scale) for side in size]


def test_padding_is_void_at_the_bottom_and_right_and_no_part_of_the_extent():
    image, mask = toy_sample(0, (20, 40))
    pixels, target, extent = RandomCrop(config(crop_size=48))(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels[:20, :40], image)
    np.testing.assert_array_equal(target[:20, :40], mask)
    for padding in (np.s_[20:], np.s_[:, 40:]):
        assert (target[padding] == 255).all()
    assert extent.tolist() == [20, 0, 40]


def test_crops_have_the_types_and_the_size_asked_for():
    for pixels, target in draws(config(scale_min=0.5, scale_max=2.0, flip=0.5), *toy_sample(0), 10):
        assert pixels.shape == (33, 33, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        assert target.shape == (33, 33) and target.dtype == np.uint8 and target.flags.c_contiguous


def test_crop_positions_are_uniform_over_the_image():
    # 8 places down, 5 across.
    image, mask = positions(40, 37), np.zeros((40, 37), np.uint8)
    tops, lefts = np.array([pixels[0, 0, :2] for pixels, _ in draws(config(), image, mask, 2000)], int).T
    down, across = np.bincount(tops, minlength=8), np.bincount(lefts, minlength=5)
    assert len(down) == 8 and len(across) == 5
    assert chi_square(down) < 24 and chi_square(across) < 18  # one in a thousand is beyond
    together = np.bincount(tops * 5 + lefts, minlength=40)
    assert chi_square(together) < 73


def test_scales_are_drawn_evenly_with_both_ends():
    rng = np.random.default_rng(0)
    drawn, counts = np.unique([draw_scale(DataConfig(), rng) for _ in range(7000)], return_counts=True)
    assert drawn.tolist() == list(SCALES)
    assert chi_square(counts) < 22


def test_a_scale_step_that_ends_before_the_maximum_stays_below_it():
    rng, settings = np.random.default_rng(0), DataConfig(scale_min=0.5, scale_max=1.2, scale_step=0.3)
    assert np.unique(np.round([draw_scale(settings, rng) for _ in range(200)], 9)).tolist() == [0.5, 0.8, 1.1]
    tenths = DataConfig(scale_min=0.1, scale_max=0.7, scale_step=0.1)  # 0.7 is not 6 float steps of 0.1 above 0.1
    assert len({draw_scale(tenths, rng) for _ in range(500)}) == 7


def test_a_step_of_zero_draws_from_the_whole_range():
    rng, settings = np.random.default_rng(0), DataConfig(scale_min=0.5, scale_max=2.0, scale_step=0)
    drawn = np.array([draw_scale(settings, rng) for _ in range(3000)])
    assert drawn.min() >= 0.5 and drawn.max() <= 2.0
    assert chi_square(np.histogram(drawn, 10, (0.5, 2.0))[0]) < 28


def test_a_flip_mirrors_image_and_mask_and_nothing_else():
    image, mask = toy_sample(0)
    for (a, b), (c, d) in zip(draws(config(), image, mask, 5), draws(config(flip=1.0), image, mask, 5), strict=True):
        np.testing.assert_array_equal(a[:, ::-1], c)
        np.testing.assert_array_equal(b[:, ::-1], d)


def test_the_flip_mirrors_the_padded_crop():
    image, mask = toy_sample(0, (20, 20))
    pixels, target, extent = RandomCrop(config(flip=1.0))(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels[:20, 13:], image[:, ::-1])
    assert (target[:, :13] == 255).all()
    assert extent.tolist() == [20, 13, 33]


def test_the_frequency_of_flips_is_their_probability():
    image, mask = positions(33, 33), np.zeros((33, 33), np.uint8)
    flipped = sum(pixels[0, 0, 1] == 32 for pixels, _ in draws(config(flip=0.3), image, mask, 2000))
    assert abs(flipped - 600) < 4 * (2000 * 0.3 * 0.7) ** 0.5


def test_a_crop_depends_only_on_its_generator_and_changes_no_input():
    settings = DataConfig(crop_size=33, transforms=[])
    augment, (image, mask) = RandomCrop(settings), toy_sample(0)
    before = image.copy(), mask.copy()
    first = [augment(image, mask, np.random.default_rng(n)) for n in range(8)]
    again = [RandomCrop(settings)(image, mask, np.random.default_rng(n)) for n in reversed(range(8))][::-1]
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len({crop[0].tobytes() for crop in first}) == 8
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def drift(pixels, target):
    """Largest distance between the image of `written` and its mask, away from boundaries and void."""
    window = np.ones((5, 5), np.uint8)
    inside = (cv2.dilate(target, window) == cv2.erode(target, window)) & (target != 255)
    inside[[0, 1, -2, -1]] = inside[:, [0, 1, -2, -1]] = False
    assert inside.sum() > 50
    return np.abs(pixels[inside] - 10.0 * target[inside, None]).max()


def test_image_and_mask_stay_aligned():
    # Blocks of 12 pixels of the classes 0..20.
    mask = np.kron(np.random.default_rng(0).integers(0, 21, (5, 6)), np.ones((12, 12), int)).astype(np.uint8)
    for pixels, target in draws(DataConfig(crop_size=49), written(mask), mask, 60):
        assert drift(pixels, target) == 0


# albumentations transforms, by name.


def test_transforms_leave_image_and_mask_aligned_and_fill_with_void():
    mask = np.full((48, 64), 7, np.uint8)
    shift = {"Affine": {"translate_px": {"x": 10, "y": 0}, "p": 1.0}}
    pixels, target = draws(config(crop_size=64, transforms=[shift]), written(mask), mask, 1)[0]
    assert (target[:48, :9] == 255).all() and (target[:48, 11:] == 7).all()
    assert drift(pixels, target) == 0
    rotate = {"Rotate": {"limit": [45, 45], "p": 1.0, "border_mode": 0}}
    target = draws(config(crop_size=64, transforms=[rotate]), written(mask), mask, 1)[0][1]
    assert target[0, 0] == 255 and set(np.unique(target[:48])) == {7, 255}


def test_a_requested_fill_value_is_kept():
    mask = np.full((48, 64), 7, np.uint8)
    shift = {"Affine": {"translate_px": {"x": 10, "y": 0}, "p": 1.0, "fill_mask": 3}}
    target = draws(config(crop_size=64, transforms=[shift]), written(mask), mask, 1)[0][1]
    assert (target[:48, :9] == 3).all()


def test_transforms_depend_only_on_the_generator():
    image, mask = toy_sample(0)
    settings = config(
        crop_size=64, transforms=[{"ColorJitter": {"p": 1.0}}, "GaussNoise", "HorizontalFlip", {"Affine": {"rotate": 20}}]
    )
    augment = RandomCrop(settings)
    first = [augment(image, mask, np.random.default_rng(n)) for n in range(6)]
    again = [RandomCrop(settings)(image, mask, np.random.default_rng(n)) for n in reversed(range(6))][::-1]
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len({crop[0].tobytes() for crop in first}) == 6


def test_transforms_come_first_at_the_images_own_size():
    seen = []
    augment = RandomCrop(config(scale_min=2.0, scale_max=2.0, transforms=["ToGray"]))
    inner = augment.transforms
    augment.transforms = lambda **given: seen.append((given["image"].shape, given["image"].dtype)) or inner(**given)
    augment.transforms.set_random_seed = inner.set_random_seed
    augment(*toy_sample(0), np.random.default_rng(0))
    assert seen == [((48, 64, 3), np.uint8)]


@pytest.mark.parametrize("transform", ["Normalize", {"ToFloat": {"p": 1.0}}], ids=["Normalize", "ToFloat"])
def test_a_transform_whose_result_is_not_uint8_is_refused(transform):
    with refused("data.transforms", "float32", "leave out"):
        draws(config(transforms=[transform]), *toy_sample(0), 1)


def test_transforms_run_in_the_order_of_the_list():
    made = named_transforms(["ToGray", {"ColorJitter": {"brightness": 0.1}}, {"HorizontalFlip": None}])
    assert [type(transform).__name__ for transform in made] == ["ToGray", "ColorJitter", "HorizontalFlip"]
    assert made[1].brightness == (0.9, 1.1)


@pytest.mark.parametrize("name", ["NoSuchTransform", "Compose", "DualTransform", "BasicTransform", "cv2", 5, None])
def test_an_unknown_transform_is_refused(name):
    with refused("data.transforms", f"'{name}'", "albumentations"):
        named_transforms([name])


@pytest.mark.parametrize(
    "arguments",
    [{"brightness": -1}, {"brightness": "much"}, {"brightnes": 0.2}, {"p": 2}, 0.2, [1], "x"],
    ids=repr,
)
def test_a_bad_argument_is_refused(arguments):
    with refused("data.transforms", "ColorJitter"):
        named_transforms([{"ColorJitter": arguments}])


@pytest.mark.parametrize("entry", [{}, {"ToGray": None, "Blur": None}], ids=repr)
def test_an_entry_that_is_not_one_transform_is_refused(entry):
    with refused("data.transforms"):
        named_transforms([entry])


OFFLINE = """
import os, socket, sys, urllib.request

sys.modules["torch"] = None  # albumentations does without it, and starts seconds sooner

def called(*args, **kwargs):
    os._exit(9)

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = called
socket.getaddrinfo = socket.create_connection = urllib.request.urlopen = called

from seg.data.transforms import named_transforms
named_transforms(["HorizontalFlip"])
print("made")
"""


def test_naming_a_transform_makes_no_network_request():
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = os.getcwd()
    result = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, env=environment, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, "made"), result.stderr


# TrainTransform: the same crops as tensors.


@pytest.mark.parametrize("mean, std", [((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_the_transform_returns_normalized_crops_and_their_padding(mean, std):
    image, mask = toy_sample(0, (30, 50))
    transform = TrainTransform(crop_size=49, mean=mean, std=std)
    settings = DataConfig(crop_size=49)
    mirrored = set()
    for number in range(12):
        torch.manual_seed(number)
        pixels, target = transform(image, mask)
        torch.manual_seed(number)
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        crop, labels, (rows, first, end) = RandomCrop(settings)(image, mask, rng)
        wanted = np.full((49, 49, 3), 127.5)
        wanted[:rows, first:end] = crop[:rows, first:end]
        wanted = (wanted / 255 - mean) / std
        assert pixels.dtype == torch.float32 and pixels.shape == (3, 49, 49)
        assert np.abs(pixels.permute(1, 2, 0).numpy() - wanted).max() < 2e-6
        assert target.dtype == torch.int64 and torch.equal(target, torch.from_numpy(labels).long())
        mirrored.add(bool(first))
    assert mirrored == {False, True}


def test_a_transform_takes_height_and_width():
    image, mask = toy_sample(0, (60, 90))
    for size in ((40, 70), [40, 70], torch.Size([40, 70])):
        pixels, target = TrainTransform(size, scale_min=1.0, scale_max=1.0)(image, mask)
        assert pixels.shape == (3, 40, 70) and target.shape == (40, 70)
    assert TrainTransform(np.int64(40))(image, mask)[0].shape == (3, 40, 40)


def test_the_settings_of_a_transform_are_those_of_the_loader():
    image, mask = toy_sample(0)
    transform = TrainTransform(64, scale_min=1.0, scale_max=1.0, flip=1.0, transforms=["ToGray", {"Blur": {"p": 0.0}}])
    target = transform(image, mask)[1]
    np.testing.assert_array_equal(target[:48].numpy(), mask[:, ::-1])
    assert {type(made).__name__ for made in transform.crop.transforms} == {"ToGray", "Blur"}
    assert TrainTransform(scale_min=0.7, scale_max=1.3, scale_step=0.1).crop.config == DataConfig(
        scale_min=0.7, scale_max=1.3, scale_step=0.1
    )


class Repeated(torch.utils.data.Dataset):
    """One image over and over."""

    def __init__(self):
        self.transform = TrainTransform(crop_size=33, scale_step=0)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return *self.transform(*toy_sample(0)), cv2.getNumThreads()


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_seed_decides_the_crops_and_workers_differ(workers):
    def crops(seed):
        torch.manual_seed(seed)
        return list(torch.utils.data.DataLoader(Repeated(), batch_size=1, num_workers=workers))

    first, again, other = crops(1), crops(1), crops(2)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert len({pixels.numpy().tobytes() for pixels, _, _ in first + other}) == 16
    if workers:
        assert {int(threads) for _, _, threads in first} == {1}


@pytest.mark.parametrize(
    "image, mask, told",
    [
        (torch.zeros(3, 4, 5), np.zeros((4, 5), np.uint8), "the image is a Tensor; give a NumPy array"),
        (
            np.zeros((4, 5, 3), np.float32),
            np.zeros((4, 5), np.uint8),
            "the image is float32 [4, 5, 3]; it must be uint8 [H, W, 3]",
        ),
        (np.zeros((3, 4, 5), np.uint8), np.zeros((4, 5), np.uint8), "the image is uint8 [3, 4, 5]"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64), "the mask is int64 [4, 5]; it must be uint8 [H, W]"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), "the image is [4, 5], its mask [5, 4]"),
    ],
)
def test_another_kind_of_image_or_mask_is_refused(image, mask, told):
    with refused("TrainTransform", told):
        TrainTransform(crop_size=33)(image, mask)


def test_a_crop_too_small_for_the_network_is_refused():
    with refused("crop_size=20", "at least 33"):
        TrainTransform(crop_size=20)
