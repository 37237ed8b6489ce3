"""The order of the training images: the image of each sample number.

Sample numbers count the crops of a training: iteration i of batch size b has the numbers i * b to (i + 1) * b - 1. The image
of a number is a function of (seed, number) alone, so that a resumed training continues with the next image.
"""

import numpy as np

# Streams of random numbers under one seed; `seg.data.loader.AUGMENT` is the third.
ORDER, DRAW = 1, 2


class EpochSampler:
    """Gives the image index of each sample number.

    Each epoch uses every image once, in a new random order. With `present`, sampling is balanced over classes instead: first a
    class is drawn, evenly among those that occur, then an image that contains it. With `weights`, some images are drawn more
    often.

    Args:
        images: number of images.
        seed: seed of the random order.
        present: bool [images, classes], which image contains which class; None to draw without regard to classes.
        weights: float [images], relative probability of each image; None: equal.
    """

    def __init__(self, images: int, seed: int, present: np.ndarray | None = None, weights: np.ndarray | None = None):
        self.images, self.seed = images, seed
        self.groups: list[tuple[np.ndarray, np.ndarray | None]] | None = None
        """Indices of the images of each class, and their probabilities."""
        if present is not None or weights is not None:
            columns = np.ones((1, images), bool) if present is None else present.T
            found = [np.flatnonzero(column) for column in columns if column.any()]
            self.groups = [(each, None if weights is None else weights[each] / weights[each].sum()) for each in found]
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def __call__(self, number: int) -> int:
        """The image index, 0 to images - 1, of a sample number, 0 or more."""
        if self.groups is not None:
            rng = np.random.default_rng([self.seed, DRAW, number])
            images, probabilities = self.groups[rng.integers(len(self.groups))]
            return int(rng.choice(images, p=probabilities))
        epoch, position = divmod(number, self.images)
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng([self.seed, ORDER, epoch]).permutation(self.images)
        return int(self._permutation[position])


def sample_numbers(iteration: int, batch_size: int, rank: int = 0, world_size: int = 1) -> range:
    """The sample numbers of an iteration's batch, or of this process's part of it."""
    share = batch_size // world_size
    return range(iteration * batch_size + rank * share, iteration * batch_size + (rank + 1) * share)
