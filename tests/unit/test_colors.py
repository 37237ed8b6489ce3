import numpy as np
import pytest

from seg.colors import default_colors, voc_color

# Linear RGB as people without red, green or blue cones see it (Machado, Oliveira and Fernandes, 2009).
VISION = {
    "normal": np.eye(3),
    "red-blind": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "green-blind": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "blue-blind": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def cielab(colors, vision):
    """CIELAB coordinates of RGB colors for a kind of color vision."""
    share = np.asarray(colors) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ VISION[vision].T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (linear @ to_xyz.T / [0.9505, 1, 1.089]).T
    x, y, z = (np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def between_neighbors(colors, vision):
    return np.linalg.norm(np.diff(cielab(colors, vision), axis=0), axis=1).min()


# A distance of 2.3 is just noticeable.
@pytest.mark.parametrize("vision, least", [("normal", 21), ("red-blind", 21), ("green-blind", 21), ("blue-blind", 8)])
@pytest.mark.parametrize("background", [[], ["background"]])
def test_neighbors_are_distinct_for_every_color_vision(vision, least, background):
    colors = default_colors([*background, *(f"class {index}" for index in range(21))])
    assert between_neighbors(colors, vision) >= least
    if vision in ("red-blind", "green-blind"):
        assert between_neighbors([voc_color(index) for index in range(21)], vision) < 3


@pytest.mark.parametrize("vision", VISION)
def test_the_first_21_classes_are_distinct_for_every_color_vision(vision):
    places = cielab(default_colors([f"class {index}" for index in range(21)]), vision)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert distances[~np.eye(21, dtype=bool)].min() > 5


@pytest.mark.parametrize("names", [["a"] * 255, ["background", *["a"] * 254], ["a", "bg", *["a"] * 253]])
def test_255_default_colors_are_different_and_only_the_background_is_black(names):
    colors = default_colors(names)
    assert len({*colors, voc_color(255)}) == 256
    assert [index for index, color in enumerate(colors) if color == (0, 0, 0)] == [
        index for index, name in enumerate(names) if name != "a"
    ]


def test_all_colors_of_the_voc_map_are_different():
    assert len({voc_color(i) for i in range(256)}) == 256
