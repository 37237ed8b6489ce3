"""Start a modified (aligned) Xception from ImageNet weights of the original, with a function as close to it as possible.

Layers of both networks are copied. Layers that only the modified network has are initialized so that they change little:

- A batch norm after a depthwise convolution: its statistics are measured on a few images, and scale and shift make it the
  identity. If a ReLU follows, the shift lifts the values above zero, and the mean of the next batch norm subtracts the lift.
- The third separable convolution, which replaces a max-pool: the depthwise kernel is a 3x3 average, and the pointwise one
  brings the block's output closest to the original's on those images (least squares, with a ridge towards the diagonal).
  Without a stride, it is the identity.
- An additional block: its residual branch ends in a batch norm of scale zero.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError, reason
from ..models.layers import ConvNorm, SeparableConv2d
from ..models.xception import FAMILY, Xception, XceptionBlock
from .fitting import Report, Weights

DEVIATIONS = 6.0
"""An inserted ReLU passes values down to this number of standard deviations below their mean."""
RIDGE = 0.1
"""Ridge of the least-squares fit, relative to the inputs' mean square; with it, the fit also holds for other images."""


def counterparts(name: str) -> dict[str, str | None]:
    """Map the blocks of an aligned network to those of the original.

    Args:
        name: `xception41`, `xception65` or `xception71`.

    Returns:
        For each block of the aligned network, the block of the original that it continues; None for an additional block.
    """
    found: dict[str, str | None] = {}
    count, depth = 0, None
    for row in FAMILY[name][0]:
        if not row.name.startswith("entry"):
            found[row.name] = row.name if row.name in {other.name for other in FAMILY["xception"][0]} else None
            continue
        # Xception-71 splits a block of the original in two: the first convolves, the second halves the map.
        count += row.depths[0] != depth
        found[row.name] = f"entry{count}" if row.depths[0] != depth else None
        depth = row.depths[0]
    return found


@torch.no_grad()
def warm_start(model: nn.Module, weights: Weights, images: Tensor) -> Report:
    """Initialize the aligned backbone of a model from weights of the original Xception.

    Args:
        model: its backbone is an aligned Xception of full width with the `tf` placement: ReLU before each separable
            convolution, as in the original.
        weights: those of the original Xception.
        images: [N, 3, H, W], normalized, to measure statistics; a few dozen are enough.

    Returns:
        A report of the matched tensors, with a note for each block.

    Raises:
        UserError: the backbone is not supported, or the weights are not those of the original Xception.
    """
    backbone = model.backbone
    if weights.settings["backbone"] != "xception":
        raise UserError(
            f"{weights.source}: a warm start needs weights of the original Xception; leave model.weights_use out for these"
        )
    if not (
        isinstance(backbone, Xception)
        and backbone.aligned
        and backbone.activation_placement == "tf"
        and _as_published(backbone)
    ):
        raise UserError(
            "model.weights_use=warm_start: only for the aligned Xceptions as published (model.width=1, model.residual=true, "
            "without model.spatial_groups) with model.activation_placement=tf, whose ReLUs are where the original's are"
        )
    original = Xception("xception", output_stride=backbone.output_stride).to(images.device).eval()
    try:
        names = [name for name in weights.tensors if name.startswith("backbone.")]
        original.load_state_dict({name.removeprefix("backbone."): weights.tensors[name] for name in names})
    except RuntimeError as error:
        raise UserError(
            f"{weights.source}: not all of the original Xception ({reason(error)}); copy or download it again"
        ) from error
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
    """Whether the tensors have the published shapes."""
    with torch.device("meta"):
        published = Xception(backbone.name, activation_placement=backbone.activation_placement).state_dict()
    return {n: v.shape for n, v in backbone.state_dict().items()} == {n: v.shape for n, v in published.items()}


