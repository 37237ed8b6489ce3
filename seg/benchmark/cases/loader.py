"""Section loader: from files to augmented crops, on one thread."""

import os

from ..harness import Case, Limit, Side, Work
from .images import open_val


def use_one_thread() -> None:
    """Turn off OpenCV's own threads, as each loader process does in training."""
    import cv2

    cv2.setNumThreads(0)


def our_crops(root: str, crop: int, count: int) -> Work:
    """Prepare `count` training crops of `seg train`."""
    from ...config import DataConfig
    from ...data.loader import TrainingSamples, batches
    from ...data.sampler import EpochSampler
    from ...data.sources import Sources
    from ...memory import keep_free_memory

    keep_free_memory()  # as in training
    use_one_thread()
    split = open_val(root)
    samples = TrainingSamples(Sources((split,)), DataConfig(crop_size=crop, num_workers=0), EpochSampler(len(split), 0), 0)
    return lambda: [None for _ in batches(samples, 1, 0, count, num_workers=0)]


def albumentations_crops(root: str, crop: int, count: int) -> Work:
    """Prepare the same augmentation as an albumentations pipeline."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # no request to the network, as in seg.data.transforms
    import albumentations
    import cv2
    import numpy as np
    from PIL import Image

    use_one_thread()
    split = open_val(root)
    pipeline = albumentations.Compose(
        [
            albumentations.RandomScale((-0.5, 1.0), p=1),
            albumentations.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=127, fill_mask=255),
            albumentations.RandomCrop(crop, crop),
            albumentations.HorizontalFlip(),
            albumentations.Normalize(),
        ],
        seed=0,
    )

    def work() -> None:
        for number in range(count):
            index = number % len(split)
            image = np.asarray(Image.open(split.images[index]).convert("RGB"))
            pipeline(image=image, mask=np.asarray(Image.open(split.masks[index])))

    return work


def decoding(root: str, count: int) -> Work:
    """Prepare the decoding of the images and masks alone."""
    import numpy as np
    from PIL import Image

    split = open_val(root)

    def work() -> None:
        for number in range(count):
            index = number % len(split)
            np.asarray(Image.open(split.images[index])), np.asarray(Image.open(split.masks[index]))

    return work


def cases(root: str, crop: int = 513, count: int = 60) -> list[Case]:
    """Compare `count` crops of the validation images of `root` with albumentations'."""
    peer = Side("albumentations", albumentations_crops, (root, crop, count), count)
    decode = Side("decoding", decoding, (root, count), count)
    limit = Limit("decoding JPEG and PNG", "images", 1, (decode,), (1,))
    ours = Side("ours", our_crops, (root, crop, count), count)
    return [Case("loader", f"crop {crop}, one thread", ours, peer, limit)]
