import json
import os
import signal

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from seg.config import from_dict
from seg.errors import UserError
from seg.train.loop import Trainer, prepare_mode
from seg.weights.load import open_model
from tests.toy import toy_voc

SMALL = {
    "model": {
        "backbone": "xception41",
        "width": 0.125,
        "aspp": {"channels": 16},
        "decoder": {"low_level_channels": 8, "convolutions": [[3, 16]]},
    },
    "data": {"train": "train", "val": "val", "crop": 33, "workers": 0},
    "train": {"iterations": 4, "batch": 2, "learning_rate": 0.01, "validate_every": 4, "log_every": 1},
    "evaluate": {"canvas": None},
}


@pytest.fixture
def config(tmp_path):
    toy_voc(tmp_path / "voc")

    def make(name, *overrides):
        places = [f"data.root={tmp_path / 'voc'}", f"runs={tmp_path / 'runs'}", f"name={name}"]
        return from_dict(SMALL, "test", [*places, *overrides])

    return make


def weights(trainer):
    return torch.load(trainer.last, weights_only=True)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_run_folder_holds_what_the_design_says(config):
    trainer = Trainer(config("a"), quiet=True)
    result = trainer.run()
    assert (result.iteration, result.stopped) == (4, False)
    names = {path.name for path in trainer.folder.iterdir()}
    assert names == {"config.yaml", "last.ckpt", "best.safetensors", "metrics.jsonl", "events"}
    assert from_dict(yaml.safe_load((trainer.folder / "config.yaml").read_text()), "saved") == trainer.config
    events = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["iteration"] for e in events if "loss" in e] == [1, 2, 3, 4]
    assert [e["miou"] for e in events if "miou" in e] == [result.best]
    model, about = open_model(trainer.best)
    assert about.score == {"iteration": 4, "miou": result.best, "split": "val"}
    assert same(dict(model.state_dict()), dict(trainer.model.state_dict()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_and_resumed_equals_a_straight_run_to_the_bit(config, monkeypatch, number):
    extra = ["data.workers=1", "data.transforms=[{ColorJitter: {p: 1.0}}]", "data.balanced=true", "train.average=0.5"]
    straight = Trainer(config("straight", *extra), quiet=True)
    straight.run()

    stopped = Trainer(config("stopped", *extra), quiet=True)
    step = Trainer._step

    def step_and_signal(self, *batch):
        if self.state.iteration == 1:
            os.kill(os.getpid(), number)
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step_and_signal)
        result = stopped.run()
    assert (result.iteration, result.stopped) == (2, True)
    resumed = Trainer(config("stopped", *extra), resume=True, quiet=True)
    assert resumed.run().iteration == 4
    a, b = weights(straight), weights(resumed)
    for part in ("model", "optimiser", "state"):
        assert same(a[part], b[part]), part


def test_training_learns(config):
    overrides = ["train.iterations=60", "train.validate_every=60", "train.learning_rate=0.1", "train.batch_norm_momentum=0.1"]
    Trainer(config("a", *overrides, "train.batch=4"), quiet=True).run()
    lines = (config("a").folder / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if "loss" in line]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:5]) * 2


def test_frozen_batch_norm_keeps_its_statistics(config):
    trainer = Trainer(config("a", "train.frozen_batch_norm=backbone"), quiet=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    for name in before:
        if name.endswith("running_mean"):
            assert torch.equal(before[name], after[name]) == name.startswith("backbone."), name
    assert not torch.equal(before["backbone.conv1.norm.weight"], after["backbone.conv1.norm.weight"])


def test_all_batch_norms_can_be_frozen_and_take_the_configured_momentum(config):
    trainer = Trainer(config("a", "train.frozen_batch_norm=all", "train.batch_norm_momentum=0.2"), quiet=True)
    prepare_mode(trainer.model, trainer.config.train)
    norms = [m for m in trainer.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(not m.training and m.momentum == 0.2 for m in norms)
    assert trainer.model.aspp.dropout.training


def test_a_run_is_not_overwritten(config):
    Trainer(config("a"), quiet=True).run()
    with pytest.raises(UserError, match="--resume"):
        Trainer(config("a"), quiet=True)


def test_a_bad_sample_is_found_before_the_run_folder_is_made(config, tmp_path):
    image = sorted((tmp_path / "voc" / "JPEGImages").iterdir())[1]
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(UserError, match=image.name):
        Trainer(config("a"), quiet=True)
    assert not (tmp_path / "runs").exists()


def test_divergence_stops_with_the_iteration_and_a_remedy(config, monkeypatch):
    trainer = Trainer(config("a"), quiet=True)
    with torch.no_grad():
        trainer.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss is nan at iteration 1: .*train\.learning_rate"):
        trainer.run()


def test_one_image_a_batch_and_an_smp_model_train(config):
    overrides = ["train.batch=1", "train.iterations=1", "model.smp=Unet", "model.backbone=resnet18"]
    assert Trainer(config("a", *overrides), quiet=True).run().iteration == 1
    assert Trainer(config("b", "train.batch=1", "train.iterations=1"), quiet=True).run().iteration == 1


def test_the_average_of_the_weights_is_what_is_validated_and_saved(config):
    trainer = Trainer(config("averaged", "train.average=0.5"), quiet=True)
    steps = []
    step = trainer._step

    def note(*batch):
        result = step(*batch)
        steps.append(trainer.model.classifier.weight.detach().clone())
        return result

    trainer._step = note
    trainer.run()
    expected = steps[0]
    for value in steps[1:]:
        expected = 0.5 * expected + 0.5 * value
    model, _ = open_model(trainer.best)
    torch.testing.assert_close(model.classifier.weight.detach(), expected)
    assert not torch.equal(model.classifier.weight, trainer.model.classifier.weight)
    assert torch.equal(model.backbone.conv1.norm.running_mean, trainer.model.backbone.conv1.norm.running_mean)


def test_an_image_classifier_is_not_trained(config):
    with pytest.raises(UserError, match=r"model\.image_classes: an image classifier has no masks"):
        Trainer(config("classifier", "model.image_classes=3"), quiet=True)


def test_a_warm_start_begins_from_the_originals_weights(config, tmp_path):
    torch.manual_seed(3)
    original = timm.create_model("legacy_xception", pretrained=False).state_dict()
    save_file(original, tmp_path / "original.safetensors")
    start = [f"model.weights={tmp_path / 'original.safetensors'}", "model.width=1", "model.placement=tf"]
    with pytest.raises(UserError, match=r"original Xception's: model\.weights_use=warm_start"):
        Trainer(config("cold", *start), quiet=True)
    trainer = Trainer(config("warm", *start, "model.weights_use=warm_start"), quiet=True)
    assert torch.equal(trainer.model.backbone.conv1.conv.weight, original["conv1.weight"])
    assert torch.equal(
        trainer.model.backbone.flow["middle8"].convs[2].pointwise.weight, original["block11.rep.7.pointwise.weight"]
    )
