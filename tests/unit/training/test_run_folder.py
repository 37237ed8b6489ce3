import multiprocessing
import os

from seg.errors import UserError
from seg.training.run_folder import changed_settings, run_lock
from tests.helpers.toy import refused


def test_changed_settings_are_named_with_their_sections():
    before = {"a": 1, "b": {"c": [1], "d": None}, "train": {"loss": {}}}
    assert changed_settings(before, before) == []
    after = {"a": 1, "b": {"c": [2], "d": {"e": 1}}, "train": {"loss": {}}}
    assert [line.split(":")[0] for line in changed_settings(before, after)] == ["b.c was [1], is [2]", "b.d was None, is {'e'"]


def test_the_effect_of_a_changed_setting_is_stated():
    def effect(name, old, new):
        section, key = name.split(".")
        (line,) = changed_settings({section: {key: old}}, {section: {key: new}})
        assert line.startswith(f"{name} was {old}, is {new}: ")
        return line.split(": ", 1)[1]

    assert effect("train.log_every", 10, 20) == "the weights do not depend on it"
    assert effect("evaluate.flip", False, True) == "the weights do not depend on it"
    assert "scaled to the new number" in effect("train.iterations", 10, 20)
    assert "another place" in effect("data.root", "a", "b")
    assert "batch norm is frozen" in effect("train.grad_accumulation", 1, 2)
    assert "the result differs" in effect("train.seed", 0, 1)


def attempt(folder):
    try:
        with run_lock(folder):
            return "locked"
    except UserError as error:
        return str(error)


def test_the_lock_names_its_holder_and_is_released_at_the_end(tmp_path):
    def lock_elsewhere():
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(attempt, (tmp_path / "a",))

    with run_lock(tmp_path / "a"):
        assert f"process {os.getpid()} trains here" in lock_elsewhere()
    assert lock_elsewhere() == "locked"


def test_a_folder_that_cannot_be_created_gives_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file", "cannot be written", "runs=FOLDER"), run_lock(tmp_path / "file" / "a"):
        pass
