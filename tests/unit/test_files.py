import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest

import seg
from seg import files
from seg.errors import UserError
from seg.files import atomic_write, expand, read_json, read_lines, read_yaml, write_json, write_text
from seg.models import deeplabv3plus_xception41


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_file_is_in_the_same_folder_with_the_same_suffix(tmp_path):
    with atomic_write(tmp_path / "image.png") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png" and temporary.name.startswith(".")


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError("an image library's complaint")])
def test_the_old_file_stays_when_the_writer_raises(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error if isinstance(error, type) else type(error)), atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_no_file_appears_when_the_first_writer_raises(tmp_path):
    with pytest.raises(ValueError), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert names(tmp_path) == []


def test_a_full_disk_is_a_user_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with (
        pytest.raises(
            UserError, match=r"a\.txt: cannot be written \(No space left on device\); the old file.*free some space.*--resume"
        ),
        atomic_write(path),
    ):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_write(path) as temporary, open(temporary, "w") as file:
        for _ in range(3):
            file.write("a part of the new one ")
            file.flush()
            assert path.read_text() == "old"
    assert path.read_text() == "a part of the new one " * 3


def test_a_reader_never_sees_a_partial_file(tmp_path):
    path = tmp_path / "a.txt"
    texts = ["a" * 300_000, "b" * 400_000]
    write_text(path, texts[0])
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        write_text(path, texts[i % 2])
    done.set()
    reader.join()
    assert seen <= set(texts)
    assert names(tmp_path) == ["a.txt"]


def fail(function, error, where=lambda *arguments: True):
    """A stand-in for a function that raises `error` for some arguments."""

    def stand_in(*arguments, **options):
        if where(*arguments):
            raise error
        return function(*arguments, **options)

    return stand_in


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
@pytest.mark.parametrize("what", ["folders", "everything"])
def test_a_file_system_without_fsync_can_be_written(tmp_path, monkeypatch, number, what):
    refuse = fail(os.fsync, OSError(number, "Invalid argument"), is_folder if what == "folders" else lambda descriptor: True)
    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_data_that_does_not_reach_the_disk_is_an_error(tmp_path, monkeypatch, number):
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", fail(os.fsync, OSError(number, "no luck")))
    with pytest.raises(UserError, match=r"a\.txt: cannot be written \(no luck\)"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_system_that_cannot_open_folders_can_be_written(tmp_path, monkeypatch):
    """Windows cannot open folders."""
    monkeypatch.setattr(
        os, "open", fail(os.open, PermissionError(13, "Permission denied"), lambda path, *_: os.path.isdir(path))
    )
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_an_open_file_is_replaced_once_it_is_closed(tmp_path, monkeypatch):
    """Windows refuses to replace an open file."""
    (tmp_path / "a.txt").write_text("old")
    refusals = iter([True, True, True])
    refuse = fail(os.replace, PermissionError(13, "in use"), lambda *_: next(refusals, False))
    monkeypatch.setattr(os, "replace", refuse)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_file_that_stays_open_is_an_error_that_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REPLACE_SECONDS", 0.05)
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "replace", fail(os.replace, PermissionError(13, "in use")))
    with pytest.raises(UserError, match=r"a\.txt: cannot be written \(in use\); the old file"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_home_and_variables_expand_in_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data/$x")
    assert expand("~/voc") == Path("/home/me/voc")
    assert expand("$DATA/voc") == expand("${DATA}/voc") == Path("/data/$x/voc")
    assert expand(Path("a/b~c")) == Path("a/b~c")
    (tmp_path / "~").mkdir()
    assert expand("~") == Path("/home/me"), "a folder that is named ~ does not hide the home"


def test_an_unset_variable_is_refused_unless_the_path_exists(tmp_path, monkeypatch):
    monkeypatch.delenv("NONE", raising=False)
    for path in ("$NONE/voc", "a/${NONE}/voc"):
        with pytest.raises(UserError, match="the environment variable NONE is not set"):
            expand(path)
    (tmp_path / "a$NONE.jpg").touch()
    assert expand(tmp_path / "a$NONE.jpg") == tmp_path / "a$NONE.jpg"
    assert expand("price 5$.jpg") == Path("price 5$.jpg")


def save_text(path):
    write_text(path, "x")


def save_private(path):
    """Write as a library that replaces the file by one which only its owner may read."""
    with atomic_write(path) as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)


