import numpy as np
import pytest
from PIL import Image

from seg.evaluation.metrics import confusion_matrix
from seg.evaluation.saved_masks import Resized, evaluate_folders, evaluate_masks
from seg.labels import VOC
from tests.helpers.toy import refused, save_palette, toy_voc

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
    with refused(tmp_path / "empty", "contains no masks"):
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
        evaluate_masks(truth, truth, VOC)  # pathlib interns the names, in a table that grows by megabytes
        tracemalloc.start()
        evaluate_masks(truth, truth, VOC)
        sizes[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    scores_of_one_image = 21 * 300
    assert sizes[200] < sizes[20] + 200 * scores_of_one_image, sizes


# Predictions as other programs save them.


def perfect(truth):
    """The matrix of perfect predictions."""
    return evaluate_masks(truth, truth, VOC).matrix


def put(folder, name, write):
    """Write the perfect prediction of each truth to `folder / name(number)`."""
    for number, size in enumerate(SIZES):
        path = folder / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, masks(size, number)[1])
    return folder


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "TIFF", "gif"])
def test_every_lossless_format_is_read(saved, tmp_path, suffix):
    made = put(tmp_path / "made", lambda n: f"{n}.{suffix}", lambda path, mask: Image.fromarray(mask).save(path))
    np.testing.assert_array_equal(evaluate_masks(made, saved[0], VOC).matrix, perfect(saved[0]))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.int32, np.uint16, ">i4"])
def test_arrays_of_integers_are_read(saved, tmp_path, kind):
    made = put(tmp_path / "made", lambda n: f"{n}.npy", lambda path, mask: np.save(path, mask.astype(kind)))
    np.testing.assert_array_equal(evaluate_masks(made, saved[0], VOC).matrix, perfect(saved[0]))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((21, 20, 20), np.float32), ("21x20x20 of float32", "probabilities", "argmax(0)")),
        (np.zeros((20, 20, 21), np.float16), ("argmax(2)",)),
        (np.zeros((1, 20, 20), np.uint8), ("1x20x20 of uint8", "squeeze()")),
        (np.zeros((20, 20), np.float64), ("20x20 of float64", "integers", "astype('uint8')")),
        (np.full((20, 20), -1), ("class -1 at (0, 0)", "255")),
        (np.full((20, 20), 70000), ("class 70000 at (0, 0)",)),
        (np.full((20, 20), 21), ("label 21 at (0, 0)",)),
        (np.zeros((0, 20), np.uint8), ("0x20",)),
        (np.array([{}], object), ("not a readable .npy file",)),
    ],
)
def test_arrays_that_are_no_class_maps_are_refused_with_the_remedy(saved, array, words):
    truth, predictions = saved
    (predictions / "3.png").unlink()
    np.save(predictions / "3.npy", array, allow_pickle=True)
    with refused(predictions / "3.npy", *words):
        evaluate_masks(predictions, truth, VOC, resized=Resized())


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"text"])
def test_damaged_arrays_are_refused(saved, content):
    truth, predictions = saved
    (predictions / "3.png").unlink()
    (predictions / "3.npy").write_bytes(content)
    with refused(predictions / "3.npy", "not a readable .npy file"):
        evaluate_masks(predictions, truth, VOC)


def test_a_jpeg_is_refused_with_the_reason_also_under_another_name(saved):
    truth, predictions = saved
    (predictions / "2.png").unlink()
    Image.fromarray(masks(SIZES[2], 2)[1]).save(predictions / "2.jpg")
    for pattern in (None, "{stem}.jpg"):
        with refused(predictions / "2.jpg", "compression changes classes", ".npy"):
            evaluate_masks(predictions, truth, VOC, pair=pattern)
    (predictions / "2.jpg").rename(predictions / "2.png")
    with refused(predictions / "2.png", "compression changes classes"):
        evaluate_masks(predictions, truth, VOC)


def test_a_pattern_names_the_predictions_within_each_folder(tmp_path):
    truth, made = tmp_path / "truth", tmp_path / "made"
    put(truth, lambda n: f"seq{n % 2}/{n}_gt.png", lambda path, mask: save_palette(path, mask))
    put(truth, lambda n: f"seq{n % 2}/{n}_color.png", lambda path, mask: save_palette(path, 20 - mask))
    put(made, lambda n: f"seq{n % 2}/{n}.pred.npy", np.save)
    scores = evaluate_masks(made, truth, VOC, pair="{stem}_gt.png={stem}.pred.npy")
    assert scores.miou == 1 and [one.name for one in scores.each] == ["seq0/0_gt", "seq0/2_gt", "seq1/1_gt", "seq1/3_gt"]
    with refused(made, "--pair {stem}_x.png", "no prediction of seq0/0_color", "8 of 8"):
        evaluate_masks(made, truth, VOC, pair="{stem}_x.png")
    with refused("must contain {stem} once"):
        evaluate_masks(made, truth, VOC, pair="pred.png")


