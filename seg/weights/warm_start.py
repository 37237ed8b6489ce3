"""Start the modified (aligned) Xception from the original's weights, changing the function as little as it allows.

What both have is copied. What the modified network has besides is set to pass its input on:

- a batch norm inserted after a depthwise convolution: its statistics measured on a few images, scale and shift such that
  it is the identity; where a ReLU follows, the shift lifts the values above it, and the next batch norm's mean takes that
  back;
- the third separable convolution in place of a max-pool: 3x3 average as depthwise kernel, and as pointwise what brings the
  module's output nearest to the original's on those images (least squares, drawn towards each channel from itself alone);
  where there is no stride: identity;
- a module more: its residual branch ends in a batch norm of scale zero.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError, reason
from ..models.layers import ConvNorm, SeparableConv2d
from ..models.xception import FAMILY, Xception, XceptionBlock
from .loading import Report
from .sources import Weights

DEVIATIONS = 6.0
"""How far below their mean values still pass an inserted ReLU."""
RIDGE = 0.1
"""Of the least-squares fit, as a part of the inputs' mean square: so much that other images gain as these do."""


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
    if not (
        isinstance(backbone, Xception)
        and backbone.aligned
        and backbone.activation_placement == "tf"
        and _as_published(backbone)
    ):
        raise UserError(
            "model.weights_use=warm_start: for the aligned Xceptions as published (model.width=1, with residuals, without "
            "segments) with model.activation_placement=tf, whose ReLUs stand where the original has its own"
        )
    original = Xception("xception", output_stride=backbone.output_stride).to(images.device).eval()
    try:
        names = [name for name in weights.tensors if name.startswith("backbone.")]
        original.load_state_dict({name.removeprefix("backbone."): weights.tensors[name] for name in names})
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


def _as_published(backbone: Xception) -> bool:
    with torch.device("meta"):
        published = Xception(backbone.name, activation_placement=backbone.activation_placement).state_dict()
    return {n: v.shape for n, v in backbone.state_dict().items()} == {n: v.shape for n, v in published.items()}


class _WarmStart:
    def __init__(self, backbone: Xception, original: Xception, report: Report):
        self.backbone, self.original, self.report = backbone, original, report
        self.inserted: dict[nn.BatchNorm2d, SeparableConv2d | None] = {}
        """Batch norms to become the identity; with the convolution whose copied batch norm can take back what it lifts."""
        self.pools: dict[str, str] = {}
        """Modules whose third convolution stands for the max-pool of a module of the original."""

    def copy(self, ours: str, theirs: str | None = None) -> None:
        source = self.original.get_submodule(theirs or ours).state_dict()
        self.backbone.get_submodule(ours).load_state_dict(source)
        self.report.matched += [f"backbone.{ours}.{name}" for name in source if not name.endswith("num_batches_tracked")]

    def follow(self, name: str, theirs: str) -> str:
        """Set module `name` from the original's module `theirs`."""
        module, source = self.backbone.flow[name], self.original.flow[theirs]
        # The last module has no shortcut: its new convolution stands in the middle, where it passes on what is positive.
        new = None if len(module.convs) == len(source.convs) else 1 if module.shortcut is None else 2
        # Where Xception-71 leaves the stride to the module that follows, there is nothing to pool yet.
        pooling = source.pool and module.nominal_stride > 1
        old = iter(range(len(source.convs)))
        for index, conv in enumerate(module.convs):
            place = f"flow.{name}.convs.{index}"
            if index == new:
                self.passing(conv, average=pooling)
                if pooling:
                    self.pools[name] = theirs
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
        kind = "3x3 average, then fitted to the original's output" if pooling else "identity"
        return f"{text}; separable convolution {new + 1} new: {kind}"

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
    def passing(conv: SeparableConv2d, *, average: bool) -> None:
        if average:
            nn.init.constant_(conv.depthwise.weight, 1 / 9)
        else:
            nn.init.zeros_(conv.depthwise.weight)
            conv.depthwise.weight[:, :, 1, 1] = 1
        nn.init.dirac_(conv.pointwise.weight)

    def measure(self, images: Tensor) -> None:
        """Run both networks over the images, and set each inserted batch norm when the images reach it."""
        outputs, hooks = {}, []
        for name in self.pools.values():
            module = self.original.flow[name]
            hooks.append(module.register_forward_hook(lambda m, i, o, name=name: outputs.update({name: o[0]})))
        self.original(images)
        for norm, conv in self.inserted.items():
            hooks.append(norm.register_forward_pre_hook(partial(_identity, conv)))
        for name, theirs in self.pools.items():
            module = self.backbone.flow[name]
            fit = _Fit(outputs[theirs])
            hooks.append(module.register_forward_pre_hook(fit.see))
            hooks.append(module.convs[-1].pointwise.register_forward_pre_hook(fit.fit))
            hooks.append(module.convs[-1].norm.register_forward_pre_hook(fit.offset))
        training = self.backbone.training
        self.backbone.eval()(images)
        self.backbone.train(training)
        for hook in hooks:
            hook.remove()


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


class _Fit:
    """Sets the pointwise convolution that stands for a max-pool so that the module's output is nearest to the original's."""

    def __init__(self, wanted: Tensor):
        self.wanted = wanted

    def see(self, module: XceptionBlock, inputs) -> None:
        self.branch = self.wanted - module.shortcut(inputs[0])

    def fit(self, pointwise: nn.Conv2d, inputs) -> None:
        x, y = (t.movedim(1, 3).flatten(0, 2).double() for t in (inputs[0], self.branch))
        mx, my = x.mean(0), y.mean(0)
        x, y = x - mx, y - my
        # Each channel from itself alone, and from there as far as the images can tell: few images do not fill a matrix.
        gain = (x * y).sum(0) / (x * x).sum(0).clamp(min=1e-12)
        gram = x.T @ x
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
        weight = torch.diag(gain) + torch.linalg.solve(gram, x.T @ (y - x * gain)).T
        pointwise.weight.copy_(weight[:, :, None, None])
        self.bias = (my - weight @ mx).float()

    def offset(self, norm, inputs) -> None:
        _identity(None, norm, inputs)
        norm.bias.add_(self.bias)


def _identity(conv: SeparableConv2d | None, norm: nn.BatchNorm2d, inputs) -> None:
    mean, variance = norm.running_mean, norm.running_var = _statistics(inputs[0])
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    if conv is not None and conv.activation_placement.separable_activation:
        lift = (DEVIATIONS * variance.sqrt() - mean).clamp(min=0)
        norm.bias.add_(lift)
        conv.norm.running_mean.add_(conv.pointwise.weight[:, :, 0, 0] @ lift)
