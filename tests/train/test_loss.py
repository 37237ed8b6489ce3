import numpy as np
import pytest
import torch
from segmentation_models_pytorch import losses as library

from seg.config import TrainConfig
from seg.errors import UserError
from seg.train.loss import Loss, balanced_weights, cross_entropy

COUNTS = np.ones((2, 4), np.int64)


def logits_and_target(seed=0, void=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 9, 7, generator=generator)
    target = torch.randint(0, 4, (2, 9, 7), generator=generator)
    target[torch.rand(2, 9, 7, generator=generator) < void] = 255
    return logits, target


def naive_cross_entropy(logits, target, weights):
    """Sum of weighted negative log-likelihoods over the labelled pixels, by their number."""
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
    loss = Loss(TrainConfig(loss={name: 1.0}), COUNTS)
    logits, target = logits_and_target()
    changed = torch.where((target == 255)[:, None], torch.full_like(logits, 50.0), logits)
    changed[:, 0] -= 100.0 * (target == 255)
    assert torch.equal(loss(logits, target), loss(changed, target))


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "jaccard", "lovasz", "focal"])
def test_an_all_void_batch_gives_zero_and_zero_gradients(name):
    logits, target = logits_and_target(void=2.0)
    logits.requires_grad_()
    value = Loss(TrainConfig(loss={name: 1.0}), COUNTS)(logits, target)
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
def test_without_void_a_named_loss_is_the_librarys(name, peer):
    logits, target = logits_and_target(void=0.0)
    got = Loss(TrainConfig(loss={name: 1.0}), COUNTS)(logits, target)
    assert float(got) == pytest.approx(float(peer(mode="multiclass")(logits, target)), rel=1e-5)


def test_losses_add_up_by_their_weights():
    logits, target = logits_and_target()
    parts = {name: float(Loss(TrainConfig(loss={name: 1.0}), COUNTS)(logits, target)) for name in ("cross_entropy", "dice")}
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
