import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seg.config import InferenceConfig, ModelConfig
from seg.errors import UserError
from seg.inference import scores
from seg.inference.batches import LOOKAHEAD, PIXELS_PER_BATCH, RELEASE_EVERY
from seg.inference.predictor import Predictor
from seg.inference.scores import ROWS, resize_rows, scaled_side
from seg.inference.tiles import OVERLAP, blend_tiles, tile_starts
from seg.labels import VOC
from seg.models.interface import evaluation_mode
from seg.models.preprocess import PADDING_VALUE, pad_to_canvas
from tests.helpers.paths import FIXTURES
from tests.helpers.toy import picture, random_model

SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]

# Computed by the released TensorFlow code.
RELEASED = np.load(FIXTURES / "oracle" / "preprocess.npz")


@pytest.fixture(scope="module")
def model():
    return random_model()


def infer(model, image, config):
    return Predictor(model, VOC, config).scores(image)


def predict_mask(model, image, config):
    return Predictor(model, VOC, config).predict(image)


def bilinear(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def padded(image, canvas):
    """Float tensor 1,3,canvas,canvas from 0 to 255, gray with the image at the top left."""
    whole = np.full((canvas, canvas, 3), 127.5, np.float32)
    whole[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(whole).permute(2, 0, 1)[None]


@torch.inference_mode()
def released_multi_scale(model, image, canvas, scales, flip):
    """Mean softmax [classes, h, w], computed step by step as in the released evaluation."""
    whole = padded(image, canvas)
    found = []
    for scale in scales:
        side = int((canvas - 1) * scale + 1)
        x = 2 / 255 * bilinear(whole, (side, side)) - 1
        # Logits of a smaller image are brought to the grid of scale 1, those of a larger one stay on their own.
        grid = int((canvas - 1) * (max(1.0, scale) / 4) + 1)
        for mirrored in (False, True) if flip else (False,):
            logits = model.logits(torch.flip(x, [3]) if mirrored else x)
            logits = torch.flip(logits, [3]) if mirrored else logits
            found.append(bilinear(bilinear(logits, (grid, grid)), (canvas, canvas)).softmax(1))
    return torch.stack(found).mean(0)[0, :, : image.shape[0], : image.shape[1]]


def clear(probabilities, margin=1e-3):
    """Pixels whose best class leads by more than rounding."""
    best = probabilities.topk(2, 0).values
    return (best[0] - best[1] > margin).numpy()


def test_scaled_sizes_are_measured_between_pixel_centers():
    assert [scaled_side(513, scale) for scale in (*SCALES, 0.25)] == [257, 385, 513, 641, 769, 897, 129]
    assert [scaled_side(500, scale) for scale in SCALES] == [250, 375, 500, 624, 749, 874]


def test_padding_is_that_of_the_released_code():
    got = pad_to_canvas(RELEASED["image"], 65)
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got[0].permute(1, 2, 0).numpy(), RELEASED["evalpad_image"])


@pytest.mark.parametrize(
    "size, canvas, wanted", [((20, 40), None, (33, 40)), ((20, 40), 65, (65, 65)), ((66, 40), 65, (81, 65))]
)
def test_padding_is_gray_at_the_bottom_and_right(size, canvas, wanted):
    image = picture(*size)
    got = pad_to_canvas(image, canvas)[0].permute(1, 2, 0).numpy()
    assert got.shape[:2] == wanted
    np.testing.assert_array_equal(got[: size[0], : size[1]], image)
    assert (got[size[0] :] == PADDING_VALUE).all() and (got[:, size[1] :] == PADDING_VALUE).all() and PADDING_VALUE == 127.5


@pytest.mark.parametrize("canvas, size", [(65, (65, 65)), (None, (41, 57))])
@torch.inference_mode()
def test_a_single_scale_is_the_model_on_the_padded_image(model, canvas, size):
    image = picture(41, 57)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    x = F.pad(x, (0, size[1] - 57, 0, size[0] - 41), value=127.5) / 127.5 - 1
    wanted = model(x)[0, :, :41, :57]
    got = infer(model, image, InferenceConfig(canvas=canvas))
    assert wanted.std() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    agree = predict_mask(model, image, InferenceConfig(canvas=canvas)) == wanted.argmax(0).numpy()
    assert agree[clear(wanted)].all() and clear(wanted).mean() > 0.9


def test_the_canvas_changes_the_answer(model):
    image = picture(41, 57)
    on_canvas, native = (infer(model, image, InferenceConfig(canvas=canvas)) for canvas in (129, None))
    assert (on_canvas - native).abs().max() > 0.01


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(41, 57), (65, 38)])
def test_scales_and_flip_equal_the_released_evaluation(model, size, flip):
    image = picture(*size)
    wanted = released_multi_scale(model, image, 65, SCALES, flip)
    config = InferenceConfig(scales=SCALES, flip=flip, canvas=65)
    torch.testing.assert_close(infer(model, image, config), wanted, rtol=1e-3, atol=1e-5)
    seen = clear(wanted)
    assert seen.mean() > 0.9
    assert (predict_mask(model, image, config) == wanted.argmax(0).numpy())[seen].all()


