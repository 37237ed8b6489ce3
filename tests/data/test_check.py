import numpy as np
import pytest

from seg.classes import VOC
from seg.data.check import require_sound, scan
from seg.data.voc import open_split
from tests.toy import refused, save_palette, toy_sample


@pytest.fixture
def split(root):
    return open_split(root, "train", VOC)


def damage(split, *indices):
    for index in indices:
        split.images[index].write_bytes(split.images[index].read_bytes()[:300])


def naive_counts(mask):
    counts = [0] * 256
    for row in mask.tolist():
        for value in row:
            counts[value] += 1
    return counts


def test_counts_are_the_pixels_of_each_value_in_each_mask(split):
    found = scan(split)
    assert found.problems == [] and found.counts.dtype == np.int64
    assert found.counts.tolist() == [naive_counts(toy_sample(number)[1]) for number in range(6)]


def test_a_sound_split_gives_its_class_counts_without_void(split):
    counts = require_sound(split)
    assert counts.shape == (6, 21)
    np.testing.assert_array_equal(counts, scan(split).counts[:, :21])
    assert scan(split).counts[:, 255].any()


def test_problems_are_listed_in_order_one_a_bad_file_and_count_nothing(split):
    damage(split, 4, 0)
    save_palette(split.masks[2], np.full((48, 64), 30, np.uint8))
    found = scan(split)
    assert [problem.split(": ")[0] for problem in found.problems] == [
        str(path) for path in (split.images[0], split.masks[2], split.images[4])
    ]
    assert not any("\n" in problem for problem in found.problems)
    assert found.counts.any(1).tolist() == [False, True, False, True, False, True]


def test_progress_counts_every_image_also_the_bad_ones(split):
    damage(split, 3)
    seen = []
    scan(split, seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_the_first_problem_is_raised_with_the_number_of_others(split):
    damage(split, 3)
    with refused(split.images[3], "not a readable image") as error:
        require_sound(split)
    assert "more" not in str(error.value)
    damage(split, 1, 5)
    with refused(split.images[1], "and 2 more", f"seg data check {split.root}"):
        require_sound(split)


def test_a_split_without_a_labelled_pixel_is_refused(split):
    for path in split.masks:
        save_palette(path, np.full((48, 64), 255, np.uint8))
    with refused(split.root, "every mask of split train is void"):
        require_sound(split)
    save_palette(split.masks[5], np.where(np.arange(64) == 9, 3, 255).astype(np.uint8)[None].repeat(48, 0))
    assert require_sound(split).sum() == require_sound(split)[5, 3] == 48
