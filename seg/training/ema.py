"""Exponential moving average (EMA) of the weights."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Keeps `average = decay * average + (1 - decay) * weights`, on the device of the weights (Polyak averaging).

    The first update copies the weights. Batch norm's moving statistics are averages already, so they are copied at each update.
    An update takes a few kernel launches for all weights together, and reads nothing from the device.

    Args:
        model: the network that trains, on its device.
        decay: 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)
        """A network with the averaged weights."""
        # Once: going through the modules takes about a millisecond.
        self._parameters = _by_type(self.model.parameters(), model.parameters())
        self._buffers = _by_type(self.model.buffers(), model.buffers())

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights of the network."""
        for averages, currents in self._parameters:
            if self.updates:
                torch._foreach_lerp_(averages, currents, 1 - self.decay)
            else:
                torch._foreach_copy_(averages, currents)
        for averages, currents in self._buffers:
            torch._foreach_copy_(averages, currents)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.model.load_state_dict(state["model"])
        self.updates = int(state["updates"])


def _by_type(averages: Iterable[Tensor], currents: Iterable[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Averages and current values as pairs of lists, one pair per dtype: fused operations need lists of one dtype."""
    pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for average, current in zip(averages, currents, strict=True):
        of_type = pairs.setdefault(current.dtype, ([], []))
        of_type[0].append(average)
        of_type[1].append(current.detach())
    return list(pairs.values())
