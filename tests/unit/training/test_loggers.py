import sys
from types import SimpleNamespace

import numpy as np
import pytest

from seg.evaluation.metrics import Scores
from seg.extras import EXTRAS
from seg.labels import VOC
from seg.training import checkpoint
from seg.training.event_log import EventLog
from seg.training.loggers import MLflow, mlflow_name
from seg.training.trainer import Trainer
from tests.helpers.toy import refused, same

SCORES = Scores(VOC, np.eye(21, dtype=np.int64), 1)
PICTURE = np.zeros((4, 5, 3), np.uint8)


class Service:
    """What a service has been told, by run: its settings, numbers as (name, value, step), and pictures."""

    def __init__(self):
        self.runs, self.ended, self.broken = {}, [], False

    def run(self, id):
        return self.runs.setdefault(id, SimpleNamespace(settings={}, numbers=[], pictures=[], best=None))

    def tell(self, id, values, step):
        if self.broken:
            raise ConnectionError("no route to host")
        self.run(id).numbers += [(name, value, step) for name, value in values.items()]


def stand_in_wandb(service):
    def init(*, id, name, dir, config, resume, allow_val_change):
        assert resume == "allow"
        run, summary = service.run(id), {}
        run.settings.update(config)
        run.best = lambda: summary.get("best_mIoU")

        def log(values, step):
            for key, value in values.items():
                if isinstance(value, np.ndarray):
                    run.pictures.append((key, value.shape))
                else:
                    service.tell(id, {key: value}, step)

        return SimpleNamespace(log=log, summary=summary, finish=lambda: service.ended.append(id))

    return SimpleNamespace(init=init, Image=lambda picture: picture)


def stand_in_mlflow(service):
    active = []

    def start_run(run_id=None, run_name=None, nested=False):
        assert nested or not active, "a run is active"
        active.append(run_id or f"{run_name}-{len(service.runs)}")
        service.run(active[-1])
        return SimpleNamespace(info=SimpleNamespace(run_id=active[-1]))

    def log_params(values):
        settings = service.run(active[-1]).settings
        assert not settings.keys() & values.keys(), "a parameter cannot change"
        assert all(len(value) <= 500 for value in values.values())
        settings.update(values)

    return SimpleNamespace(
        active_run=lambda: active[-1] if active else None,
        start_run=start_run,
        log_params=log_params,
        log_metrics=lambda values, step: service.tell(active[-1], values, step),
        log_metric=lambda name, value: setattr(service.run(active[-1]), "best", lambda: value),
        log_image=lambda picture, artifact_file: service.run(active[-1]).pictures.append((artifact_file, picture.shape)),
        end_run=lambda status: service.ended.append((active.pop(), status)),
    )


def stand_in_comet(service):
    def start(*, experiment_key, mode, experiment_config):
        assert mode == "get_or_create" and experiment_key.isalnum() and 32 <= len(experiment_key) <= 50
        run = service.run(experiment_key)
        return SimpleNamespace(
            log_parameters=run.settings.update,
            log_metrics=lambda values, step: service.tell(experiment_key, values, step),
            log_metric=lambda name, value: setattr(run, "best", lambda: value),
            log_image=lambda picture, name, step: run.pictures.append((name, picture.shape)),
            end=lambda: service.ended.append(experiment_key),
        )

    return SimpleNamespace(start=start, ExperimentConfig=lambda **settings: settings)


STAND_INS = {"wandb": ("wandb", stand_in_wandb), "mlflow": ("mlflow", stand_in_mlflow), "comet": ("comet_ml", stand_in_comet)}


@pytest.fixture(params=STAND_INS)
def service(request, monkeypatch):
    """One of the services, with its settings."""
    found = Service()
    found.name = request.param
    module, make = STAND_INS[found.name]
    monkeypatch.setitem(sys.modules, module, make(found))
    return found


def losses(service):
    """The iterations whose loss the only run of the service has been told."""
    (run,) = service.runs.values()
    return [step for name, _, step in run.numbers if name == "train/loss"]


class Stop:
    def on_step(self, run, iteration, *_):
        if iteration == 2:
            run.stop()


