"""Images of equal size are predicted in one batch."""

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from ..models.preprocess import padded_size

LOOKAHEAD = 8
"""Number of consecutive images in which images of equal size are batched."""
PIXELS_PER_BATCH = {"cpu": 8 * 129**2, "cuda": 8 * 513**2}
"""Largest number of pixels in a batch. On a CPU, small images take a third less time in a batch; large ones take the same."""
RELEASE_EVERY = 64
"""Number of images after which free memory is released. It is taken again in a hundredth of the time that they need."""
UNDER_WAY = {"cpu": 0, "cuda": 1}
"""Number of blocks of LOOKAHEAD images that the device computes while the host uses the masks of those before."""

Sample = TypeVar("Sample")


class Looked(NamedTuple, Generic[Sample]):
    """A sample of a stream, its image at the network's size or None, and the original size of the image."""

    sample: Sample
    image: np.ndarray | None
    size: tuple[int, int]


def batches(
    block: list[Looked[Sample]], canvas: int | None, batch_size: Callable[[np.ndarray], int]
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Yield the places in the block of images that share a batch, and these images: they have the same size when padded."""
    groups: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
    for place, (_, image, _) in enumerate(block):
        if image is not None:
            groups.setdefault(padded_size(image, canvas), []).append((place, image))
    for group in groups.values():
        most = batch_size(group[0][1])
        for start in range(0, len(group), most):
            part = group[start : start + most]
            yield [place for place, _ in part], [image for _, image in part]
