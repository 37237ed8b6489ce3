import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.layouts.base import Hints
from seg.data.layouts.create import create_dataset
from seg.data.voc import open_split
from seg.labels import VOC, LabelSet, load, voc_color
from tests.helpers.layouts import closed
from tests.helpers.toy import CLASSES, refused, toy_sample, toy_voc

COLORS = {0: (0, 0, 0), 1: (9, 200, 7), 8: (64, 64, 128), 12: (255, 255, 255), 15: (60, 40, 222), 255: (1, 2, 3)}
"""The colors of the labels in the toy masks."""


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(path, quality=92)


def painted(mask):
    table = np.zeros((256, 3), np.uint8)
    for label, color in COLORS.items():
        table[label] = color
    return table[mask]


def dense(mask):
    """The labels of the toy masks as 0 to 4; void stays 255."""
    table = np.full(256, 255, np.uint8)
    table[[0, *CLASSES]] = range(5)
    return table[mask]


def make(folder, form=dense, numbers=range(10), images="images/toy_{:03d}.jpg", masks="masks/toy_{:03d}.png"):
    """Write toy images, and their masks as `form` changes them. Return the folder."""
    for number in numbers:
        image, mask = toy_sample(number)
        save(folder / images.format(number), image)
        save(folder / masks.format(number), form(mask))
    return folder


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(folder).rglob("*") if path.is_file()}


def samples(made, split="train"):
    data = open_split(made.out, split, load(str(made.out / "labels.yaml")))
    return {int(name[-3:]): data.sample(index) for index, name in enumerate(data.ids)}


def expect(made, form, splits=("train", "val")):
    """Assert that each sample of the splits is the toy's, with its mask as `form` changes it."""
    for split in splits:
        found = samples(made, split)
        assert len(found) == made.splits[split] > 0
        for number, (image, mask) in found.items():
            drawn, labels = toy_sample(number)
            assert np.abs(image.astype(int) - drawn).mean() < 12
            np.testing.assert_array_equal(mask, form(labels))


def names(folder, text, name):
    (folder / name).write_text(text)


def test_index_masks_are_linked_and_their_values_are_the_classes(tmp_path):
    folder = make(tmp_path / "mine")
    before = contents(folder)
    seen = []
    made = create_dataset(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 10) for n in range(1, 11)]
    assert made.out == folder / "voc" and made.splits == {"train": 8, "val": 2}
    assert made.labels == load(str(made.out / "labels.yaml"))
    assert made.labels == LabelSet(tuple(f"class_{i}" for i in range(5)), tuple(voc_color(i) for i in range(5)))
    expect(made, dense)
    assert {path: value for path, value in contents(folder).items() if "voc" not in path.parts} == before
    for part, source in (("JPEGImages", "images"), ("SegmentationClass", "masks")):
        for path in (made.out / part).iterdir():
            assert not os.path.isabs(os.readlink(path)) and path.resolve() == folder.resolve() / source / path.name
    assert {path.name for path in made.out.iterdir()} == {"JPEGImages", "SegmentationClass", "ImageSets", "labels.yaml"}


def test_links_still_work_after_the_folder_is_moved(tmp_path):
    made = create_dataset(make(tmp_path / "mine"))
    (tmp_path / "mine").rename(tmp_path / "there")
    assert open_split(tmp_path / "there" / "voc", "train", made.labels).sample(0)[1].shape == (48, 64)


def test_a_fifth_of_the_images_is_val_chosen_by_name(tmp_path):
    first = create_dataset(make(tmp_path / "a", numbers=range(20)))
    again = create_dataset(make(tmp_path / "b", numbers=range(20)), out=tmp_path / "elsewhere" / "set")
    assert first.splits == again.splits == {"train": 16, "val": 4}
    smallest = sorted(range(20), key=lambda n: hashlib.sha256(f"toy_{n:03d}".encode()).digest())[:4]
    assert samples(first, "val").keys() == samples(again, "val").keys() == {*smallest}
    assert not samples(first, "val").keys() & samples(first).keys()
    assert again.out == tmp_path / "elsewhere" / "set" and not (tmp_path / "b" / "voc").exists()
    assert create_dataset(make(tmp_path / "c", numbers=range(2))).splits == {"train": 1, "val": 1}


