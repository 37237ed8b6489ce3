import multiprocessing
import os
import signal
import time
from multiprocessing import resource_sharer

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as vision

from seg.config import DataConfig
from seg.data import loader
from seg.data.images import read_rgbx
from seg.data.loader import TrainingSamples, batches, check_shared_memory, worker_crash_error
from seg.data.sampler import EpochSampler
from seg.data.sources import Sources
from seg.data.voc import open_split
from seg.labels import VOC
from seg.models.preprocess import network_input, normalize
from tests.helpers.toy import refused, toy_sample, toy_voc

HALF = (0.5, 0.5, 0.5)


def samples(root, seed=3, **settings):
    split = open_split(root, "train", VOC)
    return TrainingSamples(Sources((split,)), DataConfig(**{"crop_size": 33, **settings}), EpochSampler(len(split), seed), seed)


def sample(samples, number):
    """Crop, mask and extent of a sample number."""
    images, masks, extents = samples.__getitems__([number])
    return images[0].permute(1, 2, 0).numpy(), masks[0].numpy(), extents[0].numpy()


def run(samples, start, stop, workers=0, batch=4):
    return list(batches(samples, batch, start, stop, workers))


def assert_same(some, others):
    for batch, other in zip(some, others, strict=True):
        assert all(map(torch.equal, batch, other))


# The samples and batches.


def test_a_batch_is_bytes_channels_last_masks_and_extents(root):
    images, masks, extents = run(samples(root), 0, 1)[0]
    assert images.shape == (4, 3, 33, 33) and images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert masks.shape == (4, 33, 33) and masks.dtype == torch.uint8
    assert extents.shape == (4, 3) and extents.dtype == torch.int64
    assert images.max() > 100


def test_a_batch_holds_the_samples_of_its_numbers(root):
    source = samples(root)
    wanted = [np.stack(parts) for parts in zip(*(sample(source, number) for number in range(8, 12)), strict=True)]
    images, masks, extents = run(source, 2, 3)[0]
    for got, part in zip((images.permute(0, 2, 3, 1), masks, extents), wanted, strict=True):
        np.testing.assert_array_equal(got.numpy(), part)


