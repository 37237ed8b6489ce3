import json
import math
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from seg.evaluation.metrics import ConfusionMatrix, Scores, confusion_matrix
from seg.labels import VOC, VOID, LabelSet
from tests.helpers.toy import refused, toy_sample

LABELS = LabelSet(tuple("abcde"), tuple((i, 0, 0) for i in range(5)))


def masks(seed=0, shape=(17, 23), classes=5, void=0.2):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, classes, (2, *shape), dtype=np.uint8)
    truth[rng.random(shape) < void] = 255
    return truth, prediction


def naive_matrix(truth, prediction, classes):
    matrix = [[0] * classes for _ in range(classes)]
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            if truth[row, column] != 255:
                matrix[truth[row, column]][prediction[row, column]] += 1
    return matrix


def scores_of(truth, prediction, images=1):
    return Scores(LABELS, confusion_matrix(truth, prediction, 5), images)


def naive_iou(truth, prediction, label):
    """IoU of two sets of pixels; None if both are empty."""
    scored = {tuple(place) for place in np.argwhere(truth != 255)}
    a, b = ({tuple(place) for place in np.argwhere(mask == label)} & scored for mask in (truth, prediction))
    return len(a & b) / len(a | b) if a | b else None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 21, 200])
def test_the_matrix_counts_pixel_by_pixel(seed, classes):
    truth, prediction = masks(seed, classes=classes)
    matrix = confusion_matrix(truth, prediction, classes)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == naive_matrix(truth, prediction, classes)


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize("classes", [2, 21, 255])
def test_flat_masks_and_noise_are_counted_correctly(block, classes):
    """Runs of equal pixels of every length, from an image of noise to one of areas."""
    rng = np.random.default_rng(block)
    truth, prediction = (
        rng.integers(0, classes, (2, 256 // block, 320 // block), dtype=np.uint8).repeat(block, 1).repeat(block, 2)
    )
    truth[rng.random(truth.shape) < 0.1 / block**2] = 255
    prediction[:, ::7] = 0
    scored = truth != 255
    wanted = np.zeros((classes, classes), np.int64)
    np.add.at(wanted, (truth[scored], prediction[scored]), 1)
    np.testing.assert_array_equal(confusion_matrix(truth, prediction, classes), wanted)
    prediction[3, 5], truth[3, 5] = classes, 0
    with pytest.raises(ValueError, match=f"label {classes} of {classes} classes"):
        confusion_matrix(truth, prediction, classes)
    truth[3, 5] = 255
    assert confusion_matrix(truth, prediction, classes).sum() == (truth != 255).sum()


@pytest.mark.parametrize("block", [1, 40])
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_the_memory_layout_of_labels_does_not_matter(block, kind):
    truth, prediction = (mask.repeat(block, 0).repeat(block, 1) for mask in masks(shape=(6, 10)))
    wanted = naive_matrix(truth, prediction, 5)
    prediction = prediction.astype(kind)
    wide = np.zeros((2, *truth.shape, 3), kind)
    wide[0, ..., 1], wide[1, ..., 1] = truth, prediction
    for a, b in ((truth, prediction), (truth.T, prediction.T), (truth[::-1], prediction[::-1]), wide[..., 1]):
        assert confusion_matrix(a, b, 5).tolist() == wanted
    assert confusion_matrix(np.asfortranarray(truth), prediction, 5).tolist() == wanted


@pytest.mark.parametrize("shape", [(0,), (0, 7), (), (1, 1)])
def test_a_mask_of_one_or_no_pixel_is_counted(shape):
    ones = np.ones(shape, np.uint8)
    assert confusion_matrix(ones, ones, 2).tolist() == [[0, 0], [0, ones.size]]


@pytest.mark.parametrize("noise", [0, 2**20])
def test_more_pixels_than_float32_can_count_are_counted_exactly(noise):
    truth = np.zeros(2**24 + 2**20 + 5, np.uint8)
    truth[truth.size - noise :: 2] = 1
    odd = noise // 2
    assert confusion_matrix(truth, truth, 2).tolist() == [[truth.size - odd, 0], [0, odd]]


def test_rows_are_truth_and_columns_prediction():
    assert confusion_matrix(np.array([[0, 0, 0]], np.uint8), np.array([[1, 1, 0]], np.uint8), 2).tolist() == [[1, 2], [0, 0]]


def test_void_pixels_never_count():
    truth, prediction = masks()
    matrix = confusion_matrix(truth, prediction, 5)
    assert matrix.sum() == (truth != 255).sum()
    for value in (0, 4, 99, 255):
        changed = np.where(truth == 255, value, prediction).astype(np.uint8)
        np.testing.assert_array_equal(confusion_matrix(truth, changed, 5), matrix)


def test_an_all_void_mask_counts_nothing():
    void = np.full((3, 4), 255, np.uint8)
    matrix = confusion_matrix(void, void, 5)
    assert matrix.shape == (5, 5) and matrix.dtype == np.int64 and not matrix.any()


def test_neither_order_nor_split_of_the_pixels_matters():
    truth, prediction = masks(shape=(24, 40))
    whole = confusion_matrix(truth, prediction, 5)
    order = np.random.default_rng(1).permutation(truth.size)
    np.testing.assert_array_equal(confusion_matrix(truth.ravel()[order], prediction.ravel()[order], 5), whole)
    parts = [(truth[:7], prediction[:7]), (truth[7:], prediction[7:])]
    np.testing.assert_array_equal(sum(confusion_matrix(*part, 5) for part in parts), whole)


@pytest.mark.parametrize("where", ["truth", "prediction"])
def test_labels_out_of_range_and_unlike_shapes_are_errors(where):
    both = dict(zip(("truth", "prediction"), masks(void=0), strict=True))
    both[where][3, 4] = 5
    with pytest.raises(ValueError, match="label 5 of 5 classes"):
        confusion_matrix(**both, num_classes=5)
    both[where] = both[where][:, :-1]
    with pytest.raises(ValueError, match=r"truth is .*, prediction"):
        confusion_matrix(**both, num_classes=5)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_their_definitions(seed):
    truth, prediction = masks(seed)
    prediction[prediction == 4] = 0
    truth[truth == 3] = 255
    truth[truth == 4] = 1
    scores = scores_of(truth, prediction)  # class 3 is predicted alone, class 4 is nowhere
    iou = [naive_iou(truth, prediction, label) for label in range(5)]
    assert iou[3] == 0 and iou[4] is None
    np.testing.assert_allclose(scores.iou, [math.nan if v is None else v for v in iou])
    assert scores.miou == pytest.approx(sum(iou[:3]) / 3)
    assert scores.miou_all == pytest.approx(sum(iou[:4]) / 4)

    scored = truth != 255
    hit = (truth == prediction)[scored]
    accuracy = [hit[truth[scored] == label].mean() for label in range(3)]
    np.testing.assert_allclose(scores.accuracy, [*accuracy, math.nan, math.nan])
    assert scores.pixel_accuracy == pytest.approx(hit.mean())
    assert scores.mean_accuracy == pytest.approx(np.mean(accuracy))
    frequency = [(truth[scored] == label).mean() for label in range(3)]
    assert scores.frequency_weighted_iou == pytest.approx(sum(f * v for f, v in zip(frequency, iou, strict=False)))


def test_a_perfect_prediction_scores_one_and_a_wrong_one_nothing():
    truth = masks()[0]
    perfect = scores_of(truth, np.where(truth == 255, 0, truth).astype(np.uint8))
    wrong = scores_of(truth, (np.where(truth == 255, 0, truth) + 1).astype(np.uint8) % 5)
    for name in ("miou", "miou_all", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert getattr(perfect, name) == pytest.approx(1) and getattr(wrong, name) == 0, name


def test_a_class_that_is_only_predicted_lowers_miou_all_alone():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    scores = scores_of(truth, np.array([[0, 0, 1, 2]], np.uint8))
    assert scores.miou == pytest.approx((1 + 0.5) / 2)
    assert scores.miou_all == pytest.approx((1 + 0.5 + 0) / 3)


def test_scores_without_pixels_are_zero_without_a_warning():
    scores = Scores(VOC, np.zeros((21, 21), np.int64), 0)
    assert np.isnan(scores.iou).all()
    assert (scores.miou, scores.miou_all, scores.pixel_accuracy, scores.mean_accuracy) == (0, 0, 0, 0)
    json.dumps(scores.as_dict(), allow_nan=False)


def test_a_data_set_of_many_pixels_does_not_overflow():
    matrix = np.full((5, 5), 2**40, np.int64)
    scores = Scores(LABELS, matrix, 10**6)
    np.testing.assert_allclose(scores.iou, 1 / 9)


def test_as_dict_is_json_with_null_where_undefined():
    truth, prediction = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 0, 1, 2]], np.uint8)
    scores = scores_of(truth, prediction, images=7)
    read = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert read["images"] == 7 and read["classes"] == list("abcde")
    assert read["confusion_matrix"] == naive_matrix(truth, prediction, 5)
    assert read["iou"] == [1.0, 0.5, 0.0, None, None]
    assert read["accuracy"] == [1.0, 0.5, None, None, None]
    assert (read["miou"], read["miou_classes"]) == (scores.miou, 2)
    assert (read["miou_all"], read["miou_all_classes"]) == (scores.miou_all, 3)
    assert read["pixel_accuracy"] == 0.75
    assert (read["mean_accuracy"], read["frequency_weighted_iou"]) == (scores.mean_accuracy, scores.frequency_weighted_iou)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_scores_of_several_processes_add_up_to_the_whole(processes):
    samples = [toy_sample(number)[1] for number in range(7)]
    pairs = [(truth, np.where(truth == VOID, 0, np.roll(truth, 5, 1))) for truth in samples]
    pairs = [(truth, np.where(prediction == VOID, 0, prediction).astype(np.uint8), 21) for truth, prediction in pairs]
    whole = sum(confusion_matrix(*pair) for pair in pairs)
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        parts = pool.starmap(confusion_matrix, pairs[::-1], chunksize=2)
    np.testing.assert_array_equal(sum(parts), whole)


