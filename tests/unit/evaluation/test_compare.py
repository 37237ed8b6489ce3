import json

import numpy as np
import pytest

from seg.evaluation.compare import RESAMPLES, compare, mean_iou, read_scores
from seg.evaluation.metrics import ImageScore, Scores, confusion_matrix
from seg.files import write_json
from seg.labels import VOC, LabelSet
from tests.helpers.toy import refused

LABELS = LabelSet(("sky", "road", "car"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def scores(wrong, images=40, seed=0, labels=LABELS):
    """Scores of images with a varying share of wrong pixels."""
    each = []
    for number in range(images):
        rng = np.random.default_rng([seed, number])
        truth = rng.integers(0, len(labels), (20, 30)).astype(np.uint8)
        errors = np.random.default_rng([9, number]).random(truth.shape) < wrong * (0.5 + number / images)
        prediction = np.where(errors, (truth + 1) % len(labels), truth).astype(np.uint8)
        each.append(ImageScore.of(f"image{number}", confusion_matrix(truth, prediction, len(labels))))
    return Scores.over(labels, each)


def test_the_confusion_matrices_of_the_images_add_up_to_the_whole():
    whole = scores(0.3)
    assert whole.images == 40 and whole.matrix.sum() == 40 * 600
    np.testing.assert_array_equal(sum(image.matrix(3) for image in whole.each), whole.matrix)


def test_mean_iou_of_matrices_is_that_of_scores():
    matrices = np.stack([image.matrix(3) for image in scores(0.3).each])
    matrices[0, 1] = 0  # a class that is not in the truth of this one
    wanted = [Scores(LABELS, matrix, 1).miou for matrix in matrices]
    np.testing.assert_allclose(mean_iou(matrices), wanted, rtol=1e-12)


def test_an_evaluation_does_not_differ_from_itself():
    found = compare(scores(0.3), scores(0.3))
    assert found.difference == 0 and found.interval == (0, 0)


def test_the_interval_equals_that_of_a_simple_bootstrap():
    first, second = scores(0.3), scores(0.2)
    found = compare(first, second)
    assert found.difference == pytest.approx(second.miou - first.miou)
    rng, drawn = np.random.default_rng(1), []
    a, b = (np.stack([image.matrix(3) for image in s.each]) for s in (first, second))
    for _ in range(RESAMPLES):
        chosen = rng.integers(40, size=40)
        drawn.append(Scores(LABELS, b[chosen].sum(0), 40).miou - Scores(LABELS, a[chosen].sum(0), 40).miou)
    width = found.interval[1] - found.interval[0]
    np.testing.assert_allclose(found.interval, np.quantile(drawn, [0.025, 0.975]), atol=0.15 * width)
    assert found.interval[0] < found.difference < found.interval[1]


def test_images_are_paired_by_name_not_by_place():
    first, second = scores(0.3), scores(0.2)
    turned = Scores.over(LABELS, second.each[::-1])
    assert compare(first, turned).interval == compare(first, second).interval


def test_exchanging_the_evaluations_negates_the_difference():
    one, other = compare(scores(0.3), scores(0.2)), compare(scores(0.2), scores(0.3))
    assert other.difference == -one.difference
    np.testing.assert_allclose(other.interval, (-one.interval[1], -one.interval[0]))


def test_other_images_or_classes_are_refused():
    with pytest.raises(ValueError, match="images differ"):
        compare(scores(0.3), scores(0.3, images=39))
    with pytest.raises(ValueError, match="classes differ"):
        compare(scores(0.3), scores(0.3, labels=LabelSet(("a", "b", "c"), LABELS.colors)))


@pytest.mark.parametrize("labels", [LABELS, VOC])
def test_scores_are_read_back_from_json(tmp_path, labels):
    before = scores(0.3, labels=labels)
    write_json(tmp_path / "a.json", before.as_dict())
    after = read_scores(tmp_path / "a.json")
    assert after.as_dict() == before.as_dict()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("per_image"), "it has no 'per_image'"),
        (lambda d: d["per_image"].pop(), "do not add up"),
        (lambda d: d["per_image"][0].update(pixels=[[0, 7, 1]]), "not an evaluation"),
        (lambda d: d["per_image"][0].update(pixels=[[0, 1]]), "not an evaluation"),
        (lambda d: d["per_image"][0].update(pixels=None), "not an evaluation"),
        (lambda d: d.update(per_image=[3]), "not an evaluation"),
        (lambda d: d.update(classes=3), "not an evaluation"),
        (lambda d: d.update(confusion_matrix={}), "do not add up"),
    ],
)
def test_a_file_that_is_not_an_evaluation_gives_one_line(tmp_path, spoil, message):
    numbers = scores(0.3).as_dict()
    numbers = json.loads(json.dumps(numbers))
    spoil(numbers)
    write_json(tmp_path / "a.json", numbers)
    with refused(tmp_path / "a.json", message):
        read_scores(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "nan", '{"classes": 1e999}', "[" * 100000])
def test_a_file_that_is_not_a_json_object_gives_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with refused(tmp_path / "a.json"):
        read_scores(tmp_path / "a.json")
    with refused("none.json"):
        read_scores(tmp_path / "none.json")
