import contextlib
import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from seg.data import images
from seg.data.images import read_image, read_rgbx
from seg.data.inventory import IMAGE_SUFFIXES
from seg.data.masks import read_mask
from seg.data.range_notes import RangeNotes, range_notes
from seg.errors import UserError
from seg.labels import VOC, LabelSet, load
from tests.helpers.paths import ROOT
from tests.helpers.toy import refused, save_palette, toy_sample

# Outside of the tests the module itself silences these; pytest shows them all.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]
GREY_RGB = np.repeat(GREY[..., None], 3, 2)
BLACK_WHITE = np.repeat((GREY > 99)[..., None], 3, 2) * np.uint8(255)
SCENE, SCENE_MASK = toy_sample(1)


def every_label(labels=VOC):
    """A mask with every class of the label set, and void."""
    values = [*range(len(labels)), 255]
    return np.array(values * 4, np.uint8)[: 4 * len(labels)].reshape(4, -1)


def save(path, picture, **options):
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(path, **options)
    return path


def with_palette(values):
    image = Image.fromarray(values)
    image.putpalette(VOC.palette.tobytes())
    return image


def content_of(picture, kind, **options) -> bytes:
    file = io.BytesIO()
    save(file, picture, format=kind, **options)
    return file.getvalue()


def turned_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# The TIFF standard: how stored rows and columns lie in the upright picture.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}

# Images.


@pytest.mark.parametrize(
    "picture, wanted",
    [
        pytest.param(RGB, RGB, id="rgb"),
        pytest.param(GREY, GREY_RGB, id="gray"),
        pytest.param(GREY.astype(np.uint16) * 256 + 99, GREY_RGB, id="16-bit"),
        pytest.param(np.dstack([RGB, GREY]), RGB, id="rgba"),
        pytest.param(np.dstack([GREY, RGB[..., 1]]), GREY_RGB, id="gray-alpha"),
        pytest.param(with_palette(GREY), VOC.palette[GREY], id="palette"),
        pytest.param(GREY > 99, BLACK_WHITE, id="black-white"),
    ],
)
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_every_kind_of_image_is_read_as_rgb(tmp_path, picture, wanted, kind):
    got = read_image(save(tmp_path / f"image.{kind}", picture))
    assert got.dtype == np.uint8 and got.shape == (6, 9, 3) and got.flags.writeable
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
@pytest.mark.parametrize("size", [(9, 7), (1, 1), (2100, 2001)], ids=["small", "one", "in-pieces"])
def test_the_first_three_of_four_bytes_per_pixel_are_the_image(tmp_path, size, mode, orientation):
    noise = np.random.default_rng(2).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    picture = {"RGB": noise, "L": noise[..., 0], "I;16": noise[..., 0].astype(np.uint16) * 257}[mode]
    path = save(tmp_path / "image.png", picture, exif=turned_exif(orientation), compress_level=0)
    got = read_rgbx(path)
    assert got.dtype == np.uint8 and got.shape[2] == 4
    np.testing.assert_array_equal(got[..., :3], read_image(path))


def test_the_memory_of_four_bytes_per_pixel_lives_as_long_as_the_array(tmp_path):
    path = save(tmp_path / "image.png", np.full((1500, 1500, 3), 7, np.uint8))
    kept, sizes = read_rgbx(path), []
    for _ in range(40):
        assert (read_rgbx(path)[::100, ::100, :3] == 7).all()
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    assert sizes[-1] - sizes[20] < 30e6  # and not twenty times 9 MB
    assert (kept[..., :3] == 7).all()


LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".avif", ".heic", ".heif"}


@pytest.mark.parametrize("suffix", sorted(set(IMAGE_SUFFIXES) - LOSSY))
def test_every_format_without_loss_gives_the_pixels_saved(tmp_path, suffix):
    picture, wanted = (with_palette(GREY), VOC.palette[GREY]) if suffix == ".gif" else (RGB, RGB)
    options = {"lossless": True} if suffix == ".webp" else {}
    np.testing.assert_array_equal(read_image(save(tmp_path / f"image{suffix}", picture, **options)), wanted)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jpe", ".jfif"])
