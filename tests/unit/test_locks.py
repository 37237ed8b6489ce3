import multiprocessing
import sys
from types import SimpleNamespace

import pytest

from seg import locks
from seg.locks import try_lock


def attempt(path, holder):
    with path.open("ab") as file:
        return try_lock(file, holder)


def attempt_elsewhere(path, holder):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(attempt, (path, holder))


@pytest.mark.parametrize("holder", ["process", "file"])
def test_a_lock_excludes_other_processes_until_the_file_is_closed(tmp_path, holder):
    path = tmp_path / "lock"
    with path.open("ab") as file:
        assert try_lock(file, holder)
        assert not attempt_elsewhere(path, holder)
    assert attempt_elsewhere(path, holder)


def test_a_lock_of_the_open_file_outlives_the_closing_of_another(tmp_path):
    path = tmp_path / "lock"
    with path.open("ab") as file:
        assert try_lock(file, "file")
        path.open("rb").close()
        assert not attempt_elsewhere(path, "file")


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    assert attempt(tmp_path / "lock", "process")


def test_windows_locks_a_byte_behind_the_content_and_keeps_the_position(tmp_path, monkeypatch):
    locked = []

    def locking(descriptor, mode, count):
        place = (locks.os.fstat(descriptor).st_ino, locks.os.lseek(descriptor, 0, 1))
        if place in locked:
            raise PermissionError(13, "Permission denied")
        locked.append(place)

    monkeypatch.setattr(locks, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    (tmp_path / "lock").write_text("123\n")
    with (tmp_path / "lock").open("r+") as file:
        assert try_lock(file)
        assert file.read() == "123\n"
        assert locked[0][1] == locks.LOCKED_BYTE
    assert not attempt(tmp_path / "lock", "process")