def test_threads_can_count_at_the_same_time():
    rng = np.random.default_rng(0)
    pairs = [[np.repeat(rng.integers(0, 5, 300, np.uint8), size) for _ in range(2)] for size in range(40, 140)]
    wanted = [confusion_matrix(*pair, 5) for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: confusion_matrix(*pair, 5), pairs * 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted * 4, strict=True))


# The accumulator of a loop of one's own.


def test_a_confusion_matrix_adds_up_images_of_any_size_from_numpy_or_torch():
    matrix, wanted = ConfusionMatrix(5), np.zeros((5, 5), np.int64)
    for seed, shape in enumerate([(17, 23), (5, 9), (2, 8, 8)]):
        truth, prediction = masks(seed, shape)
        wanted += np.array(naive_matrix(truth.reshape(-1, shape[-1]), prediction.reshape(-1, shape[-1]), 5))
        if seed % 2:
            matrix.update(torch.from_numpy(truth).long(), torch.from_numpy(prediction).int())
        else:
            matrix.update(truth, prediction)
    scores = matrix.scores()
    np.testing.assert_array_equal(scores.matrix, wanted)
    assert scores.images == 3 and [one.name for one in scores.each] == ["0", "1", "2"]
    matrix.reset()
    assert matrix.scores().images == 0


