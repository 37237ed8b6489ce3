import numpy as np
import pytest

from seg.evaluation.boundary import Boundary, inner_boundary, trimaps
from seg.labels import VOC, VOID, LabelSet
from tests.helpers.toy import toy_sample

THREE = LabelSet(("ground", "a", "b"), ((0, 0, 0), (9, 9, 9), (200, 0, 0)))


def random_masks(seed):
    """Blocks of three classes with scattered void, and a prediction that differs here and there."""
    rng = np.random.default_rng(seed)
    h, w = rng.integers(12, 30, 2)
    truth = rng.integers(0, 3, (h // 4 + 1, w // 4 + 1), dtype=np.uint8).repeat(4, 0).repeat(4, 1)[:h, :w].copy()
    truth[rng.random((h, w)) < 0.06] = VOID
    prediction = np.where(rng.random((h, w)) < 0.2, rng.integers(0, 3, (h, w)), np.where(truth == VOID, 0, truth))
    return truth, prediction.astype(np.uint8)


def naive_trimap(truth, width):
    voids = np.argwhere(truth == VOID)
    band = np.zeros(truth.shape, bool)
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            near = any((y - v) ** 2 + (x - u) ** 2 <= width**2 for v, u in voids)
            band[y, x] = truth[y, x] != VOID and near
    return band


def naive_boundary(mask, width):
    found = np.zeros(mask.shape, bool)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            for v in range(y - width, y + width + 1):
                for u in range(x - width, x + width + 1):
                    inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u]
                    found[y, x] |= mask[y, x] and not inside
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1, 2, 5])
def test_boundary_bands_equal_a_search_pixel_by_pixel(seed, width):
    truth, _ = random_masks(seed)
    np.testing.assert_array_equal(trimaps(truth, [width])[0], naive_trimap(truth, width))
    for index in range(3):
        np.testing.assert_array_equal(inner_boundary(truth == index, width), naive_boundary(truth == index, width))


def test_boundary_scores_equal_counting_pixel_by_pixel():
    boundary = Boundary(THREE, widths=(1, 3))
    matrices = {width: np.zeros((3, 3), int) for width in (1, 3)}
    shared, joint = np.zeros(3, int), np.zeros(3, int)
    for seed in range(5):
        truth, prediction = random_masks(seed)
        boundary.add(truth, prediction)
        for width, matrix in matrices.items():
            for y, x in np.argwhere(naive_trimap(truth, width)):
                matrix[truth[y, x], prediction[y, x]] += 1
        width = max(1, round(0.02 * float(np.hypot(*truth.shape))))
        for index in range(3):
            a = naive_boundary((truth == index) & (truth != VOID), width)
            b = naive_boundary((prediction == index) & (truth != VOID), width)
            shared[index] += (a & b).sum()
            joint[index] += (a | b).sum()
    np.testing.assert_array_equal(boundary.intersection, shared)
    np.testing.assert_array_equal(boundary.union, joint)
    for width, matrix in matrices.items():
        iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
        assert boundary.trimap_miou(width) == pytest.approx(iou.mean())
    assert boundary.miou == pytest.approx((shared / joint).mean())


def test_a_square_a_pixel_off_by_hand():
    # 100 x 100: the band of Boundary IoU is 3 pixels wide (2 % of 141).
    truth, prediction = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    truth[20:60, 20:60] = 1
    prediction[20:60, 21:61] = 1
    boundary = Boundary(THREE)
    boundary.add(truth, prediction)
    # Each band has 40^2 - 34^2 = 444 pixels. In both: 4 columns of the 40-row sides (2 left, 2 right), and of the 3 + 3 rows
    # what lies between, 39 - 4 columns.
    shared = 2 * 2 * 40 + 6 * (39 - 4)
    assert boundary.iou[1] == pytest.approx(shared / (2 * 444 - shared))
    assert np.isnan(boundary.iou[2])


def test_the_truth_scores_one_whatever_is_predicted_in_void():
    boundary = Boundary(VOC)
    for number in range(4):
        truth = toy_sample(number)[1]
        boundary.add(truth, np.where(truth == VOID, number, truth).astype(np.uint8))
    assert boundary.miou == 1
    assert all(boundary.trimap_miou(width) == 1 for width in boundary.matrices)


def test_without_void_there_is_no_trimap_band():
    boundary = Boundary(THREE)
    boundary.add(np.zeros((9, 9), np.uint8), np.ones((9, 9), np.uint8))
    assert boundary.as_dict()["trimap"] == [{"width": width, "miou": 0.0} for width in (1, 5, 10, 20, 40)]
    assert boundary.miou == 0
    assert boundary.as_dict()["iou"] == [0.0, 0.0, None]


def test_errors_at_the_border_cost_more_than_inside():
    truth = toy_sample(1)[1]
    inside, border = truth.copy(), truth.copy()
    inside[truth == VOID] = border[truth == VOID] = 0
    far = np.argwhere(~trimaps(truth, [5])[0] & (truth == 0))[:40]
    near = np.argwhere(trimaps(truth, [1])[0] & (truth == 0))[:40]
    inside[tuple(far.T)] = border[tuple(near.T)] = 8
    scores = []
    for prediction in (inside, border):
        boundary = Boundary(VOC)
        boundary.add(truth, prediction)
        scores.append(boundary.trimap_miou(5))
    assert scores[0] > scores[1]