def test_every_color_of_a_mask_becomes_a_class(tmp_path):
    made = create_dataset(make(tmp_path, painted))
    wanted = sorted(COLORS.values())
    assert list(made.labels.colors) == wanted and made.labels.colors[0] == (0, 0, 0)
    assert made.labels.names[:2] == ("class_0_0_0", "class_1_2_3")
    expect(made, lambda mask: np.array([wanted.index(tuple(c)) for c in painted(mask).reshape(-1, 3)]).reshape(mask.shape))
    assert all(path.is_symlink() for path in (made.out / "SegmentationClass").iterdir())


def test_the_void_color_of_voc_is_void(tmp_path):
    made = create_dataset(make(tmp_path, lambda mask: VOC.palette[dense(mask)]))
    assert len(made.labels) == 5 and made.labels.void_color == voc_color(255)
    # The order of the colors of the classes 0 to 4, black first, then by red, green and blue.
    place = np.full(256, 255)
    place[[0, 4, 2, 1, 3]] = range(5)
    expect(made, lambda mask: place[dense(mask)])


NAMED = {"Ground": 0, "Disc": 1, "Box": 8, "Diamond": 12, "Bar": 15, "Void": 255}
LISTS = {
    "class_dict.csv": ("name,r,g,b\n", "{0},{1},{2},{3}\n"),
    "class_dict.csv with another column": ("name,r,g,b,class_11\n", "{0}, {1}, {2}, {3}, 1\n"),
    "label_colors.txt": ("", "{1} {2} {3}\t\t{0}\n"),
    "annotation-colormap.txt": ("", "7 {0} {1} {2} {3}\n"),
    "labelmap.txt": ("# label:color_rgb:parts:actions\n", "{0}:{1},{2},{3}::\n"),
}


def paletted(mask, order=None):
    """A palette mask in COLORS with the labels in `order`, or in an order that differs between files."""
    labels = np.unique(mask)
    order = np.random.default_rng(mask).permutation(labels).tolist() if order is None else order
    values = np.array([order.index(label) for label in labels])
    palette = np.zeros((256, 3), np.uint8)
    palette[values] = [COLORS[label] for label in labels]
    image = Image.fromarray(values[np.searchsorted(labels, mask)].astype(np.uint8))
    image.putpalette(palette.tobytes())
    return image


def test_black_is_background_where_the_list_names_only_objects(tmp_path):
    """As SuperAnnotate's and V7's exports."""
    make(tmp_path, painted)
    rows = [",".join(map(str, (name, *COLORS[label]))) for name, label in NAMED.items() if label]
    names(tmp_path, "\n".join(["name,r,g,b", *rows]), "class_dict.csv")
    made = create_dataset(tmp_path)
    assert made.labels.names == ("background", "Disc", "Box", "Diamond", "Bar")
    expect(made, dense)


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("form", ["colors", "own palettes", "one palette in another order"])
def test_names_are_read_from_the_usual_lists_and_void_is_no_class(tmp_path, kind, form):
    forms = {
        "colors": painted,
        "own palettes": paletted,
        "one palette in another order": lambda mask: paletted(mask, [0, 8, 1, 12, 15, 255]),
    }
    make(tmp_path, forms[form])
    head, line = LISTS[kind]
    names(tmp_path, head + "".join(line.format(name, *COLORS[label]) for name, label in NAMED.items()), kind.split()[0])
    made = create_dataset(tmp_path)
    assert made.labels.names == ("Ground", "Disc", "Box", "Diamond", "Bar") and made.labels.void_color == (1, 2, 3)
    assert made.labels.colors[1] == (9, 200, 7)
    expect(made, dense)
    linked = {path.is_symlink() for path in (made.out / "SegmentationClass").iterdir()}
    assert linked == {form == "colors"}


def test_palettes_that_differ_are_read_by_their_colors(tmp_path):
    made = create_dataset(make(tmp_path, paletted))
    wanted = sorted(COLORS.values())
    assert list(made.labels.colors) == wanted
    expect(made, lambda mask: np.array([wanted.index(COLORS[v]) for v in mask.ravel()]).reshape(mask.shape))


