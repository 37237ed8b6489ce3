"""What precision the hardware is fast at, and which CUDA algorithms a training step uses."""

from types import SimpleNamespace

import pytest
import torch

from seg.precision import autocast, best_precision, cuda_algorithms, require_precision
from tests.helpers.toy import refused

CPU, CUDA, XPU, MPS = (torch.device(name) for name in ("cpu", "cuda", "xpu", "mps"))


@pytest.fixture
def hardware(monkeypatch):
    """Sets what torch says of the machine."""

    def pretend(capability=(0, 0), hip=None, avx512_bf16=False, amx=False, xpu=False):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch, "xpu", SimpleNamespace(is_bf16_supported=lambda: xpu))

    return pretend


@pytest.mark.parametrize(
    "device, machine, wanted",
    [
        (CUDA, {"capability": (9, 0)}, "bfloat16"),
        (CUDA, {"capability": (8, 0)}, "bfloat16"),
        (CUDA, {"capability": (7, 5)}, "float16"),
        (CUDA, {"capability": (7, 0)}, "float16"),
        (CUDA, {"capability": (6, 1)}, "float32"),
        (CUDA, {"capability": (0, 0), "hip": "6.4"}, "bfloat16"),
        (XPU, {"xpu": True}, "bfloat16"),
        (XPU, {}, "float32"),
        (CPU, {"avx512_bf16": True}, "bfloat16"),
        (CPU, {"amx": True}, "bfloat16"),
        (CPU, {"capability": (9, 0)}, "float32"),
        (MPS, {"avx512_bf16": True}, "float32"),
    ],
)
def test_auto_is_what_the_hardware_is_fast_at(hardware, device, machine, wanted):
    hardware(**machine)
    assert best_precision(device) == wanted


def test_bfloat16_is_refused_where_the_hardware_lacks_it(hardware):
    hardware()
    with refused("evaluate.precision=bfloat16", "AVX512-BF16 or AMX", "float32"):
        require_precision("bfloat16", CPU, "evaluate.precision=bfloat16")
    with refused("--precision", "cuda", "float32"):
        require_precision("bfloat16", CUDA, "--precision")
    require_precision("float32", CPU, "--precision")
    hardware(avx512_bf16=True)
    require_precision("bfloat16", CPU, "--precision")


@pytest.mark.parametrize(
    "precision, wanted",
    [
        ("float32", torch.float32),
        ("float32-exact", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
    ],
)
def test_convolutions_run_in_the_precision_and_weights_stay_float32(precision, wanted):
    convolution = torch.nn.Conv2d(1, 1, 1)
    with autocast(CPU, precision):
        assert convolution(torch.ones(1, 1, 4, 4)).dtype == wanted
    assert convolution.weight.dtype == torch.float32


def algorithms():
    """The settings of CUDA's operators that a training step changes."""
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    "precision, deterministic, wanted",
    [
        ("float32", False, (True, False, True, False)),
        ("float32-exact", False, (True, False, False, False)),
        ("bfloat16", False, (True, False, True, False)),
        ("float32", True, (False, True, True, True)),
    ],
)
def test_a_step_measures_cudnns_algorithms_and_tf32_is_left_out_if_asked(monkeypatch, precision, deterministic, wanted):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = algorithms()
    with pytest.raises(KeyError), cuda_algorithms(precision, deterministic):
        assert algorithms() == wanted
        raise KeyError
    assert algorithms() == before
