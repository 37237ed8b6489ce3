import pytest

from seg.models.preprocess import padded_side


@pytest.mark.parametrize("canvas", [33, 40, 64, 65, 500, 513])
def test_the_canvas_is_the_setting_or_for_larger_images_the_next_16_k_and_1(canvas):
    for side in range(1, 1100):
        wanted = canvas if side <= canvas else next(size for size in range(side, side + 17) if size % 16 == 1)
        assert padded_side(side, canvas) == wanted, (side, canvas)


def test_without_a_canvas_only_images_below_the_minimum_are_padded():
    assert [padded_side(side, None) for side in (7, 32, 33, 34, 500, 1000)] == [33, 33, 33, 34, 500, 1000]
