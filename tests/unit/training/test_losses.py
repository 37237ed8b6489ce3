import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as library
from torch.utils._python_dispatch import TorchDispatchMode

import seg.training.tiled_cross_entropy
from seg.config import TrainConfig, from_dict
from seg.errors import UserError
from seg.training.losses import Loss, balanced_weights, cross_entropy, hard_cross_entropy, hard_share
from tests.helpers.toy import refused

COUNTS = np.ones((2, 4), np.int64)


def logits_and_target(seed=0, void=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 9, 7, generator=generator)
    target = torch.randint(0, 4, (2, 9, 7), generator=generator)
    target[torch.rand(2, 9, 7, generator=generator) < void] = 255
    return logits, target


def naive_cross_entropy(logits, target, weights):
    """Sum of weighted negative log-likelihoods over the labeled pixels, by their number."""
    total, pixels = 0.0, 0
    for n, y, x in np.argwhere(target.numpy() != 255):
        scores = logits[n, :, y, x].double()
        label = int(target[n, y, x])
        total += weights[label] * float(torch.logsumexp(scores, 0) - scores[label])
        pixels += 1
    return total / pixels


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [0.3, 2.0, 1.0, 3.0]])
def test_cross_entropy_is_the_weighted_sum_over_the_number_of_labelled_pixels(weights):
    logits, target = logits_and_target()
    got = cross_entropy(logits, target, torch.tensor(weights))
    assert float(got) == pytest.approx(naive_cross_entropy(logits, target, weights), rel=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "jaccard", "lovasz", "focal"])
def test_void_pixels_do_not_count(name):
    loss = Loss(TrainConfig(loss={"cross_entropy": 0.0, name: 1.0}), COUNTS)
    logits, target = logits_and_target()
    changed = torch.where((target == 255)[:, None], torch.full_like(logits, 50.0), logits)
    changed[:, 0] -= 100.0 * (target == 255)
    assert torch.equal(loss(logits, target), loss(changed, target))


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "jaccard", "lovasz", "focal"])
def test_an_all_void_batch_gives_zero_and_zero_gradients(name):
    logits, target = logits_and_target(void=2.0)
    logits.requires_grad_()
    value = Loss(TrainConfig(loss={"cross_entropy": 0.0, name: 1.0}), COUNTS)(logits, target)
    value.backward()
    assert float(value.detach()) == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("dice", library.DiceLoss),
        ("jaccard", library.JaccardLoss),
        ("lovasz", library.LovaszLoss),
        ("focal", library.FocalLoss),
    ],
)
def test_without_void_a_named_loss_equals_the_library_s(name, peer):
    logits, target = logits_and_target(void=0.0)
    got = Loss(TrainConfig(loss={"cross_entropy": 0.0, name: 1.0}), COUNTS)(logits, target)
    assert float(got) == pytest.approx(float(peer(mode="multiclass")(logits, target)), rel=1e-5)


def plain(logits, target, weights=None, pixels=None, smoothing=0.0):
    """All logits at full size, by torch's own functions."""
    full = F.interpolate(logits, size=target.shape[1:], mode="bilinear", align_corners=True)
    total = F.cross_entropy(full, target, weights, ignore_index=255, reduction="sum", label_smoothing=smoothing)
    return total / ((target != 255).sum().clamp(min=1) if pixels is None else pixels)


def with_gradient(loss, logits, *arguments, **options):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *arguments, **options)
    value.backward()
    return value.detach(), logits.grad


