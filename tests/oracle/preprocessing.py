"""Compare sizes, resized images and masks, and the network's input."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.transforms import resize_image, resize_mask, scaled_side
from seg.models.preprocess import normalize, pad_to_canvas
from tests.oracle.forward import canvas
from tests.oracle.harness import FORWARD, Check, nhwc, relative, worst

ROUNDING = 0.51
"""Bound in gray levels: our resized images are rounded to uint8, those of the released code are float32."""


def preprocessing(folder: Path, name: str, case: dict[str, Any]) -> list[Check]:
    """Resize, pad and normalize as for the network, and compare each step."""
    files = [folder / file for file in case["files"]]
    stored = np.load(next(file for file in files if file.suffix == ".npz"))
    wanted = json.loads(next(file for file in files if file.suffix == ".json").read_text())
    sizes, images, labels = [], [], []
    for key, theirs in wanted.items():
        if match := re.fullmatch(r"dims_(\d+)x(\d+)", key):
            for scale, size in theirs.items():
                sizes.append([scaled_side(int(side), float(scale)) for side in match.groups()] != size)
    height, width = stored["label"].shape
    for scale in wanted["scale_factors"]:
        size = scaled_side(height, scale), scaled_side(width, scale)
        sizes.append(list(size) != wanted[f"scaled_hw_{scale:.2f}"])
        theirs = stored[f"scaled_image_{scale:.2f}"]
        ours = resize_image(stored["image"], size)
        step = -(-ours.shape[0] // theirs.shape[0])
        images.append(Check(f"image at {scale}, gray levels", float(np.abs(ours[::step, ::step] - theirs).max()), ROUNDING))
        labels.append(
            Check(f"mask at {scale}", relative(resize_mask(stored["label"], size), stored[f"scaled_label_{scale:.2f}"]), 0)
        )
    height, width = stored["evalpad_image"].shape[:2]
    if height == width:
        padded = pad_to_canvas(stored["image"], height)
    else:
        padded = pad_to_canvas(canvas({"crop_hw": (height, width)}, stored["image"]), None)
    row = normalize(padded, (0.5,) * 3, (0.5,) * 3)[0, :, 0].T
    return [
        Check(f"sizes ({len(sizes)})", sum(sizes), 0),
        *worst("images", images),
        *worst("masks", labels),
        Check("canvas", relative(nhwc(padded)[0], stored["evalpad_image"]), 0),
        Check("network input", relative(row, stored["network_input_row0"]), FORWARD),
    ]
