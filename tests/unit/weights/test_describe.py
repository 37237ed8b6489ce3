import copy
import random

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from seg.config import ASPPConfig, Config, DecoderConfig, InferenceConfig, ModelConfig
from seg.labels import VOC
from seg.models.factory import build_model
from seg.weights.describe import model_config_of
from seg.weights.file import save
from seg.weights.loading import open_model
from tests.helpers.toy import random_model, refused

IMAGE = torch.linspace(-1, 1, 3 * 49 * 65).view(1, 3, 49, 65)
NAMES = ("background", "cat", "dog", "bird", "horse")


def drawn(seed: int) -> ModelConfig:
    """A configuration drawn at random: each choice of ours, small."""
    rng = random.Random(seed)
    decoder = DecoderConfig(
        low_level_channels=rng.choice([4, 12]),
        convolutions=[[rng.choice([1, 3]), rng.choice([8, 16])] for _ in range(rng.randrange(4))],
        separable=rng.random() < 0.5,
        conv3=rng.random() < 0.3,
    )
    context = rng.choice(["aspp", "aspp", "dpc"])
    aspp = ASPPConfig(
        channels=rng.choice([8, 16]),
        atrous_rates=rng.choice([[], [6, 12, 18], [1, 3]]),
        separable=rng.random() < 0.5,
        image_pooling=rng.random() < 0.7,
        dropout=rng.choice([0.0, 0.1]),
    )
    return ModelConfig(
        backbone=rng.choice(["xception", "xception41", "xception65", "xception71"]),
        activation_placement=rng.choice(["paper", "tf"]),
        width=rng.choice([0.05, 0.125, 0.13]),
        output_stride=rng.choice([8, 16] if context == "dpc" else [8, 16, 32]),
        residual=rng.random() < 0.7,
        separable_activation=rng.choice([None, "none", "relu", "elu"]),
        spatial_groups=rng.choice([None, None, 1, 2]),
        context=context,
        aspp=aspp if context == "aspp" else ASPPConfig(),
        decoder=rng.choice([None, decoder, decoder]),
    )


@pytest.mark.parametrize("seed", range(24))
@torch.no_grad()
def test_a_saved_network_loads_with_equal_logits(tmp_path, seed):
    network = random_model(drawn(seed))
    save(tmp_path / "mine.safetensors", network, list(NAMES))
    loaded, metadata = open_model(tmp_path / "mine.safetensors")
    assert torch.equal(loaded(IMAGE), network(IMAGE))
    assert loaded.output_stride == network.output_stride
    assert metadata.labels.names == NAMES and metadata.score == {}
    for stride in (8, 16 if loaded.dpc else 32):
        loaded.output_stride = network.output_stride = stride
        assert torch.equal(loaded(IMAGE), network(IMAGE))


@pytest.mark.parametrize("settings", [{"smp": "DeepLabV3Plus", "output_stride": 8}, {"smp": "Unet", "weights": "published"}])
@torch.no_grad()
def test_an_smp_network_loads_with_equal_logits(tmp_path, monkeypatch, settings):
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda encoder, weights: statistics)
    network = build_model(ModelConfig(backbone="resnet18", **settings), 5).eval()
    save(tmp_path / "mine.safetensors", network, list(NAMES))
    loaded, _ = open_model(tmp_path / "mine.safetensors")
    assert torch.equal(loaded(IMAGE), network(IMAGE))
    assert (loaded.mean, loaded.std, loaded.output_stride) == (network.mean, network.std, network.output_stride)
    assert (network.mean == (0.1, 0.2, 0.3)) == ("weights" in settings)


def small(**model) -> nn.Module:
    return random_model(ModelConfig(backbone="xception41", width=0.05, **model))


def test_the_settings_and_the_score_are_stored(tmp_path):
    config = Config(name="mine", model=ModelConfig(backbone="xception71"), evaluate=InferenceConfig(canvas=None, flip=True))
    save(tmp_path / "mine.safetensors", small(), list(NAMES), config=config, score={"miou": 0.25, "split": "val"})
    _, metadata = open_model(tmp_path / "mine.safetensors")
    assert metadata.config.model.backbone == "xception41"
    assert metadata.config.evaluate == config.evaluate and metadata.config.name == "mine"
    assert metadata.score == {"miou": 0.25, "split": "val"}
    assert config.model.backbone == "xception71"  # the caller's is left as it was


@torch.no_grad()
def test_a_wrapped_network_is_saved_without_its_wrapper(tmp_path):
    network = small()
    for wrapped in (torch.compile(network), AveragedModel(network), AveragedModel(torch.compile(network))):
        save(tmp_path / "mine.safetensors", wrapped, list(NAMES))
        assert torch.equal(open_model(tmp_path / "mine.safetensors")[0](IMAGE), network(IMAGE))


def replaced(place: str, module: nn.Module) -> nn.Module:
    network = small()
    parent, _, name = place.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
    return network


FOREIGN = {
    "another class": (lambda: nn.Conv2d(3, 5, 1), "Conv2d: not a segmentation network of seg"),
    "its own backbone": (lambda: replaced("backbone", nn.Identity()), "backbone Identity"),
    "another stem": (lambda: replaced("backbone.conv1.conv", nn.Conv2d(4, 8, 3, 2, 1, bias=False)), "backbone.conv1.conv"),
    "another stride": (lambda: replaced("backbone.conv1.conv", nn.Conv2d(3, 8, 3, 1, 1, bias=False)), "backbone.conv1.conv"),
    "another epsilon": (lambda: replaced("aspp.project.norm", nn.BatchNorm2d(256, eps=1e-2)), "aspp.project.norm"),
    "a larger classifier": (lambda: replaced("classifier", nn.Conv2d(256, 5, 3, padding=1)), "classifier"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_network_that_is_not_ours_is_refused(tmp_path, name):
    make, message = FOREIGN[name]
    with refused(message):
        save(tmp_path / "mine.safetensors", make(), list(NAMES))
    assert not list(tmp_path.iterdir())


def test_a_new_classifier_of_another_size_is_saved(tmp_path):
    save(tmp_path / "mine.safetensors", replaced("classifier", nn.Conv2d(256, 21, 1)), VOC)
    assert open_model(tmp_path / "mine.safetensors")[1].labels == VOC


def test_user_errors_are_refused_and_nothing_is_written(tmp_path):
    network, path = small(), tmp_path / "mine.safetensors"
    with refused(path, "2 labels for a network of 5 classes"):
        save(path, network, ["background", "cat"])
    with refused("two classes have the name cat"):
        save(path, network, ["background", "cat", "cat", "dog", "bird"])
    with refused(path, "score", "miou"):
        save(path, network, list(NAMES), score={"miou": "high"})
    broken = copy.deepcopy(network)
    broken.classifier.bias.data[2] = float("nan")
    with refused(path, "classifier.bias", "NaN"):
        save(path, broken, list(NAMES))
    assert not list(tmp_path.iterdir())


def test_the_configuration_builds_the_network_again():
    network = small(output_stride=8, decoder=None)
    config = model_config_of(network)
    assert config == ModelConfig(backbone="xception41", width=0.05, output_stride=8, decoder=None)
