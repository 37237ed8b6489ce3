import numpy as np
import pytest

from seg.data.sampler import EpochSampler, sample_numbers


def test_each_image_comes_once_an_epoch():
    order = EpochSampler(13, seed=5)
    for epoch in range(4):
        assert sorted(order(epoch * 13 + i) for i in range(13)) == list(range(13))


def test_the_order_differs_in_each_epoch_and_for_each_seed():
    orders = [[EpochSampler(13, seed)(epoch * 13 + i) for i in range(13)] for seed in range(4) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 16


@pytest.mark.parametrize("present", [None, np.eye(13, 3, dtype=bool)])
def test_the_image_of_a_sample_depends_only_on_its_number(present):
    forwards = [EpochSampler(13, 5, present)(number) for number in range(60)]
    order, numbers = EpochSampler(13, 5, present), np.random.default_rng(0).permutation(60)
    assert {int(number): order(int(number)) for number in numbers} == dict(enumerate(forwards))


def test_every_image_is_equally_likely_at_every_position_of_an_epoch():
    first = np.bincount([EpochSampler(6, seed)(0) for seed in range(1200)], minlength=6)
    assert ((first - 200) ** 2 / 200).sum() < 21  # chi-square of 5 degrees: one in a thousand is beyond


def test_balanced_sampling_draws_classes_evenly_and_only_from_images_with_them():
    # Class 0 in all images, 1 in two, 2 in none, 3 in one alone.
    present = np.zeros((10, 4), bool)
    present[:, 0] = present[[2, 5], 1] = present[7, 3] = True
    drawn = np.bincount([EpochSampler(10, 0, present)(number) for number in range(3000)], minlength=10)
    chance = np.full(10, 1 / 30)
    chance[[2, 5]] += 1 / 6
    chance[7] += 1 / 3
    assert ((drawn - 3000 * chance) ** 2 / (3000 * chance)).sum() < 28
    rare = EpochSampler(10, 0, present[:, 1:])
    assert {rare(number) for number in range(300)} == {2, 5, 7}


def test_balanced_sampling_follows_the_seed():
    present = np.ones((10, 3), bool)
    assert len({tuple(EpochSampler(10, seed, present)(n) for n in range(20)) for seed in range(5)}) == 5


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_parts_of_the_processes_are_the_batch_in_order(world):
    parts = [number for rank in range(world) for number in sample_numbers(3, 8, rank, world)]
    assert parts == list(range(24, 32))