@pytest.mark.parametrize("palette", [bytes(v for v in range(256) for _ in "rgb"), bytes([7] * 768)], ids=["ramp", "one color"])
def test_a_palette_that_tells_nothing_gives_the_colors_of_voc(tmp_path, palette):
    def dull(mask):
        image = Image.fromarray(dense(mask))
        image.putpalette(palette)
        return image

    made = create_dataset(make(tmp_path, dull))
    assert made.labels.colors == tuple(voc_color(i) for i in range(5))
    expect(made, dense)


def test_colors_without_a_name_become_classes_and_are_reported(tmp_path):
    make(tmp_path, painted)
    names(tmp_path, "name,r,g,b\nGround,0,0,0\nTree,5,5,5\n", "class_dict.csv")
    made = create_dataset(tmp_path)
    assert made.labels.names[:3] == ("Ground", "Tree", "class_1_2_3") and len(made.labels) == 7
    assert any("5 colors" in note and "(1, 2, 3)" in note for note in made.notes)


def test_a_list_of_codes_names_the_indices_and_its_void_becomes_255(tmp_path):
    stored = np.full(256, 2, np.uint8)
    stored[:5] = 0, 1, 3, 4, 5
    names(make(tmp_path, lambda mask: stored[dense(mask)]), "Ground\nDisc\nVoid\nBox\nDiamond\nBar\nTree\n", "codes.txt")
    made = create_dataset(tmp_path)
    assert made.labels.names == ("Ground", "Disc", "Box", "Diamond", "Bar", "Tree")
    expect(made, dense)


def test_a_list_with_too_few_names_is_reported_and_not_used(tmp_path):
    names(make(tmp_path), "Ground\nDisc\n", "codes.txt")
    made = create_dataset(tmp_path)
    assert made.labels.names[1] == "class_1" and any("2 names, but the masks have label 4" in note for note in made.notes)


def test_palette_masks_give_their_colors(tmp_path):
    def colored(mask):
        image = Image.fromarray(dense(mask))
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200, 77, 0, 77] + [5] * 753)
        return image

    made = create_dataset(make(tmp_path, colored))
    assert made.labels.colors == ((9, 9, 9), (200, 0, 0), (0, 200, 0), (0, 0, 200), (77, 0, 77))
    expect(made, dense)


@pytest.mark.parametrize("kind", ["L", "LA", "RGB", "P", "1"])
def test_black_and_white_masks_are_background_and_foreground(tmp_path, kind):
    made = create_dataset(make(tmp_path, lambda mask: Image.fromarray(((mask > 0) * 255).astype(np.uint8)).convert(kind)))
    assert made.labels.names == (("class_0", "class_1") if kind == "1" else ("background", "foreground"))
    rewritten = any(note == "10 of 10 masks are rewritten as index masks" for note in made.notes)
    assert rewritten == (kind in ("L", "LA", "P"))
    expect(made, lambda mask: (mask > 0).astype(np.uint8))


def test_gray_levels_are_numbered_and_keep_their_value_as_name(tmp_path):
    made = create_dataset(make(tmp_path, lambda mask: np.where(mask == 255, 255, dense(mask) * np.uint8(50)).astype(np.uint8)))
    assert made.labels.names == ("class_0", "class_50", "class_100", "class_150", "class_200")
    assert any("gray levels" in note for note in made.notes)
    expect(made, dense)


def test_masks_in_other_formats_are_written_as_png(tmp_path):
    made = create_dataset(make(tmp_path, masks="masks/toy_{:03d}.tif"))
    assert any("10 of 10 masks are rewritten" in note for note in made.notes)
    expect(made, dense)


