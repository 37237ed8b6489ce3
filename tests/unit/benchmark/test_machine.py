import platform

import torch

from seg.benchmark import machine as module
from seg.benchmark.machine import machine, processor_name


def test_the_machine_is_described_for_the_table():
    found = machine()
    assert found["torch"] == torch.__version__ and found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1 and found["processor"]
    assert (found["gpu"] is None) == (not torch.cuda.is_available())


def test_the_processor_is_the_model_that_linux_states(monkeypatch, tmp_path):
    stated = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "Path", lambda name: stated)
    assert processor_name() == (platform.processor() or platform.machine()), "no such file"
    stated.write_text("processor : 0\nvendor : a\n")
    assert processor_name() == (platform.processor() or platform.machine()), "a file without the name"
    stated.write_text("processor : 0\nmodel name\t: Fast CPU 3 GHz\nprocessor : 1\nmodel name\t: Other\n")
    assert processor_name() == "Fast CPU 3 GHz"