class _WarmStart:
    """The state of a warm start: copied tensors, and batch norms to measure."""

    def __init__(self, backbone: Xception, original: Xception, report: Report):
        self.backbone, self.original, self.report = backbone, original, report
        self.inserted: dict[nn.BatchNorm2d, SeparableConv2d | None] = {}
        """Batch norms that become the identity; with each, the convolution whose copied batch norm can subtract the lift."""
        self.pools: dict[str, str] = {}
        """Blocks whose third convolution replaces the max-pool of a block of the original: the name of that block."""

    def copy(self, ours: str, theirs: str | None = None) -> None:
        """Copy the tensors of a submodule of the original; `theirs` is its name there if it differs."""
        source = self.original.get_submodule(theirs or ours).state_dict()
        self.backbone.get_submodule(ours).load_state_dict(source)
        self.report.matched += [f"backbone.{ours}.{name}" for name in source if not name.endswith("num_batches_tracked")]

    def follow(self, name: str, theirs: str) -> str:
        """Set block `name` from the original's block `theirs`; return a note for the report."""
        module, source = _block(self.backbone, name), _block(self.original, theirs)
        # The last block has no shortcut: its new convolution is the middle one, whose inputs are positive and pass the ReLU.
        new = None if len(module.convs) == len(source.convs) else 1 if module.shortcut is None else 2
        # In Xception-71 the next block has the stride: here is nothing to pool yet.
        pooling = source.pool and module.nominal_stride > 1
        old = iter(range(len(source.convs)))
        for index, conv in enumerate(module.separable_convs()):
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
            self.inserted[_norm(conv.depthwise_norm)] = None if index == new else conv
        if isinstance(module.shortcut, ConvNorm):
            self.copy(f"flow.{name}.shortcut", f"flow.{theirs}.shortcut")
        text = f"copied from {theirs}, batch norms after the depthwise convolutions measured"
        if new is None:
            return text
        kind = "3x3 average, then fitted to the original's output" if pooling else "identity"
        return f"{text}; separable convolution {new + 1} new: {kind}"

    def one_more(self, name: str) -> str:
        """Make an additional block pass its input on; return a note for the report."""
        module = _block(self.backbone, name)
        *_, last = module.separable_convs()
        for index, conv in enumerate(module.separable_convs()):
            if conv.depthwise.in_channels == conv.pointwise.out_channels and module.nominal_stride > 1:
                self.passing(conv, average=index == 2)
            self.inserted[_norm(conv.depthwise_norm)] = None
        nn.init.zeros_(last.norm.weight)
        nn.init.zeros_(last.norm.bias)
        if not isinstance(module.shortcut, ConvNorm):
            return "new: its branch is scaled by zero, so that the sum is its input"
        nn.init.dirac_(module.shortcut.conv.weight)
        self.inserted[module.shortcut.norm] = None
        return "new: its branch is scaled by zero, its shortcut the identity"

    @staticmethod
    def passing(conv: SeparableConv2d, *, average: bool) -> None:
        """Make a separable convolution the identity, or a 3x3 average of each channel."""
        if average:
            nn.init.constant_(conv.depthwise.weight, 1 / 9)
        else:
            nn.init.zeros_(conv.depthwise.weight)
            conv.depthwise.weight[:, :, 1, 1] = 1
        nn.init.dirac_(conv.pointwise.weight)

    def measure(self, images: Tensor) -> None:
        """Run both networks on the images, and set each inserted batch norm when the images reach it."""
        outputs: dict[str, Tensor] = {}
        hooks = []
        for name in self.pools.values():
            module = self.original.flow[name]
            hooks.append(module.register_forward_hook(lambda m, i, o, name=name: outputs.update({name: o[0]})))
        self.original(images)
        for norm, conv in self.inserted.items():
            hooks.append(norm.register_forward_pre_hook(partial(_identity, conv)))
        for name, theirs in self.pools.items():
            module = _block(self.backbone, name)
            fit = _Fit(outputs[theirs])
            hooks.append(module.register_forward_pre_hook(fit.see))
            *_, last = module.separable_convs()
            hooks.append(last.pointwise.register_forward_pre_hook(fit.fit))
            hooks.append(last.norm.register_forward_pre_hook(fit.offset))
        training = self.backbone.training
        self.backbone.eval()(images)
        self.backbone.train(training)
        for hook in hooks:
            hook.remove()


def _block(backbone: Xception, name: str) -> XceptionBlock:
    block = backbone.flow[name]
    assert isinstance(block, XceptionBlock)
    return block


def _norm(norm: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel."""
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


class _Fit:
    """Fits the pointwise convolution that replaces a max-pool, so that the block's output is closest to the original's."""

    def __init__(self, wanted: Tensor):
        self.wanted = wanted

    def see(self, module: XceptionBlock, inputs: tuple[Tensor, ...]) -> None:
        """Forward pre-hook of the block: computes the target of its residual branch."""
        assert module.shortcut is not None
        self.branch = self.wanted - module.shortcut(inputs[0])

    def fit(self, pointwise: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        """Forward pre-hook of the pointwise convolution: set its weight."""
        x, y = (t.movedim(1, 3).flatten(0, 2).double() for t in (inputs[0], self.branch))
        mx, my = x.mean(0), y.mean(0)
        x, y = x - mx, y - my
        # First the diagonal alone, then a correction with a ridge: a few images do not determine a full matrix.
        gain = (x * y).sum(0) / (x * x).sum(0).clamp(min=1e-12)
        gram = x.T @ x
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
        weight = torch.diag(gain) + torch.linalg.solve(gram, x.T @ (y - x * gain)).T
        pointwise.weight.copy_(weight[:, :, None, None])
        self.bias = (my - weight @ mx).float()

    def offset(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        """Forward pre-hook of the batch norm that follows: the identity plus the fit's bias."""
        _identity(None, norm, inputs)
        norm.bias.add_(self.bias)


def _identity(conv: SeparableConv2d | None, norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
    """Forward pre-hook of a batch norm: make it the identity on these inputs, or with a lift that `conv` subtracts later."""
    mean, variance = norm.running_mean, norm.running_var = _statistics(inputs[0])
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    if conv is not None and conv.activation_placement.separable_activation:
        lift = (DEVIATIONS * variance.sqrt() - mean).clamp(min=0)
        norm.bias.add_(lift)
        assert conv.norm.running_mean is not None
        conv.norm.running_mean.add_(conv.pointwise.weight[:, :, 0, 0] @ lift)
