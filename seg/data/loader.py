"""Batches of augmented crops for training.

The augmentation of a sample depends only on (seed, sample number): batches do not depend on the number of loader workers, and a
resumed training gets the same batches as an uninterrupted one.
"""

import math
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ..config import DataConfig
from ..errors import UserError, reason
from ..threads import cores, limit_opencv_threads
from .images import read_rgbx
from .sampler import EpochSampler, sample_numbers
from .sources import Sources
from .transforms import RandomCrop

AUGMENT = 3
"""Random stream of the augmentation, independent of the sampler's."""
CRASH_SIGNAL_WAIT = 5.0
"""Seconds to wait for PyTorch to report a crashed loader worker after the connection to it has closed."""

PREFETCH = 2
"""Number of batches that each loader worker prepares in advance."""
SHARED_MEMORY = "/dev/shm"
"""Shared memory on Linux, through which workers pass their batches."""

T = TypeVar("T")


class Batch(NamedTuple):
    """A batch of crops as bytes: a quarter of the size of the network's float32 input (see `network_input`)."""

    images: Tensor
    """uint8 [N, 3, H, W], channels last in memory."""
    masks: Tensor
    """uint8 [N, H, W]."""
    extents: Tensor
    """int64 [N, 3]: number of rows, first and end column of the image inside each crop; the rest is padding."""


class TrainingSamples(Dataset[Batch]):
    """Batches of augmented crops by sample numbers.

    A UserError is returned instead of raised, because a loader worker would wrap it in a traceback; `batches` raises it.

    Args:
        sources: images and masks.
        config: settings of the augmentation and the number of loader workers.
        order: the image of each sample number.
        seed: seed of the augmentation.
    """

    def __init__(self, sources: Sources, config: DataConfig, order: EpochSampler, seed: int):
        self.sources, self.order, self.seed = sources, order, seed
        self.crop = RandomCrop(config)
        # int64 [workers, 2] in shared memory: process id of each worker, and the sample number it is reading.
        self.reading = torch.full((max(1, config.num_workers), 2), -1).share_memory_()

    def files(self, numbers: Iterable[int]) -> list[str]:
        """The image path of each sample number."""
        return [str(self.sources.image_path(self.order(number))) for number in numbers]

    def __getitems__(self, numbers: Sequence[int]) -> Batch | UserError:
        """The batch of these samples. A worker writes each crop straight into shared memory, so nothing is copied to pass the
        batch to the training process."""
        worker, size = get_worker_info(), self.crop.config.crop
        images, masks = (_empty_uint8((len(numbers), *size, *channels), worker is not None) for channels in ((3,), ()))
        extents = torch.empty((len(numbers), 3), dtype=torch.int64)
        for place, number in enumerate(numbers):
            if worker is not None:
                self.reading[worker.id] = torch.tensor([os.getpid(), number])
            out = images[place].numpy(), masks[place].numpy()
            try:
                image, mask = self.sources.sample(self.order(number), read_rgbx)
                _, _, extent = self.crop(image, mask, np.random.default_rng([self.seed, AUGMENT, number]), out)
            except UserError as error:
                return error
            extents[place] = torch.from_numpy(extent)
        return Batch(images.permute(0, 3, 1, 2), masks, extents)


def _empty_uint8(size: tuple[int, ...], shared: bool) -> Tensor:
    """An uninitialized uint8 tensor, in shared memory or in this process's own."""
    if not shared:
        return torch.empty(size, dtype=torch.uint8)
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(math.prod(size))
    empty: Tensor = torch.empty(0, dtype=torch.uint8).set_(storage, 0, size)  # type: ignore[call-overload]
    return empty


def _identity(batch: T) -> T:
    """`collate_fn` of samples that are batches already."""
    return batch


def init_worker(_: int) -> None:
    """Set up a loader worker process: its signals and OpenCV's threads."""
    # Ctrl-C reaches the whole process group: the training process handles it, and stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limit_opencv_threads()


def check_shared_memory(config: DataConfig, images: int) -> None:
    """Check that the batches of the loader workers fit into the shared memory: in a container it often has only 64 MiB.

    Sharing by files (torch's `file_system`) takes the same memory on Linux.

    Args:
        config: crop size and number of workers.
        images: crops of a batch in this process.

    Raises:
        UserError: they do not fit; the message says what to do.
    """
    if not config.num_workers or not hasattr(os, "statvfs") or not os.path.isdir(SHARED_MEMORY):
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this machine
    batch = images * (4 * math.prod(config.crop) + 24)  # three colors, class, and the extent
    need = processes * batch * (PREFETCH * config.num_workers + 1)  # and the one that trains
    found = os.statvfs(SHARED_MEMORY)
    room = found.f_bavail * found.f_frsize
    if need > room:
        wanted = -(-need // 2**20)
        raise UserError(
            f"{SHARED_MEMORY}: {room // 2**20} MiB of shared memory are free, but the loader workers need {wanted} MiB; start "
            f"the container with --shm-size={wanted + 64}m (Kubernetes: an emptyDir of medium Memory at {SHARED_MEMORY}), or "
            "set data.num_workers=0"
        )


def batches(
    samples: TrainingSamples, batch_size: int, start: int, stop: int, num_workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Yield the batches of iterations start to stop - 1, or this process's part of each.

    Raises:
        UserError: a sample cannot be read, or a loader worker crashed; the message names the file.
    """
    # More workers than cores only compete with each other, and PyTorch warns of them.
    num_workers = min(num_workers, cores())
    loader = DataLoader(
        samples,
        batch_sampler=(list(sample_numbers(i, batch_size, rank, world_size)) for i in range(start, stop)),
        num_workers=num_workers,
        prefetch_factor=PREFETCH if num_workers else None,
        collate_fn=_identity,
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
            raise worker_crash_error(samples, _with_crash_signal(error) if num_workers else error) from None
        if isinstance(item, UserError):
            raise item
        yield item


def worker_crash_error(samples: TrainingSamples, error: Exception) -> Exception:
    """Return a UserError that names the file a crashed loader worker was reading; `error` itself if no worker crashed."""
    crashed = _crashed_workers(error)
    numbers = [int(number) for pid, number in samples.reading if int(pid) in crashed]
    if not numbers:
        return error
    return UserError(
        f"{samples.files(numbers)[0]}: the loader worker that read it crashed ({reason(error)}); "
        "memory may be short: lower data.num_workers, or test the file with seg data check"
    )


def _crashed_workers(error: Exception) -> set[int]:
    """Process ids of the loader workers that PyTorch's error says have crashed."""
    found = re.search(r"pid(?:\(s\))? ([\d, ]+)", str(error))
    return {int(number) for number in found[1].split(",")} if found else set()


def _with_crash_signal(error: Exception) -> Exception:
    """Return the error that names the crashed worker, if `error` is only about the closed connection to it."""
    if _crashed_workers(error):
        return error
    try:
        time.sleep(CRASH_SIGNAL_WAIT)  # PyTorch raises in this process when the signal comes
    except RuntimeError as named:
        return named
    return error
