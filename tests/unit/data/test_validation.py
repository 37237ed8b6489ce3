import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from seg.data import scan as module
from seg.data.images import decode
from seg.data.scan import scan
from seg.data.validation import check, validate_split
from seg.data.voc import open_split
from seg.labels import VOC, LabelSet
from tests.helpers.toy import refused, save_palette, toy_sample

OTHERS = LabelSet(("ground", "road", "water"), ((9, 9, 9), (1, 2, 3), (200, 0, 7)))


@pytest.fixture
def split(root):
    return open_split(root, "train", VOC)


def damage(split, *indices):
    for index in indices:
        split.images[index].write_bytes(split.images[index].read_bytes()[:300])


def list_of(root, split="train"):
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def image_of(root, number):
    return root / "JPEGImages" / f"toy_{number:03d}.jpg"


def mask_of(root, number):
    return root / "SegmentationClass" / f"toy_{number:03d}.png"


def save_rgb(path, mask):
    Image.fromarray(VOC.palette[mask]).save(path)


def naive_counts(mask):
    counts = [0] * 256
    for row in mask.tolist():
        for value in row:
            counts[value] += 1
    return counts


def pairs(split):
    return list(zip(split.images, split.masks, strict=True))


def the_problem(report, file) -> str:
    """The single error of the file."""
    assert [problem.file for problem in report.problems] == [str(file)], [str(problem) for problem in report.problems]
    assert "\n" not in report.problems[0].problem
    return report.problems[0].problem


# Counts.


def test_counts_are_the_pixels_of_each_value_in_each_mask(split):
    found = scan(pairs(split), VOC)
    assert found.problems == [] and found.valid.all() and not found.colored.any()
    assert found.counts.dtype == np.int64
    assert found.counts.tolist() == [naive_counts(toy_sample(number)[1]) for number in range(6)]
    assert found.sizes.tolist() == [[64, 48]] * 6


def test_the_histograms_are_those_that_numpy_and_opencv_count(root):
    save_palette(mask_of(root, 2), np.full((30, 50), 3, np.uint8))
    Image.new("RGB", (50, 30)).save(image_of(root, 2))
    report = check(root, VOC).as_dict()
    assert report["problems"] == report["notes"] == []
    for name, numbers in (("train", range(6)), ("val", range(6, 9))):
        pixels, present, sizes = np.zeros(256, int), np.zeros(256, int), {}
        for number in numbers:
            image = cv2.imread(str(image_of(root, number)))
            key = f"{image.shape[1]}x{image.shape[0]}"
            sizes[key] = sizes.get(key, 0) + 1
            with Image.open(mask_of(root, number)) as mask:
                values, counts = np.unique(np.asarray(mask), return_counts=True)
            pixels[values] += counts
            present[values] += 1
        found = report["splits"][name]
        assert (found["pixels"], found["present"]) == (pixels.tolist(), present.tolist())
        assert found["images"] == found["sound"] == len(numbers)
        assert found["sizes"] == sizes
        assert found["void_share"] == pytest.approx(pixels[255] / pixels.sum())


def test_a_file_in_several_lists_is_read_once(root, monkeypatch):
    list_of(root, "trainval").write_text(list_of(root).read_text() + list_of(root, "val").read_text())
    list_of(root, "few").write_text("toy_004\ntoy_007\n")
    reads, lock = [], threading.Lock()

    def counted(path, *rest, reader):
        with lock:
            reads.append(path)
        return reader(path, *rest)

    monkeypatch.setattr(module, "decode", lambda *parts: counted(*parts, reader=decode))
    report = check(root, VOC)
    assert len(reads) == len(set(reads)) == 18
    counts = {name: report.scan.counts[rows].sum(0) for name, rows in report.splits.items()}
    np.testing.assert_array_equal(counts["trainval"], counts["train"] + counts["val"])
    wanted = np.add(naive_counts(toy_sample(4)[1]), naive_counts(toy_sample(7)[1]))
    np.testing.assert_array_equal(counts["few"], wanted)