def test_a_service_gets_settings_numbers_and_pictures(service, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    log = EventLog(folder, 0, True, [service.name], {"train.batch_size": 4, "name": "x" * 1000})
    log.step(10, 1.5, 0.007)
    log.validation(10, SCORES)
    log.image(10, "2007_000033", PICTURE)
    log.finish({"train.batch_size": 4}, 0.25)
    log.close()
    (run,) = service.runs.values()
    told = {name: value for name, value, step in run.numbers if step == 10}
    assert len(told) == len(run.numbers) == 2 + 2 + 21
    assert (told["train/loss"], told["train/learning_rate"], told["val/mIoU"]) == (1.5, 0.007, SCORES.miou)
    assert told["val_IoU/person"] == SCORES.iou["person"]
    assert str(run.settings["train.batch_size"]) == "4" and run.best() == 0.25
    assert len(run.pictures) == 2 and "2007_000033" in run.pictures[1][0] and run.pictures[1][1] == PICTURE.shape
    assert len(service.ended) == 1
    assert not (folder / "events").exists()


def test_a_resumed_run_goes_on_in_the_same_run_of_the_service_with_the_same_bits(service, config):
    loggers = f"train.loggers=[{service.name}]"
    Trainer(config("a", loggers), quiet=True, callbacks=[Stop()]).run()
    assert len(service.ended) == 1
    resumed = Trainer(config("a", loggers), resume=True, quiet=True)
    resumed.run()
    assert len(service.ended) == 2 and losses(service) == [1, 2, 3, 4]
    if service.name == "mlflow":
        assert [status for _, status in service.ended] == ["KILLED", "FINISHED"]
    straight = Trainer(config("b"), quiet=True)
    straight.run()
    a, b = (checkpoint.read(trainer.training_run.last) for trainer in (resumed, straight))
    for part in ("model", "optimizer", "state"):
        assert same(a[part], b[part]), part
    Trainer(config("c", loggers), quiet=True).run()
    assert len(service.runs) == 2


def test_a_service_that_fails_is_left_out_and_the_training_goes_on(service, config, capsys):
    class Break:
        def on_step(self, run, iteration, *_):
            service.broken = iteration >= 2

    run = Trainer(config("a", f"train.loggers=[tensorboard,{service.name}]"), quiet=True, callbacks=[Break()]).run()
    assert run.iteration == 4 and len(run.metrics) == 5
    said = f"seg: {service.name} has failed (no route to host); the training continues without this logger\n"
    assert capsys.readouterr().err.count(said) == 1
    assert losses(service) == [1, 2]


@pytest.mark.parametrize("name", STAND_INS)
def test_a_missing_package_is_answered_with_its_extra_before_the_run_begins(config, monkeypatch, name):
    module = STAND_INS[name][0]
    monkeypatch.setitem(sys.modules, module, None)
    with refused(f"{module} cannot be imported", f"pip install 'seg-deeplab[{EXTRAS[module]}]'"):
        Trainer(config("a", f"train.loggers=[tensorboard,{name}]"), quiet=True)
    assert not config("a").folder.exists()


def test_a_service_that_cannot_begin_gives_one_line_and_the_others_end(config, monkeypatch):
    def fail(**_):
        raise ValueError("no API key\nlog in first")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=fail))
    with refused("train.loggers: wandb cannot begin (no API key log in first)", "leave it out of train.loggers"):
        Trainer(config("a", "train.loggers=[wandb]"), quiet=True).run()
    begun = Service()
    monkeypatch.setitem(sys.modules, "wandb", stand_in_wandb(begun))
    monkeypatch.setitem(sys.modules, "comet_ml", SimpleNamespace(ExperimentConfig=fail))
    with refused("train.loggers: comet cannot begin"):
        Trainer(config("b", "train.loggers=[wandb,comet]"), quiet=True).run()
    assert len(begun.ended) == 1


def test_a_run_of_the_users_own_stays_active(monkeypatch, tmp_path):
    mlflow = stand_in_mlflow(Service())
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    mlflow.start_run(run_name="own")
    own = mlflow.active_run()
    MLflow(tmp_path, "", {}).close()
    assert mlflow.active_run() == own


def test_names_have_the_characters_that_mlflow_takes():
    assert mlflow_name("val_IoU/d\u00e9j\u00e0 vu (old), 1.5") == "val_IoU/d\u00e9j\u00e0 vu _old__ 1.5"
