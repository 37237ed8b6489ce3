import errno
import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from seg.cli.main import main
from seg.config import from_dict
from seg.errors import UserError
from seg.models.preprocess import network_input
from seg.training import checkpoint, memory
from seg.training.event_log import EventLog
from seg.training.losses import Loss
from seg.training.step import prepare_mode
from seg.training.trainer import Trainer
from seg.weights.loading import open_model
from tests.helpers.toy import refused, same


def weights(trainer):
    return checkpoint.read(trainer.training_run.last)


def test_a_run_folder_has_the_documented_files(config):
    trainer = Trainer(config("a"), quiet=True)
    result = trainer.run()
    assert (result.iteration, result.stopped) == (4, False)
    names = {path.name for path in trainer.folder.iterdir()}
    assert names == {
        "config.yaml",
        "last.ckpt",
        "previous.ckpt",
        "best.safetensors",
        "metrics.jsonl",
        "events",
        ".lock",
        "data.npz",
    }
    assert from_dict(yaml.safe_load((trainer.folder / "config.yaml").read_text()), "saved") == trainer.config
    events = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["iteration"] for e in events if "loss" in e] == [1, 2, 3, 4]
    assert [e["miou"] for e in events if "miou" in e] == [result.miou]
    model, about = open_model(trainer.training_run.best)
    assert about.score.pop("iou").keys() == set(about.labels.names)
    assert about.score == {"iteration": 4, "miou": result.miou, "split": "val"}
    assert same(dict(model.state_dict()), dict(trainer.model.state_dict()))


WAYS = {
    "balanced": ["data.balanced=true"],
    "sources": ["data.sources=[{root: ROOT, weight: 1}, {root: ROOT, split: val, weight: 2}]"],
    "rectangles": ["data.crop_size=[40,56]"],
    "adamw": ["train.optimizer=adamw", "train.schedule=cosine", "train.hard_pixels=0.25", "train.hard_pixels_steps=3"],
}


@pytest.mark.parametrize(
    "number, way",
    [(signal.SIGINT, "balanced"), (signal.SIGTERM, "sources"), (signal.SIGINT, "adamw"), (signal.SIGINT, "rectangles")],
)
def test_stopped_by_a_signal_and_resumed_equals_a_straight_run_to_the_bit(config, monkeypatch, number, way):
    extra = ["data.num_workers=1", "data.transforms=[{ColorJitter: {p: 1.0}}]", "train.ema_decay=0.5"]
    extra += [setting.replace("ROOT", config("x").data.root) for setting in WAYS[way]]
    straight = Trainer(config("straight", *extra), quiet=True)
    straight.run()

    stopped = Trainer(config("stopped", *extra), quiet=True)
    step = Trainer._update

    def step_and_signal(self, *batch):
        if self.state.iteration == 1:
            os.kill(os.getpid(), number)
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", step_and_signal)
        result = stopped.run()
    assert (result.iteration, result.stopped) == (2, True)
    resumed = Trainer(config("stopped", *extra), resume=True, quiet=True)
    assert resumed.run().iteration == 4
    a, b = weights(straight), weights(resumed)
    for part in ("model", "optimizer", "state"):
        assert same(a[part], b[part]), part


def test_a_resumed_run_has_weights_and_may_be_frozen(config):
    frozen = "train.freeze_batch_norm=backbone"
    Trainer(config("a", frozen, "model.weights=random"), quiet=True).run()
    assert Trainer(config("a", frozen), resume=True, quiet=True).run().iteration == 4
    with refused("but the weights are random"):
        Trainer(config("b", frozen), quiet=True)


def test_a_resumed_run_keeps_the_precision_that_auto_became(config, monkeypatch):
    automatic = "train.precision=auto"
    monkeypatch.setattr(memory, "best_precision", lambda device: "bfloat16")
    begun = Trainer(config("a", automatic), quiet=True)
    begun.training_run.stop()
    begun.run()
    assert "precision: bfloat16\n" in (begun.folder / "config.yaml").read_text()
    monkeypatch.setattr(memory, "best_precision", lambda device: "float32")  # another machine
    assert Trainer(config("a", automatic), resume=True, quiet=True).step.precision == "bfloat16"
    assert Trainer(config("b", automatic), quiet=True).step.precision == "float32"


