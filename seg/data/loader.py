"""From samples to batches. Which image a sample number is, and how it is augmented, is a function of (seed, number) alone."""

import math
import os
import re
import signal
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..config import DataConfig
from ..errors import UserError, reason
from .images import read_rgbx
from .transforms import TrainTransform
from .voc import Split

# Streams of random numbers under one seed: drawing images and augmenting them must not share one.
ORDER, DRAW, AUGMENT = 1, 2, 3


class EpochSampler:
    """Index of the image for each sample number 0, 1, 2, ...

    Each image once an epoch, in an order of its own each epoch; or with `present` (bool [images, classes]) balanced: a class
    drawn evenly from those that occur, then an image that has it.
    """

    def __init__(self, images: int, seed: int, present: np.ndarray | None = None):
        self.images, self.seed = images, seed
        self.holders = None
        if present is not None:
            self.holders = [np.flatnonzero(column) for column in present.T if column.any()]
        self._epoch, self._permutation = -1, None

    def __call__(self, number: int) -> int:
        if self.holders is not None:
            rng = np.random.default_rng([self.seed, DRAW, number])
            return int(rng.choice(self.holders[rng.integers(len(self.holders))]))
        epoch, position = divmod(number, self.images)
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng([self.seed, ORDER, epoch]).permutation(self.images)
        return int(self._permutation[position])


class Batch(NamedTuple):
    """Crops as they travel to the device: a quarter of the bytes that the network's input has (see `network_input`)."""

    images: Tensor
    """uint8 N3HW, channels last in memory."""
    masks: Tensor
    """uint8 NHW."""
    extents: Tensor
    """int64 [N, 3]: rows, first and end column that are image; the rest is padding."""


class TrainingSamples(Dataset):
    """Batches of augmented crops by their sample numbers: see `Augment`.

    A UserError is returned, not raised: loader workers would wrap it in a traceback. `batches` raises it.
    `reading`, int64 [processes, 2], shared with the loader processes: process id and sample number of each at work.
    """

    def __init__(self, split: Split, config: DataConfig, order: EpochSampler, seed: int):
        self.split, self.order, self.seed = split, order, seed
        self.augment = TrainTransform(config)
        self.reading = torch.full((max(1, config.num_workers), 2), -1).share_memory_()

    def files(self, numbers) -> list[str]:
        """The image of each sample number."""
        return [str(self.split.images[self.order(number)]) for number in numbers]

    def __getitems__(self, numbers) -> Batch | UserError:
        """The batch of these samples, each written into its place: none is copied on the way to the training process."""
        worker, crop = get_worker_info(), self.augment.config.crop_size
        images, masks = (_room((len(numbers), crop, crop, *channels), worker is not None) for channels in ((3,), ()))
        extents = torch.empty((len(numbers), 3), dtype=torch.int64)
        for place, number in enumerate(numbers):
            if worker:
                self.reading[worker.id] = torch.tensor([os.getpid(), number])
            out = images[place].numpy(), masks[place].numpy()
            try:
                image, mask = self.split.sample(self.order(number), read_rgbx)
                _, _, extent = self.augment(image, mask, np.random.default_rng([self.seed, AUGMENT, number]), out)
            except UserError as error:
                return error
            extents[place] = torch.from_numpy(extent)
        return Batch(images.permute(0, 3, 1, 2), masks, extents)


def _room(size: tuple[int, ...], shared: bool) -> Tensor:
    """uint8, whatever it holds; shared with other processes or this one's alone."""
    if not shared:
        return torch.empty(size, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(size))
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, size)


def _as_it_is(batch):
    return batch


def init_worker(_) -> None:
    # Ctrl-C reaches the whole process group: the training process decides what it means, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # OpenCV's threads of every worker would fight for the same processors.
    import cv2

    cv2.setNumThreads(0)


def sample_numbers(iteration: int, batch: int, rank: int = 0, world: int = 1) -> range:
    """Sample numbers of an iteration's batch, or of one process's part of it."""
    share = batch // world
    return range(iteration * batch + rank * share, iteration * batch + (rank + 1) * share)


def batches(samples: TrainingSamples, batch: int, start: int, stop: int, workers: int, rank: int = 0, world: int = 1):
    """Yield the batches of iterations start..stop, or one process's part of each.

    Raises the UserError of a sample that cannot be read, and one that names the file where a loader process dies.
    """
    loader = DataLoader(
        samples,
        batch_sampler=(sample_numbers(i, batch, rank, world) for i in range(start, stop)),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=init_worker,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )
    stream = iter(loader)
    while True:
        try:
            item = next(stream)
        except StopIteration:
            return
        except (EOFError, OSError, RuntimeError) as error:
            raise worker_crash_error(samples, _death(error) if workers else error) from None
        if isinstance(item, UserError):
            raise item
        yield item


def _lost(error: Exception) -> set[int]:
    """Ids of the loader processes whose death an error of PyTorch's tells."""
    found = re.search(r"pid(?:\(s\))? ([\d, ]+)", str(error))
    return {int(number) for number in found[1].split(",")} if found else set()


def _death(error: Exception) -> Exception:
    """The error that tells of a loader process's death, where `error` may be of its closed connections, which come first."""
    if _lost(error):
        return error
    try:
        time.sleep(5)  # until the signal of its death, which PyTorch raises in this process
    except RuntimeError as told:
        return told
    return error


def worker_crash_error(samples: TrainingSamples, error: Exception) -> Exception:
    """What to say of a loader's error: where one of its processes has died, at which file."""
    lost = _lost(error)
    numbers = [int(number) for pid, number in samples.reading if int(pid) in lost]
    if not numbers:
        return error
    return UserError(
        f"{samples.files(numbers)[0]}: the loader process that read it died ({reason(error)}); "
        "is memory short? Lower data.num_workers, or read the file with seg data check"
    )
