import json

import pytest

import seg.training
from seg.training import Callback, Trainer, checkpoint
from seg.training.optimizer import learning_rate
from tests.helpers.toy import refused, same


class Recorder(Callback):
    """Records the calls and the state at each call."""

    def __init__(self):
        self.calls = []

    def on_step(self, run, iteration, loss, learning_rate):
        self.calls.append(("step", iteration, loss, learning_rate))
        assert run.iteration == iteration

    def on_validation(self, run, iteration, scores):
        self.calls.append(("validation", iteration, scores.miou))
        assert run.iteration == iteration and run.best.exists()
        assert run.metrics[-1] == {"iteration": iteration, "miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy}
        assert checkpoint.read(run.last)["state"]["validated"] == iteration

    def on_end(self, run):
        self.calls.append(("end", run.iteration))
        assert [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == run.metrics


def test_callbacks_are_called_in_order_with_what_is_logged(config):
    settings = config("a", "train.validate_every=2", "train.log_every=3", "train.warmup=3")
    recorder = Recorder()
    run = Trainer(settings, quiet=True, callbacks=[recorder]).run()
    assert [call[:2] for call in recorder.calls] == [
        *(("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("step", 4), ("validation", 4), ("end", 4))
    ]
    steps = [call for call in recorder.calls if call[0] == "step"]
    assert [rate for *_, rate in steps] == [learning_rate(i, settings.train) for i in range(4)]
    logged = {event["iteration"]: event["loss"] for event in run.metrics if "loss" in event}
    assert [loss for _, _, loss, _ in steps] == [None, None, logged[3], logged[4]]
    scores = [call[2] for call in recorder.calls if call[0] == "validation"]
    assert scores == [event["miou"] for event in run.metrics if "miou" in event] and run.miou == max(scores)


def test_a_run_offers_its_files_numbers_and_network(config):
    trainer = Trainer(config("a"), quiet=True)
    run = trainer.training_run
    assert (run.iteration, run.miou, run.stopped, run.metrics) == (0, None, False, [])
    assert trainer.run() is run
    assert (run.iteration, run.stopped) == (4, False) and 0 <= run.miou <= 1
    assert run.folder == config("a").folder and run.config is trainer.config
    assert run.model is trainer.model and run.labels is trainer.labels
    assert run.best == run.folder / "best.safetensors" and run.best.exists() and run.last.exists()
    assert repr(run) == f"<Run {run.folder}: iteration 4 of 4, mIoU {100 * run.miou:.2f} %>"


class StopAt(Callback):
    def __init__(self, iteration, event):
        self.iteration, self.event = iteration, event

    def stop(self, run, iteration, *_):
        if iteration == self.iteration:
            run.stop()

    def on_step(self, *arguments):
        if self.event == "step":
            self.stop(*arguments)

    def on_validation(self, *arguments):
        if self.event == "validation":
            self.stop(*arguments)


@pytest.mark.parametrize("iteration, event", [(1, "step"), (2, "step"), (2, "validation")])
def test_stopped_by_a_callback_and_resumed_equals_a_straight_run_to_the_bit(config, iteration, event):
    extra = ["data.num_workers=1", "train.ema_decay=0.5", "train.validate_every=2"]
    straight = Trainer(config("straight", *extra), quiet=True).run()
    ended = Recorder()
    stopped = Trainer(config("stopped", *extra), quiet=True, callbacks=[StopAt(iteration, event), ended]).run()
    assert (stopped.iteration, stopped.stopped) == (iteration, True)
    assert ended.calls[-1] == ("end", iteration)
    assert checkpoint.read(stopped.last)["state"]["iteration"] == iteration
    resumed = Trainer(config("stopped", *extra), resume=True, quiet=True).run()
    assert (resumed.iteration, resumed.stopped) == (4, False)
    assert resumed.metrics == straight.metrics
    a, b = checkpoint.read(straight.last), checkpoint.read(resumed.last)
    for part in ("model", "optimizer", "ema", "state"):
        assert same(a[part], b[part]), part


def test_a_run_stopped_in_its_last_iteration_is_complete(config):
    run = Trainer(config("a"), quiet=True, callbacks=[StopAt(4, "step")]).run()
    assert (run.iteration, run.stopped) == (4, False)


@pytest.mark.parametrize("error", [ValueError("mine"), OSError(28, "No space"), RuntimeError("mine"), KeyError("mine")])
@pytest.mark.parametrize("event", ["on_step", "on_validation", "on_end"])
def test_an_error_in_a_callback_ends_the_run_unchanged(config, error, event):
    callback, ended = Callback(), Recorder()

    def fail(*_):
        raise error

    setattr(callback, event, fail)
    with pytest.raises(type(error)) as raised:
        Trainer(config("a"), quiet=True, callbacks=[callback, ended]).run()
    assert raised.value is error
    assert any(entry.name == "fail" for entry in raised.traceback)
    assert ("end", 4) not in ended.calls


def test_a_callback_may_change_the_network_s_mode(config):
    class Look(Callback):
        def on_step(self, run, *_):
            run.model.eval()

    straight = Trainer(config("straight"), quiet=True).run()
    looked = Trainer(config("looked"), quiet=True, callbacks=[Look()]).run()
    assert same(checkpoint.read(straight.last)["model"], checkpoint.read(looked.last)["model"])


def test_any_object_with_one_of_the_methods_is_a_callback(config):
    class Counter:
        ends = 0

        def on_end(self, run):
            self.ends += 1

    counter = Counter()
    Trainer(config("a", "train.iterations=1"), quiet=True, callbacks=[counter]).run()
    assert counter.ends == 1


class Misspelled(Callback):
    def on_steps(self, *_): ...


@pytest.mark.parametrize(
    "callbacks, told",
    [
        ([Recorder], "Recorder is a class; give an object of it: Recorder()"),
        ([print], "has none of the methods on_step, on_validation, on_end"),
        (print, "has none of the methods"),
        ([Misspelled()], "Misspelled.on_steps is never called; did you mean 'on_step'?"),
    ],
)
def test_an_object_without_callback_methods_is_refused(config, callbacks, told):
    with refused("callbacks: ", told):
        Trainer(config("a"), quiet=True, callbacks=callbacks)


def test_the_package_exports_the_documented_names():
    assert {name: getattr(seg.training, name).__name__ for name in seg.training.__all__} == {
        name: name for name in ("Callback", "Run", "Trainer", "cross_entropy")
    }