def test_a_second_run_of_a_name_says_how_to_resume_the_first(config):
    Trainer(config("a"), quiet=True).run()
    with refused("already holds a run", f"seg train {config('a').folder}/config.yaml --resume"):
        Trainer(config("a"), quiet=True)


def test_training_learns(config):
    overrides = ["train.iterations=60", "train.validate_every=60", "train.learning_rate=0.1", "train.batch_norm_momentum=0.1"]
    Trainer(config("a", *overrides, "train.batch_size=4"), quiet=True).run()
    lines = (config("a").folder / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if "loss" in line]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:5]) * 2


def test_frozen_batch_norm_keeps_its_statistics(config):
    trainer = Trainer(config("a", "train.freeze_batch_norm=backbone", "model.weights=random"), quiet=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    for name in before:
        if name.endswith("running_mean"):
            assert torch.equal(before[name], after[name]) == name.startswith("backbone."), name
    assert not torch.equal(before["backbone.conv1.norm.weight"], after["backbone.conv1.norm.weight"])


def test_all_batch_norms_can_be_frozen_and_take_the_configured_momentum(config):
    trainer = Trainer(
        config("a", "model.weights=random", "train.freeze_batch_norm=all", "train.batch_norm_momentum=0.2"), quiet=True
    )
    prepare_mode(trainer.model, trainer.config.train)
    norms = [m for m in trainer.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(not m.training and m.momentum == 0.2 for m in norms)
    assert trainer.model.aspp.dropout.training


def test_a_run_is_not_overwritten(config):
    Trainer(config("a"), quiet=True).run()
    with pytest.raises(UserError, match="--resume"):
        Trainer(config("a"), quiet=True)


def test_a_checkpoint_is_written_before_a_bad_image_ends_the_training(config, tmp_path, monkeypatch):
    settings = "train.iterations=30", "train.validate_every=30", "train.ema_decay=0.5"
    straight = Trainer(config("straight", *settings), quiet=True)
    straight.run()
    monkeypatch.setattr("seg.data.training_data.DECODED", 0)  # as for large data sets: of images, headers are read
    image = sorted((tmp_path / "voc" / "JPEGImages").iterdir())[1]
    whole = image.read_bytes()
    image.write_bytes(whole[:-400])
    stopped = Trainer(config("stopped", *settings), quiet=True)
    with refused(image.name):
        stopped.run()
    saved = weights(stopped)["state"]["iteration"]
    assert saved == stopped.state.iteration < 30
    image.write_bytes(whole)
    resumed = Trainer(config("stopped", *settings), resume=True, quiet=True)
    resumed.run()
    assert same(weights(straight)["model"], weights(resumed)["model"])


def test_a_bad_sample_is_found_before_the_run_folder_is_made(config, tmp_path):
    image = sorted((tmp_path / "voc" / "JPEGImages").iterdir())[1]
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(UserError, match=image.name):
        Trainer(config("a"), quiet=True)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def diverging(monkeypatch):
    """The loss is NaN at the third step."""
    forward, count = Loss.forward, [0]

    def third(self, *arguments):
        count[0] += 1
        return forward(self, *arguments) * (float("nan") if count[0] == 3 else 1)

    monkeypatch.setattr(Loss, "forward", third)


def test_divergence_stops_with_iteration_files_and_a_remedy_and_keeps_the_weights(config, diverging):
    trainer = Trainer(config("a", "train.validate_every=2"), quiet=True)
    with pytest.raises(UserError) as error:
        trainer.run()
    message = str(error.value)
    files = trainer.samples.files((4, 5))
    assert "loss nan or its gradient is not finite at iteration 2, on " + ", ".join(files) in message
    assert all(word in message for word in ("train.learning_rate", "train.grad_clip_norm", str(trainer.training_run.last)))
    saved = weights(trainer)
    assert saved["state"]["iteration"] == 2
    assert all(torch.isfinite(value).all() for value in [*saved["model"].values(), *trainer.model.parameters()])


def test_a_step_with_a_nan_can_be_skipped(config, diverging, capsys):
    trainer = Trainer(config("a", "train.non_finite=skip"), quiet=True)
    assert trainer.run().iteration == 4
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert line.startswith("seg: iteration 2 skipped: loss nan")
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_a_step_with_nan_batch_norm_statistics_is_not_skipped(config, monkeypatch):
    count = [0]

    def overflowing(*given):
        count[0] += 1
        return network_input(*given) * (float("inf") if count[0] == 3 else 1)

    monkeypatch.setattr("seg.training.step.network_input", overflowing)
    trainer = Trainer(config("a", "train.non_finite=skip", "train.validate_every=2"), quiet=True)
    with refused("at iteration 2", "cannot be skipped", "batch norm", str(trainer.training_run.last)):
        trainer.run()
    assert all(torch.isfinite(value).all() for value in weights(trainer)["model"].values())


def test_training_works_with_one_image_per_batch_and_with_smp_models(config):
    overrides = ["train.batch_size=1", "train.iterations=1", "model.smp=Unet", "model.backbone=resnet18"]
    assert Trainer(config("a", *overrides), quiet=True).run().iteration == 1
    assert Trainer(config("b", "train.batch_size=1", "train.iterations=1"), quiet=True).run().iteration == 1


def test_the_moving_average_is_validated_and_saved(config):
    trainer = Trainer(config("averaged", "train.ema_decay=0.5"), quiet=True)
    steps = []
    step = trainer._update

    def note(*batch):
        result = step(*batch)
        steps.append(trainer.model.classifier.weight.detach().clone())
        return result

    trainer._update = note
    trainer.run()
    expected = steps[0]
    for value in steps[1:]:
        expected = 0.5 * expected + 0.5 * value
    model, _ = open_model(trainer.training_run.best)
    torch.testing.assert_close(model.classifier.weight.detach(), expected)
    assert not torch.equal(model.classifier.weight, trainer.model.classifier.weight)
    assert torch.equal(model.backbone.conv1.norm.running_mean, trainer.model.backbone.conv1.norm.running_mean)


def test_an_image_classifier_is_not_trained(config):
    with pytest.raises(UserError, match=r"model\.image_classes: an image classifier cannot learn from masks"):
        Trainer(config("classifier", "model.image_classes=3"), quiet=True)


def test_a_warm_start_begins_with_the_weights_of_the_original_xception(config, tmp_path):
    torch.manual_seed(3)
    original = timm.create_model("legacy_xception", pretrained=False).state_dict()
    save_file(original, tmp_path / "original.safetensors")
    start = [f"model.weights={tmp_path / 'original.safetensors'}", "model.width=1", "model.activation_placement=tf"]
    with pytest.raises(UserError, match=r"original Xception's: set model\.weights_use=warm_start"):
        Trainer(config("cold", *start), quiet=True)
    trainer = Trainer(config("warm", *start, "model.weights_use=warm_start"), quiet=True)
    assert torch.equal(trainer.model.backbone.conv1.conv.weight, original["conv1.weight"])
    assert torch.equal(
        trainer.model.backbone.flow["middle8"].convs[2].pointwise.weight, original["block11.rep.7.pointwise.weight"]
    )


def test_a_changed_configuration_is_reported_with_its_effect(config, capsys):
    Trainer(config("a"), quiet=True).run()
    resumed = Trainer(
        config("a", "train.iterations=6", "train.learning_rate=0.005", "data.num_workers=1", "train.loss.dice=1"),
        resume=True,
        quiet=True,
    )
    told = capsys.readouterr().err
    assert "seg: train.iterations was 4, is 6: from here on, the schedule is scaled to the new number" in told
    assert "seg: train.learning_rate was 0.01, is 0.005: from here on, the result differs" in told
    assert "seg: data.num_workers was 0, is 1: the weights do not depend on it" in told
    assert "seg: train.loss was {'cross_entropy': 1.0}, is {'cross_entropy': 1.0, 'dice': 1.0}" in told
    assert told.count("\n") == 4 + told.count("batch norm trains")
    assert resumed.run().iteration == 6
    lines = (resumed.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_another_network_is_not_resumed(config):
    Trainer(config("a"), quiet=True).run()
    with pytest.raises(UserError, match=r"not a checkpoint of this configuration.*start a new run with name=NAME"):
        Trainer(config("a", "model.width=0.25"), resume=True, quiet=True)


def test_a_run_that_is_resumed_with_another_network_names_the_settings_and_the_command(config, capsys):
    trainer = Trainer(config("a b"), quiet=True)
    trainer.run()
    with refused("model.backbone was xception41, is xception65", "model.width was 0.125, is 0.25") as error:
        Trainer(config("a b", "model.backbone=xception65", "model.width=0.25", "model.weights=random"), resume=True, quiet=True)
    assert "state_dict" not in str(error.value) and "model.weights" not in str(error.value)
    command = f"seg train '{trainer.folder / 'config.yaml'}' --resume"
    assert f"resume it with its own settings: {command}; or start a new run" in str(error.value)
    assert main([*shlex.split(command)[1:], "--quiet"]) == 0


def test_two_runs_in_one_folder_are_refused(config):
    trainer, folder = Trainer(config("a"), quiet=True), config("a").folder
    folder.mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl,os;f=open('{folder}/.lock','w');fcntl.lockf(f,2);f.write(str(os.getpid()));"
         "f.flush();print('held',flush=True);input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"{folder}: process {holder.pid} trains here"):
        trainer.run()
    assert {path.name for path in folder.iterdir()} == {".lock"}
    holder.communicate("")
    assert trainer.run().iteration == 4


def test_a_folder_that_cannot_be_written_gives_one_line(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); choose another folder with runs=FOLDER"):
        Trainer(config("a", f"runs={tmp_path / 'file'}"), quiet=True).run()


def test_a_full_disk_ends_the_run_and_loses_nothing(config, monkeypatch):
    trainer = Trainer(config("a", "train.validate_every=2"), quiet=True)
    write = EventLog.write

    def full(self, iteration, **values):
        if iteration == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, iteration, **values)

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "write", full)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\).*continue with --resume"):
            trainer.run()
    resumed = Trainer(config("a", "train.validate_every=2"), resume=True, quiet=True)
    assert (resumed.state.iteration, resumed.run().iteration) == (2, 4)


