"""Where weights come from, and what is frozen."""

import pytest
from torch import nn

from seg.config import TrainConfig, from_dict, load, names
from seg.training.start import describe_loss, few_images_for_batch_norm, refuse_frozen_random
from seg.training.trainer import Trainer
from tests.helpers.toy import refused


@pytest.mark.parametrize(
    "frozen", ["train.freeze_batch_norm=backbone", "train.freeze_batch_norm=all", "train.freeze_backbone=true"]
)
def test_frozen_layers_of_random_weights_are_refused_unless_asked_for_twice(frozen):
    with refused(f"{frozen}, but the weights are random", "model.weights=xception65_imagenet", "model.weights=random"):
        refuse_frozen_random(from_dict({}, "test", [frozen]))
    refuse_frozen_random(from_dict({}, "test", [frozen, "model.weights=random"]))
    refuse_frozen_random(from_dict({}, "test", [frozen, "model.weights=xception65_imagenet"]))
    refuse_frozen_random(from_dict({}, "test", []))


@pytest.mark.parametrize("weights", [[], ["model.weights=random"]])
def test_the_first_lines_say_where_weights_come_from_and_the_loss(config, capsys, weights):
    Trainer(config("a", *weights, "train.loss.dice=0.5", "train.class_weights=balanced"))
    lines = capsys.readouterr().err.splitlines()
    network = "network: DeepLab V3+, xception41, width 0.125, random weights; published ones: model.weights=xception41_imagenet"
    assert network in lines
    assert "loss: cross_entropy + 0.5 dice; class weights balanced" in lines


def test_a_network_of_the_library_with_its_own_weights_is_not_random():
    refuse_frozen_random(
        from_dict(
            {"model": {"smp": "Unet", "backbone": "resnet18", "weights": "imagenet"}}, "test", ["train.freeze_backbone=true"]
        )
    )
    with refused("model.weights=imagenet"):
        refuse_frozen_random(
            from_dict({"model": {"smp": "Unet", "backbone": "resnet18"}}, "test", ["train.freeze_backbone=true"])
        )


def test_a_loss_without_cross_entropy_is_said_so():
    assert describe_loss(from_dict({}, "test", ["train.loss=lovasz"]).train) == "loss: lovasz"
    assert describe_loss(TrainConfig(class_weights={"cat": 2})) == "loss: cross_entropy; class weights as given"


@pytest.mark.parametrize(
    "settings, told",
    [
        (["train.batch_size=8"], 8),
        (["train.batch_size=24", "train.grad_accumulation=4"], 6),
        (["train.batch_size=12"], None),
        (["train.batch_size=8", "train.freeze_batch_norm=backbone"], None),  # as advised
        (["train.batch_size=8", "model.weights=null"], None),  # no published statistics to keep
        (["train.batch_size=8", "model.weights=random"], None),
    ],
)
def test_fine_tuning_batch_norm_on_few_images_gives_advice(settings, told):
    line = few_images_for_batch_norm(from_dict({"model": {"weights": "xception41_imagenet"}}, "test", settings), nn.Module())
    assert line == told or line.startswith(f"batch norm trains on {told} images at a time; train.freeze_batch_norm=backbone")


@pytest.mark.parametrize("name", sorted({*names()} - {"quickstart"}))  # it trains from random weights
def test_the_configurations_that_come_with_seg_need_no_advice(name):
    assert few_images_for_batch_norm(load(name, ["model.weights=weights.safetensors"]), nn.Module()) is None
