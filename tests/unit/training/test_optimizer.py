import pytest
import torch

from seg.config import ModelConfig, TrainConfig
from seg.models.factory import build_model
from seg.training.optimizer import learning_rate, make_optimizer, parameter_groups, set_learning_rate


@pytest.fixture(scope="module")
def xception65():
    with torch.device("meta"):
        return build_model(ModelConfig(backbone="xception65"), 21)


def test_every_parameter_is_in_one_group(xception65):
    grouped = [id(p) for group in parameter_groups(xception65, TrainConfig()) for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == 440
    assert set(grouped) == {id(p) for p in xception65.parameters()}


def test_weight_decay_is_on_the_79_weights_of_the_released_code(xception65):
    names = {id(p): name for name, p in xception65.named_parameters()}
    decayed = [
        names[id(p)]
        for group in parameter_groups(xception65, TrainConfig(weight_decay=4e-5))
        for p in group["params"]
        if group["weight_decay"] == 4e-5
    ]
    assert len(decayed) == 79
    assert "classifier.weight" in decayed
    assert not [name for name in decayed if "depthwise" in name or "norm" in name or name.endswith("bias")]


def test_head_multiplier_scales_all_but_the_backbone_and_biases_learn_twice_as_fast():
    model = build_model(ModelConfig(backbone="xception41", width=0.125), 3)
    optimizer = make_optimizer(model, TrainConfig(head_lr_multiplier=10))
    set_learning_rate(optimizer, 0.01)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.01 if name.startswith("backbone.") else 0.2 if name == "classifier.bias" else 0.1
        assert rates[id(parameter)] == pytest.approx(expected)


def test_the_schedule_is_poly_from_the_first_iteration():
    config = TrainConfig(learning_rate=0.007, iterations=30000, power=0.9)
    assert learning_rate(0, config) == 0.007
    assert learning_rate(15000, config) == pytest.approx(0.007 * 0.5**0.9)
    assert 0 < learning_rate(29999, config) < 1e-6


def test_warmup_rises_linearly_to_the_schedule():
    config = TrainConfig(learning_rate=1.0, iterations=100, warmup=10)
    assert learning_rate(0, config) == pytest.approx(0.1)
    assert learning_rate(4, config) == pytest.approx(0.5 * 0.96**0.9)
    assert learning_rate(10, config) == pytest.approx(0.9**0.9)


def test_the_exponential_schedule_falls_in_steps():
    # arXiv 1610.02357, section 4.4: 0.045, times 0.94 every two epochs.
    config = TrainConfig(learning_rate=0.045, schedule="exponential", decay=0.94, decay_every=100, iterations=1000)
    rates = [learning_rate(i, config) for i in (0, 99, 100, 199, 550)]
    assert rates == pytest.approx([0.045, 0.045, 0.045 * 0.94, 0.045 * 0.94, 0.045 * 0.94**5])


def test_the_cosine_schedule_falls_as_pytorchs():
    config = TrainConfig(learning_rate=0.1, schedule="cosine", iterations=50)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for iteration in range(50):
        assert learning_rate(iteration, config) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_adamw_updates_as_pytorchs_own_with_decay_on_convolutions_alone():
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="xception41", width=0.125), 3)
    config = TrainConfig(optimizer="adamw", momentum=0.8, weight_decay=0.1)
    assert (config.learning_rate, TrainConfig(optimizer="adamw").weight_decay) == (2e-4, 0.01)
    ours = make_optimizer(model, config)
    set_learning_rate(ours, config.learning_rate)
    twins = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    decayed = {id(p) for group in ours.param_groups if group["weight_decay"] for p in group["params"]}
    assert len(decayed) == sum(group["weight_decay"] == 0.1 for group in ours.param_groups for _ in group["params"])
    kinds = [
        {"params": [twins[n]], "weight_decay": 0.1 * (id(p) in decayed), "lr": 2e-4 * (2 if n == "classifier.bias" else 1)}
        for n, p in model.named_parameters()
    ]
    theirs = torch.optim.AdamW(kinds, betas=(0.8, 0.999))
    for _ in range(3):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            twins[name].grad = parameter.grad.clone()
        ours.step()
        theirs.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, twins[name], rtol=1e-5, atol=1e-7)


def test_defaults_follow_the_optimizer_unless_they_are_set():
    assert (TrainConfig().learning_rate, TrainConfig().weight_decay) == (0.007, 4e-5)
    config = TrainConfig(optimizer="adamw", learning_rate=0.001)
    assert (config.learning_rate, config.weight_decay) == (0.001, 0.01)