def test_an_out_of_memory_error_says_which_settings_to_lower(config, monkeypatch):
    def greedy(*_):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(Loss, "forward", greedy)
    with pytest.raises(
        UserError, match=r"out of memory at iteration 0 .*train\.batch_size.*train\.grad_accumulation=2.*checkpoint_activations"
    ):
        Trainer(config("a"), quiet=True).run()


def test_a_run_that_torchrun_restarts_resumes_automatically(config, monkeypatch):
    Trainer(config("a"), quiet=True).run()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert Trainer(config("a"), quiet=True).state.iteration == 4
    assert Trainer(config("b"), quiet=True).state.iteration == 0  # killed before its first checkpoint


def test_a_validation_without_its_checkpoint_is_logged_once(config, monkeypatch):
    save, count = Trainer._save, [0]

    def cut_off(self):
        count[0] += 1
        if count[0] == 2:  # the first is before the validation, the second after it
            raise KeyboardInterrupt
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            Trainer(config("a", "train.validate_every=2"), quiet=True).run()
    resumed = Trainer(config("a", "train.validate_every=2"), resume=True, quiet=True)
    assert (resumed.state.iteration, resumed.state.validated) == (2, 0)
    resumed.run()
    events = [json.loads(line) for line in (resumed.folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["iteration"] for e in events if "loss" in e] == [1, 2, 3, 4]
    assert [e["iteration"] for e in events if "miou" in e] == [2, 4]
