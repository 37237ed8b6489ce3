"""Locks on open files, on every system. A process that ends in any way releases its locks."""

import os
import sys
from typing import IO, Any, Literal

LOCKED_BYTE = 2**31 - 2
"""Windows locks bytes, and then refuses to read them: this one is behind the content."""


def try_lock(file: IO[Any], holder: Literal["process", "file"] = "process") -> bool:
    """Lock a file that is open for writing, until it is closed.

    Args:
        file: the open file.
        holder: process: child processes do not keep the lock, but closing the file opened a second time releases it. file: the
            lock belongs to this open file, and to child processes that inherit it. On Windows, both are the open file's.

    Returns:
        False if another process holds the lock. True if it is ours, or the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            _lock_byte(file.fileno())
        else:
            import fcntl

            (fcntl.lockf if holder == "process" else fcntl.flock)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def _lock_byte(descriptor: int) -> None:
    """Lock LOCKED_BYTE on Windows. Raises PermissionError if another process holds it."""
    import msvcrt

    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
