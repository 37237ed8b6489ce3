"""Time and memory of a network, by the groups of its parts."""

import contextlib
import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..precision import Precision, autocast
from .ops.recompute import recompute
from .summary import parts, summary

REST = "resize and rest"
"""What runs outside of the parts: the last resize of the logits, and the padding around another library's network."""


@dataclass
class Group:
    """Parts that are one box in the figure of the network, or `total`."""

    name: str
    seconds: float
    """Of a forward pass in evaluation mode."""
    share: float
    """Of the whole forward pass, 0..1."""
    kept: int
    """Bytes of activations that a training pass over one image keeps for the backward pass."""
    multiply_adds: int

    @property
    def flops(self) -> float:
        """Operations per second, two per multiply-add."""
        return 2 * self.multiply_adds / self.seconds if self.seconds else 0.0


def group_of(part: str) -> str:
    """The group of a part: `middle flow` for `backbone.flow.middle7`. A part outside of an Xception is a group of its own."""
    name = part.removeprefix("backbone.").removeprefix("flow.")
    if part.startswith("backbone."):
        for flow, starts in (("entry", ("conv", "entry")), ("middle", ("middle",)), ("exit", ("exit",))):
            if name.startswith(starts):
                return f"{flow} flow"
    return part.removeprefix("network.")


def profile(model: nn.Module, height: int, width: int, runs: int = 5) -> list[Group]:
    """The groups of a network's parts, in order, and the total, for one image.

    Kept bytes are those of a training in float32 that recomputes (see `recompute`).

    Args:
        model: on the device to measure; it stays as it is.
        height, width: of the image, in pixels.
        runs: forward passes, after one to warm up. Seconds are their medians.
    """
    multiply_adds: Counter[str] = Counter()
    for row in summary(model, height, width):
        multiply_adds[group_of(row.name)] += row.multiply_adds
    kept = activations(copy.deepcopy(model).train(), height, width)
    kept["total"] = kept.total()
    seconds = timings(model, height, width, runs)
    return [Group(name, each, each / seconds["total"], kept[name], multiply_adds[name]) for name, each in seconds.items()]


def timings(model: nn.Module, height: int, width: int, runs: int) -> dict[str, float]:
    """Median seconds of each group, of the rest, and in total. The clock waits for the device."""
    device = next(model.parameters()).device
    stopwatch = _Stopwatch(device)
    handles = []
    for name, part in parts(model):
        handles += [
            part.register_forward_pre_hook(stopwatch.start),
            part.register_forward_hook(stopwatch.stop(group_of(name))),
        ]
    training = model.training
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    try:
        model.eval()
        with torch.inference_mode():
            measured = [stopwatch.measure(model, image) for _ in range(1 + runs)]
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return {group: median(run[group] for run in measured[1:]) for group in measured[0]}


class _Stopwatch:
    """Hooks that add up the seconds of each group of modules."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = {}
        self.started: list[float] = []

    def clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self, module: nn.Module, inputs: Any) -> None:
        self.started.append(self.clock())

    def stop(self, group: str) -> Callable[..., None]:
        def add(module: nn.Module, inputs: Any, output: Any) -> None:
            self.seconds[group] = self.seconds.get(group, 0.0) + self.clock() - self.started.pop()

        return add

    def measure(self, model: nn.Module, image: Tensor) -> dict[str, float]:
        """Seconds of one forward pass: of each group, of the rest and in total."""
        self.seconds = {}
        started = self.clock()
        model(image)
        total = self.clock() - started
        rest = total - sum(self.seconds.values())
        return {**self.seconds, REST: rest, "total": total}


def activations(
    model: nn.Module,
    height: int,
    width: int,
    images: int = 1,
    *,
    precision: Precision = "float32",
    recomputing: bool = True,
    device: torch.device | str = "cpu",
) -> Counter[str]:
    """Bytes that a training pass keeps for its backward pass, by the group that computed them.

    Neither the weights nor the images count. The operations run on fake tensors, which have a device but no memory: this takes
    about a second, whatever the size.

    Args:
        model: its modes hold, such as frozen batch norm; it stays as it is.
        height, width, images: of the batch.
        precision: of the training.
        recomputing: whether it recomputes batch norm's outputs.
        device: of the training; which operations autocast changes depends on it.
    """
    device = torch.device(device)
    twin = copy.deepcopy(model).to("meta").to(memory_format=torch.channels_last)  # fake tensors cannot be copied
    with FakeTensorMode(allow_non_fake_inputs=True):
        make_fake(twin, device)
        size = images, 3, height, width
        batch = torch.empty(size, device=device).contiguous(memory_format=torch.channels_last)
        storages = _Storages([batch, *twin.parameters(), *twin.buffers()])
        for name, part in parts(twin):
            part.register_forward_pre_hook(storages.enter(group_of(name)))
            part.register_forward_hook(storages.leave)
        with autocast(device, precision), recompute() if recomputing else contextlib.nullcontext(), storages:
            # Only the graph is referenced: what it does not need is freed.
            graph = getattr(twin, "logits", twin)(batch).grad_fn
        found = storages.alive()
        del graph
    return found


def make_fake(model: nn.Module, device: torch.device) -> None:
    """Replace the tensors of a model on the meta device by fake ones on a device; call it within FakeTensorMode.

    Module.to_empty cannot: it swaps tensors, and the mode refers to those that it has seen.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_empty_as(parameter, device), parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, _empty_as(buffer, device))


def _empty_as(tensor: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


class _Storages(TorchDispatchMode):
    """Records each storage that an operation makes, and its group. Those of the `known` tensors do not count."""

    def __init__(self, known: list[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.groups = [REST]
        self.found: dict[int, tuple[StorageWeakRef, int, str | None]] = {}
        for tensor in known:
            self._record(tensor, None)

    def _record(self, tensor: Tensor, group: str | None) -> None:
        storage = tensor.untyped_storage()
        # The weak reference keeps the key from being given to another storage.
        if storage._cdata not in self.found:
            self.found[storage._cdata] = StorageWeakRef(storage), storage.nbytes(), group

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._record(tensor, self.groups[-1])
        return result

    def enter(self, group: str) -> Callable[..., None]:
        return lambda module, inputs: self.groups.append(group)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.groups.pop()

    def alive(self) -> Counter[str]:
        """Bytes of the storages that are still referenced, by group."""
        found: Counter[str] = Counter()
        for reference, size, group in self.found.values():
            if group is not None and not reference.expired():
                found[group] += size
        return found
