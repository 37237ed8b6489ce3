import av

from seg.errors import LONGEST, UserError, did_you_mean, reason


def test_the_closest_word_is_suggested():
    assert did_you_mean("corp", ["crop", "scale"]) == "; did you mean 'crop'?"


def test_all_words_are_listed_if_none_is_close():
    assert did_you_mean("xyz", ["crop", 5]) == "; known here: crop, 5"


def test_a_message_is_one_line_that_a_terminal_can_show():
    assert str(UserError("Straße 1.png: as it is")) == "Straße 1.png: as it is"
    assert str(UserError("a\nb \x1b[2J \0 \ud800")) == r"a\nb \x1b[2J \x00 \ud800"
    long = str(UserError(f"a.yaml: {'x' * 10**6}; mend it"))
    assert len(long) <= LONGEST and long.startswith("a.yaml: xxx") and long.endswith("xxx; mend it")


def test_an_error_of_the_system_is_given_without_number_and_path(tmp_path):
    try:
        (tmp_path / "none.json").read_text()
    except OSError as error:
        assert reason(error) == "No such file or directory"
    assert reason(OSError("no network")) == "no network"
    assert reason(av.error.InvalidDataError(1, "Invalid data", "/a/clip.mp4")) == "Invalid data"
    assert reason(ValueError("a\n b")) == "a b"
    assert reason(KeyError()) == "KeyError"
