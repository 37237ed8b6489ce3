import pytest
import torch

from seg import distributed
from seg.config import from_dict
from seg.models.factory import build_meta_model
from seg.training import batch_size, checkpoint
from seg.training.batch_size import check_batch_size, choose_batch, least_memory
from seg.training.memory import SHARE, training_memory
from seg.training.step import prepare_mode
from seg.training.trainer import Trainer
from tests.helpers.configs import MODEL
from tests.helpers.toy import refused, same

CPU = torch.device("cpu")
AUTO = "train.batch_size=auto"


def test_a_batch_that_cannot_be_split_evenly_is_refused():
    config = from_dict({"train": {"batch_size": 6, "grad_accumulation": 4}}, "test").train
    with refused("train.batch_size=6", "train.grad_accumulation=4", "a multiple of 4"):
        check_batch_size(config)


def network(**train):
    config = from_dict({"model": MODEL, "train": {"batch_size": "auto", "precision": "float32", **train}}, "test")
    model = build_meta_model(config.model, 21)
    prepare_mode(model, config.train)
    return model, config.train


def need(images, recompute=True):
    """Bytes of a step on so many crops of 65x97."""
    model, config = network(batch_size=images)
    return training_memory(model, config, 65, 97, "float32", recompute)


@pytest.mark.parametrize("target, parts", [(16, 1), (16, 2), (16, 16), (12, 3), (7, 7)])
def test_the_batch_has_as_few_parts_as_fit(target, parts):
    model, config = network(target_batch_size=target)
    just = int(need(target // parts) / SHARE) + 1

    def chosen(free):
        found = choose_batch(model, config, 65, 97, CPU, free)
        return found.batch_size, found.grad_accumulation

    assert chosen(just) == (target, parts)
    less = next((more for more in range(parts + 1, target + 1) if target % more == 0), parts)
    assert chosen(just - 2) == (target, less)


def test_memory_is_saved_by_recomputing_where_the_settings_allow_it():
    free = int(need(16, recompute=True) / SHARE) + 1
    assert need(16, recompute=False) > free
    for settings, parts in (({}, 1), ({"recompute": True}, 1), ({"recompute": False}, 2), ({"compile": True}, 2)):
        model, config = network(**settings)
        assert choose_batch(model, config, 65, 97, CPU, free).grad_accumulation == parts, settings


def test_numbers_stay_and_unknown_memory_gives_one_part():
    model, config = network(batch_size=6, grad_accumulation=3)
    assert choose_batch(model, config, 65, 97, CPU, 1) is config
    model, config = network()
    assert choose_batch(model, config, 65, 97, CPU, None).grad_accumulation == 1


def test_processes_share_the_target_and_the_least_memory_counts(monkeypatch):
    free = int(need(2) / SHARE) + 1
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    model, config = network()
    assert choose_batch(model, config, 65, 97, CPU, free).grad_accumulation == 2  # 4 images of each process, by 2
    model, config = network(target_batch_size=6)
    with refused("train.target_batch_size=6", "4 processes", "a multiple of 4"):
        choose_batch(model, config, 65, 97, CPU, free)
    monkeypatch.setattr(batch_size, "available_memory", lambda device: 800)
    monkeypatch.setattr(distributed, "all_gather", lambda value: [900, value, 700])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert least_memory(CPU) == 200
    assert least_memory(torch.device("cuda")) == 700
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, None])
    assert least_memory(CPU) is None


def test_a_run_stores_the_batch_keeps_it_when_resumed_and_has_the_bits_of_these_numbers(config, monkeypatch, capsys):
    settings = ["train.target_batch_size=4", "train.precision=float32"]
    model, _ = network()
    room = [int(training_memory(model, network(batch_size=2)[1], 33, 33, "float32", True) / SHARE) + 1]
    monkeypatch.setattr(batch_size, "available_memory", lambda device: room[0])
    half = Trainer(config("auto", AUTO, *settings), quiet=True)
    half.training_run.stop()
    half.run()
    assert "batch_size: 4\n" in (half.folder / "config.yaml").read_text()
    assert "grad_accumulation: 2\n" in (half.folder / "config.yaml").read_text()
    room[0] = 2**50  # a larger machine
    resumed = Trainer(config("auto", AUTO, *settings), resume=True)
    assert "the result differs" not in capsys.readouterr().err
    resumed.run()
    straight = Trainer(config("b", "train.batch_size=4", "train.grad_accumulation=2", *settings), quiet=True)
    straight.run()
    a, b = (checkpoint.read(trainer.training_run.last) for trainer in (resumed, straight))
    for part in ("model", "optimizer", "state"):
        assert same(a[part], b[part]), part


def test_the_first_lines_say_the_batch(config, monkeypatch, capsys):
    monkeypatch.setattr(batch_size, "available_memory", lambda device: 1000)
    Trainer(config("a", AUTO, "train.target_batch_size=6"))
    said = capsys.readouterr().err
    assert "train.batch_size=auto: batches of 6 images, in 6 parts: 1 image at a time; 0.0 GiB of memory are free\n" in said
    monkeypatch.setattr(batch_size, "available_memory", lambda device: 2**34)
    Trainer(config("a", AUTO, "train.target_batch_size=4"))
    assert "batches of 4 images, in one part; 16.0 GiB of memory are free\n" in capsys.readouterr().err


def test_the_file_s_batch_is_the_target_of_auto_on_the_command_line():
    def target(train, *overrides):
        return from_dict({"train": train}, "test", [AUTO, *overrides]).train.target_batch_size

    assert target({"batch_size": 6}) == 6
    assert target({}) == 16
    assert target({"batch_size": "auto"}) == 16
    assert target({"batch_size": 6, "target_batch_size": 12}) == 12
    assert target({"batch_size": 6}, "train.target_batch_size=24") == 24
    with refused("train.grad_accumulation=4", "train.batch_size=auto chooses it"):
        target({"grad_accumulation": 4})