@pytest.mark.parametrize("code", [cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE])
def test_a_jpeg_is_read_as_opencv_reads_it(tmp_path, suffix, code):
    path = save(tmp_path / f"image{suffix}", SCENE if code == cv2.IMREAD_COLOR else SCENE[..., 0], quality=80)
    wanted = cv2.imread(str(path), code)
    wanted = wanted[..., ::-1] if wanted.ndim == 3 else np.repeat(wanted[..., None], 3, 2)
    assert np.abs(read_image(path).astype(int) - wanted).max() <= 1


def test_the_content_decides_not_the_name(tmp_path):
    np.testing.assert_array_equal(read_image(save(tmp_path / "image.jpg", RGB, format="PNG")), RGB)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_of_16_bits_keep_the_upper_8(tmp_path, channels, suffix):
    wide = np.random.default_rng(1).integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    path = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(path), wide)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(wide.shape)
    np.testing.assert_array_equal(stored, wide)
    wanted = wide[..., [2, 1, 0]] if channels > 1 else wide.repeat(3, 2)
    np.testing.assert_array_equal(read_image(path), wanted >> 8)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_with_fewer_bits_in_16_lose_nothing_and_are_reported(tmp_path, bits, channels, suffix):
    wide = np.random.default_rng(1).integers(0, 1 << bits, (6, 9, channels), dtype=np.uint16)
    wide[2, 3] = (1 << bits) - 1
    path = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(path), wide)
    wanted = wide[..., [2, 1, 0]] if channels > 1 else wide.repeat(3, 2)
    np.testing.assert_array_equal(read_image(path), wanted >> (bits - 8))
    assert range_notes(images.decode(path), images.read_header(path)) == [f"{bits} bits per channel, stored in 16: scaled to 8"]


def test_images_of_13_to_16_bits_keep_the_upper_8_of_16(tmp_path):
    path = save(tmp_path / "image.png", np.full((3, 4), 4096, np.uint16))
    assert (read_image(path) == 16).all() and range_notes(images.decode(path), images.read_header(path)) == []


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits_are_read(tmp_path, bits):
    values = (GREY % 2**bits).astype(np.uint8)
    path = save(tmp_path / "image.png", with_palette(values), bits=bits)
    assert path.read_bytes()[24] == bits
    np.testing.assert_array_equal(read_image(path), VOC.palette[values])
    np.testing.assert_array_equal(read_mask(path, VOC), values)


def test_a_big_endian_tiff_of_16_bits_is_read(tmp_path):
    height, width = GREY.shape
    # Tag, kind (3: two bytes), count, value: width, height, bits, no compression, black is zero, place, rows, length.
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (278, height), (279, 2 * GREY.size)]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = GREY.astype(">u2") * 256 + 99
    content = b"MM\0*" + struct.pack(">I", 8 + data.nbytes) + data.astype(">u2").tobytes()
    (tmp_path / "image.tif").write_bytes(content + struct.pack(">H", len(tags)) + entries + bytes(4))
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif"), GREY_RGB)


def cmyk_as_rgb(cmyk):
    """RGB of four inks on white paper."""
    c, m, y, k = np.moveaxis(255.0 - cmyk, -1, 0)
    return np.stack([c * k, m * k, y * k], -1) / 255


def test_cmyk_is_converted_as_ink_on_white_paper(tmp_path):
    cmyk = np.dstack([RGB, GREY // 2])
    got = read_image(save(tmp_path / "image.tif", cmyk_image(cmyk)))
    assert np.abs(got - cmyk_as_rgb(cmyk)).max() <= 1


def cmyk_image(cmyk):
    return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(cmyk[..., i])) for i in range(4)])


