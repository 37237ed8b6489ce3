import contextlib
import re

import pytest
import torch
import yaml

from seg.cli.main import main
from seg.config import as_dict
from seg.training import dry_run as module
from seg.training import memory, start
from seg.training.dry_run import dry_run
from seg.training.trainer import Trainer
from tests.helpers.toy import refused


def test_a_dry_run_says_what_a_training_takes_and_writes_nothing(config, tmp_path, capsys):
    settings = config("a")
    trainer = Trainer(settings, quiet=True)
    found = dry_run(trainer)
    assert not settings.folder.exists()
    assert found.keys() == {"step", "validation", "time", "memory", "weights", "checkpoints"}
    assert re.match(r"[\d.e-]+ s for \d+ crops of \d+x\d+, loss \d", found["step"])
    assert found["weights"] == str(settings.folder / "best.safetensors")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(as_dict(settings)))
    assert main(["train", str(file), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "memory:" in printed.out and "training: 6 images, 3 for validation, 21 classes" in printed.err
    assert not settings.folder.exists()


def test_too_little_memory_is_said_with_the_remedy(config, monkeypatch):
    trainer = Trainer(config("a"), quiet=True)
    monkeypatch.setattr(module, "available_memory", lambda device: 2**40)
    assert dry_run(trainer)["memory"].endswith("; 1024.0 GiB are free")
    monkeypatch.setattr(module, "available_memory", lambda device: 2**10)
    assert "too little; lower train.batch_size" in dry_run(trainer)["memory"]


def test_a_training_far_beyond_the_memory_is_refused_before_the_system_kills_it(config, monkeypatch, capsys):
    need = memory.training_memory(Trainer(config("a"), quiet=True).model, config("a").train, 40, 40, "float32", False)
    settings = config("a", "train.precision=float32", "train.recompute=false", "data.crop_size=40")
    capsys.readouterr()
    for free, refusal in ((need / 2, False), (need / 5, True)):
        monkeypatch.setattr(memory, "available_memory", lambda device, free=free: int(free))
        with (
            refused("the training needs about", "GiB free; set train.grad_accumulation=2, a smaller data.crop_size, or")
            if (refusal)
            else contextlib.nullcontext()
        ):
            Trainer(settings, quiet=True)
        assert ("if it runs out, set" in capsys.readouterr().err) is not refusal


def test_the_size_of_rectangular_crops_is_said_and_estimated(config):
    square, rectangle = (dry_run(Trainer(config("a", f"data.crop_size={size}"), quiet=True)) for size in ("40", "[40,80]"))
    assert "crops of 40x40, " in square["step"] and "crops of 40x80, " in rectangle["step"]


def test_the_loss_of_a_dry_run_is_that_of_the_first_step(config):
    loss = re.search(r"loss (\S+)", dry_run(Trainer(config("a"), quiet=True))["step"])[1]
    trainer = Trainer(config("b", "train.log_every=1"), quiet=True)
    assert f"{trainer.run().metrics[0]['loss']:.4f}" == loss


def test_a_training_of_days_without_a_gpu_is_announced(config, monkeypatch):
    trainer = Trainer(config("a", "train.precision=float32"), quiet=True)
    model, cpu = trainer.model, torch.device("cpu")
    monkeypatch.setattr(start, "matrix_speed", lambda dtype: 1e11)
    assert start.slow_without_gpu(trainer.config, model, cpu) is None
    trainer.config.train.iterations = 10**9
    line = start.slow_without_gpu(trainer.config, model, cpu)
    # A naive count: 6 operations a multiply-add and image, at 0.9 of 1e11 a second.
    adds = sum(row.multiply_adds for row in start.summary(model, *trainer.config.data.crop)[:-1])
    days = 6 * adds * trainer.config.train.batch_size * 10**9 / 9e10 / 86400
    said = float(re.search(r"about ([\d.]+) days", line)[1])
    assert said == pytest.approx(days, rel=0.1) and "voc_mini" in line
    assert start.slow_without_gpu(trainer.config, model, torch.device("cuda")) is None


def test_the_speed_of_a_matrix_product_is_measured():
    assert 1e8 < start.matrix_speed(torch.float32) < 1e14
