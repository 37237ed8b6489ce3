"""Atomic file writes, expansion of `~` and variables in paths, and reading of JSON, YAML and lists."""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import UserError, reason

DEEPEST = 50
"""Most levels of nested lists and mappings in a YAML file."""
DATA_LOSS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""Errors of fsync that mean that data did not reach the disk. All others mean that the file system does not support fsync."""
REPLACE_SECONDS = 2.0
"""Longest wait for a program that keeps the old file open, such as a virus scanner."""


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success it replaces `path`, on failure it is removed.

    A reader sees the old file or the new one, never a part. The content is on the disk (fsync) before the file is renamed.
    Its permissions are those of any new file (the umask), whatever the writer sets. A missing folder is created, and links are
    followed. A device, such as /dev/stdout, is written to directly.

    Works on file systems that cannot fsync a folder, or anything (CIFS, VirtualBox, some FUSE), and on Windows. There, the file
    is still never partial for a reader, but a power failure may undo the last writes.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    # The suffix is kept: Pillow chooses the format by it.
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # safetensors makes a file of its own, which only its owner may read
            temporary.chmod(mode)
        with open(temporary, "rb+") as file:
            _fsync(file.fileno())
        _replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        # An error without a number is about a library's own data; one about another file does not concern this file.
        ours = error.filename is None or os.path.dirname(os.path.realpath(error.filename)) in (
            *map(str, path.parents),
            str(path),
        )
        if error.errno is None or not ours:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free some space and run the command again, a training with --resume" if full else ""
        kept = "the old file, if any, is kept"
        raise UserError(f"{path}: cannot be written ({error.strerror}); {kept}{remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _fsync(descriptor: int) -> None:
    """Wait until a file or folder is on the disk, if the file system supports that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in DATA_LOSS:
            raise


def _fsync_folder(folder: Path) -> None:
    """Wait until a renaming in a folder is on the disk, if the system supports that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows cannot open a folder; elsewhere it may be writable but not readable.
        return
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all() -> None:
    """Wait until everything written is on the disk, if the system supports that (not Windows): one call for many files."""
    if hasattr(os, "sync"):
        os.sync()


def _replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`. Where an open file cannot be replaced (Windows, CIFS), retry for REPLACE_SECONDS."""
    deadline, pause = time.monotonic() + REPLACE_SECONDS, 0.01
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if target.is_dir() or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause *= 2


def link(source: Path, path: Path, final: Path | None = None) -> None:
    """Link to a file, or copy it where that is refused: Windows without the privilege, another drive, CIFS, FAT.

    Args:
        source: the file.
        path: where the link is made, if nothing is there yet.
        final: where the link will be when its folder has been renamed; None: it stays.
    """
    if os.path.lexists(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(os.path.relpath(os.path.realpath(source), os.path.realpath((final or path).parent)), path)
    except (OSError, ValueError):
        shutil.copyfile(source, path)


def expand(path: str | os.PathLike[str]) -> Path:
    """Expand `~`, `~user`, `$NAME` and `${NAME}` in a path.

    A path with a dollar sign that exists is not expanded.

    Raises:
        UserError: an environment variable is not set.
    """
    text = os.path.expanduser(path)
    if os.path.exists(text):
        return Path(text)
    for name in re.findall(r"\$\{?([A-Za-z_]\w*)", text):
        if name not in os.environ:
            raise UserError(f"{path}: the environment variable {name} is not set; set it, or write the path without it")
    return Path(os.path.expandvars(text))


def cache_folder() -> Path:
    """Return the folder for downloads that can be made again: SEG_CACHE, else `seg` in the system's own folder for caches."""
    if given := os.environ.get("SEG_CACHE"):
        return expand(given)
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(place)) / "seg"


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically; a list of plain values is one line."""
    text = json.dumps(value, indent=1)
    # A bracket before a line break is never in a string: JSON escapes line breaks.
    text = re.sub(r"\[\n[^][{}]*\]", lambda found: re.sub(r"\n *", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)
    write_text(path, text + "\n")


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """Read the object in a JSON file. Raises a UserError that names the file and `what` it should be."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {what} cannot be read ({reason(error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {what} must be a JSON object, not {type(value).__name__}")
    return value


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file, stripped, without blank ones. Raises UserError if it is not UTF-8 text."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a list in UTF-8 text ({reason(error)})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_yaml(path: str | Path, what: str) -> dict[Any, Any]:
    """Read the mapping in a YAML file of plain values. Raises a UserError that names file, line and `what` it should be."""
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        _check_plain(text)
        value = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror})") from error
    except Exception as error:  # an invalid date, number or tag and deep nesting raise a dozen different classes
        raise UserError(f"{path}: not YAML: {reason(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {what} must be a mapping of keys to values, not {type(value).__name__}")
    return value


def _check_plain(text: str) -> None:
    """Raise ValueError for aliases, which can expand a few lines without end, and for nesting that would exhaust the stack."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            alias = getattr(event, "anchor", "")
            what = f"the alias *{alias} is not read; write the value out" if depth <= DEEPEST else "nested too deeply"
            line = event.start_mark.line + 1 if event.start_mark else "unknown"
            raise ValueError(f"line {line}: {what}")


def require_space(folder: Path, download: int, unpacked: int, remedy: str) -> None:
    """Raise a UserError with the remedy if the folder has no room for what is to be downloaded and unpacked, in bytes."""
    need, free = download + unpacked, shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"{folder}: {need / 1e9:.1f} GB are needed ({download / 1e9:.1f} to download, {unpacked / 1e9:.1f} to extract), "
            f"{free / 1e9:.1f} GB are free; make room, or {remedy}"
        )
