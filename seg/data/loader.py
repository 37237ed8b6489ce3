"""From samples to batches. Which image a sample number is, and how it is augmented, is a function of (seed, number) alone."""

import signal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..config import DataConfig
from ..errors import UserError
from .augment import Augment
from .voc import Split

# Streams of random numbers under one seed: drawing images and augmenting them must not share one.
ORDER, DRAW, AUGMENT = 1, 2, 3


class Order:
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


class TrainingSamples(Dataset):
    """Augmented crop of each sample number: float32 [crop, crop, 3] in 0..255, uint8 [crop, crop].

    A UserError is returned, not raised: loader workers would wrap it in a traceback. `batches` raises it.
    """

    def __init__(self, split: Split, config: DataConfig, order: Order, seed: int):
        self.split, self.order, self.seed = split, order, seed
        self.augment = Augment(config)

    def __getitem__(self, number: int):
        try:
            image, mask = self.split.sample(self.order(number))
            return self.augment(image, mask, np.random.default_rng([self.seed, AUGMENT, number]))
        except UserError as error:
            return error


def collate(samples):
    """Images float32 N3HW (channels last in memory) in 0..255, masks int64 NHW."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    images, masks = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(masks)).long()


def quiet_worker(_) -> None:
    # Ctrl-C reaches the whole process group: the training process decides what it means, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # OpenCV's threads of every worker would fight for the same processors.
    import cv2

    cv2.setNumThreads(0)


def batches(samples: TrainingSamples, batch: int, start: int, stop: int, workers: int):
    """Yield the batches of iterations start..stop. Raises the UserError of a sample that cannot be read."""
    numbers = [range(i * batch, (i + 1) * batch) for i in range(start, stop)]
    loader = DataLoader(
        samples,
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=quiet_worker,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )
    for item in loader:
        if isinstance(item, UserError):
            raise item
        yield item


def normalise(images: torch.Tensor, mean, std) -> torch.Tensor:
    """Images in 0..255, N3HW, to the network's input: `x / 255` less mean, by std; for 0.5 and 0.5 exactly `2/255 * x - 1`."""
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float64).float().to(images.device).view(-1, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)]).to(images.device).view(-1, 1, 1)
    return images * scale - shift
