"""Start the modified (aligned) Xception from the original's weights, changing the function as little as it allows.

What both have is copied. What the modified network has besides is set to pass its input on:

- a batch norm inserted after a depthwise convolution: its statistics measured on a few images, scale and shift such that
  it is the identity; where a ReLU follows, the shift lifts the values above it, and the next batch norm's mean takes that
  back;
- the third separable convolution in place of a max-pool: 3x3 average as depthwise kernel, identity as pointwise, and a
  batch norm that gives its output the mean and deviation that the max-pool's had; where there is no stride: identity;
- a module more: its residual branch ends in a batch norm of scale zero.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError, reason
from ..models.layers import ConvNorm, SeparableConv
from ..models.xception import FAMILY, Xception, XceptionModule
from .load import Report
from .source import Weights

DEVIATIONS = 3.0
"""How far below their mean values still pass an inserted ReLU."""


def counterparts(name: str) -> dict[str, str | None]:
    """Which module of the original each module of the aligned network `name` continues; None: it is one more."""
    found, count, depth = {}, 0, None
    for row in FAMILY[name][0]:
        if not row.name.startswith("entry"):
            found[row.name] = row.name if row.name in {other.name for other in FAMILY["xception"][0]} else None
            continue
        # Xception-71 splits a module of the original in two: the first convolves, the second halves the map.
        count += row.depths[0] != depth
        found[row.name] = f"entry{count}" if row.depths[0] != depth else None
        depth = row.depths[0]
    return found


@torch.no_grad()
def warm_start(model: nn.Module, weights: Weights, images: Tensor) -> Report:
    """Set the aligned backbone of `model` from the original Xception's `weights`; `images` N,3,H,W, as the network takes
    them, serve to measure statistics. The report says of each module what became of it.

    Raises UserError where the backbone is not an aligned one of full width in the `tf` placement (ReLU before, as the
    original), or the weights are not the original's.
    """
    backbone = model.backbone
    if weights.settings["backbone"] != "xception":
        raise UserError(
            f"{weights.source}: a warm start begins from the original Xception; leave model.weights_use out for these"
        )
    if not (isinstance(backbone, Xception) and backbone.aligned and backbone.placement == "tf" and backbone.channels == 2048):
        raise UserError(
            "model.weights_use=warm_start: for the aligned Xceptions of model.width=1 with model.placement=tf, "
            "whose ReLUs stand where the original has its own"
        )
    original = Xception("xception", output_stride=backbone.output_stride).to(images.device).eval()
    try:
        backbone_of = {name: value for name, value in weights.tensors.items() if name.startswith("backbone.")}
        original.load_state_dict({name.removeprefix("backbone."): value for name, value in backbone_of.items()})
    except RuntimeError as error:
        raise UserError(f"{weights.source}: not the whole original Xception ({reason(error)})") from error
    start = _WarmStart(backbone, original, Report(weights.source))
    start.copy("conv1")
    start.copy("conv2")
    start.report.notes.append("conv1, conv2: copied")
    for name, theirs in counterparts(backbone.name).items():
        note = start.one_more(name) if theirs is None else start.follow(name, theirs)
        start.report.notes.append(f"{name}: {note}")
    start.measure(images)
    copied = set(start.report.matched)
    start.report.missing = [
        name for name in model.state_dict() if name not in copied and not name.endswith("num_batches_tracked")
    ]
    return start.report


class _WarmStart:
    def __init__(self, backbone: Xception, original: Xception, report: Report):
        self.backbone, self.original, self.report = backbone, original, report
        self.inserted: dict[nn.BatchNorm2d, SeparableConv | None] = {}
        """Batch norms to become the identity; with the convolution whose copied batch norm can take back what it lifts."""
        self.pools: dict[nn.BatchNorm2d, str] = {}
        """Batch norms to get the statistics of a max-pool of the original, by its module's name."""

    def copy(self, ours: str, theirs: str | None = None) -> None:
        source = self.original.get_submodule(theirs or ours).state_dict()
        self.backbone.get_submodule(ours).load_state_dict(source)
        self.report.matched += [f"backbone.{ours}.{name}" for name in source if not name.endswith("num_batches_tracked")]

    def follow(self, name: str, theirs: str) -> str:
        """Set module `name` from the original's module `theirs`."""
        module, source = self.backbone.flow[name], self.original.flow[theirs]
        # The last module has no shortcut: its new convolution stands in the middle, where it passes on what is positive.
        new = None if len(module.convs) == len(source.convs) else 1 if module.shortcut is None else 2
        old = iter(range(len(source.convs)))
        for index, conv in enumerate(module.convs):
            place = f"flow.{name}.convs.{index}"
            if index == new:
                self.passing(conv, average=source.pool and module.nominal_stride > 1)
                if source.pool:
                    self.pools[conv.norm] = theirs
                else:
                    self.inserted[conv.norm] = None
            else:
                number = next(old)
                for part in ("depthwise", "pointwise", "norm"):
                    self.copy(f"{place}.{part}", f"flow.{theirs}.convs.{number}.{part}")
            self.inserted[conv.depthwise_norm] = None if index == new else conv
        if isinstance(module.shortcut, ConvNorm):
            self.copy(f"flow.{name}.shortcut", f"flow.{theirs}.shortcut")
        text = f"copied from {theirs}, batch norms after the depthwise convolutions measured"
        if new is None:
            return text
        kind = "3x3 average" if source.pool and module.nominal_stride > 1 else "identity"
        return f"{text}; separable convolution {new + 1} new: {kind}" + (", at the statistics of the max-pool" * source.pool)

    def one_more(self, name: str) -> str:
        """Make a module that the original does not have pass its input on."""
        module = self.backbone.flow[name]
        for index, conv in enumerate(module.convs):
            if conv.depthwise.in_channels == conv.pointwise.out_channels and module.nominal_stride > 1:
                self.passing(conv, average=index == 2)
            self.inserted[conv.depthwise_norm] = None
        nn.init.zeros_(module.convs[-1].norm.weight)
        nn.init.zeros_(module.convs[-1].norm.bias)
        if not isinstance(module.shortcut, ConvNorm):
            return "new: its branch is scaled by zero, so that the sum is its input"
        nn.init.dirac_(module.shortcut.conv.weight)
        self.inserted[module.shortcut.norm] = None
        return "new: its branch is scaled by zero, its shortcut the identity"

    @staticmethod
    def passing(conv: SeparableConv, *, average: bool) -> None:
        if average:
            nn.init.constant_(conv.depthwise.weight, 1 / 9)
        else:
            nn.init.zeros_(conv.depthwise.weight)
            conv.depthwise.weight[:, :, 1, 1] = 1
        nn.init.dirac_(conv.pointwise.weight)

    def measure(self, images: Tensor) -> None:
        """Run both networks over the images, and set each inserted batch norm when the images reach it."""
        targets, hooks = {}, []
        for name in self.pools.values():
            hooks.append(self.original.flow[name].register_forward_hook(partial(_pooled, targets, name)))
        self.original(images)
        for norm, conv in self.inserted.items():
            hooks.append(norm.register_forward_pre_hook(partial(_identity, conv)))
        for norm, name in self.pools.items():
            hooks.append(norm.register_forward_pre_hook(partial(_matching, targets[name])))
        training = self.backbone.training
        self.backbone.eval()(images)
        self.backbone.train(training)
        for hook in hooks:
            hook.remove()


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


def _pooled(targets: dict, name: str, module: XceptionModule, inputs, outputs) -> None:
    targets[name] = _statistics(outputs[0] - module.shortcut(inputs[0]))


def _matching(target: tuple[Tensor, Tensor], norm: nn.BatchNorm2d, inputs) -> None:
    """Normalise by the statistics of the input, and give the output those of `target`."""
    norm.running_mean, norm.running_var = _statistics(inputs[0])
    # Epsilon shrinks channels of little variance; what is next to none is not blown up to make up for it.
    shrunk = (norm.running_var / (norm.running_var + norm.eps)).sqrt().clamp(min=0.1)
    norm.weight.copy_(target[1].sqrt() / shrunk)
    norm.bias.copy_(target[0])


def _identity(conv: SeparableConv | None, norm: nn.BatchNorm2d, inputs) -> None:
    mean, variance = norm.running_mean, norm.running_var = _statistics(inputs[0])
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    if conv is not None and conv.placement.between:
        lift = (DEVIATIONS * variance.sqrt() - mean).clamp(min=0)
        norm.bias.add_(lift)
        conv.norm.running_mean.add_(conv.pointwise.weight[:, :, 0, 0] @ lift)