def without_adobe_mark(content: bytes) -> bytes:
    place = content.index(b"\xff\xee")
    return content[:place] + content[place + 2 + int.from_bytes(content[place + 2 : place + 4], "big") :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpegs_are_inverted_as_adobe_writes_them_with_its_mark_or_without(tmp_path, adobe):
    cmyk = np.kron(np.arange(24).reshape(2, 3, 4) * 10, np.ones((16, 16, 1), int)).astype(np.uint8)
    content = content_of(cmyk_image(cmyk), "JPEG", quality=95)
    assert b"Adobe" in content
    (tmp_path / "image.jpg").write_bytes(content if adobe else without_adobe_mark(content))
    assert np.abs(read_image(tmp_path / "image.jpg") - cmyk_as_rgb(cmyk)).max() <= 3


def test_ycbcr_is_read_as_rgb(tmp_path):
    picture = Image.fromarray(SCENE).convert("YCbCr")
    y, cb, cr = np.moveaxis(np.array(picture).astype(float), -1, 0)
    wanted = np.stack([y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], -1)
    got = read_image(save(tmp_path / "image.tif", picture))
    assert np.abs(got - np.clip(wanted, 0, 255)).max() <= 1


@pytest.mark.parametrize(
    "picture, wanted, transparent",
    [
        pytest.param(with_palette(GREY), VOC.palette[GREY], bytes([0, 128] * 128), id="palette"),
        pytest.param(with_palette(GREY), VOC.palette[GREY], int(GREY[0, 0]), id="palette-index"),
        pytest.param(RGB, RGB, tuple(RGB[0, 0].tolist()), id="rgb"),
        pytest.param(GREY, GREY_RGB, int(GREY[0, 0]), id="gray"),
        pytest.param(GREY > 99, BLACK_WHITE, 0, id="black-white"),
    ],
)
def test_the_color_of_transparent_pixels_is_read(tmp_path, picture, wanted, transparent):
    path = save(tmp_path / "image.png", picture, transparency=transparent)
    assert b"tRNS" in path.read_bytes()
    np.testing.assert_array_equal(read_image(path), wanted)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_or_page_is_read(tmp_path, kind):
    pictures = [Image.fromarray(np.full((6, 9, 3), value, np.uint8)) for value in (40, 160, 250)]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "image"
    path.write_bytes(content_of(pictures[0], kind, save_all=True, append_images=pictures[1:], **options))
    with Image.open(path) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(read_image(path), np.asarray(pictures[0]))


def test_skipped_frames_are_reported(tmp_path):
    pages = [Image.fromarray(RGB)] * 3
    path = save(tmp_path / "image.tif", pages[0], save_all=True, append_images=pages[1:])
    assert images.read_header(path) == (9, 6, 1, 3)
    assert range_notes(images.decode(path), images.read_header(path)) == ["only the first of 3 frames is read"]
    path = save(tmp_path / "image.png", RGB)
    assert images.read_header(path).frames == 1 and not range_notes(images.decode(path), images.read_header(path))


def test_notes_of_several_images_are_counted_and_name_the_first(tmp_path):
    pages = [Image.fromarray(RGB)] * 3
    paths = [save(tmp_path / f"{n}.tif", pages[0], save_all=True, append_images=pages[1:]) for n in range(2)]
    paths += [save(tmp_path / "dark.png", np.full((3, 4), 1000, np.uint16)), save(tmp_path / "plain.png", RGB)]
    notes = RangeNotes()
    for path in paths:
        np.testing.assert_array_equal(notes.read(path), read_image(path))
    assert notes.lines() == [
        f"2 images: only the first of 3 frames is read ({paths[0]})",
        f"1 image: 10 bits per channel, stored in 16: scaled to 8 ({paths[2]})",
    ]
    notes.read(save(tmp_path / "bright.png", np.full((3, 4), 4000, np.uint16)))
    assert len(notes.lines()) == 4 and "of one camera" in notes.lines()[-1]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_header_gives_the_size_of_the_upright_image(tmp_path, orientation):
    path = save(tmp_path / "image.png", RGB, exif=turned_exif(orientation))
    height, width, _ = read_image(path).shape
    assert images.read_header(path) == (width, height, orientation, 1)
    (tmp_path / "none.png").write_bytes(b"<html>")
    with refused(tmp_path / "none.png", "not a readable image"):
        images.read_header(tmp_path / "none.png")


def test_avif_and_jpeg_2000_are_read(tmp_path):
    smooth = cv2.resize(RGB, (90, 60))
    for name, most in (("image.jp2", 0), ("image.avif", 40)):
        got = read_image(save(tmp_path / name, smooth))
        assert got.shape == smooth.shape and np.abs(got.astype(int) - smooth).max() <= most


def test_heif_is_answered_with_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with refused(tmp_path / "photo.heic", "HEIF", "pip install 'seg-deeplab[heif]'"):
        read_image(tmp_path / "photo.heic")


def test_heif_is_read_by_the_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    smooth = cv2.resize(RGB, (96, 64))
    heif.from_pillow(Image.fromarray(smooth)).save(tmp_path / "photo.heic", quality=95)
    got = read_image(tmp_path / "photo.heic")
    assert got.shape == smooth.shape and np.abs(got.astype(int) - smooth).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_is_rotated_by_its_exif_orientation(tmp_path, kind, orientation):
    # Blocks of a color, as large as JPEG's, so that the compression changes nothing that counts.
    upright = np.kron(np.arange(0, 240, 40).reshape(2, 3), np.ones((16, 16), int))[..., None].repeat(3, 2).astype(np.uint8)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    (tmp_path / "photo").write_bytes(content_of(stored, kind, exif=turned_exif(orientation), **options))
    got = read_image(tmp_path / "photo")
    assert got.shape == upright.shape and np.abs(got.astype(int) - upright).max() <= 2 * (kind == "JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["palette", "index", "index16", "rgb", "black-white"])
def test_a_mask_is_rotated_by_exif_like_its_image(tmp_path, kind, orientation):
    upright = every_label() if kind != "black-white" else np.array([[1, 0, 0], [1, 1, 0]], np.uint8)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    made = {
        "palette": lambda: with_palette(stored),
        "index": lambda: stored,
        "index16": lambda: stored.astype(np.uint16),
        "rgb": lambda: VOC.palette[stored],
        "black-white": lambda: stored > 0,
    }[kind]()
    path = save(tmp_path / "mask.png", made, exif=turned_exif(orientation))
    np.testing.assert_array_equal(read_mask(path, VOC), upright)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_invalid_orientation_is_ignored(tmp_path, orientation):
    np.testing.assert_array_equal(read_image(save(tmp_path / "image.png", RGB, exif=turned_exif(orientation))), RGB)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_an_unreadable_exif_is_ignored(tmp_path, exif):
    np.testing.assert_array_equal(read_image(save(tmp_path / "image.png", RGB, exif=exif)), RGB)


# Masks.


def test_palette_index_and_rgb_masks_give_the_same_indices(tmp_path):
    mask = every_label()
    opaque = np.full(mask.shape, 255, np.uint8)
    save_palette(tmp_path / "palette.png", mask)
    save(tmp_path / "index.png", mask)
    save(tmp_path / "index16.png", mask.astype(np.uint16))
    save(tmp_path / "index-alpha.png", np.dstack([mask, opaque]))
    save(tmp_path / "rgb.png", VOC.palette[mask])
    save(tmp_path / "rgba.png", np.dstack([VOC.palette[mask], opaque]))
    for path in tmp_path.iterdir():
        got = read_mask(path, VOC)
        assert got.dtype == np.uint8, path.name
        np.testing.assert_array_equal(got, mask, path.name)


def test_a_palette_mask_is_read_by_index_whatever_its_colors(tmp_path):
    image = Image.fromarray(every_label())
    image.putpalette(bytes(range(256)) * 3)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", VOC), every_label())


def test_a_black_and_white_mask_has_the_classes_0_and_1(tmp_path):
    save(tmp_path / "mask.png", GREY > 99)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", VOC), GREY > 99)


LABELS = LabelSet(("ground", "road", "water"), ((9, 9, 9), (1, 2, 3), (200, 0, 7)), (255, 255, 255))


def test_masks_of_a_label_set_from_yaml_are_read_by_its_colors(tmp_path):
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(LABELS.as_dict()))
    mask = every_label(LABELS)
    path = save(tmp_path / "mask.png", LABELS.palette[mask])
    np.testing.assert_array_equal(read_mask(path, load(str(tmp_path / "labels.yaml"))), mask)


def test_images_larger_than_a_band_are_read_completely(tmp_path):
    mask = np.random.default_rng(2).choice(np.array([*range(21), 255], np.uint8), (1500, 800))
    path = save(tmp_path / "mask.png", VOC.palette[mask], compress_level=1)
    np.testing.assert_array_equal(read_mask(path, VOC), mask)
    np.testing.assert_array_equal(read_image(path), VOC.palette[mask])
    np.testing.assert_array_equal(read_image(save(path, mask.astype(np.uint16) << 8)), np.repeat(mask[..., None], 3, 2))
    wrong = VOC.palette[mask]
    wrong[1400, 7] = wrong[1410, 3] = (1, 2, 3)
    with refused("color (1, 2, 3) at (1400, 7)"):
        read_mask(save(path, wrong, compress_level=1), VOC)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("label", [21, 254])
def test_a_label_out_of_range_is_refused_with_its_position(tmp_path, kind, label):
    mask = np.zeros((48, 64), kind)
    mask[7, 11] = mask[9, 3] = label
    path = save(tmp_path / "mask.png", mask)
    with refused(path, f"label {label} at (7, 11)", "21 classes"):
        read_mask(path, VOC)


def test_a_label_beyond_a_byte_is_refused(tmp_path):
    mask = np.zeros((48, 64), np.uint16)
    mask[7, 11] = 256
    with refused(tmp_path, "label 256 at (7, 11)"):
        read_mask(save(tmp_path / "mask.png", mask), VOC)


def test_a_color_that_is_no_class_is_refused_with_its_place_and_what_the_mask_seems_to_be(tmp_path):
    colors = VOC.palette[SCENE_MASK]
    colors[7, 11] = (1, 2, 3)
    path = save(tmp_path / "mask.png", colors)
    with refused(path, "color (1, 2, 3) at (7, 11)", f"1 of its {len(np.unique(SCENE_MASK)) + 1} colors", "data.labels"):
        read_mask(path, VOC)
    with refused(path, "color (0, 0, 0) at (0, 0)", "PASCAL VOC's", "--labels voc"):
        read_mask(save(path, VOC.palette[SCENE_MASK]), LABELS)
    with refused(path, "black and white", "seg data init"):
        read_mask(save(path, BLACK_WHITE), VOC)
    shrunk = cv2.resize(
        VOC.palette[np.random.default_rng(3).integers(0, 21, (60, 80))], (50, 40), interpolation=cv2.INTER_LINEAR
    )
    with refused(path, "more than 256 colors", "nearest neighbor"):
        read_mask(save(path, shrunk), VOC)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_mask_format_is_refused(tmp_path, kind):
    (tmp_path / "mask.png").write_bytes(content_of(np.zeros((8, 8), np.uint8), kind))
    with refused(tmp_path / "mask.png", "none of PNG"):
        read_mask(tmp_path / "mask.png", VOC)


CODED = LabelSet(
    ("ground", "road"), ((0, 0, 0), (9, 9, 9)), (1, 1, 1), ((7, 0), (40, 1), (41, 1), (255, 0), (900, 255), ((5, 5, 5), 1))
)
"""Integers and a color that mean something else than their index; 255 is a class."""


@pytest.mark.parametrize("kind", ["gray", "palette", "gray-alpha", "16-bit"])
def test_values_are_looked_up_in_masks_of_every_kind(tmp_path, kind):
    stored = np.array([[7, 40, 41], [255, 7, 40]], np.uint8)
    wanted = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    made = {
        "gray": lambda: stored,
        "palette": lambda: with_palette(stored),
        "gray-alpha": lambda: np.dstack([stored, stored * 0 + 255]),
        "16-bit": lambda: stored.astype(np.uint16),
    }[kind]()
    path = save(tmp_path / "mask.png", made)
    got = read_mask(path, CODED)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, wanted)
    stored[1, 2] = 41 + 1
    with refused(path, "value 42 at (1, 2) is not listed in the 'values'"):
        read_mask(save(path, stored if kind == "gray" else stored.astype(np.uint16)), CODED)


