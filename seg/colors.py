"""Colors of classes: VOC's color map, and default colors that color-blind people can tell apart."""

from collections.abc import Sequence
from functools import cache

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

BACKGROUND_NAMES = ("background", "_background_", "bg")
"""Names of the background class in lower case. Annotation tools use all three."""
DISTINCT: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""The colors of Okabe and Ito (2008), which are distinct for all kinds of color vision."""


# Cached: a palette takes 256 colors, which takes 1.6 ms otherwise.
@cache
def voc_color(index: int) -> Color:
    """Color of an index in the VOC color map: its bits, three at a time, fill R, G and B from the top bit down."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return color[0], color[1], color[2]


def background_index(names: Sequence[str]) -> int | None:
    """Index of the class that is named as the background; None if there is none."""
    return next((index for index, name in enumerate(names) if name.strip().lower() in BACKGROUND_NAMES), None)


def default_colors(names: Sequence[str]) -> tuple[Color, ...]:
    """Choose colors for classes that have none, at most 255.

    The background is black. The others get the seven colors of Okabe and Ito, then these at half brightness, then halfway to
    white, then VOC's color map. The distance in CIELAB between neighbors is at least 21 for people with normal, red-blind and
    green-blind vision, in the first 21 classes; in VOC's color map it is 2.
    """
    halves = [(r // 2, g // 2, b // 2) for r, g, b in DISTINCT]
    tints = [((r + 255) // 2, (g + 255) // 2, (b + 255) // 2) for r, g, b in DISTINCT]
    colors = iter([*DISTINCT, *halves, *tints, *map(voc_color, range(1, 255))])
    background = background_index(names)
    return tuple((0, 0, 0) if index == background else next(colors) for index in range(len(names)))
