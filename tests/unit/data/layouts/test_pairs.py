import numpy as np
import pytest

from seg.data.layouts.base import split_name
from seg.data.layouts.pairs import pair_names
from seg.data.layouts.splits import complete, deal
from tests.helpers.toy import refused


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a{}.jpg", "a{}.png"),
        ("a{}.JPG", "A{}.png"),
        ("a{}.jpg", "a{}_L.png"),
        ("a{}.jpg", "a{}_P.png"),
        ("a{}.jpg", "a{}_mask.png"),
        ("a{}.jpg", "a{}-segmentation.png"),
        ("a{}.jpg", "a{}_GT.png"),
        ("image_{}.png", "mask_{}.png"),
        ("img{}.png", "label{}.png"),
        ("img_{}.png", "seg_{}.png"),
        ("{}_image.png", "{}_ground_truth.png"),
        ("{}_rgb.png", "{}_labelIds.png"),
        ("a{}.jpg", "a{}.jpg.png"),
        ("a.{}.jpg", "a.{}.jpg_mask.png"),
        ("case_{:03d}_0000.png", "case_{:03d}.png"),
        ("fällt {}.png", "Fällt {} Mask.png"),
        ("2007_{:06d}.jpg", "2007_{:06d}.png"),
    ],
)
def test_names_are_paired_by_what_they_have_in_common(image, mask):
    images, masks = ([name.format(n) for n in (1, 2, 10, 11, 100)] for name in (image, mask))
    found = pair_names(np.random.default_rng(0).permutation(images).tolist(), masks)
    assert found.masks == dict(zip(images, masks, strict=True))


def test_a_way_that_pairs_more_is_preferred_and_the_rest_has_no_partner():
    found = pair_names(["a1.jpg", "a2.jpg", "b.jpg"], ["a1_mask.png", "a2_mask.png", "b.png", "c.png"])
    assert found.masks == {"a1.jpg": "a1_mask.png", "a2.jpg": "a2_mask.png", "b.jpg": "b.png"}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["toy_1.jpg", "toy_2.jpg"], ["other_1.png", "other_2.png"]),
        (["1.jpg", "2.jpg", "3.jpg"], ["01.png", "02.png"]),  # numbers alone must fit exactly
        (["x_1.png"], ["x_1_mask.png", "x_1_label.png"][:0]),
        (["mask.png"], ["image.png"]),
    ],
)
def test_names_that_only_look_alike_are_not_paired(images, masks):
    assert pair_names(images, masks).masks == {}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1_sat.jpg", "2_sat.jpg"], ["1_mask.png", "2_mask.png"]),
        (["P1.png", "P2.png"], ["P1_instance_color_RGB.png", "P2_instance_color_RGB.png"]),
        (["um_1.png", "uu_2.png"], ["um_road_1.png", "uu_road_2.png"]),
        (["21_training.tif", "22_training.tif"], ["21_manual1.gif", "22_manual1.gif"]),
        (["frame3_leftImg8bit.jpg", "frame4_leftImg8bit.jpg"], ["frame3_level3Ids.png", "frame4_level3Ids.png"]),
        (["1.jpg", "2.jpg"], ["001.png", "002.png"]),
        (["image_9.jpg", "image_10.jpg"], ["Label_009.png", "Label_010.png"]),
    ],
)
def test_words_that_all_names_of_a_kind_have_do_not_keep_pairs_apart(images, masks):
    assert pair_names(images, masks).masks == dict(zip(images, masks, strict=True))


def test_two_masks_of_one_image_are_no_pair():
    assert pair_names(["image_1.png"], ["mask_1.png", "label_1.png"]).masks == {}


@pytest.mark.parametrize(
    ("pattern", "images", "masks"),
    [
        ("{stem}_final.png", ["a.jpg", "b.jpg"], ["a_final.png", "b_final.png"]),
        ("{stem}_final", ["a.jpg", "b.jpg"], ["a_final.png", "b_final.tif"]),
        ("L-{stem}.PNG", ["A.jpg", "b.jpg"], ["L-a.png", "L-b.png"]),
        ("x{stem}.jpg=y{stem}z.png", ["x1.jpg", "x2.jpg"], ["y1z.png", "y2z.png"]),
        ("x{stem}=y{stem}", ["x1.jpg", "x2.jpg"], ["y1.png", "y2.png"]),
    ],
)
def test_a_pattern_says_which_mask_is_of_which_image(pattern, images, masks):
    assert pair_names(images, masks, pattern).masks == dict(zip(images, masks, strict=True))


@pytest.mark.parametrize("pattern", ["mask.png", "{stem}{stem}.png", "a=b_{stem}.png", "{name}.png"])
def test_a_pattern_without_a_stem_is_refused(pattern):
    with refused(f"--pair {pattern}: must contain {{stem}} once"):
        pair_names(["a.png"], ["b.png"], pattern)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train", "train"), ("Training", "train"), ("train2017", "train"), ("TRAIN", "train"), ("valid", "val")),
        *(("val_2012", "val"), ("Validation", "val"), ("dev", "val"), ("test", "test"), ("testing", "test")),
        *(("trainval", None), ("default", None), ("training_set", None), ("images", None), ("", None), ("12", None)),
    ],
)
def test_names_of_splits(name, split):
    assert split_name(name) == split


def test_dealing_depends_on_the_names_alone():
    ids = [f"x{n}" for n in range(50)]
    train, val = deal(ids, 0.2)
    assert (len(train), len(val)) == (40, 10) and sorted(train + val) == sorted(ids)
    assert deal(reversed(ids), 0.2) == (train, val)
    _, held = deal([*ids, "new"], 0.2)
    assert len(set(val) & set(held)) >= 9  # a new image changes the deal of few
    assert deal(["a", "b"], 0.001) != ([], ["a", "b"]) and [len(part) for part in deal(["a", "b"], 0.999)] == [1, 1]


@pytest.mark.parametrize(
    ("splits", "share", "sizes"),
    [
        ({None: 10}, None, {"train": 8, "val": 2}),
        ({"train": 10}, None, {"train": 8, "val": 2}),
        ({"train": 10, "test": 4}, None, {"test": 4, "train": 8, "val": 2}),
        ({"train": 6, "val": 4}, None, {"train": 6, "val": 4}),
        ({"train": 6, "val": 4}, 0.5, {"train": 5, "val": 5}),
        ({"default": 10}, None, {"default": 10, "train": 8, "val": 2}),
        ({"trainval": 10, "test": 3}, None, {"trainval": 10, "test": 3, "train": 8, "val": 2}),
        ({None: 6, "val": 4}, None, {"val": 4, "train": 6}),
    ],
)
def test_missing_splits_are_dealt(splits, share, sizes):
    ids, given = iter(range(100)), {}
    for name, count in splits.items():
        given[name] = [f"x{next(ids)}" for _ in range(count)]
    notes = []
    found = complete(given, share, notes, "here")
    assert {name: len(part) for name, part in found.items()} == sizes
    assert not {*found["train"]} & {*found["val"]} and not {*found["train"]} & {*found.get("test", ())}
    assert bool(notes) == (share is not None or "val" not in splits)
