"""The splits of a training together, read once and shared by processes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seg import distributed
from seg.config import DataConfig
from seg.data import training_data
from seg.data.scan import scan
from seg.data.training_data import TrainingData
from seg.data.validation import check, validate_split
from seg.data.voc import open_split
from seg.errors import UserError
from seg.labels import VOC
from tests.helpers.toy import refused, save_palette, toy_voc


def mask_of(root, number):
    return root / f"SegmentationClass/toy_{number:03d}.png"


def image_of(root, number):
    return root / f"JPEGImages/toy_{number:03d}.jpg"


def list_of(root, name):
    return root / f"ImageSets/Segmentation/{name}.txt"


def notes_of(root, train="train", val="val"):
    notes = []
    data = TrainingData(DataConfig(root=str(root), train=train, val=val), VOC, root / "data.npz")
    data.read(notes.append, quiet=True)
    assert data.counts.shape == (len(open_split(root, train, VOC)), 21)
    return [note.removeprefix(f"{root}: ") for note in notes]


def set_masks(root, numbers, values):
    """Masks of one value, or whose left half has one and whose right half another."""
    for number in numbers:
        save_palette(mask_of(root, number), np.repeat(np.array([values], np.uint8).repeat(48, 0), 64 // len(values), 1))


def test_a_sound_data_set_needs_no_note(root):
    assert notes_of(root) == []


def test_validation_on_the_training_images_is_said(root):
    assert notes_of(root, "train", "train") == [
        "data.val=data.train, train: scores on training images do not measure the accuracy on new images"
    ]
    list_of(root, "val").write_text("toy_004\ntoy_005\n")
    assert any("train and val share 2 images" in note for note in notes_of(root))


def test_classes_that_one_split_lacks_are_said(root):
    set_masks(root, range(6, 9), [0, 8])
    assert notes_of(root) == ["val has no pixel of aeroplane, dog, person: not scored"]
    set_masks(root, range(6), [0, 1])
    assert notes_of(root) == ["val has no pixel of aeroplane: not scored", "train has no pixel of cat: not learned"]


def test_one_class_alone_and_masks_of_void_are_said_and_not_refused(root):
    set_masks(root, range(6), [15])
    set_masks(root, [1], [255])
    set_masks(root, range(6, 9), [0, 255])
    notes = notes_of(root)
    assert any("train has one class, person" in note for note in notes)
    assert "1 of 6 masks of train are entirely void: they are not used for training or scores" in notes
    assert any("val has one class, background" in note and "seg data init" in note for note in notes)
    assert check(root, VOC).problems == []


def test_a_validation_split_of_void_alone_is_said_and_not_refused(root):
    set_masks(root, range(6, 9), [255])
    (note,) = notes_of(root)
    assert note == "every mask of val is void: there is nothing to score, mIoU stays 0, and the first weights are kept"
    set_masks(root, range(6), [255])
    with refused("split train is void"):
        notes_of(root)


def test_binary_masks_to_learn_from_are_refused_and_void_in_a_few_is_not(root):
    set_masks(root, range(6), [0, 255])
    with refused("split train", "only 0 and 255", "values: {0: NAME, 255: void}"):
        notes_of(root)
    set_masks(root, range(6), [0])
    set_masks(root, [2], [0, 255])
    for number in (3, 4):  # borders
        mask = np.zeros((48, 64), np.uint8)
        mask[20:22] = 255
        save_palette(mask_of(root, number), mask)
    assert any("train has one class, background" in note for note in notes_of(root))


def test_what_is_lost_of_images_is_said_for_each_split(root):
    image_of(root, 1).unlink()
    Image.fromarray(np.full((48, 64), 4000, np.uint16)).save(image_of(root, 1).with_suffix(".png"))
    assert notes_of(root) == ["train: 1 image: 12 bits per channel, stored in 16: scaled to 8"]


def test_several_training_splits_are_counted_in_order_and_compared_together(tmp_path):
    roots = [str(toy_voc(tmp_path / name, train=4, val=2)) for name in "ab"]
    values = {**dict(zip(range(21), VOC.names, strict=True)), 1: VOC.names[3], 255: "void"}
    sources = [{"root": roots[0]}, {"root": roots[1], "values": values}, {"root": roots[0], "split": "val"}]
    data, notes = TrainingData(DataConfig(roots[0], train="train", sources=sources), VOC, tmp_path / "data.npz"), []
    data.read(notes.append, quiet=True)
    np.testing.assert_array_equal(data.sizes, [[64, 48]] * 10)
    assert data.trained_size == 64
    np.testing.assert_array_equal(data.counts, np.concatenate([validate_split(split) for split in data.sources.splits]))
    assert any("data.sources and val share 2 images" in line for line in notes)
    assert any("data.val=data.train, val" in line for line in notes)


def opened(root, **settings):
    return TrainingData(DataConfig(str(root), train="train", **settings), VOC, root / "data.npz")


def spied(monkeypatch):
    """The files that are examined, and whether their headers alone."""
    seen, original = [], training_data.examine
    monkeypatch.setattr(
        training_data,
        "examine",
        lambda *pair, header_only: seen.append((pair[0].stem, header_only)) or original(*pair, header_only=header_only),
    )
    return seen


def test_of_many_images_the_headers_are_read(tmp_path, monkeypatch):
    root = toy_voc(tmp_path / "voc", train=6, val=3)
    seen = spied(monkeypatch)
    plain = opened(root)
    plain.read(print, quiet=True)
    assert {header for _, header in seen} == {False}
    seen.clear()
    monkeypatch.setattr(training_data, "DECODED", 8)
    many = opened(root)
    many.read(print, quiet=True)
    assert {header for _, header in seen} == {True} and len(seen) == 9
    np.testing.assert_array_equal(many.counts, plain.counts)
    np.testing.assert_array_equal(many.sizes, plain.sizes)
    damaged = root / "JPEGImages/toy_002.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    opened(root).read(print, quiet=True)  # its header is whole
    with pytest.raises(UserError, match="toy_002"):
        many.sources.sample(2)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(damaged)
    with refused("toy_002.png: 64x48 pixels, but its image is 30x20"):
        opened(root).read(print, quiet=True)


def test_what_was_found_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    root = toy_voc(tmp_path / "voc", train=6, val=3)
    first = opened(root)
    first.read(print, quiet=True)
    first.keep()
    seen = spied(monkeypatch)
    second = opened(root)
    second.read(print, quiet=True)
    assert seen == []
    np.testing.assert_array_equal(second.counts, first.counts)
    np.testing.assert_array_equal(second.sizes, first.sizes)
    save_palette(root / "SegmentationClass/toy_001.png", np.full((48, 64), 7, np.uint8))
    third = opened(root)
    third.read(print, quiet=True)
    assert seen == [("toy_001", False)] and third.counts[1, 7] == 48 * 64
    third.keep()
    (root / "SegmentationClass/toy_001.png").write_bytes(b"no mask")
    for _ in range(2):
        with refused("toy_001.png"):
            opened(root).read(print, quiet=True)


def test_other_labels_read_all_again(tmp_path, monkeypatch):
    root = toy_voc(tmp_path / "voc", train=6, val=3)
    first = opened(root)
    first.read(print, quiet=True)
    first.keep()
    seen = spied(monkeypatch)
    other = replace(VOC, values=tuple((value, value) for value in (*range(21), 255)))
    TrainingData(DataConfig(str(root), train="train"), other, root / "data.npz").read(print, quiet=True)
    assert len(seen) == 9


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 damaged"])
def test_a_damaged_file_of_findings_is_not_used(tmp_path, monkeypatch, content):
    root = toy_voc(tmp_path / "voc", train=6, val=3)
    (root / "data.npz").write_bytes(content)
    seen = spied(monkeypatch)
    opened(root).read(print, quiet=True)
    assert len(seen) == 9


def test_findings_hold_no_objects_that_run_as_code(tmp_path, monkeypatch):
    root = toy_voc(tmp_path / "voc", train=6, val=3)
    np.savez(root / "data.npz", keys=np.array([print], object))
    seen = spied(monkeypatch)
    opened(root).read(print, quiet=True)
    assert len(seen) == 9


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_reading_of_many_images_and_all_know_what_all_found(tmp_path, monkeypatch, world):
    root = toy_voc(tmp_path / "voc", train=7, val=3)
    wanted = scan([*zip(*(getattr(open_split(root, "train", VOC), name) for name in ("images", "masks")), strict=True)], VOC)
    parts = {}
    seen = spied(monkeypatch)
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    split = open_split(root, "train", VOC)

    class Gathered(Exception):
        pass

    def gather(value):
        parts[distributed.rank()] = value
        raise Gathered

    monkeypatch.setattr(distributed, "all_gather", gather)
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        seen.clear()
        with pytest.raises(Gathered):
            training_data.look_through(split, training_data.Findings(), print, shared=True)
        assert sorted(name for name, _ in seen) == list(split.ids[rank::world])
    monkeypatch.setattr(distributed, "all_gather", lambda value: [parts[rank] for rank in range(world)])
    known = training_data.Findings()
    found = training_data.look_through(split, known, print, shared=True)
    np.testing.assert_array_equal(found.counts, wanted.counts)
    assert found.valid.all() and len(known.samples) == 7
    parts[1] = (parts[1][0] + 1, parts[1][1])
    with refused("split train is not the same in all processes: they list 7, 8"):
        training_data.look_through(split, training_data.Findings(), print, shared=True)
