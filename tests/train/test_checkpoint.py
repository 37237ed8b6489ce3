import os

import pytest
import torch

from seg.errors import UserError
from seg.train import checkpoint


def test_reads_what_was_saved(tmp_path):
    state = {"model": {"a": torch.randn(3)}, "state": {"iteration": 7, "best": 0.5}}
    checkpoint.save(tmp_path / "last.ckpt", state)
    got = checkpoint.read(tmp_path / "last.ckpt")
    assert torch.equal(got["model"]["a"], state["model"]["a"])
    assert got["state"] == state["state"]


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_truncated_checkpoint_is_one_clear_line(tmp_path, kept):
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, {"model": {"a": torch.randn(300)}})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError) as error:
        checkpoint.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"model": Bomb(tmp_path / "ran")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="not a whole checkpoint"):
        checkpoint.read(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_missing_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="start without --resume"):
        checkpoint.read(tmp_path / "last.ckpt")