def test_progress_counts_bad_samples_too(root, split):
    damage(split, 3)
    seen, all_seen = [], []
    scan(pairs(split), VOC, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    check(root, VOC, progress=lambda done, total: all_seen.append((done, total)))
    assert all_seen == [(done, 9) for done in range(1, 10)]


# What is wrong.


def test_a_correct_data_set_has_no_problems(root):
    report = check(root, VOC)
    assert report.problems == report.notes == [] and set(report.splits) == {"train", "val"}
    assert set(check(root, VOC, "val").splits) == {"val"}


def test_every_bad_file_is_listed_once_in_order_and_is_not_counted(root, split):
    damage(split, 4, 0)
    save_palette(split.masks[2], np.full((48, 64), 30, np.uint8))
    save_palette(split.masks[0], np.full((48, 64), 40, np.uint8))
    found = scan(pairs(split), VOC)
    assert [problem.file for problem in found.problems] == [
        str(path) for path in (split.images[0], split.masks[0], split.masks[2], split.images[4])
    ]
    assert not any("\n" in problem.problem or problem.file in problem.problem for problem in found.problems)
    assert found.counts.any(1).tolist() == found.valid.tolist() == [False, True, False, True, False, True]
    report = check(root, VOC)
    assert report.problems == found.problems
    assert (report.as_dict()["splits"]["train"]["images"], report.as_dict()["splits"]["train"]["sound"]) == (6, 3)


def test_all_missing_files_are_listed(root):
    for path in (image_of(root, 1), image_of(root, 4), mask_of(root, 4), mask_of(root, 7)):
        path.unlink()
    report = check(root, VOC)
    wanted = [
        (image_of(root, 1), "train"),
        (image_of(root, 4), "train"),
        (mask_of(root, 4), "train"),
        (mask_of(root, 7), "val"),
    ]
    assert [problem.file for problem in report.problems] == [str(path) for path, _ in wanted]
    for problem, (path, name) in zip(report.problems, wanted, strict=True):
        assert f"no {'image' if path.suffix == '.jpg' else 'mask'} for this id of {list_of(root, name)}" in problem.problem
    assert not report.scan.counts[~report.scan.valid].any() and report.scan.valid.sum() == 6


def test_different_sizes_are_reported_with_both_sizes(root):
    save_palette(mask_of(root, 1), np.zeros((64, 48), np.uint8))
    problem = the_problem(check(root, VOC), mask_of(root, 1))
    assert "48x64 pixels" in problem and "64x48" in problem and str(image_of(root, 1)) in problem


def test_a_label_out_of_range_is_reported_with_its_position(root):
    mask = toy_sample(7)[1]
    mask[5, 9] = 33
    save_palette(mask_of(root, 7), mask)
    assert "label 33 at (5, 9)" in the_problem(check(root, VOC), mask_of(root, 7))


def test_masks_with_another_palette_are_reported_with_it(root):
    for number in range(9):
        save_rgb(mask_of(root, number), toy_sample(number)[1])
    report = check(root, OTHERS)
    assert len(report.problems) == 9 and all("--labels voc" in problem.problem for problem in report.problems)


def test_smoothed_masks_are_reported(root):
    noise = np.random.default_rng(0).integers(0, 21, (48, 64))
    Image.fromarray(cv2.blur(VOC.palette[noise], (3, 3))).save(mask_of(root, 0))
    assert "resizing" in the_problem(check(root, VOC), mask_of(root, 0))


def test_binary_masks_of_0_and_255_are_reported_for_each_list(root):
    for number in range(6):
        save_palette(mask_of(root, number), np.where(toy_sample(number)[1] > 0, 255, 0).astype(np.uint8))
    problem = the_problem(check(root, VOC), list_of(root))
    assert "only 0 and 255" in problem and "seg data init" in problem
    with refused(root, "split train", "only 0 and 255", "seg data init"):
        validate_split(open_split(root, "train", VOC))
    save_palette(mask_of(root, 3), toy_sample(3)[1])  # one mask with a class: void may fill the others
    assert check(root, VOC).problems == []


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\xef\xbb\xbftoy_000\ntoy_001\n", ["byte-order mark", "sed"]),
        (b"toy_000\r\ntoy_001\r\n", ["has 2 Windows line ends", "sed"]),
        (b"toy_000\n\ntoy_001\n\n", ["line 2 and 1 more lines blank", "sed"]),
        (b"toy_000\n toy_001\n", ["line 2 blank, or with blanks around the id"]),
        (b"toy_000\ntoy_001\ntoy_000\ntoy_000\n", ["lists toy_000 more than once"]),
        (b"toy_000\ntoy_001.jpg\n", ["'toy_001.jpg' should be 'toy_001'", "without folder, suffix or flag"]),
        (b"toy_000.png\ntoy_001.png\n", ["'toy_000.png' and 1 more lines should be 'toy_000'"]),
        (b"JPEGImages/toy_000.jpg\ntoy_001\n", ["'JPEGImages/toy_000.jpg' should be 'toy_000'"]),
        (b"JPEGImages\\toy_000.jpg\ntoy_001\n", ["should be 'toy_000'"]),
        (b"/JPEGImages/toy_000.jpg /SegmentationClassAug/toy_000.png\ntoy_001\n", ["should be 'toy_000'"]),
        (b"toy_000 1\ntoy_001 -1\n", ["'toy_000 1' and 1 more lines should be 'toy_000'"]),
    ],
)
@pytest.mark.parametrize("masks_only", [False, True])
def test_problems_of_a_list_are_reported_and_its_ids_are_read(root, content, words, masks_only):
    list_of(root).write_bytes(content)
    report = check(root, VOC, masks_only=masks_only)
    problem = the_problem(report, list_of(root))
    assert all(word in problem for word in words), problem
    assert (
        report.as_dict()["splits"]["train"]["pixels"]
        == np.sum([naive_counts(toy_sample(number)[1]) for number in (0, 1)], 0).tolist()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="sed -i takes a suffix elsewhere")