def test_values_above_a_byte_and_colors_are_looked_up(tmp_path):
    path = save(tmp_path / "mask.png", np.array([[7, 900], [40, 255]], np.uint16))
    assert read_mask(path, CODED).tolist() == [[0, 255], [1, 0]]
    save(path, np.full((2, 2, 3), 5, np.uint8))
    assert read_mask(path, CODED).tolist() == [[1, 1], [1, 1]]
    with refused(path, "color (9, 9, 9) at (0, 0)"):
        read_mask(save(path, np.full((2, 2, 3), 9, np.uint8)), CODED)


def test_with_255_classes_unlisted_values_are_still_refused(tmp_path):
    names = tuple(f"c{i}" for i in range(255))
    labels = LabelSet(names, tuple((i, 0, 0) for i in range(255)), values=tuple((i + 1000, i) for i in range(255)))
    path = save(tmp_path / "mask.png", np.array([[1254, 1000]], np.uint16))
    assert read_mask(path, labels).tolist() == [[254, 0]]
    with refused("value 255 at (0, 1)"):
        read_mask(save(path, np.array([[1254, 255]], np.uint16)), labels)


def test_masks_of_cityscapes_and_the_other_built_in_sets_are_read_by_their_values(tmp_path):
    path = save(tmp_path / "mask.png", np.array([[7, 26, 33, 0, 3]], np.uint8))
    assert read_mask(path, load("cityscapes")).tolist() == [[0, 13, 18, 255, 255]]
    path = save(tmp_path / "mask.png", np.array([[0, 1, 150]], np.uint8))
    assert read_mask(path, load("ade20k")).tolist() == [[255, 0, 149]]
    path = save(tmp_path / "mask.png", np.array([[0, 10, 11]], np.uint8))
    assert read_mask(path, load("camvid")).tolist() == [[0, 10, 255]]
    with refused("value 255 at (0, 1) is not listed", "label set cityscapes_train_ids"):
        read_mask(save(path, np.array([[7, 255]], np.uint8)), load("cityscapes"))
    with refused("label 26 at (0, 1)", "label set cityscapes "):
        read_mask(save(path, np.array([[7, 26]], np.uint8)), load("cityscapes_train_ids"))


