import json

import numpy as np
import pytest

from seg.cli.main import main
from seg.evaluation.metrics import ConfusionMatrix
from seg.training.run_folder import kept_weights
from seg.training.trainer import Trainer
from seg.training.validation import Validator
from seg.weights.file import open_safetensors, read_metadata


@pytest.fixture
def scored(monkeypatch):
    """Let each validation give the next mIoU of a list, and note which iterations are validated."""

    def use(*mious):
        left = iter(mious)

        def score(self, model, precision):
            matrix = ConfusionMatrix(len(self.labels))
            miou = next(left)
            # Of 100 pixels of class 0, the only one in the truth, this share is right.
            truth = np.zeros(100, int)
            prediction = np.where(np.arange(100) < round(100 * miou), 0, 1)
            matrix.update(truth[None], prediction[None])
            return matrix.scores(), {}

        monkeypatch.setattr(Validator, "__call__", score)

    return use


def training(config, *overrides, resume=False):
    settings = ["train.iterations=6", "train.validate_every=1", *overrides]
    return Trainer(config("a", *settings), quiet=True, resume=resume)


class StopAt:
    def __init__(self, iteration):
        self.iteration = iteration

    def on_step(self, run, iteration, *_):
        if iteration == self.iteration:
            run.stop()


class Seen:
    def __init__(self):
        self.images = []

    def on_validation(self, run, iteration, scores):
        self.images.append([one.name for one in scores.each])


def kept(folder):
    return {path.name: read_metadata(open_safetensors(path)[1], path).score["iteration"] for path in kept_weights(folder)}


def test_training_ends_early_without_a_better_validation(config, scored, capsys):
    scored(0.2, 0.3, 0.25, 0.3)
    trainer = training(config, "train.patience=2")
    trainer.quiet = False
    run = trainer.run()
    assert (run.iteration, run.stopped, run.state.waited) == (4, False, 2)
    assert run.miou == pytest.approx(0.3)
    said = (
        "early stopping after iteration 4: no better mIoU than 30.00 % in 2 validations; "
        "to continue, run the same command with --resume train.patience=null\n"
    )
    assert said in capsys.readouterr().err
    ended = training(config, "train.patience=2", resume=True)
    ended.quiet = False
    again = ended.run()
    assert (again.iteration, again.stopped) == (4, False)
    assert said in capsys.readouterr().err
    scored(0.1, 0.4)
    assert training(config, "train.patience=null", resume=True).run().iteration == 6


def test_patience_counts_on_in_a_resumed_run(config, scored):
    scored(0.3, 0.2)
    stopped = training(config, "train.patience=3")
    stopped.callbacks = (
        type("Stop", (), {"on_step": lambda self, run, iteration, *_: run.stop() if iteration == 2 else None})(),
    )
    assert stopped.run().stopped
    scored(0.1, 0.1, 0.1, 0.1)
    run = training(config, "train.patience=3", resume=True).run()
    assert (run.iteration, run.state.waited) == (4, 3)


@pytest.mark.parametrize(
    "mious, wanted", [((0.1, 0.4, 0.2, 0.3, 0.05, 0.1), [2, 4]), ((0.1, 0.2, 0.3, 0.4, 0.45, 0.5), [5, 6])]
)
def test_the_best_weights_are_kept_and_the_others_deleted(config, scored, mious, wanted):
    scored(*mious)
    trainer = training(config, "train.keep_best=2")
    trainer.run()
    assert kept(trainer.folder) == {f"best_iteration_{i}.safetensors": i for i in wanted}
    best = read_metadata(open_safetensors(trainer.training_run.best)[1], trainer.training_run.best).score
    assert best["iteration"] == max(wanted, key=lambda i: mious[i - 1])


def test_a_resumed_run_keeps_the_best_weights_of_before(config, scored):
    scored(0.1, 0.4, 0.2)
    stopped = training(config, "train.keep_best=2")
    stopped.callbacks = (
        type("Stop", (), {"on_step": lambda self, run, iteration, *_: run.stop() if iteration == 3 else None})(),
    )
    stopped.run()
    scored(0.15, 0.3, 0.1)
    trainer = training(config, "train.keep_best=2", resume=True)
    trainer.run()
    assert list(kept(trainer.folder).values()) == [2, 5]


def test_kept_weights_are_evaluated_by_their_file(config, tmp_path):
    trainer = training(config, "train.keep_best=2")
    trainer.run()
    result = tmp_path / "scores.json"
    for path in kept_weights(trainer.folder):
        assert main(["evaluate", str(path), "--quiet", "--json", str(result)]) == 0
        score = read_metadata(open_safetensors(path)[1], path).score["miou"]
        # The training validates in its own precision, which may be another one.
        assert json.loads(result.read_text())["miou"] == pytest.approx(score, abs=0.02)


def test_one_file_is_kept_by_default(config):
    trainer = training(config)
    trainer.run()
    assert not kept_weights(trainer.folder)


def test_every_nth_image_is_validated_while_training_and_every_one_by_seg_evaluate(config, tmp_path, capsys):
    trainer = training(config, "evaluate.every_nth=2")
    seen = Seen()
    trainer.callbacks = (seen,)
    trainer.quiet = False
    trainer.run()
    ids = list(trainer.data.val.ids)
    assert seen.images == [ids[::2]] * 6 and len(ids) > len(ids[::2])
    assert f"on {len(ids[::2])} of {len(ids)} images" in capsys.readouterr().err
    said = read_metadata(open_safetensors(trainer.training_run.best)[1], trainer.training_run.best).score["split"]
    assert said == f"val, {len(ids[::2])} of {len(ids)} images"
    assert main(["info", str(trainer.training_run.best)]) == 0
    assert f"% on {said};" in capsys.readouterr().out
    result = tmp_path / "scores.json"
    assert main(["evaluate", str(trainer.training_run.best), "--quiet", "--json", str(result)]) == 0
    scores = json.loads(result.read_text())
    assert scores["images"] == len(ids) and "every_nth" not in scores["settings"]
