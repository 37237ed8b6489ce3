"""The machine's arithmetic limit: matrix products."""

from ..harness import Limit, Side, Work

PRODUCTS = ((1089, 728, 728), (2048, 2048, 2048))
"""Sizes n, k, m of the products; the faster one is the limit. A pointwise convolution of the middle flow, and a large one."""


def matrix_product(n: int, k: int, m: int) -> Work:
    """Prepare the float32 product of an n x k and a k x m matrix."""
    import torch

    from ...distributed import device

    torch.manual_seed(0)
    a, b, out = (torch.randn(*size, device=device()) for size in ((n, k), (k, m), (n, m)))
    return lambda: torch.mm(a, b, out=out)


def arithmetic_limit(multiply_adds: int) -> Limit:
    """Return the limit of work with this number of multiply-adds."""
    sides = tuple(Side(f"matrix product {n}x{k}x{m}", matrix_product, (n, k, m)) for n, k, m in PRODUCTS)
    return Limit("matrix product", "GFLOP", 2e-9 * multiply_adds, sides, tuple(2e-9 * n * k * m for n, k, m in PRODUCTS))
