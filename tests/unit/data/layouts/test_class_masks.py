"""Binary masks of several classes: where they overlap."""

import numpy as np

from seg.data.layouts.binary import draw_binary
from tests.helpers.layouts import save


def test_the_smaller_of_two_masks_is_on_top(tmp_path):
    eye, skin = np.zeros((2, 8, 8), np.uint8)
    skin[1:7, 1:7] = 255
    eye[2:4, 2:4] = 255
    paths = save(tmp_path / "eye.png", eye), save(tmp_path / "skin.png", skin)
    drawn = draw_binary({paths[0]: 1, paths[1]: 2})
    np.testing.assert_array_equal(drawn, np.where(eye > 0, 1, np.where(skin > 0, 2, 0)))
    np.testing.assert_array_equal(drawn, draw_binary({paths[1]: 2, paths[0]: 1}))