# What is refused.


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, kind, part):
    content = content_of(with_palette(SCENE[..., 0]) if kind == "GIF" else SCENE, kind)
    (tmp_path / "image").write_bytes(content[: int(part * len(content))])
    with refused(tmp_path / "image", "not a readable image"):
        read_image(tmp_path / "image")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a\0garbage",
        b"\x89PNG\r\n\x1a\ngarbage",
        b"<html>404</html>" * 50,
        b"II*\0",
        b"BM",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
)
@pytest.mark.parametrize("reads", [read_image, lambda path: read_mask(path, VOC)], ids=["image", "mask"])
def test_a_file_that_is_not_an_image_is_refused(tmp_path, content, reads):
    (tmp_path / "image.jpg").write_bytes(content)
    with refused(tmp_path / "image.jpg", "not a readable image"):
        reads(tmp_path / "image.jpg")


def test_anything_but_a_regular_file_is_refused_without_opening_it(tmp_path):
    with refused(tmp_path / "none.jpg", "no such file"):
        read_image(tmp_path / "none.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "folder.jpg", "device.jpg"):
        with refused(tmp_path / name, "a folder, pipe or device"):
            read_image(tmp_path / name)
    with refused("File name too long"):
        read_image(tmp_path / ("x" * 300))
    with refused("not a readable image"):
        read_image("nul\0byte.jpg")


@contextlib.contextmanager
def as_nobody():
    """Run the rest of the test as a user without root's rights."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = save(tmp_path / "image.png", RGB)
    path.chmod(0)
    with as_nobody(), refused(path, "Permission denied"):
        read_image(path)


@pytest.mark.parametrize("picture", [GREY.astype(np.float32), GREY.astype(np.int32) * 1000, -GREY.astype(np.int32)])
def test_pixel_values_of_unknown_range_are_refused(tmp_path, picture):
    path = save(tmp_path / "image.tif", picture)
    with refused(path, "values of mode", "8 or 16 bits"):
        read_image(path)
    with refused(path, "values of mode"):
        read_mask(path, VOC)


def test_lab_is_refused(tmp_path):
    picture = Image.merge("LAB", [Image.fromarray(GREY)] * 3)
    with refused("values of mode LAB"):
        read_image(save(tmp_path / "image.tif", picture))


def claiming(content: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size."""
    changed = bytearray(content)
    changed[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    return bytes(changed)


def test_an_image_beyond_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    path.write_bytes(claiming(content_of(RGB, "PNG"), 60000, 60000))
    with refused(path, "60000x60000 pixels", "at most 200,000,000"):
        read_image(path)
    save(path, RGB)
    monkeypatch.setattr(images, "PIXELS", 6 * 9)
    np.testing.assert_array_equal(read_image(path), RGB)
    monkeypatch.setattr(images, "PIXELS", 6 * 9 - 1)
    with refused(path, "9x6 pixels"):
        read_image(path)


def test_a_png_with_a_wrong_data_length_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", SCENE_MASK)
    content = path.read_bytes()
    place = content.index(b"IDAT") - 4
    length = int.from_bytes(content[place : place + 4], "big")
    path.write_bytes(content[:place] + (length // 2).to_bytes(4, "big") + content[place + 4 :])
    with refused(path, "not a readable image"):
        read_mask(path, VOC)


def test_a_tiff_whose_directory_is_damaged_is_refused(tmp_path):
    content = save(tmp_path / "image.tif", RGB).read_bytes()
    offsets = (273).to_bytes(2, "little")  # the tag of the data's places, whose kind 4 is a number, 2 a text
    (tmp_path / "image.tif").write_bytes(content.replace(offsets + b"\4\0", offsets + b"\2\0"))
    with refused(tmp_path / "image.tif", "not a readable image"):
        read_image(tmp_path / "image.tif")


def test_a_flipped_bit_in_a_png_never_gives_another_mask(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mask.png"
    save_palette(path, SCENE_MASK)
    content = path.read_bytes()
    first = content.index(b"IDAT")
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(first, len(damaged) - 12)] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with refused(path, "not a readable image"):
            read_mask(path, VOC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_damage_anywhere_in_a_file_gives_an_image_or_one_clear_line(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / "image"
    options = {"exif": turned_exif(6)} if kind not in ("BMP", "GIF") else {}
    content = content_of(with_palette(SCENE[..., 0]) if kind == "GIF" else SCENE, kind, **options)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(content)
        # The headers, where the parsers work, are at both ends.
        for place in rng.choice([rng.integers(len(content)), rng.integers(64), -rng.integers(1, 200)], 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_image(path).shape[2] == 3
            outcomes.add("read")
        except UserError:
            with refused(path):
                read_image(path)
            outcomes.add("refused")
    assert "refused" in outcomes


def test_decoding_prints_nothing_but_the_error(tmp_path):
    """Neither Python's warnings nor the C libraries, which write directly to the terminal."""
    rng = np.random.default_rng(0)
    paths = [save(tmp_path / "large.png", Image.new("1", (9500, 9500)))]  # 90 megapixels, of which Pillow warns
    for number in range(60):
        options = [{}, {"compression": "tiff_deflate"}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}][number % 4]
        damaged = bytearray(content_of(SCENE, "TIFF", **options))
        for _ in range(3):
            damaged[rng.choice([rng.integers(len(damaged)), -rng.integers(1, 200)])] = rng.integers(256)
        paths.append(tmp_path / f"{number}.tif")
        paths[-1].write_bytes(damaged)
    code = """
import sys
from seg.data.images import decode
from seg.errors import UserError
for path in sys.argv[1:]:
    try:
        print(decode(path).size)
    except UserError as error:
        print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == len(paths) and lines[0] == "(9500, 9500)"
    assert any("not a readable image" in line for line in lines)


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_images_are_answered_with_the_remedy_also_by_their_header(tmp_path, channels):
    path = tmp_path / "image.tif"
    assert cv2.imwrite(str(path), np.full((6, 9, channels), 0.5, np.float32))
    for read in (read_image, images.read_header):
        with refused(path, "floating-point", "scale them to 0..255", "8 or 16 bits"):
            read(path)
