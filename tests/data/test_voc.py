import zlib

import numpy as np
import pytest
import yaml
from PIL import Image

from seg.classes import VOC, LabelSet, load
from seg.data.voc import open_split, read_image, read_mask
from tests.toy import refused, save_palette, toy_sample

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def every_label(labels=VOC):
    """A mask that holds each class of the set and void."""
    values = [*range(len(labels)), 255]
    return np.array(values * 4, np.uint8)[: 4 * len(labels)].reshape(4, -1)


def save(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


def image_of(root, name="toy_001"):
    return root / "JPEGImages" / f"{name}.jpg"


def mask_of(root, name="toy_001"):
    return root / "SegmentationClass" / f"{name}.png"


def list_of(root, split="train"):
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def test_a_split_gives_images_and_masks_in_the_order_of_its_list(root):
    list_of(root).write_text("toy_004\n\n  toy_001 \ntoy_003")
    split = open_split(root, "train", VOC)
    assert split.ids == ("toy_004", "toy_001", "toy_003") and len(split) == 3
    for index, number in enumerate((4, 1, 3)):
        image, mask = split.sample(index)
        drawn, wanted = toy_sample(number)
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, wanted)
        assert image.shape == drawn.shape and np.abs(image.astype(int) - drawn).mean() < 12


def test_palette_index_and_rgb_masks_give_the_same_indices(tmp_path):
    mask = every_label()
    save_palette(tmp_path / "palette.png", mask)
    save(tmp_path / "index.png", mask)
    save(tmp_path / "index16.png", mask.astype(np.uint16))
    save(tmp_path / "rgb.png", VOC.palette[mask])
    save(tmp_path / "rgba.png", np.dstack([VOC.palette[mask], np.full(mask.shape, 255, np.uint8)]))
    for path in tmp_path.iterdir():
        got = read_mask(path, VOC)
        assert got.dtype == np.uint8, path.name
        np.testing.assert_array_equal(got, mask, path.name)


def test_a_palette_mask_is_read_by_index_whatever_its_colours(tmp_path):
    image = Image.fromarray(every_label())
    image.putpalette(bytes(range(256)) * 3)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", VOC), every_label())


def test_a_black_and_white_mask_has_the_classes_0_and_1(tmp_path):
    save(tmp_path / "mask.png", GREY > 99)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", VOC), GREY > 99)


def test_masks_of_a_label_set_from_yaml_are_read_by_its_colours(root, tmp_path):
    labels = LabelSet(("ground", "road", "water"), ((9, 9, 9), (1, 2, 3), (200, 0, 7)), (255, 255, 255))
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(labels.as_dict()))
    mask = every_label(labels)
    save(mask_of(root), labels.palette[mask])
    np.testing.assert_array_equal(open_split(root, "train", load(str(tmp_path / "labels.yaml"))).mask(1), mask)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_comes_upright_by_its_exif_orientation(tmp_path, orientation):
    # The TIFF standard: how stored rows and columns lie in the upright picture.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    # Blocks of a colour, as large as JPEG's, so that the compression changes nothing that counts.
    upright = np.kron(np.arange(0, 240, 40).reshape(2, 3), np.ones((16, 16), int))[..., None].repeat(3, 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "photo.jpg", np.ascontiguousarray(stored(upright)), exif=exif, quality=95)
    got = read_image(path)
    assert got.shape == upright.shape and np.abs(got.astype(int) - upright).max() <= 2


def with_palette(values):
    image = Image.fromarray(values)
    image.putpalette(VOC.palette.tobytes())
    return image


GREY_RGB = np.repeat(GREY[..., None], 3, 2)