def test_a_sample_does_not_depend_on_earlier_samples(root):
    numbers = [17, 3, 9, 3, 0]
    source = samples(root)
    for number in numbers:
        for got, wanted in zip(sample(source, number), sample(samples(root), number), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_an_image_has_another_crop_in_each_epoch_and_for_each_seed(root):
    drawn = [sample(samples(root, seed), number)[0] for seed in (0, 1) for number in range(12)]
    assert len({crop.tobytes() for crop in drawn}) == 24


def test_a_crop_shows_its_image_and_mask(root):
    # At scale 1 without flip a crop of the whole size is the image itself.
    source = samples(root, crop_size=64, scale_min=1.0, scale_max=1.0, flip=0.0)
    for number in range(6):
        mask = sample(source, number)[1][:48, :64]
        np.testing.assert_array_equal(mask, toy_sample(source.order(number))[1])


@pytest.mark.parametrize(
    "settings",
    [{}, {"transforms": [{"ColorJitter": {"p": 1.0}}, "HorizontalFlip"]}, {"crop_size": [40, 56]}],
    ids=["plain", "transforms", "rectangles"],
)
def test_batches_do_not_depend_on_the_workers(root, settings):
    source = samples(root, **settings)
    straight = run(source, 0, 5)
    assert len(straight) == 5
    height, width = settings.get("crop_size", (33, 33))
    assert straight[0].images.shape[1:] == (3, height, width) and straight[0].masks.shape[1:] == (height, width)
    assert_same(run(source, 0, 5, workers=2), straight)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_later_start_are_the_last_ones_of_a_full_run(root, workers):
    assert_same(run(samples(root), 3, 6, workers), run(samples(root), 0, 6)[3:])


def test_no_iterations_give_no_batches(root):
    assert run(samples(root), 4, 4) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_sample_ends_in_one_clear_line(root, workers):
    source = samples(root)
    path = source.sources.image_path(2)
    path.write_bytes(path.read_bytes()[:300])
    seen = 0
    with refused(path, "not a readable image"):
        for _ in batches(source, 1, 0, 12, workers):
            seen += 1
    assert seen == next(number for number in range(6) if source.order(number) == 2)


def test_one_bad_sample_makes_the_batch_an_error(root):
    source = samples(root)
    source.sources.splits[0].masks[2].write_bytes(b"no mask")
    assert str(source.sources.splits[0].masks[2]) in str(source.__getitems__(range(6)))


# The network's input.


@pytest.mark.parametrize("mean, std", [(HALF, HALF), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_the_input_of_a_batch_is_its_images_normalized_within_their_padding(root, mean, std):
    # At half the size each crop has padding; half of them are mirrored, so that it lies on the left.
    batch = run(samples(root, scale_min=0.5, scale_max=0.75, crop_size=49), 0, 1, batch=12)[0]
    assert {int(first) > 0 for first in batch.extents[:, 1]} == {False, True}
    got = network_input(batch.images, batch.extents, mean, std)
    padded = np.full((12, 49, 49, 3), 127.5)
    for crop, image, (rows, first, end) in zip(padded, batch.images.permute(0, 2, 3, 1), batch.extents, strict=True):
        crop[:rows, first:end] = image[:rows, first:end]
    wanted = (padded / 255 - mean) / std
    assert got.dtype == torch.float32 and got.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(got.permute(0, 2, 3, 1).numpy() - wanted).max() < 2e-6
    if mean == HALF:
        assert (got.permute(0, 2, 3, 1).numpy()[padded == 127.5] == 0).all()


def test_mean_and_std_of_one_half_give_the_released_formula_and_padding_is_zero():
    values = torch.arange(0, 511).view(1, 1, 1, -1).expand(1, 3, 1, -1) / 2  # with the halves between bytes
    got = normalize(values, HALF, HALF)
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got.numpy(), values.numpy() * np.float32(2 / 255) - np.float32(1))
    assert (got[..., 255] == 0).all() and values[0, 0, 0, 255] == 127.5


def test_other_statistics_are_torchvisions_formula():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.from_numpy(toy_sample(0)[0]).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(normalize(images, mean, std), vision.normalize(images / 255, mean, std), rtol=0, atol=2e-6)


def test_normalization_keeps_the_memory_layout_and_the_input():
    images = torch.rand(2, 3, 5, 7).to(memory_format=torch.channels_last)
    before = images.clone()
    assert normalize(images, HALF, HALF).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


@pytest.mark.parametrize("slowly", [False, True], ids=["at-once", "connections-first"])
def test_a_crashed_worker_is_reported_with_its_file(tmp_path, monkeypatch, slowly):
    split = open_split(toy_voc(tmp_path / "voc"), "train", VOC)
    samples = TrainingSamples(Sources((split,)), DataConfig(crop_size=33, num_workers=1), EpochSampler(len(split), 0), 0)
    fatal = samples.files([5])[0]
    assert fatal not in samples.files(range(5))
    dying = multiprocessing.get_context("fork").Event()

    def deadly(path):
        if str(path) == fatal:
            if slowly:
                resource_sharer.stop()  # what is in the queue can no longer be fetched from here
                dying.set()
                time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return read_rgbx(path)

    monkeypatch.setattr(loader, "read_rgbx", deadly)
    with refused(fatal, "the loader worker that read it crashed", "lower data.num_workers"):
        try:
            for _ in batches(samples, 2, 0, 3, 1):
                if slowly:
                    dying.wait(10)
        except RuntimeError as error:  # a signal reports the crash, wherever this process then is, as in Trainer.run
            raise worker_crash_error(samples, error) from None


@pytest.fixture
def spawned():
    """Starts processes as macOS and Windows do: a child gets a pickle of what it needs, and nothing else."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
def test_workers_that_are_spawned_give_the_same_batches(tmp_path, spawned):
    toy_voc(tmp_path / "voc")
    settings = {"num_workers": 1, "transforms": [{"ColorJitter": {"brightness": 0.2}}]}
    assert_same(run(samples(tmp_path / "voc", **settings), 0, 2, workers=1), run(samples(tmp_path / "voc", **settings), 0, 2))


def test_workers_that_would_not_fit_into_shared_memory_are_refused(monkeypatch):
    def room(mebibytes):
        blocks = [mebibytes * 256] * 3  # of 4 KiB: all, free, and free for us
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, *blocks, 0, 0, 0, 0, 255)))

    # 16 crops of 513x513 with their masks are 16.06 MiB; 2 workers have 4 batches ready, and one trains: 80.3 MiB.
    room(64)
    with refused("/dev/shm: 64 MiB", "need 81 MiB", "--shm-size=145m", "data.num_workers=0"):
        check_shared_memory(DataConfig(crop_size=513, num_workers=2), 16)
    check_shared_memory(DataConfig(crop_size=513, num_workers=0), 16)
    check_shared_memory(DataConfig(crop_size=513, num_workers=1), 16)
    room(80)
    with refused("need 81 MiB"):
        check_shared_memory(DataConfig(crop_size=513, num_workers=2), 16)
    room(81)
    check_shared_memory(DataConfig(crop_size=513, num_workers=2), 16)
    # 513x1026 is twice 513x513.
    with refused("need 161 MiB"):
        check_shared_memory(DataConfig(crop_size=[513, 1026], num_workers=2), 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with refused("need 161 MiB"):
        check_shared_memory(DataConfig(crop_size=513, num_workers=2), 16)
    monkeypatch.delattr(os, "statvfs")  # Windows
    check_shared_memory(DataConfig(crop_size=513, num_workers=2), 16)
