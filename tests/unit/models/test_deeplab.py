import math

import pytest
import torch
from torch import nn

from seg.config import ASPPConfig, DecoderConfig, ModelConfig
from seg.models.factory import build_model
from seg.models.layers import SeparableConv2d
from seg.models.ops.resize import resize

CLASSES = 5


def ours(backbone, **options):
    options.setdefault("decoder", DecoderConfig(low_level_channels=8, convolutions=[[3, 32], [3, 32]]))
    return ModelConfig(backbone=backbone, width=0.125, aspp=ASPPConfig(channels=32, **options.pop("aspp", {})), **options)


OURS = {
    "original": ours("xception"),
    "xception41-paper": ours("xception41"),
    "xception41-tf-os8": ours("xception41", activation_placement="tf", output_stride=8),
    "xception41-without-decoder": ours("xception41", decoder=None, aspp={"separable": False}),
    "xception65-tf": ours("xception65", activation_placement="tf"),
    "xception71-paper": ours("xception71"),
}
ALL = {
    **OURS,
    "smp-DeepLabV3Plus": ModelConfig(smp="DeepLabV3Plus", backbone="mobilenet_v2"),
    "smp-Unet": ModelConfig(smp="Unet", backbone="resnet18"),
}


def build(name, seed=0):
    torch.manual_seed(seed)
    return build_model(ALL[name], CLASSES)


def images(n, height, width, seed=1):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(params=ALL)
def model(request, randomize):
    return randomize(build(request.param))


@pytest.fixture(params=OURS)
def our_model(request, randomize):
    return randomize(build(request.param))


# What every model keeps


@torch.no_grad()
def test_any_size_from_33_up_gives_full_size_logits(model):
    model.eval()
    for height, width in ((33, 33), (34, 47), (65, 64), (50, 129)):
        logits = model(images(1, height, width))
        assert logits.shape == (1, CLASSES, height, width)
        assert logits.isfinite().all()


@torch.no_grad()
def test_an_image_gives_the_same_alone_and_in_a_batch(model, apart):
    model.eval()
    batch = images(3, 49, 62)
    alone = torch.cat([model(image[None]) for image in batch])
    assert apart(alone, model(batch)) < 1e-5


@torch.no_grad()
def test_channels_last_gives_what_contiguous_does(model, apart):
    model.eval()
    batch = images(2, 49, 62)
    wanted = model(batch)
    got = model.to(memory_format=torch.channels_last)(batch.contiguous(memory_format=torch.channels_last))
    assert apart(got, wanted) < 1e-5


def test_backward_reaches_every_parameter(model):
    model.train()
    logits = model(images(2, 65, 65))
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if parameter.dim() == 4:  # some offsets have no gradient: a batch norm follows
            assert parameter.grad.any(), name


def test_training_works_with_one_image_per_batch(model):
    model.train()
    logits = model(images(1, 65, 65))
    assert logits.isfinite().all()
    logits.sum().backward()


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_a_state_dict_makes_another_model_equal(name, randomize):
    first, second = randomize(build(name, seed=0)).eval(), build(name, seed=1).eval()
    batch = images(1, 49, 62)
    assert not torch.equal(second(batch), first(batch))
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    assert torch.equal(second(batch), first(batch))


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_a_model_states_its_backbone_normalization_and_output_stride(name):
    model = build(name).eval()
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    halves = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    assert (tuple(model.mean), tuple(model.std)) == (imagenet if name.startswith("smp") else halves)
    features = model.backbone(images(1, 64, 64))[-1]
    assert features.shape[-1] == 64 // model.output_stride
    size = [math.ceil(n / model.logits_stride) for n in (50, 65)]
    assert list(model.logits(images(1, 50, 65)).shape[-2:]) == size
    inside = {id(p) for p in model.backbone.parameters()}
    assert inside and inside < {id(p) for p in model.parameters()}


# What ours keeps besides


@torch.no_grad()
def test_logits_resized_to_the_image_are_the_output(our_model):
    our_model.eval()
    batch = images(2, 50, 65)
    logits = our_model.logits(batch)
    stride = our_model.output_stride if our_model.decoder is None else 4
    assert our_model.logits_stride == stride
    assert logits.shape == (2, CLASSES, math.ceil(50 / stride), math.ceil(65 / stride))
    assert torch.equal(resize(logits, (50, 65)), our_model(batch))


@torch.no_grad()
def test_changing_the_output_stride_changes_backbone_and_aspp_but_no_weights(our_model):
    our_model.eval()
    before = {k: v.clone() for k, v in our_model.state_dict().items()}
    for stride, rates in ((32, [3, 6, 9]), (8, [12, 24, 36]), (16, [6, 12, 18])):
        our_model.output_stride = stride
        assert our_model.output_stride == our_model.backbone.output_stride == stride
        convs = [conv.depthwise if isinstance(conv, SeparableConv2d) else conv.conv for conv in our_model.aspp.atrous]
        assert [conv.dilation for conv in convs] == [(rate, rate) for rate in rates]
        assert our_model.backbone(images(1, 65, 65))[1].shape[-1] == math.ceil(65 / stride)
        assert our_model(images(1, 65, 65)).shape == (1, CLASSES, 65, 65)
    after = our_model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[k], before[k]) for k in before)


