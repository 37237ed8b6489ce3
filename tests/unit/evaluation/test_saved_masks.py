import numpy as np
import pytest
from PIL import Image

from seg.evaluation.metrics import confusion_matrix
from seg.evaluation.saved_masks import evaluate_masks
from seg.labels import VOC
from tests.helpers.toy import refused, save_palette

SIZES = [(40, 57), (33, 80), (66, 45), (20, 20)]


def masks(size, seed):
    """A truth with void, and the prediction that is correct everywhere."""
    rng = np.random.default_rng([seed, *size])
    truth = rng.integers(0, 21, size, dtype=np.uint8)
    prediction = truth.copy()
    truth[rng.random(size) < 0.1] = 255
    return truth, prediction


@pytest.fixture
def saved(tmp_path):
    """Folders of truth and perfect predictions, the void predicted as class 0."""
    folders = tmp_path / "truth", tmp_path / "predictions"
    for folder in folders:
        folder.mkdir()
    for number, size in enumerate(SIZES):
        truth, prediction = masks(size, number)
        save_palette(folders[0] / f"{number}.png", truth)
        Image.fromarray(prediction).save(folders[1] / f"{number}.png")
    return folders


def test_perfect_masks_score_one(saved):
    truth, predictions = saved
    scores = evaluate_masks(predictions, truth, VOC)
    assert scores.images == 4 and scores.miou == scores.pixel_accuracy == 1
    assert scores.matrix.sum() == sum((masks(size, number)[0] != 255).sum() for number, size in enumerate(SIZES))


def test_the_truth_with_its_void_scores_one(saved):
    truth, _ = saved
    assert evaluate_masks(truth, truth, VOC).miou == 1


def test_permuted_classes_permute_the_matrix_and_score_zero(saved):
    truth, predictions = saved
    permutation = np.roll(np.arange(21, dtype=np.uint8), 1)
    for number, size in enumerate(SIZES):
        Image.fromarray(permutation[masks(size, number)[1]]).save(predictions / f"{number}.png")
    perfect, permuted = evaluate_masks(truth, truth, VOC), evaluate_masks(predictions, truth, VOC)
    assert permuted.miou == 0
    np.testing.assert_array_equal(permuted.matrix[:, permutation], perfect.matrix)


def test_extra_predictions_do_not_count_and_each_pair_is_shown(saved):
    truth, predictions = saved
    save_palette(predictions / "other.png", np.zeros((3, 3), np.uint8))
    seen = []
    assert evaluate_masks(predictions, truth, VOC, lambda *image: seen.append(image)).miou == 1
    assert [image[:2] for image in seen] == [(number, str(number)) for number in range(4)]
    for (_, _, expected, got), size in zip(seen, SIZES, strict=True):
        with Image.open(truth / f"{SIZES.index(size)}.png") as kept:
            assert (expected == np.asarray(kept)).all() and expected.shape == got.shape == size
        assert (got == expected)[expected != 255].all()


def test_a_missing_prediction_is_refused(saved):
    truth, predictions = saved
    (predictions / "2.png").unlink()
    with refused(predictions / "2.png", "no such file"):
        evaluate_masks(predictions, truth, VOC)


def test_a_prediction_of_another_size_is_refused(saved):
    truth, predictions = saved
    save_palette(predictions / "0.png", np.zeros((57, 40), np.uint8))
    with refused(predictions / "0.png", "40x57", "57x40"):
        evaluate_masks(predictions, truth, VOC)


def test_void_predicted_where_the_truth_has_a_class_is_refused(saved):
    truth, predictions = saved
    mask = masks(SIZES[1], 1)[1]
    row, column = np.argwhere(masks(SIZES[1], 1)[0] != 255)[0]
    mask[row, column] = 255
    Image.fromarray(mask).save(predictions / "1.png")
    with refused(predictions / "1.png", "void (255)"):
        evaluate_masks(predictions, truth, VOC)


def test_a_label_out_of_range_is_refused(saved):
    truth, predictions = saved
    Image.fromarray(np.full(SIZES[3], 21, np.uint8)).save(predictions / "3.png")
    with refused(predictions / "3.png", "label 21 at (0, 0)"):
        evaluate_masks(predictions, truth, VOC)


def test_folders_without_masks_are_refused(saved, tmp_path):
    truth, predictions = saved
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with refused(tmp_path / "empty", "no PNG masks"):
        evaluate_masks(predictions, tmp_path / "empty", VOC)
    for folders in ((tmp_path / "none", truth), (predictions, tmp_path / "none")):
        with refused(tmp_path / "none", "no such folder"):
            evaluate_masks(*folders, VOC)


def test_the_scores_of_each_image_are_kept_by_name(saved):
    truth, predictions = saved
    scores = evaluate_masks(predictions, truth, VOC)
    assert [image.name for image in scores.each] == ["0", "1", "2", "3"]
    for number, (size, image) in enumerate(zip(SIZES, scores.each, strict=True)):
        np.testing.assert_array_equal(image.matrix(21), confusion_matrix(*masks(size, number), 21))


def test_memory_does_not_grow_with_the_number_of_masks(tmp_path):
    """Ten masks under the names of 20 and 200 files: the peak memory differs only by the scores."""
    import tracemalloc

    sizes = {}
    for count in (20, 200):
        truth = tmp_path / f"truth{count}"
        truth.mkdir()
        for number in range(count):
            save_palette(truth / f"{number:03d}.png", masks((120, 160), number % 10)[0])
        tracemalloc.start()
        evaluate_masks(truth, truth, VOC)
        sizes[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    scores_of_one_image = 21 * 300
    assert sizes[200] < sizes[20] + 200 * scores_of_one_image, sizes
