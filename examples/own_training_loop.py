"""Train DeepLab V3+ in a loop of your own, measure its mIoU, and save it for `seg.load` and every seg command.

seg data scenes data/scenes --train 1200 --val 60 --size 128
python examples/own_training_loop.py data/scenes
"""

import argparse

import torch
from torch.utils.data import DataLoader, RandomSampler

import seg
from seg.data import TrainTransform, VOCSegmentation
from seg.evaluation import ConfusionMatrix
from seg.models import deeplabv3plus_xception41
from seg.training import cross_entropy
from seg.training.batch_norm import set_batch_norm_momentum

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("root", help="folder in VOC layout, with a labels.yaml")
parser.add_argument("--iterations", type=int, default=600)
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--crop-size", type=int, default=97)
parser.add_argument("--width", type=float, default=0.125, help="multiplies the channels of the backbone")
parser.add_argument("--out", default="mine.safetensors")


def main() -> None:
    args = parser.parse_args()
    labels = f"{args.root}/labels.yaml"
    transform = TrainTransform(args.crop_size, scale_min=0.75, scale_max=1.25)
    train = VOCSegmentation(args.root, "train", transform, labels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"activation_placement": "tf", "initialization": "he"}  # these learn fast from scratch
    net = deeplabv3plus_xception41(len(train.classes), output_stride=16, width=args.width, **options).to(device)
    set_batch_norm_momentum(net, 0.03)  # so that the moving statistics follow a short training
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=4e-5)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, args.iterations, power=0.9)
    sampler = RandomSampler(train, num_samples=args.iterations * args.batch_size)
    loader = DataLoader(train, args.batch_size, sampler=sampler, num_workers=2)
    net.train()
    for iteration, (images, masks) in enumerate(loader, 1):
        loss = cross_entropy(net.logits(images.to(device)), masks.to(device))  # void is ignored
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if iteration % 50 == 0 or iteration == args.iterations:
            print(f"iteration {iteration}: loss {loss.item():.4f}")

    seg.save(net, args.out, labels=train.labels)
    model = seg.load(args.out)
    matrix = ConfusionMatrix(train.labels)
    for image, truth in VOCSegmentation(args.root, "val", labels=labels):
        matrix.update(truth, model.predict(image))
    print(f"mIoU {matrix.scores().miou:.3f}; weights in {args.out}")


if __name__ == "__main__":
    main()
