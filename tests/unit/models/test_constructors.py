"""Networks by name, called as in torchvision, timm or segmentation-models-pytorch."""

import ast
import math
import re

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import seg.models
from seg.config import ASPPConfig, Config, DecoderConfig, ModelConfig
from seg.errors import UserError
from seg.labels import VOC
from seg.models import DeepLabV3Plus, Xception, deeplabv3plus_xception41, xception41
from seg.models.factory import build_model
from seg.models.habits import HINTS
from seg.weights import timm as timm_weights
from seg.weights.file import Metadata, write
from tests.helpers.released import checkpoint
from tests.helpers.toy import random_model, refused, same

BACKBONES = ("xception", "xception41", "xception65", "xception71")
SMALL = {"width": 0.125, "aspp": {"channels": 16}, "decoder": {"low_level_channels": 8, "convolutions": ((3, 16),)}}


def small_config(backbone="xception41", **settings):
    decoder = DecoderConfig(low_level_channels=8, convolutions=[[3, 16]])
    return ModelConfig(backbone=backbone, width=0.125, aspp=ASPPConfig(channels=16), decoder=decoder, **settings)


def images(*size, seed=1):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def constructor(backbone):
    return getattr(seg.models, f"deeplabv3plus_{backbone}")


# What is built


@pytest.mark.parametrize("placement", ["paper", "tf"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_constructor_builds_the_network_of_the_configuration(backbone, placement):
    torch.manual_seed(0)
    net = constructor(backbone)(5, 8, activation_placement=placement, initialization="he", **SMALL)
    torch.manual_seed(0)
    wanted = build_model(small_config(backbone, output_stride=8, activation_placement=placement, initialization="he"), 5)
    assert type(net) is DeepLabV3Plus and net.num_classes == 5 and net.output_stride == 8
    assert same(net.state_dict(), wanted.state_dict())
    assert torch.equal(net.eval()(images(1, 3, 49, 62)), wanted.eval()(images(1, 3, 49, 62)))


def test_defaults_are_the_papers_network_for_voc():
    with torch.device("meta"):
        net = seg.models.deeplabv3plus_xception65()
    assert (net.num_classes, net.output_stride, net.backbone.activation_placement) == (21, 16, "paper")
    assert sum(p.numel() for p in net.parameters()) == 41_055_413  # the released network's
    assert net.training


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_alone_is_that_of_the_network_and_states_its_strides_and_channels(backbone):
    alone, within = getattr(seg.models, backbone)(width=0.125), constructor(backbone)(**SMALL).backbone
    assert type(alone) is Xception
    assert {k: v.shape for k, v in alone.state_dict().items()} == {k: v.shape for k, v in within.state_dict().items()}
    for stride in (8, 16, 32):
        alone.output_stride = stride
        low_level, features = alone(images(1, 3, 65, 97))
        for found, channels, s in (
            (low_level, alone.low_level_channels, alone.low_level_stride),
            (features, alone.channels, alone.output_stride),
        ):
            assert found.shape == (1, channels, math.ceil(65 / s), math.ceil(97 / s))
    assert alone.mean == alone.std == (0.5, 0.5, 0.5)


def test_a_backbone_alone_starts_as_in_the_network():
    torch.manual_seed(0)
    released, he = (xception41(width=0.25, initialization=name, activation_placement="tf") for name in ("released", "he"))
    weights = torch.cat([m.weight.detach().flatten() for m in released.modules() if isinstance(m, nn.Conv2d)])
    # A normal distribution of standard deviation 0.09, cut off at twice that, has 0.8796 of it.
    assert 0.178 < float(weights.abs().max()) <= 0.18001 and float(weights.std()) == pytest.approx(0.8796 * 0.09, rel=0.01)
    for name, block in he.flow.items():
        assert bool((block.convs[-1].norm.weight == 0).all()) == (name != "exit2")
    pointwise = he.flow["middle1"].convs[0].pointwise.weight.detach()
    assert float(pointwise.std()) == pytest.approx(math.sqrt(2 / len(pointwise)), rel=0.05)


def test_two_learning_rates_are_logged_separately():
    net = deeplabv3plus_xception41(**SMALL)
    groups = [{"params": net.backbone_parameters(), "lr": 0.001}, {"params": net.head_parameters(), "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)  # refuses a parameter in both
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in net.backbone.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in net.parameters()}


def test_a_plain_training_loop_trains_the_network():
    torch.manual_seed(0)
    net = deeplabv3plus_xception41(num_classes=3, initialization="he", **SMALL)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    batch = images(2, 3, 65, 65)
    target = (batch.mean(1) > 0).long() + 1
    target[:, :9] = 255
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(net(batch), target, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("training", [False, True])
def test_torch_compile_has_no_graph_breaks(training, apart):
    torch.compiler.reset()
    net = deeplabv3plus_xception41(num_classes=5, **SMALL).train(training)
    net.aspp.dropout.p = 0.0
    for i in range(2, 9):  # the blocks of the middle flow are alike: one is enough
        del net.backbone.flow[f"middle{i}"]
    batch = images(2, 3, 49, 62)
    wanted = net(batch)
    got = torch.compile(net, fullgraph=True, backend="aot_eager")(batch)
    assert apart(got, wanted) < 1e-5
    if training:
        wanted, got = (torch.autograd.grad(out.square().mean(), net.classifier.weight)[0] for out in (wanted, got))
        assert apart(got, wanted) < 1e-4


# What a person tries first

WORKS = {
    "nothing": lambda make: make(**SMALL),
    "positional num_classes": lambda make: make(7, **SMALL),
    "torchvision: weights=None, num_classes=": lambda make: make(weights=None, num_classes=7, **SMALL),
    "no decoder": lambda make: make(width=0.125, decoder=None),
    "a decoder of tuples": lambda make: make(width=0.125, decoder={"convolutions": ((3, 16), (1, 8))}),
    "configurations": lambda make: make(width=0.125, aspp=ASPPConfig(channels=16), decoder=DecoderConfig()),
    "rates as a tuple": lambda make: make(width=0.125, aspp={"atrous_rates": (3, 6)}),
    "an integer of numpy": lambda make: make(torch.arange(8).numpy()[7], **SMALL),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_first_attempt_works(name):
    net = WORKS[name](deeplabv3plus_xception41).eval()
    assert net(images(1, 3, 33, 40)).shape == (1, net.num_classes, 33, 40)


IMAGENET = "use weights='timm:xception41.tf_in1k'"
WRONG_KEYWORDS = [
    ({"pretrained": True}, IMAGENET),  # torchvision, timm
    ({"encoder_weights": "imagenet"}, IMAGENET),  # segmentation-models-pytorch
    ({"weights_backbone": "DEFAULT"}, IMAGENET),  # torchvision
    ({"classes": 3}, "num_classes"),  # segmentation-models-pytorch
    ({"n_classes": 3}, "num_classes"),
    ({"num_labels": 3}, "num_classes"),  # transformers
    ({"clases": 3}, "num_classes"),
    ({"aux_loss": True}, "no auxiliary classifier"),  # torchvision
    ({"aux_params": {}}, "no auxiliary classifier"),  # segmentation-models-pytorch
    ({"in_channels": 3}, "3 channels"),
    ({"in_chans": 4}, "3 channels"),  # timm
    ({"encoder_name": "resnet34"}, "deeplabv3plus_xception71"),
    ({"encoder_output_stride": 16}, "output_stride"),
    ({"outputstride": 8}, "did you mean 'output_stride'?"),
    ({"decoder_atrous_rates": (6, 12)}, "aspp={'atrous_rates'"),
    ({"decoder_channels": 64}, "decoder={'convolutions'"),
    ({"drop_rate": 0.2}, "aspp={'dropout'"),
    ({"activation": "softmax"}, "softmax(1)"),
    ({"features_only": True}, "xception41() gives feature maps"),  # timm
    ({"nonsense": 1}, "known here: num_classes, output_stride, weights, activation_placement, width"),
]


@pytest.mark.parametrize(
    "keywords, answer", WRONG_KEYWORDS, ids=lambda value: "-".join(value) if isinstance(value, dict) else ""
)
def test_an_argument_of_another_library_is_refused_with_the_name_of_ours(keywords, answer):
    (keyword,) = keywords
    with pytest.raises(TypeError, match=re.escape(f"deeplabv3plus_xception41() has no argument '{keyword}'")) as error:
        deeplabv3plus_xception41(**keywords)
    assert answer in str(error.value)


@pytest.mark.parametrize("keyword", [key for key, hint in HINTS.items() if re.match("use (aspp|decoder)=", hint)])
def test_a_hint_works_as_it_is_written(keyword):
    with pytest.raises(TypeError) as error:
        deeplabv3plus_xception41(**{keyword: 1})
    option, value = re.search(r"use (aspp|decoder)=(\{.*\})$", str(error.value)).groups()
    with torch.device("meta"):
        deeplabv3plus_xception41(width=0.125, **{option: ast.literal_eval(value)})


@pytest.mark.parametrize("keyword", ["num_classes", "classes", "aspp", "decoder"])
def test_a_backbone_alone_has_no_head(keyword):
    with pytest.raises(TypeError, match=rf"xception41\(\) has no argument '{keyword}': it gives feature maps"):
        xception41(**{keyword: 3})


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ({"num_classes": 0}, ["num_classes=0", "seg.models.xception41()"]),  # timm
        ({"num_classes": ["cat", "dog"]}, ["num_classes=['cat', 'dog']", "whole number"]),
        ({"num_classes": True}, ["num_classes=True"]),
        ({"output_stride": 4}, [" output_stride=4", "8, 16, 32"]),
        ({"width": 9}, [" width=9", "at most 8"]),
        ({"width": "wide"}, [" width", "wide"]),
        ({"activation_placement": "keras"}, [" activation_placement=keras", "paper, tf"]),
        ({"spatial_groups": 3, "width": 0.125}, ["spatial_groups=3", "divide"]),
        ({"aspp": {"rates": [6]}}, ["'aspp.rates'", "did you mean 'aspp.atrous_rates'?"]),
        ({"weights": True}, ["weights=True", "weights='timm:xception41.tf_in1k'"]),
        ({"weights": ""}, ["weights=''", "weights='timm:xception41.tf_in1k'"]),
        ({"weights": "imagenet"}, ["imagenet: ", "weights='timm:xception41.tf_in1k'"]),  # keras, segmentation-models-pytorch
        ({"weights": "DEFAULT"}, ["DEFAULT: ", "weights='timm:xception41.tf_in1k'"]),  # torchvision
        ({"weights": "tim:xception41.tf_in1k"}, ["tim:xception41", "weights='timm:xception41.tf_in1k'"]),
        ({"weights": "no/such.safetensors"}, ["no/such.safetensors: no such weights file"]),
        ({"weights": "timm:resnet50"}, ["timm:resnet50", "xception41"]),
    ],
    ids=str,
)
def test_a_wrong_value_is_a_user_error(arguments, parts):
    with refused(*parts) as error:
        deeplabv3plus_xception41(**arguments)
    assert "model." not in str(error.value)


# Weights


def under_timms_names(model):
    """The backbone's tensors of a network as timm's Xception-41 names them."""
    with torch.device("meta"):
        names = list(timm.create_model("xception41", pretrained=False, num_classes=0).state_dict())
    state, blocks = model.state_dict(), list(model.backbone.flow)
    return {name: state[timm_weights.aligned_name(name, blocks)].clone() for name in names}


@pytest.fixture
def trained(tmp_path):
    """A network with the released activation placement and random batch norm parameters."""
    return random_model(small_config(activation_placement="tf"))


@pytest.fixture
def sources(trained, tmp_path, monkeypatch):
    """The same backbone from every kind of source."""
    theirs = under_timms_names(trained)
    monkeypatch.setattr(timm_weights, "download", lambda name: theirs)
    save_file(theirs, tmp_path / "timm.safetensors")
    write(tmp_path / "ours.safetensors", trained, Metadata(Config(model=small_config(activation_placement="tf")), VOC, {}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *given, **options: str(tmp_path / "ours.safetensors"))
    return {
        "timm": "timm:xception41.tf_in1k",
        "timm's file": str(tmp_path / "timm.safetensors"),
        "a path": tmp_path / "ours.safetensors",
        "hf": "hf:somebody/something",
        "tf": checkpoint(tmp_path, trained),
    }


@torch.no_grad()
@pytest.mark.parametrize("kind", ["timm", "timm's file", "a path", "hf", "tf"])
def test_weights_set_their_activation_placement(sources, trained, kind):
    net = deeplabv3plus_xception41(5, weights=sources[kind], **SMALL).eval()
    alone = xception41(weights=sources[kind], width=0.125).eval()
    wanted = trained.backbone(images(1, 3, 65, 49))
    for backbone in (net.backbone, alone):
        assert backbone.activation_placement == "tf"
        assert all(torch.equal(a, b) for a, b in zip(backbone(images(1, 3, 65, 49)), wanted, strict=True))
    if not kind.startswith("timm"):  # those hold a whole network
        assert torch.equal(net(images(1, 3, 65, 49)), trained(images(1, 3, 65, 49)))


def test_weights_set_the_separable_activation(tmp_path):
    config = small_config(separable_activation="elu")
    write(tmp_path / "elu.safetensors", random_model(config), Metadata(Config(model=config), VOC, {}))
    assert xception41(weights=tmp_path / "elu.safetensors", width=0.125).separable_activation == "elu"
    with refused("separable_activation='relu'", "'elu'", "leave it out"):
        xception41(weights=tmp_path / "elu.safetensors", width=0.125, separable_activation="relu")


def test_an_activation_placement_unlike_that_of_the_weights_is_refused(sources):
    for make in (deeplabv3plus_xception41, xception41):
        with refused("activation_placement='paper'", "timm:xception41.tf_in1k", "'tf'", "leave it out"):
            make(weights=sources["timm"], activation_placement="paper", width=0.125)
    assert xception41(weights=sources["timm"], activation_placement="tf", width=0.125).activation_placement == "tf"


def test_weights_of_another_network_are_refused(sources, tmp_path, monkeypatch):
    with refused("deeplabv3plus_xception65", "weights of xception41, not of xception65", "timm:xception65.tf_in1k"):
        seg.models.deeplabv3plus_xception65(weights=sources["timm"], width=0.125)
    with refused("does not fit this model"):
        deeplabv3plus_xception41(weights=sources["timm"], width=0.25)
    for settings, tensor in (({"decoder": None}, "decoder."), ({"decoder": {"convolutions": [[3, 16]]}}, "decoder")):
        with refused(tensor):
            deeplabv3plus_xception41(5, weights=sources["tf"], width=0.125, aspp={"channels": 16}, **settings)
    library = build_model(ModelConfig(smp="Unet", backbone="resnet18"), 3)
    library.network.save_pretrained(tmp_path / "smp")
    with refused("Unet on resnet18 of segmentation-models-pytorch"):
        deeplabv3plus_xception41(weights=tmp_path / "smp")


def test_a_classifier_of_other_classes_is_initialized_and_the_rest_is_kept(sources, trained):
    net = deeplabv3plus_xception41(7, weights=sources["a path"], **SMALL)
    state = trained.state_dict()
    for name, value in net.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, state[name]), name
    assert 0 < float(net.classifier.weight.detach().abs().max()) <= 0.02


def test_weights_that_cannot_be_downloaded_are_an_error(monkeypatch):
    def offline(*given, **options):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"timm:xception41\.tf_in1k: .*no network"):
        deeplabv3plus_xception41(weights="timm:xception41.tf_in1k", **SMALL)