def test_flip_alone_averages_the_image_with_its_mirror(model):
    image, config = picture(65, 65), InferenceConfig(flip=True, canvas=65)
    got = infer(model, image, config)
    torch.testing.assert_close(got, released_multi_scale(model, image, 65, [1.0], True), rtol=1e-3, atol=1e-5)
    mirrored = infer(model, np.ascontiguousarray(image[:, ::-1]), config).flip(2)
    torch.testing.assert_close(got, mirrored, rtol=1e-3, atol=1e-5)


def test_a_single_scale_other_than_1_gives_logits(model):
    image = picture(65, 65)
    with torch.inference_mode():
        logits = model.logits(2 / 255 * bilinear(padded(image, 65), (33, 33)) - 1)
        wanted = bilinear(bilinear(logits, (17, 17)), (65, 65))[0]
    torch.testing.assert_close(infer(model, image, InferenceConfig(scales=[0.5], canvas=65)), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "config", [InferenceConfig(canvas=None), InferenceConfig(canvas=65), InferenceConfig(scales=SCALES, flip=True, canvas=None)]
)
@pytest.mark.parametrize("size", [(1, 1), (5, 90), (33, 33), (70, 34), (66, 97)])
def test_predictions_have_the_size_of_the_image(model, size, config):
    mask = predict_mask(model, picture(*size), config)
    assert mask.shape == size and mask.dtype == np.uint8 and mask.max() < 5


