import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg.models.ops.resize import _Resize, interpolation, resize


def align_corners(x, height, width):
    """Bilinear interpolation with aligned corners, one pixel at a time."""
    result = np.zeros((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            row = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0
            column = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0
            top, left = int(row), int(column)
            bottom, right = min(top + 1, x.shape[2] - 1), min(left + 1, x.shape[3] - 1)
            v, u = row - top, column - left
            upper = (1 - u) * x[:, :, top, left] + u * x[:, :, top, right]
            lower = (1 - u) * x[:, :, bottom, left] + u * x[:, :, bottom, right]
            result[:, :, i, j] = (1 - v) * upper + v * lower
    return result


@pytest.mark.parametrize(
    "size, target", [((5, 7), (17, 25)), ((9, 6), (14, 31)), ((12, 9), (5, 4)), ((1, 1), (3, 4)), ((4, 5), (1, 1))]
)
def test_resize_is_bilinear_with_aligned_corners(size, target):
    x = np.random.default_rng(0).normal(size=(2, 3, *size))
    np.testing.assert_allclose(resize(torch.from_numpy(x), target).numpy(), align_corners(x, *target), atol=1e-12)


def test_resize_to_the_same_size_returns_the_tensor_itself():
    x = torch.zeros(1, 2, 5, 6)
    assert resize(x, (5, 6)) is x
    assert resize(x, x.shape[-2:]) is x


@pytest.mark.parametrize("size, target", [((9, 6), (14, 31)), ((33, 33), (129, 129)), ((12, 9), (5, 4))])
def test_the_matrices_are_the_interpolation(size, target):
    x = torch.randn(2, 3, *size)
    vertical, horizontal = (torch.from_numpy(interpolation(a, b, x.dtype)) for a, b in zip(size, target, strict=True))
    torch.testing.assert_close(vertical @ x @ horizontal.T, resize(x, target))


@pytest.mark.parametrize("size, target", [((5, 7), (17, 25)), ((12, 9), (5, 4)), ((1, 1), (3, 4))])
def test_the_gradient_by_matrices_is_interpolates(size, target):
    """On a CPU, though only GPUs use it."""
    x = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(2, 3, *target, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    (ours,) = torch.autograd.grad((_Resize.apply(x, target) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((F.interpolate(x, target, mode="bilinear", align_corners=True) * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_the_gradient_by_matrices_keeps_the_accuracy_of_bfloat16():
    """A sum in bfloat16 loses digits with each term; the matrix product sums in float32."""
    torch.manual_seed(0)
    grad = torch.randn(1, 64, 129, 129).bfloat16()
    x = torch.zeros(1, 64, 33, 33, dtype=torch.bfloat16, requires_grad=True)
    (ours,) = torch.autograd.grad(_Resize.apply(x, (129, 129)), x, grad)
    exact = torch.zeros(1, 64, 33, 33, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(resize(exact, (129, 129)), exact, grad.double())
    assert (ours - exact).norm() < 0.0025 * exact.norm()  # half a unit in the last place is 0.002
