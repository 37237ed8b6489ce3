"""Masks of millions of images on many machines, with Ray Data. Run it again after a failure: masks that exist are kept.

pip install 'seg-deeplab[ray]'
python examples/batch_predict_ray.py runs/voc_xception65/best.safetensors photos/ --out masks --workers 2

Each worker loads the model once. On a cluster, `ray job submit` runs this program; images and masks must be in folders that all
machines see. A worker takes a GPU with --gpus 1, else the cores given by --cpus.
"""

import argparse
from pathlib import Path

import numpy as np
import ray

import seg
from seg.data.voc import save_mask
from seg.inference.inputs import find_images

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("weights", help="what `seg predict` takes")
parser.add_argument("images", help="a folder, a pattern, or a .txt list")
parser.add_argument("--out", required=True, help="folder of the masks: PNG, a class index per pixel")
parser.add_argument("--workers", type=int, default=1, help="number of workers, on all machines together")
parser.add_argument("--cpus", type=float, default=1, help="cores of a worker")
parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker")
parser.add_argument("--batch-size", type=int, default=16, help="images that a worker takes at a time")


class Worker:
    """Predicts and writes the masks of batches of images."""

    def __init__(self, weights: str):
        self.model = seg.load(weights)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        errors = []
        for image, out in zip(batch["image"], batch["out"], strict=True):
            try:
                # The file appears whole or not at all, so that a mask that exists is complete.
                save_mask(Path(out), self.model.predict(image), self.model.labels)
                errors.append("")
            except seg.UserError as error:  # a damaged image does not end the work
                errors.append(str(error))
        return {"image": list(batch["image"]), "error": errors}


def main() -> None:
    args = parser.parse_args()
    out = Path(args.out).resolve()
    items = [(image.resolve(), (out / place).with_suffix(".png")) for image, place in find_images([args.images])]
    todo = [{"image": str(image), "out": str(mask)} for image, mask in items if not mask.exists()]
    print(f"{len(items)} images, of which {len(items) - len(todo)} have their masks")
    if not todo:
        return
    weights = str(Path(args.weights).resolve()) if Path(args.weights).exists() else args.weights
    done = ray.data.from_items(todo).map_batches(
        Worker,
        fn_constructor_args=(weights,),
        batch_size=args.batch_size,
        concurrency=args.workers,
        num_cpus=args.cpus,
        num_gpus=args.gpus,
    )
    failed = [row for row in done.iter_rows() if row["error"]]
    print(f"{len(todo) - len(failed)} masks in {out}")
    for row in failed:
        print(f"no mask: {row['error']}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
