"""Copies from the device to the host that do not wait for the device."""

import torch
from torch import Tensor


class HostCopy:
    """Asynchronous copy of a tensor to the host: reading it later avoids a synchronization.

    Args:
        values: a tensor on any device.
    """

    def __init__(self, values: Tensor):
        self.values, self.event = values, None
        if values.device.type == "cuda":
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record(torch.cuda.current_stream(values.device))

    def __call__(self) -> Tensor:
        """Return the tensor on the host. Waits until the copy is complete."""
        if self.event is not None:
            self.event.synchronize()
        return self.values.cpu()
