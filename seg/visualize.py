"""Pictures of masks: overlays, panels side by side, legends."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .labels import VOID, LabelSet

STRENGTH = 0.55
"""Share of the class color in an overlay."""


def color(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """uint8 [H, W] -> RGB [H, W, 3] in the label set's colors."""
    return labels.palette[mask]


def edges(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels whose right or lower neighbor has another label; void and its neighbors are no edge."""
    found = np.zeros(mask.shape, bool)
    for here, there, pair in ((mask[:, :-1], mask[:, 1:], found[:, :-1]), (mask[:-1], mask[1:], found[:-1])):
        pair |= (here != there) & (here != VOID) & (there != VOID)
    return found


def overlay(image: np.ndarray, mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """RGB [H, W, 3] with each class in its color over it and white outlines; classes whose color is black stay clear."""
    colors = color(mask, labels).astype(np.float32)
    strength = np.where(colors.any(2, keepdims=True), STRENGTH, 0.0)
    blended = image * (1 - strength) + colors * strength
    if min(mask.shape) >= 128:  # in smaller pictures the outlines would hide what they enclose
        blended[edges(mask)] = 255
    return (blended + 0.5).astype(np.uint8)


def font(size: int):
    return ImageFont.load_default(size)


def text_size(width: int, least: int) -> int:
    """Of the text on a picture of this width: a fiftieth, to be read when the whole is looked at."""
    return max(least, width // 50)


def legend(masks, labels: LabelSet, width: int, panels: int = 1) -> np.ndarray:
    """RGB [h, width, 3]: swatch and name of every class in the masks, the largest first, void last; below so many pictures."""
    counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
    found = [int(i) for i in np.argsort(-counts[: len(labels)], kind="stable") if counts[i]] + [VOID] * bool(counts[VOID])
    size = text_size(width // panels, 14 if width >= 240 else 10)
    swatch, gap = size, size // 2
    place, places, rows = gap, [], 0
    for index in found:
        name = "void" if index == VOID else labels.names[index]
        span = swatch + gap + int(font(size).getlength(name)) + 2 * gap
        if place > gap and place + span > width:
            place, rows = gap, rows + 1
        places.append((place, gap + rows * (size + gap), index, name))
        place += span
    strip = Image.new("RGB", (width, gap + (rows + 1) * (size + gap)), "white")
    pen = ImageDraw.Draw(strip)
    for x, y, index, name in places:
        pen.rectangle((x, y, x + swatch - 1, y + swatch - 1), fill=tuple(labels.palette[index].tolist()), outline="black")
        pen.text((x + swatch + gap, y + size // 2), name, fill="black", font=font(size), anchor="lm")
    return np.asarray(strip)


def with_legend(picture: np.ndarray, masks, labels: LabelSet, panels: int = 1) -> np.ndarray:
    """The picture, or so many in a row, with a legend of the masks' classes below."""
    return np.concatenate([picture, legend(masks, labels, picture.shape[1], panels)])


def side_by_side(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Titled RGB pictures of one size [H, W, 3] in a row."""
    width = panels[0][1].shape[1]
    size = text_size(width, 14 if width >= 160 else 10)
    columns = []
    for title, picture in panels:
        head = Image.new("RGB", (picture.shape[1], size + 8), "white")
        ImageDraw.Draw(head).text((4, (size + 8) // 2), title, fill="black", font=font(size), anchor="lm")
        columns += [np.concatenate([np.asarray(head), picture]), np.full((picture.shape[0] + size + 8, 4, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], 1)


def comparison(image: np.ndarray, prediction: np.ndarray, labels: LabelSet, truth: np.ndarray | None = None) -> np.ndarray:
    """Image, prediction over the image and, where given, the truth over it; with a legend. RGB."""
    panels = [("image", image), ("prediction", overlay(image, prediction, labels))]
    masks = [prediction]
    if truth is not None:
        panels.append(("ground truth", overlay(image, truth, labels)))
        masks.append(truth)
    return with_legend(side_by_side(panels), masks, labels, len(panels))


def confusion_picture(matrix: np.ndarray, names) -> np.ndarray:
    """RGB picture of a confusion matrix [classes, classes]: of each row's class, the share predicted as each column's, in
    percent and as darkness; a class without pixels stays white."""
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    cell, size = 26, 11
    margin = max(int(font(size).getlength(name)) for name in names) + 10
    side = margin + cell * len(names)
    picture = Image.new("RGB", (side + 4, side + 4), "white")
    pen = ImageDraw.Draw(picture)
    for index, name in enumerate(names):
        middle = margin + cell * index + cell // 2
        pen.text((margin - 5, middle), name, fill="black", font=font(size), anchor="rm")
        # Written upwards: drawn level on a strip of its own, then turned.
        strip = Image.new("RGB", (margin - 5, cell), "white")
        ImageDraw.Draw(strip).text((0, cell // 2), name, fill="black", font=font(size), anchor="lm")
        picture.paste(strip.rotate(90, expand=True), (middle - cell // 2, 0))
        for column, part in enumerate(share[index]):
            x, y = margin + cell * column, margin + cell * index
            shade = tuple(int(255 - part * (255 - dark)) for dark in (20, 60, 130))
            pen.rectangle((x, y, x + cell, y + cell), fill=shade, outline=(210, 210, 210))
            if part >= 0.005:
                ink = "white" if part > 0.5 else "black"
                pen.text((x + cell // 2, y + cell // 2), f"{100 * part:.0f}", fill=ink, font=font(size), anchor="mm")
    return np.asarray(picture)
