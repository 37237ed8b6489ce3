import hashlib
import io
import os
import random
import subprocess
import sys

import pytest
import torch

from seg.config import ModelConfig, TrainConfig
from seg.models.factory import build_model
from seg.training import checkpoint
from seg.training.optimizer import make_optimizer
from tests.helpers.toy import refused


def state(iteration: int) -> dict:
    torch.manual_seed(iteration)
    return {"model": {"a": torch.randn(300)}, "state": {"iteration": iteration, "best": 0.5}}


@pytest.fixture
def saved(tmp_path):
    """A folder with the checkpoints of iterations 4 and 8."""
    checkpoint.save(tmp_path, state(4))
    checkpoint.save(tmp_path, state(8))
    return tmp_path


def test_the_last_two_checkpoints_are_kept(saved):
    assert {path.name for path in saved.iterdir()} == {"last.ckpt", "previous.ckpt"}
    for name, iteration in (("last.ckpt", 8), ("previous.ckpt", 4)):
        got = checkpoint.read(saved / name)
        assert torch.equal(got["model"]["a"], state(iteration)["model"]["a"])
        assert got["state"] == state(iteration)["state"]
    assert checkpoint.newest(saved)["state"]["iteration"] == 8


def assert_falls_back(saved, capsys):
    assert checkpoint.newest(saved)["state"]["iteration"] == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seg: warning: {saved / 'last.ckpt'}: not an intact checkpoint")
    assert "previous.ckpt, iteration 4" in line


@pytest.mark.parametrize("seed", range(20))
def test_a_truncated_last_checkpoint_falls_back_to_the_previous_one(saved, capsys, seed):
    path = saved / "last.ckpt"
    data = path.read_bytes()
    path.write_bytes(data[: random.Random(seed).randrange(len(data))])
    assert_falls_back(saved, capsys)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_byte_in_the_last_checkpoint_falls_back_to_the_previous_one(saved, capsys, seed):
    path, rng = saved / "last.ckpt", random.Random(seed)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    assert_falls_back(saved, capsys)


def test_without_a_good_checkpoint_the_first_error_is_reported(saved):
    for name in ("last.ckpt", "previous.ckpt"):
        (saved / name).write_bytes(b"")
    with refused(saved / "last.ckpt", "not an intact checkpoint"):
        checkpoint.newest(saved)


def test_a_kill_between_the_two_renames_loses_nothing(saved):
    os.replace(saved / "last.ckpt", saved / "new.ckpt")
    assert checkpoint.newest(saved)["state"]["iteration"] == 8
    (saved / "new.ckpt").unlink()
    assert checkpoint.exists(saved)
    assert checkpoint.newest(saved)["state"]["iteration"] == 4


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    buffer = io.BytesIO()
    torch.save({"model": Bomb(tmp_path / "ran")}, buffer)
    content = buffer.getvalue()
    path = tmp_path / "last.ckpt"
    path.write_bytes(content + checkpoint.MARK + hashlib.sha256(content).digest())
    with refused(path, "not a checkpoint that is safe to read"):
        checkpoint.newest(tmp_path)
    path.write_bytes(content)
    with refused(path, "not an intact checkpoint"):
        checkpoint.newest(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [7, {}, {"state": 7}, {"state": {}}, {"state": {"iteration": "x"}}, {"state": {"iteration": -1}}]
)
def test_a_file_without_a_training_state_is_refused_even_with_a_correct_checksum(tmp_path, content):
    checkpoint.save(tmp_path, content)
    with refused(tmp_path / "last.ckpt", "not a checkpoint that is safe to read"):
        checkpoint.newest(tmp_path)


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    assert not checkpoint.exists(tmp_path)
    with refused("start without --resume"):
        checkpoint.newest(tmp_path)


FULL = """
import resource, sys, torch
from seg.errors import UserError
from seg.config import ModelConfig, TrainConfig
from seg.models.factory import build_model
from seg.training import checkpoint
from seg.training.optimizer import make_optimizer
torch.manual_seed(9)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    checkpoint.save(sys.argv[1], {"model": {"a": torch.randn(9000)}, "state": {"iteration": 12}})
except UserError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_old_checkpoints(saved):
    done = subprocess.run([sys.executable, "-c", FULL, str(saved)], capture_output=True, text=True)
    assert "cannot be written (File too large)" in done.stdout, done.stderr
    assert {path.name for path in saved.iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert checkpoint.newest(saved)["state"]["iteration"] == 8


def test_a_checkpoint_that_cannot_be_read_back_replaces_nothing(saved, monkeypatch):
    monkeypatch.setattr(
        checkpoint, "verified", lambda path: (_ for _ in ()).throw(checkpoint.DamagedError("its checksum differs"))
    )
    with refused("new.ckpt", "is the disk failing?"):
        checkpoint.save(saved, state(12))
    monkeypatch.undo()
    assert {path.name for path in saved.iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert checkpoint.newest(saved)["state"]["iteration"] == 8


def stepped(momentum=0.9):
    """A network and its optimizer after one step."""
    model = build_model(ModelConfig(backbone="xception41", width=0.01, decoder=None), 21)
    optimizer = make_optimizer(model, TrainConfig(momentum=momentum))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def test_a_state_is_restored_even_without_newer_settings():
    _, before = stepped()
    saved = before.state_dict()
    for group in saved["param_groups"]:
        del group["fused"]
    _, after = stepped()
    checkpoint.restore_optimizer(after, saved)
    for a, b in zip(before.state.values(), after.state.values(), strict=True):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])


WRONG = {
    "a buffer of another size": lambda saved: saved["state"][0].update(momentum_buffer=torch.zeros(3)),
    "no tensor": lambda saved: saved["state"][3].update(momentum_buffer="x"),
    "no buffer": lambda saved: saved["state"][3].clear(),
    "a setting as text": lambda saved: saved["param_groups"][1].update(momentum="x"),
    "no multiplier": lambda saved: saved["param_groups"][0].pop("multiplier"),
    "a group less": lambda saved: saved["param_groups"].pop(),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_state_of_other_parameters_is_refused(change):
    _, optimizer = stepped()
    saved = stepped()[1].state_dict()
    WRONG[change](saved)
    with pytest.raises(ValueError):
        checkpoint.restore_optimizer(optimizer, saved)
