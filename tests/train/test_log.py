import json

from seg.train.log import EventLog


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_events_are_lines_of_json(tmp_path):
    log = EventLog(tmp_path, 0)
    log.step(10, 1.5, 0.007)
    log.close()
    assert events(tmp_path) == [{"iteration": 10, "loss": 1.5, "lr": 0.007}]
    assert list((tmp_path / "events").iterdir())


def test_resuming_drops_the_events_that_will_happen_again(tmp_path):
    log = EventLog(tmp_path, 0)
    for iteration in (10, 20, 30):
        log.step(iteration, 1.0, 0.1)
    log.close()
    log = EventLog(tmp_path, 20)
    log.step(30, 2.0, 0.1)
    log.close()
    assert [(e["iteration"], e["loss"]) for e in events(tmp_path)] == [(10, 1.0), (20, 1.0), (30, 2.0)]
