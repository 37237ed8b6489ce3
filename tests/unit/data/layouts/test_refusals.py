"""What cannot be read is refused in one line: the file, the place, and the flag that helps. What is left out is said."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from seg.data.layouts.base import Hints
from seg.data.layouts.classes import parse_values
from seg.data.layouts.create import create_dataset
from seg.data.voc import open_split
from seg.labels import load
from tests.helpers.layouts import CASES, COLORS, any_object, blurred, closed, dense, in_folders, levels, lossy, save, text
from tests.helpers.toy import refused, toy_sample


def numbered(mask):
    """Objects numbered from 1: one to nine squares, each of its own value."""
    count = 1 + int(mask.sum()) % 9
    found = np.zeros(mask.shape, np.uint8)
    for number in range(count):
        row, column = divmod(number, 5)
        found[row * 12 + 1 : row * 12 + 9, column * 12 + 1 : column * 12 + 9] = number + 1
    return found


def smooth_red(mask):
    gray = blurred(mask)
    return np.dstack([gray, gray * 0, gray * 0])


def smooth_alpha(mask):
    gray = blurred(mask)
    return np.dstack([gray * 0 + 255, gray * 0, gray * 0, gray])


def several_levels_blurred(mask):
    image = Image.fromarray(levels(0, 100, 200, 255)(mask)).resize((32, 24), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((64, 48), Image.Resampling.BICUBIC))


SITUATIONS = {
    "smooth edges": (lambda root: in_folders(root, blurred), ["most of them only along edges", "at (", "--threshold 128"]),
    "smooth edges of several levels": (
        lambda root: in_folders(root, several_levels_blurred),
        ["along edges", "--threshold 128"],
    ),
    "smooth edges of a color": (lambda root: in_folders(root, smooth_red), ["along edges", "--threshold 128"]),
    "smooth edges of transparency": (lambda root: in_folders(root, smooth_alpha), ["half transparent", "--threshold 128"]),
    "photographs": (lambda root: in_folders(root, lambda mask: toy_sample(int(mask.sum()) % 6)[0]), ["more than 255 colors"]),
    "JPEGs of indices": (lambda root: lossy(root, dense, quality=95), [".jpg: ", "lossy format such as JPEG", "PNG"]),
    "JPEGs of photographs": (lambda root: lossy(root, lambda mask: toy_sample(int(mask.sum()) % 6)[0]), ["lossy format"]),
    "instances": (lambda root: in_folders(root, numbered), ["seems to number objects", "--values 0=background 1-8=object"]),
    "many instances": (lambda root: in_folders(root, levels(0, 1, 600)), ["label 600", "instances", "1-65535=object"]),
    "half the size": (
        lambda root: in_folders(root, lambda mask: np.ascontiguousarray(closed(mask)[::2, ::2])),
        ["masks/t0.png: 32x24 pixels", "64x48", "seg data init /", "--resize-masks nearest", "6 of 6 masks"],
    ),
    "no partner": (lambda root: in_folders(root, closed, mask="masks/other{}.png"), ["no mask has the name", "--pair"]),
    "no images": (lambda root: in_folders(root, closed, "none/x{}.txt.png", "b/y{}.png"), ["--images and --masks"]),
}


UNREAD = {
    "a/project.json": (
        [{"id": 1, "data": {"image": "t0.jpg"}, "annotations": []}],
        "Label Studio's JSON has no masks; also export 'Brush",
    ),
    "a/short.json": ([{"id": 1, "image": "t0.jpg", "annotator": 1, "tag": []}], "Label Studio's JSON has no masks"),
    "ds0/ann/t0.jpg.json": (
        {"size": {}, "objects": [{"classTitle": "cat"}]},
        "Supervisely's annotations are not supported; export",
    ),
    "labels/train/t0.txt": ("0 0.1 0.2 0.5 0.25 1e-05 0.5\n", "YOLO's polygons are not supported; export them as COCO"),
    "labels/t0.txt": ("0 0.1 0.2 0.5 0.25", "YOLO's boxes have no masks"),
    "Annotations/t0.xml": ("<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>", "boxes have no masks"),
    "annotations.xml": (
        '<annotations><image id="0"><polygon label="cat" points="1,2"/></image></annotations>',
        "polygons in XML",
    ),
    "a/via_region_data.json": ({"t0.jpg1": {"regions": [{"shape_attributes": {}}]}}, "VIA's regions are not supported; export"),
    "a/t0.json": ({"schema_ref": "https://darwin-public/darwin_json/2.0", "annotations": []}, "V7's Darwin JSON is not"),
    "a/t0.jpg___objects.json": ({"instances": [{"className": "cat", "points": [1, 2]}]}, "SuperAnnotate's JSON is not"),
    "a/encord.json": ([{"label_hash": "a", "data_units": {}}], "Encord's JSON is not supported; export"),
    "a/kili.json": ([{"externalId": "t0", "labels": [{"jsonResponse": {}}]}], "Kili's JSON is not supported; export"),
    "a/hasty.json": ({"export_format_version": "1.1", "label_classes": [], "images": []}, "Hasty's JSON is not supported"),
    "a/export.ndjson": ('{"data_row": {"id": "a"}, "projects": {}}\n', "Labelbox's export is not supported; export"),
    "gtFine/t0_gtFine_polygons.json": ({"imgHeight": 48, "objects": []}, "polygons of Cityscapes, without masks"),
    "annotations/default.json": (
        {"info": {}, "categories": {}, "items": [{"id": "t0", "annotations": []}]},
        "Datumaro's JSON is not supported; export",
    ),
    "a/shapes.geojson": ({"type": "FeatureCollection", "features": []}, "QuPath's shapes are not supported"),
    "data/train.parquet": ("PAR1", "a table in Parquet is not supported; save"),
    "a/gTruth.mat": ("MATLAB 5.0 MAT-file", "MATLAB's files are not supported; write the masks"),
    "a/t0.nii.gz": ("x", "volumes are not supported; write each slice"),
    "a/t0.npy": ("x", "arrays are not supported; write"),
    "a/long.xml": (
        f"<annotations><meta>{'<label/>' * 900}</meta><image><polygon label='cat'/></image></annotations>",
        "polygons in XML, such as CVAT's",
    ),
    "train.csv": ("ImageId,EncodedPixels\nt0.jpg,1 3\n", "a table of RLE is not supported; write masks"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_annotations_that_are_not_read_are_named_with_what_to_export(tmp_path, name):
    content, words = UNREAD[name]
    in_folders(tmp_path, closed, mask="none/{}.txt.png")
    shutil.rmtree(tmp_path / "none")
    text(tmp_path / name, content)
    text(tmp_path / "a" / "README.txt", "2007 photos of cats\n")
    with refused(f"{tmp_path / name}: {words}"):
        create_dataset(tmp_path)


def test_an_archive_is_to_be_unpacked_but_where_there_are_images(tmp_path):
    text(tmp_path / "Export.ZIP", "PK")
    with refused("Export.ZIP: an archive; unpack it first"):
        create_dataset(tmp_path)
    save(tmp_path / "images/t0.jpg", toy_sample(0)[0])
    with refused("no images with masks"):
        create_dataset(tmp_path)


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_is_refused_with_its_remedy(tmp_path, name):
    write, words = SITUATIONS[name]
    write(tmp_path / "mine")
    with refused(*words):
        create_dataset(tmp_path / "mine")
    assert not (tmp_path / "mine" / "voc").exists()


def test_one_mask_of_another_size_is_named(tmp_path):
    in_folders(tmp_path, closed)
    save(tmp_path / "masks/t3.png", closed(toy_sample(3)[1])[:-1])
    with refused("t3.png: 64x47 pixels", "64x48", "1 of 6 masks"):
        create_dataset(tmp_path)


def test_a_mask_that_is_not_turned_like_its_image_is_named_as_such(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(3):
        image, mask = toy_sample(number)
        save(tmp_path / f"images/{number}.jpg", image, exif=exif)
        save(tmp_path / f"masks/{number}.png", closed(mask))
    with refused("masks/0.png: 64x48", "48x64", "EXIF orientation", "--ignore-exif"):
        create_dataset(tmp_path)


def test_a_mask_that_is_turned_like_its_image_is_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(3):
        image, mask = toy_sample(number)
        save(tmp_path / f"images/{number}.png", image, exif=exif)
        save(tmp_path / f"masks/{number}.png", np.rot90(closed(mask), -1).copy())
    made = create_dataset(tmp_path)
    split = open_split(made.out, "train", made.labels)
    for index, name in enumerate(split.ids):
        np.testing.assert_array_equal(split.sample(index)[1], np.rot90(closed(toy_sample(int(name))[1]), -1))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (
            ["0=background", "1=cat"],
            ["t0.png: value", "at (", "has no meaning", "6 of 6 masks", "Known are 0, 1: give each value a class"],
        ),
        (["0=background"], ["--values: 'classes' must list 2 to 255 classes"]),
        (["0"], ["--values 0: must be VALUE=CLASS"]),
        (["0="], ["--values 0=: must be VALUE=CLASS"]),
        (["x=cat"], ["--values x=cat: must be VALUE=CLASS"]),
        (["5-2=cat"], ["--values 5-2=cat: must be"]),
        (["1,2,3-4=cat"], ["must be VALUE=CLASS"]),
        (["0-3=a", "2=b"], ["--values 2=b: 2 is given twice"]),
        (["65536=a"], ["must be VALUE=CLASS"]),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path, texts, words):
    in_folders(tmp_path, closed)
    with refused(*words):
        create_dataset(tmp_path, Hints(labels=parse_values(texts)))


def test_a_value_is_named_with_the_first_pixel_that_has_it(tmp_path):
    in_folders(tmp_path, any_object)
    mask = any_object(toy_sample(4)[1])
    mask[7, 11] = mask[9, 3] = 5
    save(tmp_path / "masks/t4.png", mask)
    with refused("t4.png: value 5 at (7, 11)", "1 of 6 masks"):
        create_dataset(tmp_path, Hints(labels=parse_values(["0=a", "1=b"])))


def test_values_are_written_beside_the_masks_of_a_folder_in_voc_layout(tmp_path):
    in_folders(tmp_path, dense, "JPEGImages/t{}.png", "SegmentationClass/t{}.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    made = create_dataset(tmp_path, Hints(labels=parse_values(["0=ground", "1-3=thing", "4=void", "255=void"])))
    assert made.out == tmp_path and {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    labels = load(str(tmp_path / "labels.yaml"))
    assert labels.names == ("ground", "thing") and dict(labels.values) == {0: 0, 1: 1, 2: 1, 3: 1, 4: 255, 255: 255}
    split = open_split(tmp_path, "train", labels)
    for index, name in enumerate(split.ids):
        wanted = np.array([0, 1, 1, 1, 255, 255], np.uint8)[np.minimum(dense(toy_sample(int(name[1:]))[1]), 5)]
        np.testing.assert_array_equal(split.sample(index)[1], wanted)


def test_values_do_not_change_what_a_layout_draws(tmp_path):
    CASES["coco"].write(tmp_path)
    with refused("--values is for mask files", "coco"):
        create_dataset(tmp_path, Hints(labels=parse_values(["0=a", "1=b"])))


def test_a_lossy_mask_among_others_is_refused(tmp_path):
    in_folders(tmp_path, levels(0, 255))
    save(tmp_path / "masks/t9.jpg", levels(0, 255)(toy_sample(0)[1]))
    save(tmp_path / "images/t9.png", toy_sample(0)[0])
    with refused("t9.jpg: a lossy format"):
        create_dataset(tmp_path)


def test_two_images_and_two_masks_of_one_name_are_refused(tmp_path):
    in_folders(tmp_path, closed)
    save(tmp_path / "masks/t1.tif", closed(toy_sample(1)[1]))
    with refused("t1.png: t1.tif has the same name"):
        create_dataset(tmp_path)
    in_folders(tmp_path / "voc-like", closed, "JPEGImages/t{}.png", "SegmentationClass/t{}.png")
    save(tmp_path / "voc-like/JPEGImages/t2.bmp", toy_sample(2)[0])
    with refused("JPEGImages/t2.bmp", "t2.png has the same name"):
        create_dataset(tmp_path / "voc-like")


def test_what_is_left_out_is_counted(tmp_path):
    in_folders(tmp_path, closed)
    save(tmp_path / "images/more.png", toy_sample(1)[0])
    save(tmp_path / "masks/alone.png", closed(toy_sample(1)[1]))
    save(tmp_path / "masks/alone2.png", closed(toy_sample(1)[1]))
    notes = create_dataset(tmp_path).notes
    assert f"{tmp_path}/images: 1 of 7 images have no partner and are left out" in notes
    assert f"{tmp_path}/masks: 2 of 8 masks have no partner and are left out" in notes


def test_where_255_lies_along_borders_of_gray_levels_it_stays_void(tmp_path):
    in_folders(tmp_path, lambda mask: np.where(dense(mask) == 255, 255, dense(mask) * np.uint8(40)).astype(np.uint8))
    assert len(create_dataset(tmp_path).labels) == 5


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_split_says_the_share_of_the_training_images(tmp_path, share):
    in_folders(tmp_path, closed, numbers=range(20))
    made = create_dataset(tmp_path, Hints(val_share=round(1 - share, 9)))
    assert made.splits == {"train": round(20 * share), "val": 20 - round(20 * share)}
    assert any(f"--split {share:g}" in note for note in made.notes)


def test_split_deals_train_and_val_anew_but_leaves_test(tmp_path):
    for folder, numbers in (("train", range(10)), ("val", range(10, 12)), ("test", range(12, 15))):
        in_folders(tmp_path, closed, f"images/{folder}/t{{}}.png", f"masks/{folder}/t{{}}.png", numbers)
    made = create_dataset(tmp_path, Hints(val_share=0.5))
    assert made.splits == {"test": 3, "train": 6, "val": 6}
    lists = {path.stem: path.read_text().split() for path in (made.out / "ImageSets/Segmentation").iterdir()}
    assert sorted(lists["train"] + lists["val"]) == sorted(f"t{n}" for n in range(12)) and len(lists["test"]) == 3


def test_a_list_of_train_alone_in_voc_layout_is_dealt_in_a_new_folder(tmp_path):
    in_folders(tmp_path, closed, "JPEGImages/t{}.png", "SegmentationClass/t{}.png")
    text(tmp_path / "ImageSets/Segmentation/train.txt", "".join(f"t{n}\n" for n in range(6)))
    made = create_dataset(tmp_path)
    assert made.out == tmp_path / "voc" and made.splits == {"train": 5, "val": 1}
    assert (tmp_path / "ImageSets/Segmentation/train.txt").read_text().count("\n") == 6


def test_a_made_data_set_is_not_read_as_a_part_of_its_folder(tmp_path):
    in_folders(tmp_path, closed)
    create_dataset(tmp_path)
    assert create_dataset(tmp_path, out=tmp_path / "again").splits == {"train": 5, "val": 1}


def test_colors_without_names_beside_named_ones_are_told(tmp_path):
    in_folders(tmp_path, lambda mask: COLORS[closed(mask)])
    text(tmp_path / "labelmap.txt", "ground:0,0,0::\nbar:9,200,7::\n")
    made = create_dataset(tmp_path)
    assert made.labels.names[:2] == ("ground", "bar") and any("3 colors" in note for note in made.notes)


@pytest.mark.parametrize("content", ["Pixel Value, Class\n", "Pixel Value, Class\nx, cat\n", "Pixel Value, Class\n0\n"])
def test_a_list_of_roboflow_that_is_none_is_refused(tmp_path, content):
    CASES["roboflow"].write(tmp_path)
    for path in tmp_path.rglob("_classes.csv"):
        path.write_text(content)
    with refused("_classes.csv"):
        create_dataset(tmp_path)


def test_lists_of_roboflow_that_differ_are_refused(tmp_path):
    CASES["roboflow"].write(tmp_path)
    text(tmp_path / "valid/_classes.csv", "Pixel Value, Class\n0, background\n1, other\n")
    with refused("valid/_classes.csv: lists other classes than"):
        create_dataset(tmp_path)


def test_tasks_without_a_known_image_ask_for_the_export(tmp_path):
    CASES["label_studio"].write(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_name(f"photo-{path.name}"))
    made = create_dataset(tmp_path, out=tmp_path / "made")
    assert any("in the order of their names" in note for note in made.notes)
    save(tmp_path / "images/one-more.png", toy_sample(0)[0])
    with refused("6 tasks and 7 images", "JSON"):
        create_dataset(tmp_path)
    text(tmp_path / "project.json", "[{]")
    with refused("project.json: not a JSON export"):
        create_dataset(tmp_path)


def test_a_list_of_ade20k_without_its_classes_is_refused(tmp_path):
    CASES["ade20k"].write(tmp_path)
    text(tmp_path / "objectInfo150.txt", "Idx\tName\n1\twall\n")
    with refused("objectInfo150.txt: must list 150 classes"):
        create_dataset(tmp_path)


def test_masks_of_cvat_without_images_ask_for_their_folder(tmp_path):
    CASES["cvat"].write(tmp_path)
    for path in (tmp_path / "JPEGImages").iterdir():
        path.unlink()
    with refused("masks without images", "--images"):
        create_dataset(tmp_path)
    with refused("no such folder", "--images"):
        create_dataset(tmp_path, Hints(images="frames"))


def test_a_broken_json_is_one_clear_line(tmp_path):
    for name, content in {
        "labelme": {"shapes": [{"label": "a", "points": [[0, 0]], "shape_type": "polygon"}]},
        "coco": {"info": {}, "images": [{"id": "1"}], "annotations": [], "categories": []},
    }.items():
        folder = tmp_path / name
        text(folder / f"{name}.json", json.dumps(content))
        with refused(folder / f"{name}.json"):
            create_dataset(folder)


def test_an_image_in_two_lists_or_with_two_masks_is_refused(tmp_path):
    in_folders(tmp_path / "a", closed)
    for name in ("train", "val"):
        text(tmp_path / f"a/{name}.txt", "t0\nt1\n")
    with refused("t0 is in the lists of several splits", "--split 0.8"):
        create_dataset(tmp_path / "a")
    assert create_dataset(tmp_path / "a", Hints(val_share=0.5)).splits["val"] > 0
    in_folders(tmp_path / "b", closed)
    text(
        tmp_path / "b/pairs.csv",
        "image,mask\nimages/t0.png,masks/t0.png\nimages/t1.png,masks/t1.png\nimages/t0.png,masks/t2.png\n",
    )
    with refused("pairs.csv: images/t0.png has two masks"):
        create_dataset(tmp_path / "b")


def test_several_folders_of_masks_below_are_to_be_chosen_from(tmp_path):
    for folder in ("COLOR", "OTHER"):
        in_folders(tmp_path, lambda mask: COLORS[closed(mask)], "RGB/{}.png", f"GT/{folder}/{{}}.png")
    with refused("RGB: masks that are not binary in several folders", "--masks: GT/COLOR, GT/OTHER"):
        create_dataset(tmp_path)
    assert len(create_dataset(tmp_path, Hints(masks="GT/COLOR", images="RGB")).labels) == 5


def test_masks_that_matlab_numbered_ask_for_a_table(tmp_path):
    """Its second image is im10, not im2."""
    in_folders(tmp_path, closed, "images/im{}.png", "PixelLabelData/Label_{}.png", numbers=range(1, 5))
    with refused("PixelLabelData: MATLAB's Label_1.png does not say", "writetable", "--pair"):
        create_dataset(tmp_path)
    assert sum(create_dataset(tmp_path, Hints(pair="im{stem}.png=Label_{stem}.png"), tmp_path / "a").splits.values()) == 4
    rows = [f"C:\\Users\\me\\images\\im{n}.png,C:\\Users\\me\\PixelLabelData\\Label_{n}.png\n" for n in range(1, 5)]
    text(tmp_path / "pairs.csv", "image,mask\n" + "".join(rows))
    assert create_dataset(tmp_path, out=tmp_path / "b").layout == "index"


def test_images_in_one_of_several_folders_beside_the_masks_are_to_be_named(tmp_path):
    for folder in ("top", "nir"):
        in_folders(tmp_path, closed, f"{folder}/area{{}}.png", "gts/area{}.png")
    with refused("several folders may have the images; give one by --images: nir, top"):
        create_dataset(tmp_path)
    assert sum(create_dataset(tmp_path, Hints(images="top")).splits.values()) == 6


def test_masks_of_the_full_ade20k_and_several_masks_of_an_image_are_refused(tmp_path):
    place = "a/images/training/b/ADE_train_0000000{}"
    in_folders(tmp_path, lambda mask: COLORS[closed(mask)], f"{place}.png", f"{place}_seg.png")
    with refused("ADE_train_00000000_seg.png: masks of the full ADE20K", "ADEChallengeData2016"):
        create_dataset(tmp_path / "a")
    for name in ("1", "2"):
        in_folders(tmp_path / "b", any_object, "images/im{}.png", f"masks/im{{}}_{name}.png")
    with refused("im0.png has several masks, such as im0_1.png", "masks/cat", "--pair '{stem}_mask.png'"):
        create_dataset(tmp_path / "b")
    for number, name in (("1", "cat"), ("2", "dog")):
        (tmp_path / "b/masks" / name).mkdir()
        for path in (tmp_path / "b/masks").glob(f"*_{number}.png"):
            path.rename(path.parent / name / path.name)
    assert create_dataset(tmp_path / "b").labels.names == ("background", "cat", "dog")


def test_numbers_in_a_table_are_not_taken_for_files(tmp_path):
    in_folders(tmp_path, closed, "images/{}.png", "masks/{}.png")
    text(tmp_path / "a.csv", "id,label,fold\n" + "".join(f"{n},{n},{n % 3}\n" for n in range(6)))
    text(tmp_path / "b.csv", ",image,is_valid\n" + "".join(f"{5 - n},{n}.png,{n > 3}\n" for n in range(6)))
    made = create_dataset(tmp_path)
    assert made.layout == "folders" and (made.out / "ImageSets/Segmentation/val.txt").read_text() == "4\n5\n"
