"""Pictures of masks: overlays, panels side by side, legends."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import UserError
from .labels import VOID, LabelSet

STRENGTH = 0.55
"""Share of the class color in an overlay."""


def color(mask: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Color a mask uint8 [H, W] in the colors of the label set: RGB uint8 [H, W, 3]."""
    colored: np.ndarray = labels.palette[mask]
    return colored


def edges(mask: np.ndarray) -> np.ndarray:
    """Find the pixels whose right or lower neighbor has another class, bool [H, W]; borders of void do not count."""
    found = np.zeros(mask.shape, bool)
    for here, there, pair in ((mask[:, :-1], mask[:, 1:], found[:, :-1]), (mask[:-1], mask[1:], found[:-1])):
        pair |= (here != there) & (here != VOID) & (there != VOID)
    return found


def overlay(image: np.ndarray, mask: np.ndarray, labels: LabelSet, alpha: float = STRENGTH) -> np.ndarray:
    """Draw a mask over its image, RGB uint8 [H, W, 3], with white outlines; the background stays clear.

    alpha: share of the class colors, 0 to 1; another raises a UserError.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha={alpha}: must be from 0 to 1")
    colors = color(mask, labels).astype(np.float32)
    strength = np.full((*mask.shape, 1), alpha)
    if labels.background is not None:
        strength[mask == labels.background] = 0.0
    blended = image * (1 - strength) + colors * strength
    if min(mask.shape) >= 128:  # in smaller pictures the outlines would hide the objects
        blended[edges(mask)] = 255
    drawn: np.ndarray = (blended + 0.5).astype(np.uint8)
    return drawn


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all texts."""
    return ImageFont.load_default(size)


