import numpy as np
import pytest
from PIL import Image

from seg import visualize
from seg.config import Config, InferenceConfig
from seg.data.layouts.base import Hints
from seg.data.layouts.create import create_dataset
from seg.inference.annotations import Outlines
from seg.inference.images import predict_images
from seg.inference.outputs import MODES
from seg.inference.predictor import Predictor
from seg.labels import VOC, load
from seg.weights.file import Metadata
from tests.helpers.toy import Reader, refused, toy_sample, written

NATIVE = InferenceConfig(canvas=None)


def labeled(number, size=(40, 50)):
    """A mask of the objects of a toy sample, without void."""
    mask = toy_sample(number, size)[1]
    return np.where(mask == 255, 0, mask).astype(np.uint8)


def put(path, number=0, size=(40, 50)):
    """An image file for which `Reader` predicts labeled(number)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(written(labeled(number, size))).save(path)
    return path


def predict(inputs, out, mode="index", **options):
    return predict_images(Predictor(Reader(), VOC, NATIVE), inputs, out, mode, **options)


def read(path):
    with Image.open(path) as image:
        return np.array(image)


# What is written for them.


def test_index_masks_are_the_classes_in_gray(tmp_path):
    written_to, problems = predict([put(tmp_path / "a.png")], tmp_path / "out", "index")
    assert (written_to, problems) == ([tmp_path / "out" / "a.png"], [])
    with Image.open(written_to[0]) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), labeled(0))


def test_palette_masks_are_the_classes_in_their_colors(tmp_path):
    predict([put(tmp_path / "a.png")], tmp_path / "out", "palette")
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labeled(0))
        np.testing.assert_array_equal(np.array(image.convert("RGB")), VOC.palette[labeled(0)])


def test_overlays_have_the_images_size_above_a_legend(tmp_path):
    predict([put(tmp_path / "a.png")], tmp_path / "out", "overlay")
    picture = read(tmp_path / "out" / "a.png")
    wanted = visualize.overlay(written(labeled(0)), labeled(0), VOC)
    assert picture.shape[0] > 40 and picture.shape[1] == 50
    np.testing.assert_array_equal(picture[:40], wanted)
    np.testing.assert_array_equal(picture[40:], visualize.legend([labeled(0)], VOC, 50))


def test_side_by_side_shows_image_and_overlay(tmp_path):
    predict([put(tmp_path / "a.png")], tmp_path / "out", "side-by-side")
    image = written(labeled(0))
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), visualize.comparison(image, labeled(0), VOC))


@pytest.mark.parametrize("mode", ["labelme", "coco"])
def test_polygons_are_read_back_as_the_mask(tmp_path, mode):
    for number, name in enumerate(("a.png", "sub/b.png", "sub/c.bmp")):
        put(tmp_path / "photos" / name, number)
    out = tmp_path / "out"
    written_to, problems = predict([tmp_path / "photos"], out, mode, outlines=Outlines(tolerance=0))
    wanted = [out / "a.json", out / "sub/b.json", out / "sub/c.json"] if mode == "labelme" else [out / "annotations.json"]
    assert (written_to, problems) == (wanted, [])
    made = create_dataset(out, Hints(images=None if mode == "labelme" else str(tmp_path / "photos")))
    names = load(str(made.out / "labels.yaml")).names
    assert names == VOC.names
    values = np.array([VOC.names.index(name) for name in names])
    for number, name in enumerate(("a", "sub_b", "sub_c")):
        np.testing.assert_array_equal(values[read(made.out / f"SegmentationClass/{name}.png")], labeled(number))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("labelme", "coco")])
def test_a_photo_with_exif_rotation_is_predicted_upright(tmp_path, mode):
    upright = np.kron(np.array([[1, 8, 12], [15, 3, 0]], np.uint8), np.ones((24, 24), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(written(upright), 1)))
    assert upright.shape == (48, 72) and stored.size == (48, 72)  # width before height: it lies on its side
    stored.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    predict([tmp_path / "photo.jpg"], tmp_path / "out", mode)
    picture = read(tmp_path / "out" / "photo.png")
    if mode in ("index", "palette"):
        np.testing.assert_array_equal(picture, upright)
    else:
        assert picture.shape[1] == {"overlay": 72, "side-by-side": 148, "confidence": 224}[mode]


def test_subfolders_are_kept_in_the_output(tmp_path):
    put(tmp_path / "in" / "a.png", 0), put(tmp_path / "in" / "x" / "a.jpg.png", 1, (33, 70))
    written_to, _ = predict([tmp_path / "in"], tmp_path / "out")
    assert written_to == [tmp_path / "out" / "a.png", tmp_path / "out" / "x" / "a.jpg.png"]
    np.testing.assert_array_equal(read(written_to[0]), labeled(0))
    np.testing.assert_array_equal(read(written_to[1]), labeled(1, (33, 70)))


def test_a_damaged_image_is_reported_and_the_others_are_written(tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        put(tmp_path / "in" / f"{name}.png", number)
    (tmp_path / "in" / "b.png").write_bytes(b"damaged")
    seen = []
    written_to, problems = predict([tmp_path / "in"], tmp_path / "out", on_image=lambda *given: seen.append(given))
    assert written_to == [tmp_path / "out" / "a.png", tmp_path / "out" / "c.png"]
    assert len(problems) == 1 and str(tmp_path / "in" / "b.png") in problems[0] and "\n" not in problems[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_old_mask_does_not_count_for_a_damaged_image(tmp_path):
    path = put(tmp_path / "in" / "a.png")
    predict([path], tmp_path / "out")
    path.write_bytes(b"damaged")
    written_to, problems = predict([path], tmp_path / "out")
    assert written_to == [] and len(problems) == 1


def test_two_images_with_the_same_output_name_are_refused_before_anything_is_written(tmp_path):
    a, b = put(tmp_path / "x" / "a.png"), put(tmp_path / "y" / "a.jpg")
    with refused(tmp_path / "out" / "a.png", a, b):
        predict([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_named_twice_is_predicted_once(tmp_path):
    path = put(tmp_path / "a.png")
    assert predict([path, path], tmp_path / "out")[0] == [tmp_path / "out" / "a.png"]


def test_an_image_given_by_two_paths_is_predicted_once(tmp_path, monkeypatch):
    path = put(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert predict([path, "a.png"], tmp_path / "out")[0] == [tmp_path / "out" / "a.png"]


@pytest.mark.parametrize("out", [".", "../in", "{}"])
def test_overwriting_an_input_is_refused_before_anything_is_written(tmp_path, monkeypatch, out):
    paths = put(tmp_path / "in" / "a.jpg"), put(tmp_path / "in" / "b.png")
    before = [path.read_bytes() for path in paths]
    monkeypatch.chdir(tmp_path / "in")
    with refused("b.png", "would overwrite an input"):
        predict(paths, out.format(tmp_path / "in"))
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a.jpg", "b.png"]


def test_the_configured_output_stride_is_set_and_restored(tmp_path):
    model = Reader(output_stride=16, wanted=8).train()
    policy = InferenceConfig(canvas=65, output_stride=8)
    predict_images(Predictor(model, VOC, policy), [put(tmp_path / "a.png")], tmp_path / "out", "index")
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), labeled(0))
    assert model.training and model.output_stride == 16


def test_the_first_image_that_is_seen_smaller_is_named_once(tmp_path, capsys):
    for name, size in (("a", (40, 50)), ("b", (60, 201)), ("c", (300, 40))):
        put(tmp_path / "in" / f"{name}.png", size=size)

    def said(**longest):
        about = Metadata(Config(), VOC, {}, trained_size=50)
        predictor = Predictor(Reader(), VOC, InferenceConfig(canvas=None, **longest), metadata=about)
        predict_images(predictor, [tmp_path / "in"], tmp_path / "out", "index")
        assert read(tmp_path / "out/c.png").shape == (300, 40)
        return capsys.readouterr().err

    wanted = "b.png: 201x60 pixels; reduced to 50x15 for the network, the size of its training images; --longest"
    assert said().count("\n") == 1 and wanted in said()
    assert said(longest="native") == ""
    assert "b.png: 201x60 pixels; reduced to 100x30 for the network, set by --longest" in said(longest=100)
