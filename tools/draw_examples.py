"""Draw images, predictions and ground truth: docs/quickstart.jpg, and what `make quickstart` shows at its end.

python tools/draw_examples.py runs/quickstart runs/quickstart/examples.png
"""

import argparse

import numpy as np
from PIL import Image

import seg
from seg import visualize
from seg.data.voc import open_split

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("weights", help="what `seg predict` takes, trained with seg: the data set is that of its training")
parser.add_argument("out", help="PNG to write")
parser.add_argument("--count", type=int, default=4, help="number of images, from all parts of the split")
parser.add_argument("--side", type=int, default=320, help="longer side of each picture, in pixels")


def main() -> None:
    """Draw the picture."""
    args = parser.parse_args()
    model = seg.load(args.weights)
    if model.metadata is None:
        raise seg.UserError(f"{args.weights}: does not say on which data it was trained; give a run's folder")
    data = model.metadata.config.data
    split = open_split(model.metadata.data_root(), data.val, model.labels, data.masks)
    classes = [len(np.unique(split.mask(index))) for index in range(len(split))]
    rows, masks = [], []
    # Of each part of the list, the image with the most classes: neighbors may be frames of one video.
    parts = [part for part in np.array_split(np.arange(len(split)), args.count) if len(part)]
    for index in [max(part.tolist(), key=lambda each: classes[each]) for part in parts]:
        image, truth = split.sample(index)
        prediction = model.predict(image)
        masks += [prediction, truth]
        size = [round(args.side * side / max(truth.shape)) for side in truth.shape[::-1]]
        # Enlarged first, so that the outlines stay thin.
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        large = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in (prediction, truth)]
        panels = [("image", image)]
        panels += zip(("prediction", "ground truth"), (visualize.overlay(image, m, model.labels) for m in large), strict=True)
        rows.append(visualize.side_by_side(panels))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    flat = np.concatenate([mask.ravel() for mask in masks])[None]
    picture = visualize.with_legend(np.concatenate(rows), [flat], model.labels, panels=3)
    Image.fromarray(picture).save(args.out, optimize=True, quality=90)


if __name__ == "__main__":
    try:
        main()
    except seg.UserError as error:
        raise SystemExit(f"draw_examples.py: {error}") from None