def test_scores_are_indexed_by_class_name_and_number():
    matrix = ConfusionMatrix(["background", "cat"])
    matrix.update(np.array([[0, 1, 1, 255]]), np.array([[0, 0, 1, 1]]))
    scores = matrix.scores()
    assert scores.iou["cat"] == scores.iou[1] == 0.5 and scores.accuracy["background"] == 1.0
    with pytest.raises(KeyError, match="dog: not a class; known are background, cat"):
        scores.iou["dog"]


@pytest.mark.parametrize(
    "truth, prediction, part",
    [
        (np.zeros((3, 3)), np.zeros((3, 3), int), "logits.argmax"),
        (np.zeros((3, 3), int), torch.zeros(3, 3), "logits.argmax"),
        (np.full((3, 3), -1), np.zeros((3, 3), int), "value -1; void is 255"),
        (np.zeros((3, 3), int), np.full((3, 3), 300), "value 300"),
        (np.zeros((3, 3), int), np.zeros((3, 4), int), "of one shape"),
        (np.full((3, 3), 7), np.zeros((3, 3), int), "label 7 of 5 classes"),
    ],
)
def test_the_confusion_matrix_refuses_anything_but_labels(truth, prediction, part):
    with refused("ConfusionMatrix.update", part):
        ConfusionMatrix(5).update(truth, prediction)


def test_printed_scores_are_one_line():
    labels = LabelSet(("sky", "road", "car"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    matrix = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]], np.int64)
    # IoU: sky 3 / 4, road 4 / 5; car is absent.
    assert str(Scores(labels, matrix, 2, ())) == "Scores(mIoU 77.50 % over 2 of 3 classes, 2 images)"