def strided(size, target_size, dtype=torch.float32, batch=2, classes=4, seed=0):
    """Logits of `size` as the networks give them, channels last in memory, and a target of `target_size` with void in it."""
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(batch, classes, *size, generator=generator, dtype=dtype)
    target = torch.randint(0, classes, (batch, *target_size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    target[0, : target_size[0] // 2] = 255
    return logits.contiguous(memory_format=torch.channels_last), target


SIZES = [
    ((9, 9), (33, 33)),
    ((9, 7), (34, 23)),
    ((9, 7), (9, 7)),
    ((9, 7), (9, 26)),
    ((9, 7), (35, 7)),
    ((1, 1), (6, 5)),
    ((5, 4), (1, 40)),
    ((9, 8), (6, 5)),
]
OPTIONS = {
    "as it is": {},
    "weighted": {"weights": [0.3, 2.0, 0.0, 3.0]},
    "smoothed": {"smoothing": 0.1},
    "both": {"weights": [0.3, 2.0, 0.0, 3.0], "smoothing": 0.3},
    "part": {"pixels": torch.tensor(700.0)},
}


@pytest.mark.parametrize("tile", [40, 4 * 130, None])
@pytest.mark.parametrize("size, target_size", SIZES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_tiled_loss_equals_the_cross_entropy_of_the_resized_logits(
    monkeypatch, dtype, bound, options, size, target_size, tile
):
    if tile:
        monkeypatch.setitem(seg.training.tiled_cross_entropy.TILE, "cpu", tile)
    logits, target = strided(size, target_size, dtype)
    if "weights" in options:
        options = options | {"weights": torch.tensor(options["weights"], dtype=dtype)}
    wanted, slope = with_gradient(plain, logits, target, **options)
    value, gradient = with_gradient(cross_entropy, logits, target, **options)
    assert value.dtype == gradient.dtype == dtype
    assert abs(value - wanted) <= bound * wanted
    assert (gradient - slope).abs().max() <= bound * slope.abs().max()


def test_the_tiled_loss_is_correct_for_a_crop_of_the_papers_size():
    logits, target = strided((129, 129), (513, 513), batch=1, classes=21)
    for got, wanted in zip(*(with_gradient(loss, logits, target) for loss in (cross_entropy, plain)), strict=True):
        assert (got - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_the_gradient_of_the_tiled_loss_equals_finite_differences():
    logits, target = strided((4, 3), (9, 10), torch.float64)
    weights = torch.tensor([0.3, 2.0, 0.0, 3.0])
    torch.autograd.gradcheck(lambda x: cross_entropy(x, target, weights, None, 0.2), logits.requires_grad_())


def test_extreme_logits_are_exact():
    logits, target = strided((9, 9), (33, 33))
    for got, wanted in zip(*(with_gradient(loss, 400 * logits, target) for loss in (cross_entropy, plain)), strict=True):
        assert wanted.isfinite().all()
        assert (got - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_the_parts_of_a_batch_add_up_to_it():
    logits, target = strided((9, 9), (33, 33), torch.float64)
    pixels = (target != 255).sum()
    whole, slope = with_gradient(cross_entropy, logits, target)
    parts = [with_gradient(cross_entropy, logits[[i]], target[[i]], pixels=pixels) for i in range(2)]
    assert sum(value for value, _ in parts) == pytest.approx(float(whole), rel=1e-12)
    torch.testing.assert_close(torch.cat([gradient for _, gradient in parts]), slope, rtol=1e-12, atol=1e-15)


def test_under_autocast_the_loss_is_computed_in_float32():
    logits, target = strided((9, 9), (33, 33))
    features, classifier = logits.detach(), torch.nn.Conv2d(4, 4, 1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = classifier(features)
        value, gradient = with_gradient(cross_entropy, logits, target)
    assert logits.dtype == gradient.dtype == torch.bfloat16
    wanted, slope = with_gradient(plain, logits.float(), target)
    assert value.dtype == torch.float32
    assert abs(value - wanted) <= 1e-6 * wanted
    torch.testing.assert_close(gradient.float(), slope, rtol=2**-8, atol=1e-6 * float(slope.abs().max()))


def test_with_float16_a_loss_scale_saves_small_gradients():
    logits, target = strided((9, 9), (33, 33))
    logits, pixels = logits.half(), torch.tensor(2.0**36)
    _, gradient = with_gradient(lambda *arguments: pixels * cross_entropy(*arguments), logits, target, None, pixels)
    _, slope = with_gradient(lambda *arguments: pixels * plain(*arguments), logits.float(), target, None, pixels)
    assert gradient.dtype == torch.float16
    torch.testing.assert_close(gradient.float(), slope, rtol=2**-10, atol=1e-6 * float(slope.abs().max()))
    assert not with_gradient(cross_entropy, logits, target, None, pixels)[1].any()


def test_a_label_that_no_class_has_is_an_error():
    logits, target = strided((9, 9), (33, 33))
    target[1, 30, 3] = 4
    with pytest.raises(ValueError, match=r"class indices below 4, or 255 for void, not .*4"):
        cross_entropy(logits, target)


def test_masks_may_be_bytes():
    logits, target = strided((9, 9), (33, 33))
    assert torch.equal(cross_entropy(logits, target.byte()), cross_entropy(logits, target))


class Made(TorchDispatchMode):
    """Records the operations and the size of their largest result."""

    def __init__(self):
        super().__init__()
        self.largest, self.operations = 0, set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        self.operations.add(function.overloadpacket.__name__)
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("options", [{}, {"smoothing": 0.1}])
def test_no_tensor_is_larger_than_the_logits_at_stride_4(options):
    logits, target = strided((129, 129), (513, 513), batch=1, classes=21)
    with Made() as tiled:
        with_gradient(cross_entropy, logits, target, **options)
    with Made() as whole:
        with_gradient(plain, logits, target, **options)
    assert tiled.largest <= logits.numel()
    assert whole.largest == 21 * 513 * 513


def test_no_gradient_is_computed_if_none_is_needed():
    logits, target = strided((9, 9), (33, 33))
    with Made() as made:
        value = cross_entropy(logits, target)
    assert not value.requires_grad
    assert value == with_gradient(cross_entropy, logits, target)[0]
    assert "scatter_add_" not in made.operations


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "jaccard", "lovasz", "focal"])
def test_every_loss_is_that_of_the_resized_logits(name):
    logits, target = strided((9, 9), (33, 33))
    loss = Loss(TrainConfig(loss={"cross_entropy": 0.0, name: 1.0}), COUNTS)
    full = F.interpolate(logits, size=(33, 33), mode="bilinear", align_corners=True)
    torch.testing.assert_close(loss(logits, target), loss(full, target), rtol=1e-6, atol=0)


def test_the_configured_smoothing_and_weights_are_taken():
    logits, target = strided((9, 9), (33, 33))
    config = TrainConfig(label_smoothing=0.2, class_weights=[0.3, 2.0, 1.0, 3.0])
    wanted = plain(logits, target, torch.tensor(config.class_weights), smoothing=0.2)
    torch.testing.assert_close(Loss(config, COUNTS)(logits, target), wanted, rtol=1e-6, atol=0)


def test_losses_add_up_by_their_weights():
    logits, target = logits_and_target()
    parts = {
        name: float(Loss(TrainConfig(loss={"cross_entropy": 0.0, name: 1.0}), COUNTS)(logits, target))
        for name in ("cross_entropy", "dice")
    }
    both = Loss(TrainConfig(loss={"cross_entropy": 0.7, "dice": 0.2}), COUNTS)(logits, target)
    assert float(both) == pytest.approx(0.7 * parts["cross_entropy"] + 0.2 * parts["dice"], rel=1e-5)


def test_balanced_weights_are_the_root_of_median_over_frequency_clipped():
    # Three images of 100 pixels: class 0 in all, 1 in one, 2 in two, 3 in none.
    counts = np.array([[90, 10, 0, 0], [50, 0, 50, 0], [99, 0, 1, 0]])
    frequency = np.array([239 / 300, 10 / 100, 51 / 200])
    wanted = np.clip((np.median(frequency) / frequency) ** 0.5, 0.3, 3.0)
    np.testing.assert_allclose(balanced_weights(counts), [*wanted, 1.0], rtol=1e-6)
    assert balanced_weights(np.array([[10**6, 1, 10**6]])).max() == np.float32(3.0)


def test_weights_for_another_number_of_classes_are_refused():
    with pytest.raises(UserError, match="3 numbers for 4 classes"):
        Loss(TrainConfig(class_weights=[1.0, 2.0, 3.0]), COUNTS)


@pytest.mark.parametrize("logits, target", [((2, 4, 9, 7), (2, 1, 9, 7)), ((2, 4, 9, 7), (1, 9, 7)), ((4, 9, 7), (9, 7))])
def test_shapes_that_do_not_fit_are_an_error(logits, target):
    with pytest.raises(ValueError, match=r"must be \[N, C, h, w\] and target \[N, H, W\]"):
        cross_entropy(torch.zeros(logits), torch.zeros(target, dtype=torch.int64))


def test_losses_are_added_to_cross_entropy_unless_it_is_0():
    logits, target = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 17, 17)).byte()

    def value(*overrides):
        return float(Loss(from_dict({}, "test", overrides).train, COUNTS)(logits, target))

    entropy, dice = value(), value("train.loss=dice")
    assert dice == pytest.approx(value("train.loss.cross_entropy=0", "train.loss.dice=1")) and dice != entropy
    assert value("train.loss.dice=0.5") == pytest.approx(entropy + 0.5 * dice)
    assert value("train.loss.cross_entropy=0.5", "train.loss.dice=2") == pytest.approx(0.5 * entropy + 2 * dice)


def test_class_weights_by_name_are_those_of_the_list():
    logits, target = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 17, 17)).byte()
    names = ["background", "cat", "dog", "person"]
    named = Loss(TrainConfig(class_weights={"person": 2, "cat": 0.5}), COUNTS, names)
    listed = Loss(TrainConfig(class_weights=[1, 0.5, 1, 2]), COUNTS, names)
    assert named(logits, target) == listed(logits, target)
    with refused("train.class_weights.cats: not a class; did you mean 'cat'?"):
        Loss(TrainConfig(class_weights={"cats": 2}), COUNTS, names)


def hard_by_hand(logits, target, share, weights):
    """As the released code: weighted losses of all pixels, 0 where void; the largest; their mean over those that are not 0."""
    logits = F.interpolate(logits.double(), target.shape[1:], mode="bilinear", align_corners=True)
    losses = []
    for image, labels in zip(logits, target, strict=True):
        for pixel, label in zip(image.flatten(1).T, labels.flatten().tolist(), strict=True):
            losses.append(0.0 if label == 255 else float(weights[label] * (pixel.exp().sum().log() - pixel[label])))
    chosen = sorted(losses, reverse=True)[: int(share * len(losses))]
    return sum(chosen) / sum(loss != 0 for loss in chosen)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.25, 0.01])
