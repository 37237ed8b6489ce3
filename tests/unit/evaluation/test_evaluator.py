from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seg.config import InferenceConfig
from seg.data.voc import Split
from seg.evaluation.evaluator import evaluate_model, evaluate_split
from seg.evaluation.metrics import confusion_matrix
from seg.evaluation.saved_masks import evaluate_folders, evaluate_masks
from seg.inference.predictor import Predictor
from seg.labels import VOC
from tests.helpers.toy import Reader, refused, save_palette, toy_voc, written

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
    """Images of several sizes, for which `Reader` predicts a third of the pixels wrong."""
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
    scores = evaluate_model(Predictor(Reader(), VOC, InferenceConfig(canvas=canvas)), split)
    np.testing.assert_array_equal(scores.matrix, expected())
    assert scores.images == 4 and scores.labels is VOC
    assert 0.3 < scores.miou < 0.9


def test_every_scale_and_flip_is_predicted(split):
    # Resized class codes are blurred at every pixel, so only the identity scale is exact; the flip is.
    scores = evaluate_model(Predictor(Reader(), VOC, InferenceConfig(canvas=None, flip=True)), split)
    np.testing.assert_array_equal(scores.matrix, expected())
    blurred = evaluate_model(Predictor(Reader(), VOC, InferenceConfig(canvas=None, scales=[0.5])), split)
    assert blurred.pixel_accuracy < scores.pixel_accuracy - 0.1


def test_the_order_of_the_images_does_not_matter(split):
    turned = replace(split, ids=split.ids[::-1], images=split.images[::-1], masks=split.masks[::-1])
    policy = InferenceConfig(canvas=None)
    one, other = (
        evaluate_model(Predictor(Reader(), VOC, policy), split),
        evaluate_model(Predictor(Reader(), VOC, policy), turned),
    )
    np.testing.assert_array_equal(one.matrix, other.matrix)


def test_each_image_is_shown_in_order_as_it_was_scored(split):
    seen = []
    evaluate_model(Predictor(Reader(), VOC, InferenceConfig(canvas=None)), split, lambda *given: seen.append(given))
    assert [index for index, *_ in seen] == [0, 1, 2, 3]
    for number, (_, image, truth, prediction) in enumerate(seen):
        wanted_truth, wanted = masks(SIZES[number], number, 0.3)
        np.testing.assert_array_equal(image, written(wanted))
        np.testing.assert_array_equal(truth, wanted_truth)
        np.testing.assert_array_equal(prediction, wanted)


def test_the_model_is_evaluated_at_the_configured_output_stride_and_restored(split):
    model = Reader(output_stride=16, wanted=8).train()
    evaluate_model(Predictor(model, VOC, InferenceConfig(canvas=None, output_stride=8)), split)
    assert model.training and model.output_stride == 16
    split.images[1].write_bytes(b"damaged")
    with refused(split.images[1]):
        evaluate_model(Predictor(model, VOC, InferenceConfig(canvas=None, output_stride=8)), split)
    assert model.training and model.output_stride == 16


def test_saved_masks_have_the_scores_of_their_model(split, tmp_path):
    (tmp_path / "out").mkdir()
    policy = InferenceConfig(canvas=None)
    scores = evaluate_model(
        Predictor(Reader(), VOC, policy),
        split,
        lambda index, i, t, mask: Image.fromarray(mask).save(tmp_path / "out" / f"{index}.png"),
    )
    again = evaluate_masks(tmp_path / "out", tmp_path / "masks", VOC)
    assert again.as_dict() == scores.as_dict()


def test_the_scores_of_each_image_are_kept_by_name(split):
    scores = evaluate_model(Predictor(Reader(), VOC, InferenceConfig(canvas=None)), split)
    assert [image.name for image in scores.each] == ["0", "1", "2", "3"]
    for number, (size, image) in enumerate(zip(SIZES, scores.each, strict=True)):
        np.testing.assert_array_equal(image.matrix(21), confusion_matrix(*masks(size, number, 0.3), 21))


# Data sets with names of their own.


@pytest.fixture
def scored(tmp_path):
    """Evaluates a perfect reader of VOC's classes on toy data whose labels.yaml lists these names."""
    root = toy_voc(tmp_path / "voc", train=2, val=2, size=(40, 50))
    predictions = {}
    for path in sorted((root / "SegmentationClass").glob("*.png")):
        with Image.open(path) as mask:
            predictions[path.stem] = np.where(np.asarray(mask) == 255, 0, np.asarray(mask)).astype(np.uint8)
        (root / "JPEGImages" / f"{path.stem}.jpg").unlink()
        Image.fromarray(written(predictions[path.stem])).save(root / "JPEGImages" / f"{path.stem}.png")

    def run(names=None, labels=None, recode=None, **options):
        if names:
            (root / "labels.yaml").write_text(f"classes: {list(names)}")
        for name, mask in predictions.items():
            save_palette(root / "SegmentationClass" / f"{name}.png", mask if recode is None else recode[mask])
        predictor = Predictor(Reader(), VOC, InferenceConfig(canvas=None))
        return evaluate_split(predictor, root, "val", labels=labels, **options)

    return run


def test_a_data_set_of_other_classes_is_refused_with_both_lists(scored):
    with refused("labels.yaml", "Data set: sky, ", "Model: background, ", "Only in the data set: sky. Only in the model: back"):
        scored(["sky", *VOC.names[1:]])


def test_names_in_another_order_are_matched_with_a_word(scored, capsys):
    assert scored().scores.miou == 1 and capsys.readouterr().err == ""
    names = sorted(VOC.names)
    recode = np.array([names.index(name) for name in VOC.names], np.uint8)
    made = scored(names, recode=recode)
    assert made.scores.miou == 1 and made.scores.labels.names == VOC.names
    assert "a different order" in capsys.readouterr().err
    assert scored(VOC.names).scores.miou == 1 and capsys.readouterr().err == ""


def test_labels_of_the_data_can_be_named(scored, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"classes: {[*VOC.names[1:], 'background']}")
    recode = np.roll(np.arange(21), -1)
    recode = np.argsort(recode).astype(np.uint8)
    made = scored(["a", "b"], str(tmp_path / "mine.yaml"), recode)
    assert made.scores.miou == 1 and made.settings["labels"] == str(tmp_path / "mine.yaml")


def test_saved_masks_name_their_classes(scored, tmp_path):
    scored(save_masks=tmp_path / "out")
    assert evaluate_folders(tmp_path / "out", tmp_path / "voc", split="val").scores.miou == 1
    (tmp_path / "voc" / "labels.yaml").write_text(f"classes: {sorted(VOC.names)}")
    names = sorted(VOC.names)
    for path in (tmp_path / "voc" / "SegmentationClass").iterdir():
        with Image.open(path) as mask:
            save_palette(path, np.array([names.index(name) for name in VOC.names], np.uint8)[np.asarray(mask)])
    assert evaluate_folders(tmp_path / "out", tmp_path / "voc", split="val").scores.miou == 1
    (tmp_path / "voc" / "labels.yaml").write_text("classes: [background, cat]")
    with refused("Only in the predictions: aeroplane"):
        evaluate_folders(tmp_path / "out", tmp_path / "voc", split="val")
