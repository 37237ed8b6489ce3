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


@pytest.fixture
def machine(monkeypatch):
    """Stands in for a machine with the devices that a test names, such as cuda=2."""

    def make(cuda=0, mps=0, xpu=0):
        for kind, count in (("cuda", cuda), ("xpu", xpu)):
            backend = getattr(torch, kind)
            monkeypatch.setattr(backend, "is_available", lambda count=count: count > 0)
            monkeypatch.setattr(backend, "device_count", lambda count=count: count)
            monkeypatch.setattr(backend, "current_device", lambda: 0)
            monkeypatch.setattr(backend, "get_device_name", lambda device, kind=kind: f"{kind} card {device.index}")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps > 0)

    return make


def test_auto_takes_cuda_then_mps_then_xpu_then_the_cpu(machine):
    for devices, wanted in (
        ({"cuda": 1, "mps": 1, "xpu": 1}, "cuda:0"),
        ({"mps": 1, "xpu": 1}, "mps"),
        ({"xpu": 1}, "xpu:0"),
        ({}, "cpu"),
    ):
        machine(**devices)
        assert str(distributed.device("auto")) == str(distributed.device()) == wanted
        assert str(distributed.device("cpu")) == "cpu"


def test_a_device_is_taken_by_its_name(machine):
    machine(cuda=2, mps=1, xpu=1)
    for name, wanted in (("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("mps", "mps"), ("xpu", "xpu:0"), ("xpu:0", "xpu:0")):
        assert str(distributed.device(name)) == wanted
    assert distributed.device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_an_unknown_or_absent_device_is_refused_with_a_remedy(machine):
    machine()
    for name in ("gpu", "cuda:", "cuda:x", "cpu:0", "mps:0", "CUDA", ""):
        with refused(f"device={name}: must be auto, cpu, cuda"):
            distributed.device(name)
    for name, needs in (("cuda", "NVIDIA"), ("cuda:1", "NVIDIA"), ("mps", "Mac"), ("xpu", "Intel")):
        with refused(f"device={name}: PyTorch finds none here", needs, "device=auto"):
            distributed.device(name)
    machine(cuda=2)
    with refused("device=cuda:2: this machine has cuda:0 to cuda:1"):
        distributed.device("cuda:2")
    machine(cuda=1)
    with refused("device=cuda:1: this machine has cuda:0;"):
        distributed.device("cuda:1")


def test_several_processes_keep_their_own_gpu(gpus, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert distributed.device("cuda") == torch.device("cuda", 2)
    with refused("device=cuda:0: each of the 2 processes takes its own GPU; give device=cuda"):
        distributed.device("cuda:0")


def test_the_device_in_words(machine, monkeypatch):
    machine(cuda=1, mps=1)
    assert distributed.describe_device(torch.device("cuda", 0)) == "cuda:0 (cuda card 0)"
    for threads, words in ((1, "1 thread"), (2, "2 threads")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert distributed.describe_device(torch.device("cpu")) == f"the CPU ({words})"
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    assert "operators that it lacks run on the CPU" in distributed.describe_device(torch.device("mps"))
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK")
    assert "set PYTORCH_ENABLE_MPS_FALLBACK=1" in distributed.describe_device(torch.device("mps"))


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


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}
"""What srun sets for the sixth of eight processes."""


@pytest.fixture
def slurm(monkeypatch):
    """Sets Slurm's variables, those of `STEP` and further ones; None removes one."""

    def make(**further):
        for name, value in {**STEP, **further}.items():
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)

    return make


def test_a_process_that_srun_started_beside_others_has_a_rank(slurm):
    slurm(SLURM_NNODES="2", SLURM_STEP_NODELIST="gpu[03-04]", SLURM_TASKS_PER_NODE="4(x2)")
    assert distributed.is_started_with_others()
    found = distributed.slurm_ranks()
    port = int(found.pop("MASTER_PORT"))
    wanted = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "gpu03"}
    assert found == wanted and 20000 <= port < 32000
    slurm(SLURM_JOB_ID="8")
    assert int(distributed.slurm_ranks()["MASTER_PORT"]) != port
    slurm(SLURM_NNODES="1")
    assert distributed.slurm_ranks()["MASTER_ADDR"] == "127.0.0.1"
    slurm(MASTER_ADDR="head", MASTER_PORT="1234")
    assert {"MASTER_ADDR": "head", "MASTER_PORT": "1234"}.items() <= distributed.slurm_ranks().items()


@pytest.mark.parametrize(
    "further",
    [
        {"SLURM_NTASKS": "1"},
        {"SLURM_STEP_ID": None},  # a batch script
        {"SLURM_STEP_ID": "4294967291"},  # a batch script of a newer Slurm
        {"SLURM_STEP_ID": "4294967290"},  # an interactive shell
        {"SLURM_STEP_NUM_TASKS": "1"},  # srun -n 1 in a job of several tasks, such as torchrun on each node
        {"WORLD_SIZE": "2"},  # a process of torchrun
        {"SLURM_PROCID": None},
    ],
)
def test_other_processes_of_slurm_work_alone(slurm, further):
    slurm(**further)
    assert distributed.slurm_ranks() == {}


def test_a_gpu_that_srun_gave_to_one_process_is_its_own(gpus, slurm, monkeypatch):
    def joined(_):
        raise InterruptedError("the group would be joined here")

    slurm(SLURM_NNODES="1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that what the group sets is removed after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys.modules["torch.distributed.rendezvous"], "rendezvous", joined)
    with pytest.raises(InterruptedError), distributed.process_group():
        pass
    assert gpus == [0]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("gpu[01-03,07],login", "gpu01"), ("n[7,9]", "n7"), ("r[1-2]n[05-06]", "r1n05"), ("", "")],
)
def test_the_first_node_of_a_list(nodes, first):
    assert distributed.first_node(nodes) == first
