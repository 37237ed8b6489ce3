"""The machine's arithmetic limit: matrix products."""

from ...precision import Precision
from ..harness import Limit, Side, Work

PRODUCTS = ((1089, 728, 728), (2048, 2048, 2048))
"""Sizes n, k, m of the products; the fastest is the limit. A pointwise convolution of the middle flow, and a large one."""
GPU_PRODUCTS = ((16 * 1089, 728, 728), (8192, 8192, 8192))
"""The same on a GPU."""


def matrix_product(n: int, k: int, m: int, precision: Precision) -> Work:
    """Prepare the product of an n x k and a k x m matrix. float32 on a GPU uses TF32, as convolutions do there."""
    import torch

    from ...distributed import device

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = precision == "float32"
    dtype = torch.float32 if precision.startswith("float32") else getattr(torch, precision)
    a, b, out = (torch.randn(*size, device=device()).to(dtype) for size in ((n, k), (k, m), (n, m)))
    return lambda: torch.mm(a, b, out=out)


def arithmetic_limit(multiply_adds: int, precision: Precision = "float32") -> Limit:
    """Return the limit of work with this number of multiply-adds in a precision."""
    from ...distributed import device

    products = PRODUCTS if device().type == "cpu" else GPU_PRODUCTS
    sides = tuple(Side(f"{precision} matrix product {n}x{k}x{m}", matrix_product, (n, k, m, precision)) for n, k, m in products)
    amounts = tuple(2e-9 * n * k * m for n, k, m in products)
    return Limit(f"{precision} matrix product", "GFLOP", 2e-9 * multiply_adds, sides, amounts)
