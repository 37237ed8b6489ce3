"""A training pass as a CUDA graph: launched as a whole, instead of kernel by kernel."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import reason
from ..progress import print_stderr

WARM_UP = 3
"""Passes before the recording: libraries allocate workspaces, and cuDNN measures its algorithms."""


class CudaGraph:
    """Calls a function on the GPU, records its kernels once, and then replays them.

    A step of DeepLab V3+ on Xception-65 launches 1,700 kernels, which took 90 ms of the host's time beside an H100: as long as
    the whole step. Random numbers follow `torch.manual_seed` in a replay, too. If the recording fails, the function is called
    each time.

    Args:
        function: from tensors to a tensor, always of the same sizes and layouts. It must not wait for the device. What it
            writes elsewhere, such as gradients, keeps its place from the recording on.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self.function, self.calls, self.failed = function, 0, False
        self.graph: torch.cuda.CUDAGraph | None = None

    @property
    def recorded(self) -> bool:
        """Whether calls are replays."""
        return self.graph is not None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result of the function."""
        self.calls += 1
        if self.graph is None and self.calls > WARM_UP and not self.failed:
            self._record(inputs)
        if self.graph is None:
            return self.function(*inputs)
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value)
        self.graph.replay()
        return self.output.clone()

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = [value.clone() for value in inputs]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # the graph has memory of its own
        try:
            # Thread-local: the thread that pins the loader's batches may go on.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.output = self.function(*self.inputs)
            self.graph = graph
        except RuntimeError as error:
            self.failed = True
            print_stderr(f"seg: the training step is launched kernel by kernel: it cannot be recorded ({reason(error)})")