def test_the_loss_of_hard_pixels_is_that_of_the_released_code(share):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 17, 17)).byte()
    target[0, :12] = 255
    weights = torch.tensor([1.0, 0.5, 2.0, 1.5])
    found = hard_cross_entropy(logits, target, share, weights)
    assert float(found) == pytest.approx(hard_by_hand(logits, target, share, weights), rel=1e-5)


def test_void_alone_costs_nothing_where_hard_pixels_are_chosen():
    logits = torch.randn(1, 4, 5, 5, requires_grad=True)
    loss = hard_cross_entropy(logits, torch.full((1, 17, 17), 255).byte(), 0.25)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_the_share_of_hard_pixels_falls_over_its_steps():
    config = TrainConfig(hard_pixels=0.25, hard_pixels_steps=100)
    assert [hard_share(i, config) for i in (0, 50, 100, 500)] == [1.0, 0.625, 0.25, 0.25]
    assert hard_share(0, TrainConfig(hard_pixels=0.25)) == 0.25 and hard_share(7, TrainConfig()) == 1.0


def test_hard_pixels_add_to_other_losses_and_each_part_counts_alike():
    logits, target = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 17, 17)).byte()
    loss = Loss(TrainConfig(hard_pixels=0.25, loss={"cross_entropy": 0.5, "dice": 1.0}), COUNTS)
    loss.share = 0.3
    dice = Loss(TrainConfig(loss={"cross_entropy": 0.0, "dice": 1.0}), COUNTS)
    wanted = 0.5 * hard_cross_entropy(logits, target, 0.3) + dice(logits, target)
    torch.testing.assert_close(loss(logits, target), wanted)
    torch.testing.assert_close(loss(logits, target, parts=2), wanted / 2)
