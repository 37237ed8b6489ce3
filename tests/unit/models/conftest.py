import pytest
import torch
from torch import nn


@pytest.fixture
def randomize():
    """Give every batch norm of a network scales, offsets and moving statistics that are not those it starts with."""

    def apply(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for norm in module.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.weight.uniform_(0.5, 1.5, generator=generator)
                    norm.bias.normal_(0, 0.1, generator=generator)
                    norm.running_mean.normal_(0, 0.1, generator=generator)
                    norm.running_var.uniform_(0.5, 1.5, generator=generator)
        return module

    return apply


@pytest.fixture
def apart():
    """Largest difference of two tensors, relative to the largest value of the second."""

    def measure(got: torch.Tensor, wanted: torch.Tensor) -> float:
        got, wanted = got.detach(), wanted.detach()
        assert got.shape == wanted.shape
        assert wanted.abs().max() > 0
        return float((got - wanted).abs().max() / wanted.abs().max())

    return measure
