"""CUDA without a GPU: operations run on fake tensors, which have a device, a type and a layout, but no values.

`fake_cuda()` lets PyTorch's Python code believe that there is a GPU. An operation whose result the host would have to wait for,
such as `.item()` or a boolean index, raises DataDependentOutputException or DynamicOutputShapeException.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
TIB = 2**40
VIEWS = (
    *("view", "expand", "permute", "transpose", "t.default", "slice", "select", "split", "unsqueeze", "squeeze", "alias"),
    *("detach", "as_strided", "lift_fresh", "prim.device"),
)
"""Operations that launch nothing; `empty` and `new_empty` neither."""

library = torch.library.Library("aten", "IMPL")
library.impl("_fused_sgd_", lambda *_, **__: None, "Meta")  # PyTorch has none; it returns nothing


@contextlib.contextmanager
def fake_cuda(free: int = TIB, capability: tuple[int, int] = (9, 0)) -> Iterator[None]:
    """Run the block on fake tensors, with one GPU of a compute capability and `free` bytes of memory."""
    event = mock.Mock(elapsed_time=lambda end: 1.0)
    with contextlib.ExitStack() as stack:
        # First: where it sees no GPU, it replaces CUDA's guard of the current device, which would ask the driver.
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        for name, value in {
            "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
            "torch.cuda.is_available": lambda: True,
            "torch.cuda.is_bf16_supported": lambda *_: True,
            "torch.cuda.get_device_capability": lambda *_: capability,
            "torch.cuda.get_device_name": lambda *_: "fake",
            "torch.cuda.current_device": lambda: 0,
            "torch.cuda.device_count": lambda: 1,
            "torch.cuda.set_device": lambda _: None,
            "torch.cuda.mem_get_info": lambda *_: (free, free),
            "torch.cuda.memory_reserved": lambda *_: 0,
            "torch.cuda.memory_allocated": lambda *_: 0,
            "torch.cuda.Event": lambda **_: event,
            "torch.cuda.current_stream": lambda *_: None,
            "torch.cuda.synchronize": lambda *_: None,
            "torch.Tensor.backward": backward,
            "torch.Tensor.pin_memory": lambda tensor: tensor,
        }.items():
            stack.enter_context(mock.patch(name, value))
        yield


def backward(loss: Tensor) -> None:
    """Call the nodes of the graph in the order of PyTorch's engine, which asks the CUDA driver for streams."""
    waiting: Counter[Any] = Counter()
    seen, stack = {loss.grad_fn}, [loss.grad_fn]
    while stack:
        for node, _ in stack.pop().next_functions:
            waiting[node] += 1
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    gradients: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready = [loss.grad_fn]
    while ready:
        node = max(ready, key=lambda each: each._sequence_nr())
        ready.remove(node)
        given = gradients.pop(node, {})
        if hasattr(node, "variable"):
            kept = node.variable.grad
            node.variable.grad = given[0] if kept is None else kept + given[0]
            continue
        with torch.no_grad():
            found = (getattr(node, "apply", node))(*(given.get(number) for number in range(len(node._input_metadata))))
        # A function written in Python gives a gradient for each argument; here the tensors come first.
        for (target, number), gradient in zip(
            node.next_functions, found if isinstance(found, tuple) else (found,), strict=False
        ):
            if target is None:
                continue
            if gradient is not None:
                place = gradients.setdefault(target, {})
                place[number] = place[number] + gradient if number in place else gradient
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)


class Operations(TorchDispatchMode):
    """Records the operations on the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        """By name."""
        self.bytes = 0
        """Read and written."""
        self.uploads: Counter[str] = Counter()
        """Copies of more than a thousand values from the host, by type."""
        self.mixed: list[str] = []
        """Operations other than uploads that take tensors on the host and on the GPU, of more than one value."""
        self.relayouts: list[str] = []
        """Convolutions whose input or gradient is not channels-last: cuDNN copies it."""
        self.dilated = 0
        """Convolutions with a dilation."""
        self.dtypes: Counter[torch.dtype] = Counter()
        """Of the convolutions' inputs."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function).removeprefix("aten.")
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        devices = {t.device.type for t in tensors if t.numel() > 1}
        if len(devices) > 1 and name.startswith(("_to_copy", "copy_", "to.")):
            largest = max(tensors, key=lambda t: t.numel())
            self.uploads[str(largest.dtype).removeprefix("torch.")] += largest.numel() > 1000
        elif len(devices) > 1:
            self.mixed.append(name)
        if any(t.is_cuda for t in tensors) and not name.startswith(VIEWS) and "empty" not in name:
            self.launches[name] += 1
            self.bytes += sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors}.values())
        if name.startswith("conv"):  # conv2d in inference mode
            self.dtypes[args[0].dtype] += 1
            # After input, weight and bias come stride, padding and dilation; a gradient has one argument more before them.
            dilation = args[6] if "backward" in name else args[5] if len(args) > 5 else 1
            self.dilated += dilation not in (1, [1, 1])
            maps = args[: 1 + ("backward" in name)]
            if not all(t.is_contiguous(memory_format=torch.channels_last) for t in maps):
                self.relayouts.append(f"{name} {[list(t.shape) for t in maps]}")
            # As cuDNN. Without a driver, PyTorch takes another library, whose results are contiguous.
            if isinstance(result, Tensor):
                return result.contiguous(memory_format=torch.channels_last)
            return tuple(t if t is None or t.ndim < 4 else t.contiguous(memory_format=torch.channels_last) for t in result)
        return result