@pytest.mark.parametrize(
    "image, wanted",
    [
        pytest.param(Image.fromarray(RGB), RGB, id="rgb"),
        pytest.param(Image.fromarray(GREY), GREY_RGB, id="grey"),
        pytest.param(Image.fromarray(GREY.astype(np.uint16) * 256 + 99), GREY_RGB, id="16-bit"),
        pytest.param(Image.fromarray(np.dstack([RGB, GREY])), RGB, id="rgba"),
        pytest.param(Image.fromarray(np.dstack([GREY, RGB[..., 1]])), GREY_RGB, id="grey-alpha"),
        pytest.param(with_palette(GREY), VOC.palette[GREY], id="palette"),
        pytest.param(Image.fromarray(GREY > 99), np.repeat((GREY > 99)[..., None], 3, 2) * 255, id="black-white"),
    ],
)
def test_every_kind_of_image_is_read_as_rgb(tmp_path, image, wanted):
    image.save(tmp_path / "image.png")
    got = read_image(tmp_path / "image.png")
    assert got.dtype == np.uint8 and got.shape == (6, 9, 3)
    np.testing.assert_array_equal(got, wanted)


def test_a_palette_image_with_transparency_is_read_as_its_colours(tmp_path):
    with_palette(GREY).save(tmp_path / "image.png", transparency=bytes([0, 128] * 128))
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), VOC.palette[GREY])


def test_images_of_other_suffixes_belong_to_a_split(root):
    image_of(root).unlink()
    save(image_of(root).with_suffix(".PNG"), RGB)
    np.testing.assert_array_equal(open_split(root, "train", VOC).image(1), RGB)


def test_augmented_masks_are_preferred_and_the_setting_overrides(root):
    for number, folder in enumerate(("SegmentationClassAug", "Mine")):
        (root / folder).mkdir()
        for path in (root / "SegmentationClass").iterdir():
            save(root / folder / path.name, np.full((48, 64), number + 3, np.uint8))
    wanted = {None: {3}, "SegmentationClassAug": {3}, "Mine": {4}, "SegmentationClass": set(np.unique(toy_sample(0)[1]))}
    for setting, labels in wanted.items():
        assert set(np.unique(open_split(root, "train", VOC, setting).mask(0))) == labels


# A user's mistakes, one at a time.


def test_a_missing_root_is_refused(tmp_path):
    with refused(tmp_path / "none", "no such data folder", "data.root"):
        open_split(tmp_path / "none", "train", VOC)


def test_a_missing_split_is_refused_with_the_nearest_name(root):
    with refused(list_of(root, "trian"), "no such split", "did you mean 'train'?"):
        open_split(root, "trian", VOC)
    with refused(list_of(root, "xyz"), "no such split", "train, val"):
        open_split(root, "xyz", VOC)


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with refused(tmp_path, "not in VOC layout"):
        open_split(tmp_path, "train", VOC)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_split_is_refused(root, text):
    list_of(root).write_text(text)
    with refused(list_of(root), "is empty"):
        open_split(root, "train", VOC)


def test_a_list_that_is_no_text_is_refused(root):
    list_of(root).write_bytes(b"\xff\xd8\xff\xe0 not a list")
    with refused(list_of(root)):
        open_split(root, "train", VOC)


def test_an_image_without_mask_is_refused(root):
    mask_of(root).unlink()
    with refused(mask_of(root), "no mask", list_of(root)):
        open_split(root, "train", VOC)


def test_a_missing_image_is_refused_with_the_number_of_others(root):
    image_of(root).unlink()
    with refused(image_of(root), "no image", list_of(root)):
        open_split(root, "train", VOC)
    image_of(root, "toy_004").unlink()
    with refused(image_of(root).with_suffix(""), "and 1 more of 6"):
        open_split(root, "train", VOC)


def test_missing_folders_are_refused(root):
    with refused(root, "SegmentationClassAug or SegmentationClass", "data.masks"):
        (root / "SegmentationClass").rename(root / "Masks")
        open_split(root, "train", VOC)
    with refused(root, "no folder Mine", "data.masks"):
        open_split(root, "train", VOC, "Mine")
    (root / "JPEGImages").rename(root / "Images")
    with refused(root / "JPEGImages", "no such folder"):
        open_split(root, "train", VOC, "Masks")