@pytest.mark.parametrize("content", [b"\xef\xbb\xbftoy_000\n", b"toy_000\r\n", b"toy_000\n\n toy_001\n"])
def test_the_command_that_mends_a_list_runs_as_printed_where_folders_have_blanks(root, tmp_path, content):
    place = root.rename(tmp_path / "my own 'data'")
    list_of(place).write_bytes(content)
    problem = the_problem(check(place, VOC), list_of(place))
    subprocess.run(["bash", "-c", "sed" + problem.partition(": sed")[2]], check=True)
    assert check(place, VOC).problems == []


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"\n \n", "is empty"), (b"\xff\xd8\xff\xe0", "not a list")])
def test_an_empty_list_and_a_binary_file_are_reported(root, content, words):
    list_of(root).write_bytes(content)
    assert words in the_problem(check(root, VOC), list_of(root))


def test_folders_and_lists_that_are_not_there_are_refused(root, tmp_path):
    with refused(tmp_path / "none", "no such data folder"):
        check(tmp_path / "none", VOC)
    with refused(list_of(root, "trian"), "did you mean 'train'?"):
        check(root, VOC, "trian")
    with refused(root, "no folder Mine"):
        check(root, VOC, masks="Mine")
    (root / "Empty").mkdir()
    with refused(root / "Empty", "no PNG masks"):
        check(root, VOC, masks="Empty", masks_only=True)
    (root / "JPEGImages").rename(root / "Images")
    with refused(root / "JPEGImages", "no such folder"):
        check(root, VOC)
    for path in (root / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    with refused("not in VOC layout"):
        check(root, VOC)


def test_two_files_with_the_same_name_are_reported(root):
    Image.new("RGB", (64, 48)).save(image_of(root, 1).with_suffix(".png"))
    assert "toy_001.png has the same name" in the_problem(check(root, VOC), image_of(root, 1))
    assert check(root, VOC, "val").problems == []


@pytest.mark.parametrize("width", [1, 5, 9])
def test_one_class_with_void_borders_is_reported_and_not_binary(root, width):
    """A mask without objects: 0, and 255 along borders only."""
    for number in range(6, 9):
        mask = np.zeros((48, 64), np.uint8)
        mask[20 : 20 + width] = 255
        save_palette(mask_of(root, number), mask)
    report = check(root, VOC)
    assert report.problems == []
    assert any("val has one class, background" in note and "seg data init" in note for note in report.split_notes)
    assert "val has no pixel of aeroplane, cat, dog, person: not scored" in report.split_notes
    notes = []
    assert validate_split(open_split(root, "val", VOC), note=notes.append).any(0).tolist() == [True] + [False] * 20
    assert len(notes) == 1 and str(root) in notes[0]


def test_a_split_may_have_masks_of_only_void(root):
    for number in range(6, 9):
        save_palette(mask_of(root, number), np.full((48, 64), 255 * (number == 7), np.uint8))
    assert check(root, VOC).problems == []
    assert (validate_split(open_split(root, "val", VOC)).sum(1) > 0).tolist() == [True, False, True]


def test_images_in_two_splits_are_reported(root):
    list_of(root, "val").write_text("toy_004\ntoy_007\n")
    assert any(note.startswith("train and val share 1 images") for note in check(root, VOC).split_notes)


def test_images_with_few_bits_or_several_frames_are_reported(root):
    image_of(root, 1).unlink()
    Image.fromarray(np.full((48, 64), 4000, np.uint16)).save(image_of(root, 1).with_suffix(".png"))
    image_of(root, 2).unlink()
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    frames[0].save(image_of(root, 2).with_suffix(".tif"), save_all=True, append_images=frames[1:])
    assert [str(note).removeprefix(f"{root / 'JPEGImages'}: ") for note in check(root, VOC).notes] == [
        "1 image: 12 bits per channel, stored in 16: scaled to 8",
        "1 image: only the first of 2 frames is read",
    ]


CODED = LabelSet(("ground", "thing"), ((9, 9, 9), (1, 2, 3)), values=((0, 0), (255, 1)))


def test_the_values_of_a_label_set_are_used(root):
    for number in range(9):
        save_palette(mask_of(root, number), np.where(toy_sample(number)[1] > 0, 255, 0).astype(np.uint8))
    report = check(root, CODED)
    assert report.problems == []
    things = [(toy_sample(number)[1] > 0).sum() for number in range(9)]
    assert report.scan.counts[:, 1].tolist() == things and not report.scan.counts[:, 255].any()
    np.testing.assert_array_equal(validate_split(open_split(root, "train", CODED))[:, 1], things[:6])
    save_palette(mask_of(root, 7), np.full((48, 64), 3, np.uint8))
    assert "value 3 at (0, 0) is not listed" in the_problem(check(root, CODED), mask_of(root, 7))
    with refused("--convert", "'values' list integers"):
        check(root, CODED, convert=True)


# Masks alone.


def test_masks_alone_need_neither_images_nor_lists(root):
    wanted = np.sum([naive_counts(toy_sample(number)[1]) for number in range(9)], 0).tolist()
    (root / "JPEGImages").rename(root / "Images")
    assert set(check(root, VOC, masks_only=True).splits) == {"train", "val"}
    (root / "ImageSets").rename(root / "Lists")
    for masks in (None, "SegmentationClass"):
        report = check(root, VOC, masks=masks, masks_only=True).as_dict()
        assert report["problems"] == [] and report["splits"]["SegmentationClass"]["pixels"] == wanted
        assert report["splits"]["SegmentationClass"]["sizes"] == {"64x48": 9}
    report = check(root / "SegmentationClass", VOC, masks=".", masks_only=True).as_dict()
    assert [part["pixels"] for part in report["splits"].values()] == [wanted]
    mask_of(root, 3).write_bytes(b"")
    assert "empty file" in the_problem(check(root, VOC, masks_only=True), mask_of(root, 3))


# Conversion.


def test_rgb_masks_in_the_colors_of_the_label_set_are_reported_and_converted(root):
    for number in (1, 7):
        save_rgb(mask_of(root, number), toy_sample(number)[1])
    before = {path: path.read_bytes() for path in (root / "SegmentationClass").iterdir()}
    report = check(root, VOC)
    assert report.problems == [] and report.scan.colored.sum() == 2
    assert [note.file for note in report.notes] == [str(root / "SegmentationClass")]
    assert report.notes[0].problem.startswith("2 masks are RGB") and "--convert" in report.notes[0].problem
    assert {path: path.read_bytes() for path in before} == before

    converted = check(root, VOC, convert=True)
    assert converted.problems == converted.notes == []
    np.testing.assert_array_equal(converted.scan.counts, report.scan.counts)
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"toy_001.png", "toy_007.png"}
    for number in (1, 7):
        with Image.open(mask_of(root, number)) as image:
            assert image.mode == "P" and image.getpalette()[:768] == VOC.palette.ravel().tolist()
            np.testing.assert_array_equal(np.asarray(image), toy_sample(number)[1])
    assert check(root, VOC).notes == []


