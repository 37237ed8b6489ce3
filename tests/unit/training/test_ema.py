import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from seg.training.ema import ExponentialMovingAverage
from tests.helpers.toy import same


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1).double(), nn.BatchNorm2d(4))


def change(model, step):
    """Change weights, statistics and counters, like a training step."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.add_(1 if tensor.dtype == torch.int64 else torch.randn(tensor.shape, generator=generator))


@pytest.mark.parametrize("decay", [0.5, 0.9999, 0.0])
def test_the_moving_average_equals_torchs_averaged_model_to_the_bit(decay):
    model = network()
    average = ExponentialMovingAverage(model, decay)
    peer = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for step in range(7):
        change(model, step)
        average.update()
        peer.update_parameters(model)
        assert same(dict(average.model.state_dict()), dict(peer.module.state_dict())), step
    assert int(average.model[1].num_batches_tracked) == 7


def test_exporting_does_not_change_the_network_in_training():
    model = network()
    average = ExponentialMovingAverage(model, 0.5)
    change(model, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.update()
    change(average.model, 2)
    assert same(before, dict(model.state_dict()))
    assert not any(p.requires_grad for p in average.model.parameters()) and all(p.requires_grad for p in model.parameters())


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*arguments, **(options or {}))


def test_an_update_of_the_moving_average_takes_few_operations_and_no_device_read():
    model = nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(50)))
    average = ExponentialMovingAverage(model, 0.9)
    average.update()
    with Operations() as made:
        average.update()
    assert sorted(made.names) == ["_foreach_copy_", "_foreach_copy_", "_foreach_lerp_"]


def test_a_restored_moving_average_continues_to_the_bit():
    model, straight = network(), None
    for interrupted in (False, True):
        model = network()
        average = ExponentialMovingAverage(model, 0.9)
        for step in range(6):
            if interrupted and step == 3:
                saved = average.state_dict()
                average = ExponentialMovingAverage(model, 0.9)
                average.load_state_dict(saved)
            change(model, step)
            average.update()
        if interrupted:
            assert same(straight, average.state_dict())
        straight = average.state_dict()
    assert straight["updates"] == 6