def test_a_mask_of_another_size_is_refused(root):
    save_palette(mask_of(root), np.zeros((64, 48), np.uint8))
    split = open_split(root, "train", VOC)
    split.sample(0)
    with refused(mask_of(root), image_of(root), "48x64", "64x48"):
        split.sample(1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("label", [21, 254])
def test_a_label_out_of_range_is_refused_with_its_place(root, kind, label):
    mask = np.zeros((48, 64), kind)
    mask[7, 11] = mask[9, 3] = label
    save(mask_of(root), mask)
    with refused(mask_of(root), f"label {label} at (7, 11)", "21 classes"):
        open_split(root, "train", VOC).mask(1)


def test_a_label_beyond_a_byte_is_refused(root):
    mask = np.zeros((48, 64), np.uint16)
    mask[7, 11] = 256
    save(mask_of(root), mask)
    with refused(mask_of(root), "label 256 at (7, 11)"):
        open_split(root, "train", VOC).mask(1)


def test_an_unknown_colour_is_refused_with_its_place(root):
    mask = VOC.palette[toy_sample(1)[1]]
    mask[7, 11] = (1, 2, 3)
    save(mask_of(root), mask)
    with refused(mask_of(root), "colour (1, 2, 3) at (7, 11)"):
        open_split(root, "train", VOC).mask(1)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_a_truncated_image_is_refused(root, part):
    content = image_of(root).read_bytes()
    image_of(root).write_bytes(content[: int(part * len(content))])
    with refused(image_of(root), "not a readable image"):
        open_split(root, "train", VOC).sample(1)


@pytest.mark.parametrize("content", [b"", b"GIF89a\0garbage", b"\x89PNG\r\n\x1a\ngarbage", b"<html>404</html>" * 50])
def test_a_file_that_is_no_image_is_refused(root, content):
    split = open_split(root, "train", VOC)
    image_of(root).write_bytes(content)
    with refused(image_of(root), "not a readable image"):
        split.sample(1)
    mask_of(root, "toy_002").write_bytes(content)
    with refused(mask_of(root, "toy_002"), "not a readable image"):
        split.sample(2)


def test_an_image_that_vanishes_or_cannot_be_a_file_is_refused(root):
    split = open_split(root, "train", VOC)
    image_of(root).unlink()
    with refused(image_of(root), "no such file"):
        split.sample(1)
    image_of(root).mkdir()
    with refused(image_of(root), "not a readable image"):
        split.sample(1)


def test_a_header_that_claims_a_huge_image_is_refused(root):
    content = bytearray(save(root / "big.png", RGB).read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    mask_of(root).write_bytes(content)
    with refused(mask_of(root), "not a readable image"):
        open_split(root, "train", VOC).mask(1)


def test_a_mask_whose_data_is_said_to_be_shorter_is_refused(root):
    content = mask_of(root).read_bytes()
    place = content.index(b"IDAT") - 4
    length = int.from_bytes(content[place : place + 4], "big")
    mask_of(root).write_bytes(content[:place] + (length // 2).to_bytes(4, "big") + content[place + 4 :])
    with refused(mask_of(root), "not a readable image"):
        open_split(root, "train", VOC).mask(1)


def test_a_tiff_whose_directory_is_damaged_is_refused(tmp_path):
    content = save(tmp_path / "image.tif", RGB).read_bytes()
    offsets = (273).to_bytes(2, "little")  # the tag of the data's places, whose kind 4 is a number, 2 a text
    (tmp_path / "image.tif").write_bytes(content.replace(offsets + b"\4\0", offsets + b"\2\0"))
    with refused(tmp_path / "image.tif", "not a readable image"):
        read_image(tmp_path / "image.tif")


def test_damage_anywhere_in_a_file_gives_an_image_or_one_clear_line(root):
    rng = np.random.default_rng(0)
    split, path = open_split(root, "train", VOC), mask_of(root)
    content = path.read_bytes()
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            outcomes.add(split.mask(1).shape)
        except Exception:
            with refused(path):
                split.mask(1)
            outcomes.add("refused")
    assert "refused" in outcomes and (48, 64) in outcomes
