"""Whether batch norm's outputs are recomputed, and what is said of a training that does not fit."""

import functools

import pytest
import torch

from seg.config import from_dict
from seg.models.factory import build_meta_model
from seg.training import memory
from seg.training.memory import MAX_OVERCOMMIT, SHARE, choose_recompute, training_memory
from seg.training.step import prepare_mode
from tests.helpers.configs import MODEL
from tests.helpers.toy import refused

CPU = torch.device("cpu")
SIDE = 65


def network(**train):
    config = from_dict({"model": MODEL, "train": {"batch_size": 4, "precision": "float32", **train}}, "test")
    model = build_meta_model(config.model, 21)
    prepare_mode(model, config.train)
    return model, config.train


@functools.cache
def need(recompute, **train):
    """Bytes of a step. It runs on fake tensors, which takes long enough to keep the result."""
    model, config = network(**train)
    return training_memory(model, config, SIDE, SIDE, "float32", recompute)


@pytest.fixture
def chosen(monkeypatch, capsys):
    """The choice with so many bytes free, and what is printed."""

    def choose(free, **train):
        monkeypatch.setattr(memory, "available_memory", lambda device: free)
        model, config = network(**train)
        return choose_recompute(model, config, SIDE, SIDE, CPU), capsys.readouterr().err

    return choose


PLENTY = 2**50


def just(recompute):
    """The least free memory in which the step fits."""
    return int(need(recompute) / SHARE) + 1


def test_auto_recomputes_only_where_memory_would_not_do(chosen):
    assert chosen(PLENTY) == (False, "")
    assert chosen(just(False)) == (False, "")
    assert chosen(just(False) - 2) == (True, "")
    assert chosen(just(True)) == (True, "")


@pytest.mark.parametrize("setting", [True, False])
def test_a_setting_is_taken_whatever_the_memory(chosen, setting):
    assert chosen(PLENTY, recompute=setting)[0] is setting
    assert chosen(just(True), recompute=setting)[0] is setting


def test_nothing_is_recomputed_where_the_compiler_or_checkpointing_decides(chosen):
    for settings in ({"compile": True}, {"checkpoint_activations": True}):
        assert chosen(just(False) - 2, **settings)[0] is False


def test_unknown_memory_recomputes_unless_it_is_set_off(chosen):
    assert chosen(None)[0] is True
    assert chosen(None, recompute=False)[0] is False


def test_a_training_that_does_not_fit_says_so_before_its_first_step(chosen):
    free = need(True) - 1
    recomputes, said = chosen(free)
    assert recomputes and said.count("\n") == 1
    free_and_need = f"{need(True) / 2**30:.1f} GiB", f"{free / 2**30:.1f} GiB free"
    for part in (*free_and_need, "train.grad_accumulation=2", "data.crop_size"):
        assert part in said
    assert "grad_accumulation" not in chosen(need(True, batch_size=1) - 1, batch_size=1)[1]


def test_a_training_far_beyond_the_memory_is_refused_on_a_cpu(chosen):
    with refused("the training needs about", "GiB free", "set train.grad_accumulation=2"):
        chosen(need(True) // MAX_OVERCOMMIT - 1)
    assert "if it runs out" in chosen(need(True) // MAX_OVERCOMMIT + 1)[1]


def test_more_parts_and_no_moving_average_take_less():
    assert need(False, grad_accumulation=4) < need(False, grad_accumulation=2) < need(False)
    parameters = sum(p.numel() for p in network()[0].parameters())
    assert need(False, ema_decay=0.9) - need(False) == 4 * parameters
    assert need(False, optimizer="adamw") - need(False) == 4 * parameters