def test_folders_are_nested_and_a_unique_name_may_lie_in_another_folder(saved, tmp_path):
    nested = put(tmp_path / "nested", lambda n: f"a/{n}.png", lambda path, mask: Image.fromarray(mask).save(path))
    flat = put(tmp_path / "flat", lambda n: f"{n}.png", lambda path, mask: Image.fromarray(mask).save(path))
    for predictions, truth in ((nested, nested), (nested, flat), (flat, nested)):
        assert evaluate_masks(predictions, truth, VOC).miou == 1


def test_names_with_an_ending_are_answered_with_the_pattern(saved, tmp_path):
    made = put(tmp_path / "made", lambda n: f"{n}_pred.png", lambda path, mask: Image.fromarray(mask).save(path))
    with refused(made / "0.png", "4 of 4 masks have no prediction", "--pair '{stem}_pred.png'"):
        evaluate_masks(made, saved[0], VOC)
    assert evaluate_masks(made, saved[0], VOC, pair="{stem}_pred.png").miou == 1


def test_two_predictions_of_one_name_are_refused(saved):
    truth, predictions = saved
    np.save(predictions / "1.npy", masks(SIZES[1], 1)[1])
    with refused(predictions / "1.npy", "1.png has the same name"):
        evaluate_masks(predictions, truth, VOC)


def test_sizes_are_compared_before_anything_is_scored(saved):
    truth, predictions = saved
    for number in (1, 3):
        size = SIZES[number]
        Image.fromarray(masks(size, number)[1]).resize((size[1] // 2, size[0] * 2)).save(predictions / f"{number}.png")
    seen = []
    with refused(
        predictions / "1.png", "40x66", "80x33", "0.5 times as wide and 2 times as high", "2 of 4", "--resize-predictions"
    ):
        evaluate_masks(predictions, truth, VOC, lambda *image: seen.append(image))
    assert not seen


def test_resized_predictions_are_scored_and_the_cost_is_measured(saved):
    truth, predictions = saved
    sizes = {0: (20, 19), 1: (11, 40)}  # halves and thirds, whose centers are on no border of pixels
    matrix, limit = np.zeros((2, 21, 21), np.int64)
    for number, size in enumerate(SIZES):
        wanted, got = masks(size, number)
        best = wanted
        if number in sizes:
            small = sizes[number]
            down = [(np.arange(new) * old // new + old // new // 2) for old, new in zip(size, small, strict=True)]
            up = [np.arange(old) * new // old for old, new in zip(size, small, strict=True)]
            Image.fromarray(got[np.ix_(*down)]).save(predictions / f"{number}.png")
            best, got = (mask[np.ix_(*down)][np.ix_(*up)] for mask in (wanted, got))
        matrix += confusion_matrix(wanted, got, 21)
        limit += confusion_matrix(np.where(best == 255, 255, wanted).astype(np.uint8), best, 21)
    resized = Resized()
    scores = evaluate_masks(predictions, truth, VOC, resized=resized)
    np.testing.assert_array_equal(scores.matrix, matrix)
    union = limit.sum(0) + limit.sum(1) - np.diag(limit)
    note = resized.note(VOC)
    assert "2 of 4 predictions were resized" in note and f"{predictions / '0.png'} from 19x20 to 57x40" in note
    assert f"mIoU {100 * (np.diag(limit) / union).mean():.2f} %" in note and "2 have another aspect ratio" in note
    assert scores.miou < 1


def test_predictions_with_names_of_their_own_are_matched(saved, capsys):
    truth, predictions = saved
    names = list(VOC.names)
    order = [names.index(name) for name in sorted(names)]
    (predictions / "labels.yaml").write_text(f"classes: {sorted(names)}")
    for number, size in enumerate(SIZES):
        Image.fromarray(np.argsort(order).astype(np.uint8)[masks(size, number)[1]]).save(predictions / f"{number}.png")
    made = evaluate_folders(predictions, truth)
    np.testing.assert_array_equal(made.scores.matrix, perfect(truth))
    assert made.scores.labels is VOC and "a different order" in capsys.readouterr().err
    (predictions / "labels.yaml").write_text(f"classes: {['yak', *names[1:]]}")
    with refused("labels.yaml", "Only in the predictions: yak. Only in the ground truth: background"):
        evaluate_folders(predictions, truth)


def test_the_data_set_of_the_truth_names_its_classes_and_its_splits(tmp_path):
    root = toy_voc(tmp_path / "voc", train=2, val=2)
    (root / "labels.yaml").write_text("classes: [" + ", ".join(f"c{n}" for n in range(21)) + "]")
    for given in (root, root / "SegmentationClass"):
        made = evaluate_folders(root / "SegmentationClass", given, split="val")
        assert made.scores.images == 2 and made.scores.labels.names[1] == "c1" and made.settings["split"] == "val"
    assert evaluate_folders(root / "SegmentationClass", root, "voc").scores.labels is VOC
    with refused("vall.txt", "no such split"):
        evaluate_folders(root / "SegmentationClass", root, split="vall")
