"""Several data sets trained on together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.config import DataConfig
from seg.data.sampler import EpochSampler
from seg.data.sources import open_sources
from seg.labels import VOC
from tests.helpers.toy import refused, toy_voc


@pytest.fixture
def roots(tmp_path):
    return [str(toy_voc(tmp_path / name, train=count, val=1)) for name, count in (("a", 6), ("b", 2), ("c", 3))]


def test_one_root_is_one_source(roots):
    found = open_sources(DataConfig(root=roots[0], train="train"), VOC)
    assert len(found) == 6 and found.image_weights() is None
    assert [path.stem for path in found.image_paths()] == [f"toy_{n:03d}" for n in range(6)]


def test_samples_are_those_of_the_splits_in_order(roots):
    found = open_sources(DataConfig(train="train", sources=[{"root": root} for root in roots]), VOC)
    assert len(found) == 11 and found.image_weights() is None
    places = [(split, index) for split in found.splits for index in range(len(split))]
    assert [found.image_path(n) for n in range(11)] == [*found.image_paths()] == [s.images[i] for s, i in places]
    for number, (split, index) in enumerate(places):
        for ours, theirs in zip(found.sample(number), split.sample(index), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_classes_of_a_source_are_matched_by_name(roots):
    names = ["background", "car", "aeroplane", *VOC.names[3:7], "bicycle", *VOC.names[8:]]  # 1, 2 and 7 change places
    Path(roots[1], "labels.yaml").write_text(f"classes: {names}")
    plain = open_sources(DataConfig(train="train", sources=[{"root": roots[0]}, {"root": roots[2]}]), VOC)
    found = open_sources(DataConfig(train="train", sources=[{"root": roots[0]}, {"root": roots[1]}]), VOC)
    for number in range(2):
        mask, mapped = plain.sample(number)[1], found.sample(len(found.splits[0]) + number)[1]
        new = np.arange(256, dtype=np.uint8)
        new[[1, 2, 7]] = 7, 1, 2
        np.testing.assert_array_equal(mapped, new[mask])
    Path(roots[1], "labels.yaml").write_text("classes: [background, lorry]")
    with refused(roots[1], "Only in the data set: lorry", "'values' in labels.yaml, or of this entry of data.sources"):
        open_sources(DataConfig(train="train", sources=[{"root": roots[0]}, {"root": roots[1]}]), VOC)


def test_a_source_has_its_own_split_and_masks(roots, tmp_path):
    (tmp_path / "b/SegmentationClass").rename(tmp_path / "b/other")
    sources = [{"root": roots[0], "split": "val"}, {"root": roots[1], "masks": "other"}]
    found = open_sources(DataConfig(train="train", sources=sources), VOC)
    assert [len(split) for split in found.splits] == [1, 2]
    found.sample(2)


def test_values_say_what_the_masks_of_a_source_mean(roots):
    values = {0: "background", 1: "cat", 8: "cat", 12: "void", 15: "person", 255: "void"}
    plain = open_sources(DataConfig(train="train", sources=[{"root": roots[0]}]), VOC)
    found = open_sources(DataConfig(train="train", sources=[{"root": roots[0]}, {"root": roots[0], "values": values}]), VOC)
    table = np.arange(256)
    for value, name in values.items():
        table[value] = 255 if name == "void" else VOC.names.index(name)
    for number in range(6):
        np.testing.assert_array_equal(found.sample(number)[1], plain.sample(number)[1])
        np.testing.assert_array_equal(found.sample(6 + number)[1], table[plain.sample(number)[1]])
        np.testing.assert_array_equal(np.array(Image.open(found.splits[1].masks[number])), plain.sample(number)[1])


@pytest.mark.parametrize("weights, shares", [((1, 3, None), (1 / 7, 3 / 7, 3 / 7)), ((0.5, 0.25, 0.25), (0.5, 0.25, 0.25))])
@pytest.mark.parametrize("balanced", [False, True])
def test_crops_are_drawn_in_proportion_to_the_weights(roots, weights, shares, balanced):
    sources = [
        {"root": root} | ({} if weight is None else {"weight": weight}) for root, weight in zip(roots, weights, strict=True)
    ]
    found = open_sources(DataConfig(train="train", sources=sources), VOC)
    present = np.ones((11, 2), bool) if balanced else None
    order = EpochSampler(11, 0, present, found.image_weights())
    drawn = np.bincount([order(number) for number in range(7000)], minlength=11)
    chance = np.repeat(np.array(shares) / (6, 2, 3), (6, 2, 3))
    assert ((drawn - 7000 * chance) ** 2 / (7000 * chance)).sum() < 29.6  # chi-square of 10 degrees: one in a thousand


def test_a_balanced_draw_weighs_the_images_of_a_class():
    present = np.array([[1, 0], [1, 1], [0, 1]], bool)
    order = EpochSampler(3, 0, present, np.array([0.6, 0.2, 0.2]))
    drawn = np.bincount([order(number) for number in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(drawn, [0.375, 0.375, 0.25], atol=0.03)


@pytest.mark.parametrize(
    "source, message",
    [
        ("data/a", "data.sources[0]='data/a': must be a mapping with a root"),
        ({"split": "train"}, "must be a mapping with a root"),
        ({"root": "a", "weights": 2}, "data.sources[0].weights: not a setting of a source; did you mean 'weight'?"),
        ({"root": "a", "weight": 0}, "data.sources[0].weight=0"),
        ({"root": "a", "weight": "2"}, "data.sources[0].weight"),
        ({"root": "a", "split": 3}, "data.sources[0].split=3: must be a text"),
    ],
)
def test_a_wrong_source_is_refused_by_name(source, message):
    with refused(message):
        DataConfig(sources=[source])


def test_wrong_values_and_folders_are_refused_by_name(roots):
    for source, message in (
        ({"root": "nowhere"}, "nowhere: no such data folder"),
        ({"root": roots[0], "split": "trian"}, "trian.txt: no such split; did you mean"),
        ({"root": roots[0], "values": {7: "horse shoe"}}, "data.sources[1]: values: 7: no class is named 'horse shoe'"),
        ({"root": roots[0], "values": [7]}, "data.sources[1]: 'values' must map"),
    ):
        with refused(message):
            open_sources(DataConfig(train="train", sources=[{"root": roots[1]}, source]), VOC)