def save_weights(path):
    seg.save(deeplabv3plus_xception41(num_classes=2, width=0.125), path, ["background", "cat"])


@pytest.mark.parametrize("save", [save_text, save_private, save_weights])
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, umask, mode, save):
    old = os.umask(umask)
    try:
        save(tmp_path / "a.safetensors")
        assert os.umask(umask) == umask, "the umask itself is changed"
    finally:
        os.umask(old)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == mode


def test_a_path_below_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "a.txt", tmp_path / "file" / "b" / "a.txt"):
        with pytest.raises(UserError) as error, atomic_write(place):
            raise AssertionError("the writer is started")
        assert str(error.value).startswith(f"{place}: cannot be written (") and "\n" not in str(error.value)
    assert names(tmp_path) == ["file"]


def test_a_folder_in_place_of_the_file_is_a_user_error(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt: cannot be written"):
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_json_is_read_back_as_it_was_written(tmp_path):
    value = {"miou": None, "names": ["Straße"], "matrix": [[1, 2], [3, 4]]}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == value


def test_a_list_of_plain_values_is_one_line_of_json(tmp_path):
    value = {"matrix": [[1, 2], [3, 4]], "names": ["a[", "]\n[ b", "{"], "none": [], "rows": [{"a": [1.5, None]}]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert "\n  [1, 2],\n  [3, 4]\n" in text and '"a": [1.5, null]' in text


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 200000, b"3"])
def test_a_file_that_is_not_a_json_object_is_a_user_error(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for wrong in (path, tmp_path, tmp_path / "none.json"):
        with pytest.raises(UserError, match="a thing") as error:
            read_json(wrong, "a thing")
        assert str(error.value).startswith(f"{wrong}: ") and "\n" not in str(error.value)
    path.write_text('{"a": 1}')
    assert read_json(path, "a thing") == {"a": 1}


def test_a_yaml_mapping_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("name: Straße\nscale: [0.5, 1]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml", "a thing") == {"name": "Straße", "scale": [0.5, 1]}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a: [1,\nb: 2", "not YAML: .*line 2"),
        (b"\xff\xfe\xff", "not YAML"),
        (b"- 1\n- 2\n", "a thing must be a mapping of keys to values, not list"),
        (b"", "a thing must be a mapping of keys to values, not NoneType"),
        (b"a: !!python/object/apply:os.getcwd []", "not YAML: .*could not determine a constructor"),
        (b"a: 2001-99-99", "not YAML: month must be in 1..12"),
        (b"a: !!int ''", "not YAML"),
        (b"a: !!bool x", "not YAML"),
        (b"a: !!timestamp x", "not YAML"),
        (b"a: " + b"9" * 5000, "not YAML"),
        (b"a: " + b"[" * 100_000, "not YAML: line 1: nested too deeply"),
        (b"a: 1\nb: &b [*b]", r"not YAML: line 2: the alias \*b is not read; write the value out"),
    ],
)
def test_a_file_that_is_not_a_yaml_mapping_is_a_user_error(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path, "a thing")
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_aliases_are_refused_before_they_expand(tmp_path):
    rows = ["a0: &a0 {x: y}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]
    (tmp_path / "a.yaml").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"line 2: the alias \*a0 is not read"):
        read_yaml(tmp_path / "a.yaml", "a thing")


def test_a_missing_yaml_file_and_a_folder_are_user_errors(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UserError, match="a thing cannot be read"):
            read_yaml(path, "a thing")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "through")
    reader.join(5)
    assert read == ["through"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_missing_input_of_the_writer_is_not_an_error_of_the_target(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "out" / "a.txt"):
        (tmp_path / "elsewhere" / "input.txt").read_text()


def test_lists_are_utf8_text_with_or_without_a_byte_order_mark(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffa\n\n bé \n".encode())
    assert read_lines(tmp_path / "list.txt") == ["a", "bé"]
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"list\.txt: not a list"):
        read_lines(tmp_path / "list.txt")