def test_a_prediction_does_not_depend_on_earlier_images(model):
    config, images = InferenceConfig(canvas=65), [picture(41, 57), picture(65, 33, 1)]
    forwards = [infer(model, image, config) for image in images]
    backwards = [infer(model, image, config) for image in reversed(images)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert torch.equal(one, other)


def test_an_image_may_be_a_read_only_or_reversed_view(model, recwarn):
    image, config = picture(41, 57), InferenceConfig(canvas=65)
    turned = image[::-1, ::-1]
    turned.flags.writeable = False
    np.testing.assert_array_equal(predict_mask(model, turned, config), predict_mask(model, turned.copy(), config))
    assert not recwarn.list


def test_predicting_does_not_change_the_image(model):
    image = picture(41, 57)
    before = image.copy()
    predict_mask(model, image, InferenceConfig(scales=[0.5, 1.0], flip=True, canvas=65))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("config", [InferenceConfig(canvas=97), InferenceConfig(canvas=97, scales=[0.5, 1.0], flip=True)])
def test_masks_of_a_batch_are_those_of_its_images(model, config):
    images = [picture(41, 57), picture(97, 80, 1), picture(33, 97, 2)]
    together = Predictor(model, VOC, config).predict(images)
    for image, mask in zip(images, together, strict=True):
        np.testing.assert_array_equal(mask, predict_mask(model, image, config))


SIZES = [(41, 57), (97, 80), None, (41, 57), (300, 250), (41, 57), (33, 97), (97, 80), *3 * [(41, 57)], None, *9 * [(41, 57)]]


@pytest.mark.parametrize("canvas", [None, 97])
@pytest.mark.parametrize("pixels", [1, 4 * 41 * 57, 10**9])
def test_masks_come_in_order_and_do_not_depend_on_the_batch(model, monkeypatch, canvas, pixels):
    monkeypatch.setitem(PIXELS_PER_BATCH, "cpu", pixels)
    config = InferenceConfig(canvas=canvas, tile=257)
    images = [size and picture(*size, number) for number, size in enumerate(SIZES)]
    batches, drawn = [], []
    original = Predictor._start_batch
    monkeypatch.setattr(
        Predictor, "_start_batch", lambda self, given, sizes: batches.append(len(given)) or original(self, given, sizes)
    )
    predictor = Predictor(model, VOC, config)

    def samples():
        for number, image in enumerate(images):
            drawn.append(number)
            yield str(number), image

    for number, (sample, mask) in enumerate(predictor.stream(samples())):
        assert sample == str(number)
        assert len(drawn) - number <= LOOKAHEAD and (number > 4 or max(drawn) <= 4), "too many are kept waiting"
        if images[number] is None:
            assert mask is None
        else:
            alone = original(predictor, [images[number]], [images[number].shape[:2]])()
            np.testing.assert_array_equal(mask, alone[0])
    assert number == len(SIZES) - 1 and sum(batches) == len(SIZES) - 2
    assert max(batches) == (LOOKAHEAD if pixels == 10**9 else 4 if pixels > 1 and canvas is None else 1)


@pytest.mark.parametrize("scales, together", [([1.0], 8), ([2.0], 2), ([0.5, 1.0, 2.0], 2), ([4.0], 1)])
def test_larger_scales_give_smaller_batches(model, monkeypatch, scales, together):
    batches = []
    monkeypatch.setattr(Predictor, "_start_batch", lambda self, images, sizes: batches.append(len(images)) or (lambda: images))
    config = InferenceConfig(scales=scales, canvas=129)
    assert len(list(Predictor(model, VOC, config).stream([(None, picture(40, 129))] * 16))) == 16
    assert batches == [together] * (16 // together)


def test_free_memory_is_released_while_many_images_are_predicted(model, monkeypatch):
    """Blocks of images of many sizes would else take more and more memory."""
    released = []
    monkeypatch.setattr("seg.inference.predictor.release_free_memory", lambda: released.append(True))
    images = ((None, picture(9 + number % 5, 9)) for number in range(2 * RELEASE_EVERY + 1))
    list(Predictor(model, VOC, InferenceConfig(canvas=None)).stream(images))
    assert len(released) == 2


@pytest.mark.parametrize("size, new", [((9, 13), (33, 49)), ((9, 13), (30, 41)), ((40, 31), (17, 19)), ((1, 5), (7, 5))])
def test_resized_rows_equal_those_of_the_whole_resize(size, new):
    x = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(0))
    whole = bilinear(x, new)
    for top, bottom in ((0, new[0]), (0, 1), (3, 7), (new[0] - 1, new[0])):
        torch.testing.assert_close(resize_rows(x, new, top, bottom), whole[:, :, top:bottom], rtol=1e-4, atol=1e-5)


def test_full_size_scores_are_never_stored(model, monkeypatch):
    seen, original = [], resize_rows
    monkeypatch.setattr(scores, "resize_rows", lambda *given: seen.append(original(*given)) or seen[-1])
    predict_mask(model, picture(300, 200), InferenceConfig(canvas=None))
    assert sum(rows.shape[2] for rows in seen) == 300
    assert max(rows.shape[2] for rows in seen) == ROWS["cpu"]


@pytest.mark.parametrize("settings", [{}, {"scales": [0.5, 1.0], "flip": True}, {"canvas": None, "tile": 257}])
def test_probabilities_sum_to_one_and_their_argmax_is_the_mask(model, settings):
    predictor = Predictor(model, VOC, InferenceConfig(**{"canvas": 65, **settings}))
    image = picture(290, 260) if "tile" in settings else picture(41, 57)
    found = predictor.probabilities(image)
    assert found.dtype == np.float32 and found.shape == (5, *image.shape[:2]) and found.min() >= 0
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-4)
    seen = clear(torch.from_numpy(found))
    assert seen.mean() > 0.9 and (found.argmax(0) == predictor.predict(image))[seen].all()


# Tiles.


