"""Draw docs/sizes.png: a scene at three sizes, and its masks by `--longest native` and `auto`.

python tools/draw_sizes.py runs/quickstart docs/sizes.png
"""

import sys

import numpy as np
from PIL import Image

import seg
from seg import visualize
from seg.data.prepare.scenes import scene

SEED, NUMBER, SIDES, SHOWN = 5, 7, (128, 384, 1024), 256
"""Of a scene that no training has; longer sides of its images, and of each picture, in pixels."""


def resized(picture: np.ndarray, shape: tuple[int, ...], longest: int) -> np.ndarray:
    """An RGB picture uint8 [h, w, 3] at the size that an image of this shape has if its longer side is `longest`."""
    height, width = (round(longest * side / max(shape)) for side in shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def main(weights: str, out: str) -> None:
    """Draw the picture with the weights of the quickstart."""
    native, auto = (seg.load(weights, longest=longest) for longest in ("native", "auto"))
    whole, rows = scene(SEED, NUMBER, SIDES[-1])[0], []
    for side in SIDES:
        image = resized(whole, whole.shape, side)
        pictures = [image, *(visualize.overlay(image, model.predict(image), model.labels) for model in (native, auto))]
        titles = (f"{image.shape[1]}x{image.shape[0]}", "--longest native", "--longest auto")
        panels = [resized(picture, whole.shape, SHOWN) for picture in pictures]
        rows.append(visualize.side_by_side(list(zip(titles, panels, strict=True))))
    Image.fromarray(np.concatenate(rows)).quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
