import os
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from seg.data.voc import Files, open_images, open_split, save_mask
from seg.labels import VOC, LabelSet
from tests.helpers.toy import refused, save_palette, toy_sample

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


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


def test_files_is_a_sequence_of_paths(tmp_path):
    names = ["a.jpg", "ein längerer Name.JPG", "b.png", os.fsdecode(b"\xff.jpg")]
    files = Files(tmp_path, names)
    paths = [tmp_path / name for name in names]
    assert list(files) == paths and len(files) == 4
    assert files[1] == paths[1] and files[-1] == paths[-1] and files[np.int64(2)] == paths[2]
    assert list(files[::-1]) == paths[::-1] and list(files[1:3]) == paths[1:3]
    with pytest.raises(IndexError):
        files[4]


def test_a_split_takes_little_memory_in_every_loader_process(root):
    count = 2000
    for number in range(count):
        os.link(image_of(root), image_of(root, f"n{number}"))
        os.link(mask_of(root), mask_of(root, f"n{number}"))
    list_of(root).write_text("".join(f"n{number}\n" for number in range(count)))
    tracemalloc.start()
    split = open_split(root, "train", VOC)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(split) == count and held < 200 * count  # a path object alone takes as much


def test_a_split_may_have_images_with_other_suffixes(root):
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


def test_a_list_that_is_not_text_is_refused(root):
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


def test_a_test_split_needs_no_masks_but_every_image(root):
    shutil.rmtree(root / "SegmentationClass")
    list_of(root).rename(list_of(root, "test"))
    split = open_images(root, "test", VOC)
    assert len(split) == 6 and split.images[1] == image_of(root) and split.masks == ()
    image_of(root).unlink()
    with refused(image_of(root), "no image", list_of(root, "test")):
        open_images(root, "test", VOC)


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


@pytest.mark.parametrize("line", ["toy_001.jpg", "JPEGImages/toy_001.jpg", "toy_001 1", "/a/toy_001.jpg /b/toy_001.png"])
def test_a_line_that_is_not_an_id_is_refused_with_the_likely_id(root, line):
    list_of(root).write_text(f"toy_000\n{line}\n")
    with refused(list_of(root), f"'{line}' should be 'toy_001'"):
        open_split(root, "train", VOC)


def test_an_id_may_contain_dots_and_spaces(root):
    for name in ("my photo 1", "toy_001.jpg"):
        save(image_of(root, name), RGB)
        save(mask_of(root, name), RGB[..., 0] % 21)
    list_of(root).write_text("my photo 1\ntoy_001.jpg\n")
    assert open_split(root, "train", VOC).ids == ("my photo 1", "toy_001.jpg")


def test_an_id_listed_twice_is_refused(root):
    list_of(root).write_text("toy_000\ntoy_001\ntoy_000\n")
    with refused(list_of(root), "lists toy_000 more than once"):
        open_split(root, "train", VOC)


def test_a_list_as_other_programs_write_it_is_read(root):
    list_of(root).write_bytes(b"\xef\xbb\xbftoy_000\r\n\r\n toy_001 \r\n")
    assert open_split(root, "train", VOC).ids == ("toy_000", "toy_001")


def test_lines_that_start_with_a_number_sign_are_comments(root):
    list_of(root).write_text("# images of day 1\ntoy_000\n#toy_003\ntoy_001\n")
    assert open_split(root, "train", VOC).ids == ("toy_000", "toy_001")


def test_ids_may_name_subfolders(root):
    for path in (image_of(root), mask_of(root)):
        (path.parent / "seq" / "deep").mkdir(parents=True)
        path.rename(path.parent / "seq" / "deep" / path.name)
    list_of(root).write_text("toy_000\nseq/deep/toy_001\n")
    split = open_split(root, "train", VOC)
    assert split.ids == ("toy_000", "seq/deep/toy_001") and split.images[1].is_file()
    np.testing.assert_array_equal(split.sample(1)[1], toy_sample(1)[1])
    list_of(root).write_text("seq/deep/toy_001.jpg\n")
    with refused("'seq/deep/toy_001.jpg' should be 'seq/deep/toy_001'"):
        open_split(root, "train", VOC)


@pytest.mark.parametrize("kind", [".bmp", ".tif", ".TIFF"])
def test_masks_may_be_files_of_other_kinds_without_loss(root, kind):
    mask_of(root).unlink()
    save_palette(mask_of(root).with_suffix(kind), toy_sample(1)[1])
    np.testing.assert_array_equal(open_split(root, "train", VOC).mask(1), toy_sample(1)[1])


def test_two_listed_files_with_the_same_id_are_refused_by_name(root):
    save(image_of(root).with_suffix(".png"), RGB)  # as a prediction that was written beside its image
    with refused(image_of(root), "toy_001.png has the same name"):
        open_images(root, "train", VOC)
    assert len(open_images(root, "val", VOC)) == 3
    image_of(root).with_suffix(".png").unlink()
    save_palette(mask_of(root).with_suffix(".tif"), toy_sample(1)[1])
    with refused(mask_of(root), "toy_001.tif has the same name"):
        open_split(root, "train", VOC)


def test_hidden_files_are_ignored(root):
    (root / "JPEGImages" / "._toy_001.jpg").write_bytes(b"Mac OS X")
    (root / "JPEGImages" / ".toy_001.png").write_bytes(b"")
    assert len(open_split(root, "train", VOC)) == 6


def test_a_mask_that_is_not_rotated_like_its_image_is_reported(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(image_of(root), np.zeros((48, 64, 3), np.uint8), exif=exif)
    with refused(mask_of(root), "64x48", "48x64", "EXIF orientation", "--ignore-exif"):
        open_split(root, "train", VOC).sample(1)


@pytest.mark.parametrize("labels", [VOC, LabelSet(("a", "b"), ((1, 2, 3), (4, 5, 6)), (7, 8, 9))], ids=["voc", "own"])
def test_a_mask_is_saved_with_its_values_and_the_colors(tmp_path, labels):
    mask = np.array([[0, 1, 20], [255, 21, 254]], np.uint8)
    save_mask(tmp_path / "mask.png", mask, labels)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)
        np.testing.assert_array_equal(np.array(image.getpalette()).reshape(-1, 3), labels.palette)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), labels.palette[mask])


def test_a_mask_without_label_set_is_saved_gray_and_texts_are_kept(tmp_path):
    mask = np.array([[0, 1, 20], [255, 21, 254]], np.uint8)
    save_mask(tmp_path / "mask.png", mask, None, source="a model")
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L" and image.text == {"source": "a model"}
        np.testing.assert_array_equal(np.asarray(image), mask)
