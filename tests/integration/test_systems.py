"""The command on other systems, simulated: what they lack is taken away here, and what they refuse is refused."""

import ast
import builtins
import errno
import os
import sys
from types import SimpleNamespace

import pytest
import yaml

from seg import locks
from seg.cli.main import main
from seg.download import exclusive_part
from seg.training.run_folder import run_lock
from tests.helpers.configs import CONFIG
from tests.helpers.paths import ROOT
from tests.helpers.toy import refused, toy_voc

POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Modules of Python that Windows lacks."""


@pytest.fixture
def windows(monkeypatch):
    """Blocks the modules and calls that Windows lacks: it refuses links and opening a folder, and has other locks."""
    held = set()

    def locking(descriptor, mode, count):
        file = os.fstat(descriptor).st_ino
        if file in held:
            raise PermissionError(errno.EACCES, "Permission denied")
        held.add(file)

    def no_privilege(*_, **__):
        raise OSError(errno.EINVAL, "A required privilege is not held by the client")

    def no_folders(path, *arguments, open=os.open, **named):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open(path, *arguments, **named)

    for name in POSIX_ONLY - {"posix"}:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("fork", "sync", "statvfs", "sched_getaffinity", "getuid", "mkfifo"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "symlink", no_privilege)
    monkeypatch.setattr(os, "open", no_folders)
    monkeypatch.setattr(locks, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))


def imported(tree):
    """The modules that a file imports when it is itself imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported(node)


def test_no_module_needs_what_windows_lacks():
    found = {
        (str(path), name)
        for path in (ROOT / "seg").rglob("*.py")
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name in POSIX_ONLY
    }
    assert not found


def test_windows_trains_and_prepares_data(tmp_path, windows, capsys):
    with pytest.raises(ImportError):
        builtins.__import__("fcntl")
    root = toy_voc(tmp_path / "voc")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    assert main(["train", str(tmp_path / "small.yaml"), f"data.root={root}", f"runs={tmp_path}", "name=run", "--quiet"]) == 0
    assert (tmp_path / "run" / "best.safetensors").is_file()

    photos = tmp_path / "photos"
    for kind, folder in (("images", "JPEGImages"), ("masks", "SegmentationClass")):
        (photos / kind).mkdir(parents=True)
        for path in (root / folder).iterdir():
            (photos / kind / path.name).write_bytes(path.read_bytes())
    assert main(["data", "init", str(photos), "--out", str(tmp_path / "made"), "--quiet"]) == 0
    images = list((tmp_path / "made" / "JPEGImages").iterdir())
    assert len(images) == 9 and not any(path.is_symlink() for path in images)
    assert images[0].read_bytes() == (photos / "images" / images[0].name).read_bytes()


def test_windows_refuses_a_second_training_in_a_folder(tmp_path, windows):
    with run_lock(tmp_path / "run"), refused(f"process {os.getpid()} trains here"), run_lock(tmp_path / "run"):
        pass


def test_windows_refuses_a_second_download_of_a_file(tmp_path, windows):
    with exclusive_part(tmp_path / "a.part"), refused("another process downloads it"), exclusive_part(tmp_path / "a.part"):
        pass
