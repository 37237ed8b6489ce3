"""Train DeepLab V3+ on a Dataset of your own: here a folder of images and one of masks, whose names match.

    python examples/custom_dataset.py data/scenes/JPEGImages data/scenes/SegmentationClass --classes background disc ...

A mask holds class indices; 255 is void. For a folder that a seg command reads too, see `seg data init`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

import seg
from seg.data import TrainTransform
from seg.models import deeplabv3plus_xception41
from seg.training import cross_entropy
from seg.training.batch_norm import set_batch_norm_momentum

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images", type=Path)
parser.add_argument("masks", type=Path)
parser.add_argument("--classes", nargs="+", required=True, help="names, in index order")
parser.add_argument("--iterations", type=int, default=600)
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--crop-size", type=int, default=97)
parser.add_argument("--width", type=float, default=0.125, help="multiplies the channels of the backbone")
parser.add_argument("--out", default="mine.safetensors")


class MyDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of FOLDER/NAME.jpg and FOLDER/NAME.png, as tensors."""

    def __init__(self, images: Path, masks: Path, transform: TrainTransform):
        self.pairs = [(path, masks / f"{path.stem}.png") for path in sorted(images.glob("*.jpg"))]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = (Image.open(path) for path in self.pairs[index])
        return self.transform(np.asarray(image.convert("RGB")), np.asarray(mask))  # uint8 [H, W, 3] and [H, W]


def main() -> None:
    args = parser.parse_args()
    data = MyDataset(args.images, args.masks, TrainTransform(args.crop_size, flip=0.5))
    net = deeplabv3plus_xception41(len(args.classes), width=args.width, activation_placement="tf", initialization="he")
    set_batch_norm_momentum(net, 0.03)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    sampler = RandomSampler(data, num_samples=args.iterations * args.batch_size)
    for iteration, (images, masks) in enumerate(DataLoader(data, args.batch_size, sampler=sampler, num_workers=2), 1):
        loss = cross_entropy(net.logits(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if iteration % 50 == 0 or iteration == args.iterations:
            print(f"iteration {iteration}: loss {loss.item():.4f}")
    seg.save(net, args.out, labels=args.classes)


if __name__ == "__main__":
    main()