def test_an_unknown_output_stride_is_an_error_and_changes_nothing():
    with torch.device("meta"):
        model = build_model(ModelConfig(), 21)
    with pytest.raises(ValueError, match="8, 16 or 32"):
        model.output_stride = 12
    assert model.output_stride == 16
    assert [conv.depthwise.dilation for conv in model.aspp.atrous] == [(6, 6), (12, 12), (18, 18)]


# The released network's trainable variables, for 21 classes.
@pytest.mark.parametrize(
    "backbone, count", [("xception41", 28_108_661), ("xception65", 41_055_413), ("xception71", 43_477_837)]
)
def test_parameters_are_as_many_as_the_released_networks(backbone, count):
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone=backbone), 21)
    assert sum(p.numel() for p in model.parameters()) == count


def normal(weights, std):
    """Assert a normal distribution cut at two standard deviations. That leaves 0.8796 of the standard deviation."""
    values = torch.cat([weight.flatten() for weight in weights])
    assert len(values) > 1500
    assert values.abs().max() <= 2 * std * 1.0001 and values.abs().max() > 1.8 * std
    return abs(values.std() / (0.8796 * std) - 1) < 0.05 and abs(values.mean()) < 0.1 * std


def test_weights_start_as_in_the_released_code():
    torch.manual_seed(0)
    decoder = DecoderConfig(convolutions=[[3, 128], [3, 128]])
    model = build_model(ModelConfig(backbone="xception41", width=0.25, aspp=ASPPConfig(channels=64), decoder=decoder), 21)
    convs = [module for module in model.backbone.modules() if isinstance(module, nn.Conv2d)]
    assert normal([conv.weight for conv in convs if conv.groups > 1], 0.09)
    assert normal([conv.weight for conv in convs if conv.groups == 1], 0.09)
    separable = [*model.aspp.atrous, *model.decoder.convs]
    assert normal([conv.depthwise.weight for conv in separable], 0.33)
    assert normal([conv.pointwise.weight for conv in separable], 0.06)
    assert normal([model.classifier.weight], 0.01)
    assert not model.classifier.bias.any()
    for part in (model.aspp.pooling, model.aspp.conv1x1, model.aspp.project, model.decoder.reduce):
        weight = part.conv.weight  # Glorot: uniform, its variance 2 / (inputs + outputs)
        limit = math.sqrt(6 / sum(weight.shape[:2]))
        assert 0.98 * limit < weight.abs().max() <= limit
        assert abs(weight.std() / (limit / math.sqrt(3)) - 1) < 0.05
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert (norm.weight == 1).all() and (norm.bias == 0).all()
            assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


def test_only_the_classifier_has_a_bias_beside_batch_norms():
    with torch.device("meta"):
        model = build_model(ModelConfig(), 21)
    biased = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
    assert biased == ["classifier"]


@pytest.mark.parametrize("name", ["original", "xception41-tf-os8"])
@pytest.mark.parametrize("training", [False, True])
def test_the_compiled_network_has_no_graph_breaks_and_equals_eager(name, training, randomize, apart):
    torch.compiler.reset()
    eager, compiled = (randomize(build(name)).train(training) for _ in range(2))
    for model in (eager, compiled):
        for i in range(2, 9):  # the modules of the middle flow are alike: one is enough
            del model.backbone.flow[f"middle{i}"]
    batch = images(2, 49, 62)
    torch.manual_seed(3)
    wanted = eager(batch)
    torch.manual_seed(3)
    got = torch.compile(compiled, fullgraph=True, backend="eager")(batch)
    assert apart(got, wanted) < 1e-5
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value)


def test_he_initialization_has_its_variance_and_residual_branches_start_at_zero():
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="xception41", width=0.25, activation_placement="tf", initialization="he"), 21)
    pointwise = model.backbone.flow["middle1"].convs[0].pointwise.weight
    assert abs(float(pointwise.detach().std()) / math.sqrt(2 / pointwise.shape[0]) - 1) < 0.05
    for name, module in model.backbone.flow.items():
        assert bool((module.convs[-1].norm.weight == 0).all()) == (name != "exit2")
    middle = model.backbone.flow["middle1"].eval()
    x = torch.randn(1, pointwise.shape[1], 5, 5)
    assert torch.equal(middle(x)[0], x)
    torch.manual_seed(0)
    paper = build_model(ModelConfig(backbone="xception41", width=0.125, initialization="he"), 21)
    assert all((module.convs[-1].norm.weight == 1).all() for module in paper.backbone.flow.values())
