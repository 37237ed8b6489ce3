"""Where a network's time and memory go, by groups of its parts."""

import copy
import time
from collections import Counter
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .ops.recompute import recompute
from .summary import parts, summary

REST = "resize and rest"
"""What runs outside of the parts: the last resize of the logits; around a library's network its padding, too."""


@dataclass
class Group:
    """Parts that stand for one thing in the network's figure, and `total`."""

    name: str
    seconds: float
    """Of a forward pass in evaluation mode."""
    share: float
    """Of the whole pass, 0..1."""
    kept: int
    """Bytes that a training pass over one image keeps for the backward pass: activations, not weights."""
    multiply_adds: int

    @property
    def flops(self) -> float:
        """Operations a second that were reached, two to a multiply-add."""
        return 2 * self.multiply_adds / self.seconds if self.seconds else 0.0


def group_of(part: str) -> str:
    """`middle flow` of `backbone.flow.middle7`, and so on; a part outside of an Xception is a group of its own."""
    name = part.removeprefix("backbone.").removeprefix("flow.")
    if part.startswith("backbone."):
        for flow, starts in (("entry", ("conv", "entry")), ("middle", ("middle",)), ("exit", ("exit",))):
            if name.startswith(starts):
                return f"{flow} flow"
    return part.removeprefix("network.")


def profile(model: nn.Module, height: int, width: int, runs: int = 5) -> list[Group]:
    """A group for each row of the network's figure, in order, and the total, of one image of height x width.

    Seconds are medians of `runs` forward passes on the device of the model, after one to warm up. What a backward pass keeps is
    counted on the meta device, which needs neither memory nor time, in training as it is here: see `lean`.
    """
    counted = Counter()
    for row in summary(model, height, width):
        counted[group_of(row.name)] += row.multiply_adds
    kept = activations(model, height, width)
    seconds = timings(model, height, width, runs)
    counted["total"], kept["total"] = sum(counted.values()) - counted["total"], sum(kept.values())
    return [Group(name, each, each / seconds["total"], kept[name], counted[name]) for name, each in seconds.items()]


def timings(model: nn.Module, height: int, width: int, runs: int) -> dict[str, float]:
    """Median seconds of each group of parts, of what is outside of them and in total, by a clock that waits for the device."""
    device = next(model.parameters()).device
    spent: list[Counter] = []
    began = []

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def begin(module, inputs) -> None:
        began.append(clock())

    def end(group: str):
        def note(module, inputs, output) -> None:
            spent[-1][group] += clock() - began.pop()

        return note

    handles = []
    for name, part in parts(model):
        handles += part.register_forward_pre_hook(begin), part.register_forward_hook(end(group_of(name)))
    training = model.training
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    try:
        model.eval()
        with torch.inference_mode():
            for _ in range(1 + runs):
                spent.append(Counter())
                started = clock()
                model(image)
                whole = clock() - started
                spent[-1][REST] = whole - sum(spent[-1].values())
                spent[-1]["total"] = whole
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return {group: median(run[group] for run in spent[1:]) for group in spent[0]}


def activations(model: nn.Module, height: int, width: int) -> Counter:
    """Bytes that a training pass over one image keeps for its backward pass, without weights and the image itself, by the group
    that computed them."""
    twin = copy.deepcopy(model).to("meta").train()
    image = torch.empty(1, 3, height, width, device="meta")
    made = Made([image, *twin.parameters(), *twin.buffers()])
    for name, part in parts(twin):
        part.register_forward_pre_hook(made.enter(group_of(name)))
        part.register_forward_hook(made.leave)
    with recompute(), made:
        # The graph alone is held: what it does not need goes.
        graph = getattr(twin, "logits", twin)(image).grad_fn
    found = made.alive()
    del graph
    return found


class Made(TorchDispatchMode):
    """Notes each storage that an operation makes, and the group it is made in. Storages of the tensors given do not count."""

    def __init__(self, known: list[Tensor]):
        super().__init__()
        self.groups = [REST]
        self.storages = {}
        for tensor in known:
            self._note(tensor, None)

    def _note(self, tensor: Tensor, group: str | None) -> None:
        storage = tensor.untyped_storage()
        # The weak reference keeps the key from being given to another storage.
        if storage._cdata not in self.storages:
            self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes(), group

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor, self.groups[-1])
        return result

    def enter(self, group: str):
        return lambda module, inputs: self.groups.append(group)

    def leave(self, module, inputs, output) -> None:
        self.groups.pop()

    def alive(self) -> Counter:
        """Bytes of those that something still holds, by group."""
        found = Counter()
        for reference, size, group in self.storages.values():
            if group is not None and not reference.expired():
                found[group] += size
        return found
