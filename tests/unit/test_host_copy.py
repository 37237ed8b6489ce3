"""Copies to the host."""

from unittest import mock

import torch

from seg.host_copy import HostCopy
from tests.helpers.fake_cuda import CUDA, fake_cuda


def test_a_tensor_on_the_host_is_returned():
    values = torch.arange(5)
    assert HostCopy(values)().equal(values)


def test_the_copy_from_a_gpu_waits_for_its_own_stream_and_only_when_it_is_read():
    with fake_cuda(), mock.patch("torch.cuda.current_stream", lambda device: ("stream of", device)):
        copy = HostCopy(torch.ones(2, 3, device=CUDA))
        torch.cuda.Event().record.assert_called_once_with(("stream of", CUDA))
        torch.cuda.Event().synchronize.assert_not_called()
        assert copy().device.type == "cpu"
        torch.cuda.Event().synchronize.assert_called_once_with()
