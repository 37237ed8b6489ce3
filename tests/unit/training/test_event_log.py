import json
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context

from seg.evaluation.metrics import Scores
from seg.labels import VOC
from seg.training.event_log import EventLog, remaining_events
from seg.training.loggers import FIRST

SCORES = Scores(VOC, np.eye(21, dtype=np.int64), 1)


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(folder, name):
    """Steps of a curve as TensorBoard shows it."""
    board = EventAccumulator(str(folder / "events"))
    board.Reload()
    return [event.step for event in board.Scalars(name)]


def test_events_are_lines_of_json(tmp_path):
    log = EventLog(tmp_path, 0, True)
    log.step(10, 1.5, 0.007)
    log.close()
    assert events(tmp_path) == [{"iteration": 10, "loss": 1.5, "lr": 0.007}]
    assert curve(tmp_path, "train/loss") == [10]


@pytest.mark.parametrize("start, validated", [(0, True), (10, False), (20, False), (20, True), (30, False)])
def test_a_resumed_log_has_every_step_once(tmp_path, monkeypatch, start, validated):
    log = EventLog(tmp_path, 0, True)
    for iteration in (10, 20, 30):
        log.step(iteration, 1.0, 0.1)
        if iteration == 20:
            log.validation(20, SCORES)
    log.file.write('{"iteration": 31, "lo')  # killed
    log.close()
    # TensorBoard reads a folder's files by the second at which they were begun.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    log = EventLog(tmp_path, start, validated)
    if start == 20 and not validated:
        log.validation(20, SCORES)
    for iteration in range(start + 10, 50, 10):
        log.step(iteration, 2.0, 0.1)
        if iteration == 20:
            log.validation(20, SCORES)
    log.close()
    told = events(tmp_path)
    assert [(e["iteration"], e["loss"]) for e in told if "loss" in e] == [
        (i, 1.0 if i <= start else 2.0) for i in (10, 20, 30, 40)
    ]
    assert [e["iteration"] for e in told if "miou" in e] == [20]
    assert curve(tmp_path, "train/loss") == [10, 20, 30, 40]
    assert curve(tmp_path, "val/mIoU") == [20]


def test_lines_that_are_not_events_are_skipped():
    good = '{"iteration": 1, "loss": 2, "lr": 0.1}'
    others = ['{"iteration": 1, "loss": 2}', '{"iteration": 2, "miou": "high"}', "[" * 100_000, "\ufffd"]
    lines = [good, "", "[1]", '{"loss": 1}', '{"iteration": 2, "lo', *others]
    assert remaining_events(lines, 5, True) == [{"iteration": 1, "loss": 2, "lr": 0.1}]


def test_tensorboard_shows_classes_confusion_and_settings(tmp_path):
    (tmp_path / "config.yaml").write_text("train:\n  batch_size: 4\n")
    log = EventLog(tmp_path, 0, True)
    log.step(10, 1.5, 0.007)
    log.validation(10, SCORES)
    log.finish({"train.batch_size": 4, "model.backbone": "xception65"}, 0.25)
    log.close()
    board = EventAccumulator(str(tmp_path / "events"))
    board.Reload()
    tags = board.Tags()
    assert {"train/loss", "train/learning_rate", "val/mIoU", "val_IoU/person"} <= set(tags["scalars"])
    assert "val/confusion_matrix" in tags["images"]
    assert not [tag for tag in tags["scalars"] if tag.startswith("hparam")]  # it would be a chart of one point
    assert b"val/mIoU" in board.SummaryMetadata("_hparams_/experiment").plugin_data.content
    text = {tag: board.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"] if "text_summary" in tag}
    assert text["config/text_summary"] == "    train:\n      batch_size: 4\n"
    assert f"| person | {100 * SCORES.iou['person']:.2f} % |" in text["val/IoU/text_summary"]
    content = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.backbone" in content and b"xception65" in content
    assert not [path for path in (tmp_path / "events").iterdir() if path.is_dir()]


def test_tensorboard_lists_the_main_settings_before_the_others(tmp_path):
    settings = {"data.balanced": False, "data.crop_size": 97, "evaluate.flip": True, "model.backbone": "xception65"}
    settings |= {"name": "run", "train.batch_size": 4, "train.iterations": 9, "train.learning_rate": 0.1}
    for run, batch in (("a", 4), ("b", 8)):
        (tmp_path / run).mkdir()
        log = EventLog(tmp_path / run, 0, True)
        log.validation(10, SCORES)
        log.finish(settings | {"train.batch_size": batch}, 0.25)
        log.close()
    board = EventMultiplexer()
    board.AddRunsFromDirectory(str(tmp_path))
    board.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(board, str(tmp_path))))
    asked = RequestContext()
    found = context.experiment_from_metadata(
        asked, "", True, context.hparams_metadata(asked, ""), context.hparams_from_data_provider(asked, "", 0)
    )
    names = [info.name for info in found.hparam_infos]
    assert set(names[:5]) == set(FIRST) and set(names) == set(settings)
    assert [metric.name.tag for metric in found.metric_infos] == ["val/mIoU"]