LAYOUTS = {
    "CamVid": ("{0}/toy_{{:03d}}.png", "{0}_labels/toy_{{:03d}}_L.png"),
    "SegNet": ("{0}/toy_{{:03d}}.png", "{0}annot/toy_{{:03d}}.png"),
    "splits inside": ("images/{0}/toy_{{:03d}}.jpg", "annotations/{0}/toy_{{:03d}}.png"),
    "splits outside": ("{0}/imgs/toy_{{:03d}}.jpg", "{0}/masks/toy_{{:03d}}_mask.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("val", ["val", "validation"])
def test_folders_of_splits_are_the_splits(tmp_path, layout, val):
    for folder, numbers in (("train", range(5)), (val, range(5, 8)), ("test", range(8, 10))):
        make(tmp_path, dense, numbers, *(part.format(folder) for part in LAYOUTS[layout]))
    made = create_dataset(tmp_path)
    assert made.splits == {"train": 5, "val": 3, "test": 2}
    assert samples(made, "val").keys() == {5, 6, 7}
    expect(made, dense, ("train", "val", "test"))


def test_images_with_the_same_name_in_two_splits_get_different_names(tmp_path):
    for folder, numbers in (("train", range(4)), ("val", range(2))):
        make(tmp_path, dense, numbers, *(part.format(folder) for part in LAYOUTS["CamVid"]))
    made = create_dataset(tmp_path)
    assert made.splits == {"train": 4, "val": 2} and any("gets its split's name" in note for note in made.notes)
    expect(made, dense)
    assert len(list((made.out / "JPEGImages").iterdir())) == 6


def test_named_folders_are_paired_and_files_without_a_partner_reported(tmp_path):
    make(tmp_path, images="photos/toy_{:03d}.jpg", masks="drawn/toy_{:03d}.png")
    save(tmp_path / "photos" / "more.jpg", toy_sample(1)[0])
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    made = create_dataset(tmp_path, Hints(images="photos", masks="drawn"))
    assert any(f"{tmp_path / 'photos'}: 1 of 11 images have no partner" in note for note in made.notes)
    expect(made, dense)


def test_a_folder_in_voc_layout_only_gets_a_label_set(tmp_path):
    root = toy_voc(tmp_path / "voc")
    before = contents(root)
    made = create_dataset(root)
    assert made.out == root and made.splits == {"train": 6, "val": 3} and len(made.labels) == 16
    after = contents(root)
    assert after.pop(root / "labels.yaml") and after == before
    expect(made, lambda mask: mask)
    with refused(root / "labels.yaml", "already exists"):
        create_dataset(root)


def test_a_folder_in_voc_layout_without_lists_gets_lists(tmp_path):
    root = toy_voc(tmp_path / "voc", 8, 2)
    for path in (root / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    assert create_dataset(root).splits == {"train": 8, "val": 2}
    assert len(open_split(root, "val", load(str(root / "labels.yaml")))) == 2


def test_lists_of_missing_images_are_refused(tmp_path):
    root = toy_voc(tmp_path / "voc")
    for path in (root / "ImageSets" / "Segmentation").iterdir():
        path.write_text("toy_000\nnone\n")
    with refused(root / "ImageSets" / "Segmentation", "no list there"):
        create_dataset(root)


def test_a_list_without_masks_is_left_out(tmp_path):
    root = toy_voc(tmp_path / "voc")
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("another\n")
    assert create_dataset(root).splits == {"train": 6, "val": 3}


def test_a_folder_in_voc_layout_with_other_mask_values_is_copied_with_its_lists(tmp_path):
    root = toy_voc(tmp_path / "voc")
    for path in (root / "SegmentationClass").iterdir():
        save(path, ((np.array(Image.open(path)) > 0) * 255).astype(np.uint8))
    before = contents(root)
    made = create_dataset(root)
    assert made.out == root / "voc" and made.splits == {"train": 6, "val": 3}
    assert samples(made, "val").keys() == {6, 7, 8}
    expect(made, lambda mask: (mask > 0).astype(np.uint8))
    assert {path: value for path, value in contents(root).items() if "voc" not in path.relative_to(root).parts} == before


# A user's mistakes, one at a time.


def noisy(mask):
    return np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"form": noisy}, ["toy_000.png: ", "more than 255 colors; a mask has one color per class", "PNG"]),
        ({"masks": "masks/toy_{:03d}.jpg"}, ["toy_000.jpg: ", "PNG"]),
        ({"form": lambda mask: mask.astype(np.uint16) * 100}, ["toy_000.png: label 25500", "instances"]),
        ({"form": lambda mask: mask * 0}, ["only one class"]),
        ({"form": lambda mask: mask * 0 + 255}, ["only one class"]),
        ({"masks": "masks/other_{:03d}.png"}, ["no mask has the name of an image", "toy_000.jpg, other_000.png"]),
        ({"images": "pictures/toy_{:03d}.jpg", "masks": "drawn/other_{:03d}.png"}, ["no images with masks", "--images"]),
        ({"numbers": [3]}, ["one image with a mask"]),
    ],
)
def test_data_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, options, parts):
    folder = make(tmp_path / "mine", **options)
    before = contents(tmp_path)
    with refused(*parts):
        create_dataset(folder)
    assert contents(tmp_path) == before and not (folder / "voc").exists()