def test_a_damaged_or_unfit_mask_is_never_converted(root):
    mask = VOC.palette[toy_sample(1)[1]]
    mask[7, 11] = (1, 2, 3)
    Image.fromarray(mask).save(mask_of(root, 1))
    Image.fromarray(VOC.palette[np.zeros((9, 9), int)]).save(mask_of(root, 2))  # of another size than its image
    before = [mask_of(root, number).read_bytes() for number in (1, 2)]
    assert len(check(root, VOC, convert=True).problems) == 2
    assert [mask_of(root, number).read_bytes() for number in (1, 2)] == before


# What training asks for.


def test_a_correct_split_gives_its_class_counts_without_void(split):
    counts = validate_split(split)
    assert counts.shape == (6, 21)
    np.testing.assert_array_equal(counts, scan(pairs(split), VOC).counts[:, :21])
    assert scan(pairs(split), VOC).counts[:, 255].any()


def test_the_first_problem_is_raised_with_the_number_of_others(split):
    damage(split, 3)
    with refused(split.images[3], "not a readable image") as error:
        validate_split(split)
    assert "more" not in str(error.value)
    damage(split, 1, 5)
    with refused(split.images[1], "and 2 more", f"seg data check {split.root}"):
        validate_split(split)


def test_the_command_that_lists_the_problems_is_quoted(root, tmp_path):
    split = open_split(root.rename(tmp_path / "my data"), "train", VOC)
    damage(split, 1, 5)
    with refused(f"seg data check '{split.root}' lists them"):
        validate_split(split)


def test_a_split_without_a_labelled_pixel_is_refused(split):
    for path in split.masks:
        save_palette(path, np.full((48, 64), 255, np.uint8))
    with refused(split.root, "every mask of split train is void"):
        validate_split(split)
    save_palette(split.masks[5], np.where(np.arange(64) == 9, 3, 255).astype(np.uint8)[None].repeat(48, 0))
    assert validate_split(split).sum() == validate_split(split)[5, 3] == 48
