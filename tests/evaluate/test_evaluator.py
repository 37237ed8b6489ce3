from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seg.classes import VOC
from seg.config import EvaluateConfig
from seg.data.voc import Split
from seg.evaluate.confusion import confusion_matrix
from seg.evaluate.evaluator import evaluate_masks, evaluate_model
from tests.toy import Reader, refused, save_palette, written

SIZES = [(40, 57), (33, 80), (66, 45), (20, 20)]


def masks(size, seed, wrong=0.0):
    """A truth with void and a prediction that differs from it in a part of the pixels."""
    rng = np.random.default_rng([seed, *size])
    truth = rng.integers(0, 21, size, dtype=np.uint8)
    prediction = np.where(rng.random(size) < wrong, (truth + 1) % 21, truth).astype(np.uint8)
    truth[rng.random(size) < 0.1] = 255
    return truth, prediction


@pytest.fixture
def split(tmp_path):
    """Images of several sizes that show `Reader` predictions with a third of the pixels wrong."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    images, paths = [], []
    for number, size in enumerate(SIZES):
        truth, prediction = masks(size, number, wrong=0.3)
        images.append(tmp_path / "images" / f"{number}.png")
        paths.append(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(written(prediction)).save(images[-1])
        save_palette(paths[-1], truth)
    ids = tuple(str(number) for number in range(len(SIZES)))
    return Split(tmp_path, "val", ids, tuple(images), tuple(paths), VOC)


def expected():
    return sum(confusion_matrix(*masks(size, number, 0.3), 21) for number, size in enumerate(SIZES))


@pytest.mark.parametrize("canvas", [None, 65, 97])
def test_every_pixel_is_scored_at_its_images_own_size(split, canvas):
    scores = evaluate_model(Reader(), split, EvaluateConfig(canvas=canvas))
    np.testing.assert_array_equal(scores.matrix, expected())
    assert scores.images == 4 and scores.labels is VOC
    assert 0.3 < scores.miou < 0.9


def test_scales_and_flips_go_through_the_model(split):
    # Resized class codes are blurred at every pixel, so only the identity scale is exact; the flip is.
    scores = evaluate_model(Reader(), split, EvaluateConfig(canvas=None, flip=True))
    np.testing.assert_array_equal(scores.matrix, expected())
    blurred = evaluate_model(Reader(), split, EvaluateConfig(canvas=None, scales=[0.5]))
    assert blurred.pixel_accuracy < scores.pixel_accuracy - 0.1


def test_the_order_of_the_images_does_not_matter(split):
    turned = replace(split, ids=split.ids[::-1], images=split.images[::-1], masks=split.masks[::-1])
    policy = EvaluateConfig(canvas=None)
    one, other = evaluate_model(Reader(), split, policy), evaluate_model(Reader(), turned, policy)
    np.testing.assert_array_equal(one.matrix, other.matrix)


def test_each_image_is_shown_in_order_as_it_was_scored(split):
    seen = []
    evaluate_model(Reader(), split, EvaluateConfig(canvas=None), lambda *given: seen.append(given))
    assert [index for index, *_ in seen] == [0, 1, 2, 3]
    for number, (_, image, truth, prediction) in enumerate(seen):
        wanted_truth, wanted = masks(SIZES[number], number, 0.3)
        np.testing.assert_array_equal(image, written(wanted))
        np.testing.assert_array_equal(truth, wanted_truth)
        np.testing.assert_array_equal(prediction, wanted)


def test_the_model_is_asked_in_evaluation_mode_at_the_policys_output_stride_and_given_back(split):
    model = Reader(output_stride=16, wanted=8).train()
    evaluate_model(model, split, EvaluateConfig(canvas=None, output_stride=8))
    assert model.training and model.output_stride == 16
    split.images[1].write_bytes(b"damaged")
    with refused(split.images[1]):
        evaluate_model(model, split, EvaluateConfig(canvas=None, output_stride=8))
    assert model.training and model.output_stride == 16


# Saved masks.


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


def test_the_truth_itself_scores_one_with_its_void(saved):
    truth, _ = saved
    assert evaluate_masks(truth, truth, VOC).miou == 1


def test_permuted_classes_move_the_matrix_and_lose_the_score(saved):
    truth, predictions = saved
    permutation = np.roll(np.arange(21, dtype=np.uint8), 1)
    for number, size in enumerate(SIZES):
        Image.fromarray(permutation[masks(size, number)[1]]).save(predictions / f"{number}.png")
    perfect, permuted = evaluate_masks(truth, truth, VOC), evaluate_masks(predictions, truth, VOC)
    assert permuted.miou == 0
    np.testing.assert_array_equal(permuted.matrix[:, permutation], perfect.matrix)


def test_masks_score_as_the_model_that_made_them(split, tmp_path):
    (tmp_path / "out").mkdir()
    policy = EvaluateConfig(canvas=None)
    scores = evaluate_model(
        Reader(), split, policy, lambda index, i, t, mask: Image.fromarray(mask).save(tmp_path / "out" / f"{index}.png")
    )
    again = evaluate_masks(tmp_path / "out", tmp_path / "masks", VOC)
    assert again.as_dict() == scores.as_dict()


def test_extra_predictions_do_not_count_and_progress_is_told(saved):
    truth, predictions = saved
    save_palette(predictions / "other.png", np.zeros((3, 3), np.uint8))
    seen = []
    assert evaluate_masks(predictions, truth, VOC, seen.append).miou == 1
    assert seen == [0, 1, 2, 3]


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


# Streaming.


def test_the_scores_of_each_image_are_kept_by_name(split, saved):
    scores = evaluate_model(Reader(), split, EvaluateConfig(canvas=None))
    assert [image.name for image in scores.each] == ["0", "1", "2", "3"]
    for number, (size, image) in enumerate(zip(SIZES, scores.each, strict=True)):
        np.testing.assert_array_equal(image.matrix(21), confusion_matrix(*masks(size, number, 0.3), 21))
    truth, predictions = saved
    assert [image.name for image in evaluate_masks(predictions, truth, VOC).each] == ["0", "1", "2", "3"]


def test_memory_does_not_grow_with_the_number_of_masks(tmp_path):
    """Ten masks, under the names of twenty and of two hundred: what is alive at the peak is the same but for the scores."""
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