class Planes(nn.Module):
    """The logit of each class is an affine function of red and green, at stride 4."""

    mean = std = (0.5, 0.5, 0.5)
    logits_stride = 4
    output_stride = 16

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.slopes = nn.Parameter(torch.randn(6, 2, generator=generator))
        self.sizes = []

    def logits(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        red_green = images[:, :2, ::4, ::4]
        return torch.einsum("kc,nchw->nkhw", self.slopes, red_green)


def gradient(height, width):
    """Red rises to the right and green downwards, in steps that are exact at stride 4."""
    rows, columns = np.mgrid[:height, :width] // 4
    return np.stack([columns % 256, rows % 256, 0 * rows], 2).astype(np.uint8)


def test_tiles_cover_a_side_at_multiples_of_16_and_overlap():
    for tile in (257, 513, 1537):
        for side in range(tile, 6000, 16):
            starts = tile_starts(side, tile)
            assert starts[0] == 0 and starts[-1] + tile == side and all(start % 16 == 0 for start in starts)
            assert all(a + tile - b >= OVERLAP for a, b in itertools.pairwise(starts))
    assert tile_starts(200, 257) == [0]


@pytest.mark.parametrize("size", [(257 * 2, 300), (600, 257), (1000, 700), (40, 1700)])
def test_tiles_equal_the_whole_image_for_a_network_without_context(size):
    whole, tiled = Planes(), Planes()
    image = gradient(*size)
    wanted = infer(whole, image, InferenceConfig(canvas=33))
    grid, covered = blend_tiles(tiled, image, InferenceConfig(canvas=None, tile=257), torch.device("cpu"))
    assert all(side % 16 == 1 for side in covered) and all(max(seen) <= 257 for seen in tiled.sizes) and len(tiled.sizes) > 1
    got = bilinear(grid, covered)[0, :, : size[0], : size[1]]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    mask = predict_mask(tiled, image, InferenceConfig(canvas=None, tile=257))
    if size[0] * size[1] > 257**2:
        assert mask.shape == size and (mask == wanted.argmax(0).numpy())[clear(wanted)].all()


def test_tiles_of_a_network_are_close_to_the_whole_image(model):
    """Away from the borders of tiles, only image pooling differs a little from the whole image."""
    image = picture(400, 500)
    for config in (InferenceConfig(canvas=33, tile=257), InferenceConfig(canvas=33, tile=257, scales=[0.5, 1.0], flip=True)):
        whole = infer(model, image, config).argmax(0).numpy()
        tiled = predict_mask(model, image, config)
        assert (whole == tiled).mean() > 0.9


def test_an_image_as_large_as_a_tile_is_not_cut(model):
    image = picture(257, 257)
    config = InferenceConfig(canvas=33, tile=257)
    np.testing.assert_array_equal(predict_mask(model, image, config), infer(model, image, config).argmax(0).numpy())


def test_a_blended_grid_is_continuous_across_tiles(model):
    """No seam: neighbors on the grid differ no more where tiles meet than elsewhere."""
    image = np.full((300, 900, 3), 90, np.uint8) + np.linspace(0, 60, 900).astype(np.uint8)[None, :, None]
    grid, _ = blend_tiles(model, image, InferenceConfig(tile=257), torch.device("cpu"))
    steps = (grid[..., 1:] - grid[..., :-1]).abs().amax((0, 1, 2))[8:-8]
    assert steps.max() < 20 * steps.median()


# The output stride for a while.


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value, inside", [(8, 8), (16, 16), (None, 16)])
def test_mode_and_output_stride_are_restored(training, value, inside):
    model = random_model().train(training)
    with evaluation_mode(model, value or model.output_stride):
        assert not any(module.training for module in model.modules())
        assert model.output_stride == inside
    assert all(module.training == training for module in model.modules())
    assert model.output_stride == 16


def test_mode_and_output_stride_are_restored_after_an_error():
    model = random_model().train()
    with pytest.raises(RuntimeError), evaluation_mode(model, 8):
        raise RuntimeError
    assert model.training and model.output_stride == 16


def test_parts_that_were_frozen_stay_frozen():
    model = random_model().train()
    model.backbone.conv1.norm.eval()
    with evaluation_mode(model, 8):
        pass
    assert model.training and not model.backbone.conv1.norm.training


class Fixed(nn.Module):
    """A network that keeps the output stride that it was built with."""

    @property
    def output_stride(self):
        return 16

    @output_stride.setter
    def output_stride(self, value):
        if value != 16:
            raise UserError(f"output stride {value}")


def test_a_model_that_refuses_the_output_stride_keeps_its_mode():
    model = Fixed()
    with pytest.raises(UserError), evaluation_mode(model, 8):
        pass
    assert model.training


def test_the_output_stride_changes_the_answer_and_not_the_weights():
    model, image, config = random_model(), picture(65, 65), InferenceConfig(canvas=65)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    coarse = infer(model, image, config)
    fine = infer(model, image, InferenceConfig(canvas=65, output_stride=8))
    assert (coarse - fine).abs().max() > 0.01
    assert torch.equal(infer(model, image, config), coarse)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_decoder_resizes_its_logits_from_its_own_stride():
    model = random_model(ModelConfig(backbone="xception41", width=0.125, decoder=None))
    image = picture(65, 65)
    with torch.inference_mode():
        x = 2 / 255 * padded(image, 65) - 1
        small = bilinear(model.logits(2 / 255 * bilinear(padded(image, 65), (33, 33)) - 1), (5, 5))
        wanted = (bilinear(model.logits(x), (65, 65)).softmax(1) + bilinear(small, (65, 65)).softmax(1)) / 2
    got = infer(model, image, InferenceConfig(scales=[1.0, 0.5], canvas=65))
    torch.testing.assert_close(got, wanted[0], rtol=1e-3, atol=1e-5)
