import sys

import pytest
import torch
import torch.distributed.rendezvous

from seg import distributed
from seg.errors import UserError
from tests.helpers.toy import refused


@pytest.fixture
def gpus(monkeypatch):
    """Stands in for a machine with three GPUs of which torch uses the one numbered 2."""
    current = [2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: current.__setitem__(0, index))
    return current


def test_a_single_process_is_a_group_of_one():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.all_gather({"a": 1}) == [{"a": 1}]
    with distributed.process_group() as rank:
        assert rank is None


def test_the_device_is_torchs_current_one_regardless_of_scheduler_variables(gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")  # without torchrun
    assert distributed.device() == torch.device("cuda", 2)


def test_each_process_of_torchrun_gets_its_own_gpu(gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")

    def joined(_):
        raise InterruptedError("the group would be joined here")

    monkeypatch.setattr(sys.modules["torch.distributed.rendezvous"], "rendezvous", joined)
    with pytest.raises(InterruptedError), distributed.process_group():
        pass
    assert gpus == [1] and distributed.device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with refused("--nproc-per-node", "3 GPUs", "one process per GPU"), distributed.process_group():
        pass


def test_an_error_of_a_single_process_is_raised_unchanged():
    with pytest.raises(UserError, match=r"^a\.yaml: wrong$"), distributed.raise_on_all_ranks():
        raise UserError("a.yaml: wrong")