def test_masks_of_integers_and_of_colors_together_are_refused(tmp_path):
    save(make(tmp_path) / "masks" / "toy_004.png", painted(toy_sample(4)[1]))
    with refused("toy_004.png: holds colors", "toy_000.png indices"):
        create_dataset(tmp_path)


def test_a_damaged_mask_is_refused(tmp_path):
    (make(tmp_path) / "masks" / "toy_004.png").write_bytes(b"\x89PNG\r\n\x1a\ndamage")
    with refused("toy_004.png: not a readable image"):
        create_dataset(tmp_path)


def test_two_images_with_the_same_name_are_refused(tmp_path):
    save(make(tmp_path) / "images" / "toy_004.png", toy_sample(4)[0])
    with refused("toy_004.jpg: toy_004.png has the same name"):
        create_dataset(tmp_path)


def test_existing_files_are_not_overwritten(tmp_path):
    made = create_dataset(make(tmp_path))
    (made.out / "labels.yaml").write_text("edited")
    before = contents(tmp_path)
    with refused(made.out, "already exists", "--out"):
        create_dataset(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("line", ["Disc,1,2", "Disc,1,2,256", "Disc 1 2 3"])
def test_a_bad_list_of_names_is_refused_with_the_line(tmp_path, line):
    names(make(tmp_path, painted), f"name,r,g,b\nGround,0,0,0\n{line}\n", "class_dict.csv")
    with refused("class_dict.csv", line):
        create_dataset(tmp_path)


def test_two_names_with_the_same_color_are_refused(tmp_path):
    names(make(tmp_path, painted), "Ground:0,0,0::\nDisc:0,0,0::\n", "labelmap.txt")
    with refused("labelmap.txt", "two classes have the color (0, 0, 0)"):
        create_dataset(tmp_path)


def test_a_failed_run_leaves_nothing(tmp_path, monkeypatch):
    make(tmp_path, lambda mask: ((mask > 0) * 255).astype(np.uint8))
    before, calls = contents(tmp_path), []

    def full(path, *rest):
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("seg.data.layouts.create.save_image", full)
    with refused("voc: cannot be made (No space left on device)", "--out"):
        create_dataset(tmp_path)
    assert contents(tmp_path) == before and {path.name for path in tmp_path.iterdir()} == {"images", "masks"}


def test_this_module_does_not_import_torch():
    code = "import sys, seg.data.layouts.create, seg.data.prepare.sbd; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("mask", ["masks/toy_{:03d}.png", "masks/toy_{:03d}_gt.png", "masks/cam0_day 1_toy_{:03d}.png"])
@pytest.mark.parametrize("above", ["", "unpacked/set/"])
def test_images_in_folders_may_have_their_masks_in_one(tmp_path, mask, above):
    for camera, numbers in enumerate((range(5), range(5, 10))):
        place = mask.replace("cam0", f"cam{camera}")
        make(tmp_path, closed, numbers, f"{above}images/cam{camera}/day 1/toy_{{:03d}}.jpg", above + place)
    (tmp_path / f"{above}masks").joinpath(mask.partition("/")[2].format(3)).unlink()
    made = create_dataset(tmp_path)
    assert sum(made.splits.values()) == 9
    assert any("1 of 10 images have no mask" in note for note in made.notes)
    assert any("cam1_day 1_toy_" in name for name in open_split(made.out, "train", load(str(made.out / "labels.yaml"))).ids)
    expect(made, closed)


def test_images_that_repeat_their_names_in_folders_are_never_given_one_mask(tmp_path):
    """The mask of camera 0 would be given to the image of camera 1."""
    for camera in (0, 1):
        make(tmp_path, closed, range(4), f"images/cam{camera}/toy_{{:03d}}.jpg", "masks/toy_{:03d}.png")
    remedy = f"put the masks of {tmp_path / 'images/cam0'} into {tmp_path / 'masks/cam0'}, or name them cam0_toy_000.png"
    with refused("several folders have images of the name toy_000.jpg", remedy):
        create_dataset(tmp_path)