def text_size(width: int, least: int) -> int:
    """Size of the text on a picture of this width: a fiftieth, which is readable when the whole picture is shown."""
    return max(least, width // 50)


def legend(masks: Sequence[np.ndarray], labels: LabelSet, width: int, panels: int = 1) -> np.ndarray:
    """Draw color and name of every class in the masks, the most frequent first, void last: RGB uint8 [h, width, 3].

    panels: number of pictures above the legend, which decides the size of the text.
    """
    counts = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0)
    found = [int(i) for i in np.argsort(-counts[: len(labels)], kind="stable") if counts[i]] + [VOID] * bool(counts[VOID])
    size = text_size(width // panels, 14 if width >= 240 else 10)
    swatch, gap = size, size // 2
    place, rows = gap, 0
    places: list[tuple[int, int, int, str]] = []
    for index in found:
        name = "void" if index == VOID else labels.names[index]
        span = swatch + gap + int(font(size).getlength(name)) + 2 * gap
        if place > gap and place + span > width:
            place, rows = gap, rows + 1
        places.append((place, gap + rows * (size + gap), index, name))
        place += span
    strip = Image.new("RGB", (width, gap + (rows + 1) * (size + gap)), "white")
    pen, palette = ImageDraw.Draw(strip), labels.palette
    for x, y, index, name in places:
        pen.rectangle((x, y, x + swatch - 1, y + swatch - 1), fill=tuple(palette[index].tolist()), outline="black")
        pen.text((x + swatch + gap, y + size // 2), name, fill="black", font=font(size), anchor="lm")
    return np.asarray(strip)


def with_legend(picture: np.ndarray, masks: Sequence[np.ndarray], labels: LabelSet, panels: int = 1) -> np.ndarray:
    """Add a legend below a picture, or below a row of `panels` pictures."""
    return np.concatenate([picture, legend(masks, labels, picture.shape[1], panels)])


def side_by_side(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Join RGB pictures of one size [H, W, 3] to a row, each below its title."""
    width = panels[0][1].shape[1]
    size = text_size(width, 14 if width >= 160 else 10)
    columns = []
    for title, picture in panels:
        head = Image.new("RGB", (picture.shape[1], size + 8), "white")
        ImageDraw.Draw(head).text((4, (size + 8) // 2), title, fill="black", font=font(size), anchor="lm")
        columns += [np.concatenate([np.asarray(head), picture]), np.full((picture.shape[0] + size + 8, 4, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], 1)


HEAT = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], np.float64)
"""Colors from 0 to 1, evenly spaced: those of matplotlib's inferno, which gets steadily lighter."""


def heat(values: np.ndarray) -> np.ndarray:
    """Color values from 0 to 1, [H, W], as a heat map: RGB uint8 [H, W, 3]."""
    places = np.linspace(0, 255, len(HEAT))
    table = np.stack([np.interp(np.arange(256), places, HEAT[:, channel]) for channel in range(3)], 1)
    colored: np.ndarray = table.round().astype(np.uint8)[(values.clip(0, 1) * 255).round().astype(np.uint8)]
    return colored


def scale_bar(width: int, panels: int = 1) -> np.ndarray:
    """Draw the colors of `heat` from 0 to 1 with numbers: RGB uint8 [h, width, 3]."""
    size = text_size(width // panels, 14 if width >= 240 else 10)
    picture = Image.new("RGB", (width, 3 * size), "white")
    length = min(width - 2 * size, 20 * size)
    picture.paste(Image.fromarray(heat(np.tile(np.linspace(0, 1, max(1, length)), (size // 2, 1)))), (size, size // 2))
    pen = ImageDraw.Draw(picture)
    for part in (0, 0.5, 1):
        place = (size + part * length, 2 * size)
        pen.text(place, f"{part:g}", fill="black", font=font(size), anchor="mm")
    return np.asarray(picture)


def confidence_picture(image: np.ndarray, probability: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """Draw image, largest probability and entropy [H, W] from 0 to 1 side by side as heat maps: RGB uint8."""
    panels = [("image", image), ("largest probability", heat(probability)), ("entropy", heat(entropy))]
    picture = side_by_side(panels)
    return np.concatenate([picture, scale_bar(picture.shape[1], len(panels))])


def comparison(image: np.ndarray, prediction: np.ndarray, labels: LabelSet, truth: np.ndarray | None = None) -> np.ndarray:
    """Draw image, prediction and, if given, ground truth side by side, with a legend: RGB uint8."""
    panels = [("image", image), ("prediction", overlay(image, prediction, labels))]
    masks = [prediction]
    if truth is not None:
        panels.append(("ground truth", overlay(image, truth, labels)))
        masks.append(truth)
    return with_legend(side_by_side(panels), masks, labels, len(panels))


def confusion_picture(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix [classes, classes], RGB uint8.

    A cell is the share of the pixels of the row's class that were predicted as the column's class, in percent and as darkness.
    The row of a class without pixels stays white. The axes are named at the left and above.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    cell, size = 26, 11
    margin = max(int(font(size).getlength(name)) for name in names) + 10
    rows, columns = "ground truth", "predicted as, % of the row"
    edge = size + 8  # for the names of the axes
    margin += edge
    side = max(margin + cell * len(names), margin + int(font(size).getlength(columns)))
    picture = Image.new("RGB", (side + 4, max(side, margin + int(font(size).getlength(rows))) + 4), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((margin, 3), columns, fill="black", font=font(size))
    strip = Image.new("RGB", (int(font(size).getlength(rows)) + 2, edge - 4), "white")
    ImageDraw.Draw(strip).text((0, 0), rows, fill="black", font=font(size))
    picture.paste(strip.rotate(90, expand=True), (3, margin))
    for index, name in enumerate(names):
        middle = margin + cell * index + cell // 2
        pen.text((margin - 5, middle), name, fill="black", font=font(size), anchor="rm")
        # Vertical text: drawn on a horizontal strip, which is then rotated.
        strip = Image.new("RGB", (margin - edge - 5, cell), "white")
        ImageDraw.Draw(strip).text((0, cell // 2), name, fill="black", font=font(size), anchor="lm")
        picture.paste(strip.rotate(90, expand=True), (middle - cell // 2, edge))
        for column, part in enumerate(share[index]):
            x, y = margin + cell * column, margin + cell * index
            shade = tuple(int(255 - part * (255 - dark)) for dark in (20, 60, 130))
            pen.rectangle((x, y, x + cell, y + cell), fill=shade, outline=(210, 210, 210))
            if part >= 0.005:
                ink = "white" if part > 0.7 else "black"  # both have a contrast of 4.5 at 0.7
                pen.text((x + cell // 2, y + cell // 2), f"{100 * part:.0f}", fill=ink, font=font(size), anchor="mm")
    return np.asarray(picture)
