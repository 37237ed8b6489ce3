import pytest
import torch

from seg.models.ops.batch_norm import BatchNorm2d, SinglePixelBatchNorm2d

EPS = 1e-3


def same_state(a, b):
    """Return whether parameters and moving statistics are equal, without PyTorch's counter of batches."""
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    return all(torch.equal(value, b[name]) for name, value in a.items() if name != "num_batches_tracked")


def by_formula(x, layer):
    """Batch norm with moving statistics."""
    mean, variance, scale, offset = (
        t[:, None, None] for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / torch.sqrt(variance + EPS) * scale + offset


@pytest.mark.parametrize("kind", [BatchNorm2d, SinglePixelBatchNorm2d])
@pytest.mark.parametrize("momentum", [0.0003, 0.1])
@pytest.mark.parametrize("training", [True, False])
def test_values_gradients_and_statistics_equal_pytorchs(kind, momentum, training, randomize):
    ours, theirs = (randomize(cls(4, eps=EPS, momentum=momentum)).train(training) for cls in (kind, torch.nn.BatchNorm2d))
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(2, 4, 5, 6)
        results = []
        for norm in (ours, theirs):
            norm.zero_grad()
            image = x.clone().requires_grad_()
            y = norm(image)
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
            results.append((y, image.grad, norm.weight.grad, norm.bias.grad))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert same_state(ours, theirs)
    assert int(ours.num_batches_tracked) == 0 and int(theirs.num_batches_tracked) == 3 * training


def test_without_a_momentum_statistics_are_pytorchs_cumulative_average():
    ours, theirs = BatchNorm2d(4, momentum=None), torch.nn.BatchNorm2d(4, momentum=None)
    for _ in range(3):
        x = torch.randn(2, 4, 5, 6)
        assert torch.equal(ours(x), theirs(x))
    assert same_state(ours, theirs) and int(ours.num_batches_tracked) == 3


def test_batch_norm_of_a_single_pixel_uses_moving_statistics(randomize):
    torch.manual_seed(0)
    lone, plain = randomize(SinglePixelBatchNorm2d(4, eps=EPS)), randomize(torch.nn.BatchNorm2d(4, eps=EPS))
    for shape in ((2, 4, 1, 1), (1, 4, 2, 1), (1, 4, 1, 3)):
        x = torch.randn(shape)
        torch.testing.assert_close(lone(x), plain(x))
    before = {name: value.clone() for name, value in lone.state_dict().items()}
    assert same_state(lone, plain)
    x = torch.randn(1, 4, 1, 1)
    torch.testing.assert_close(lone(x), by_formula(x, lone))
    assert all(torch.equal(value, before[name]) for name, value in lone.state_dict().items())
