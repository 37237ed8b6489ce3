"""Files that are written whole or not at all."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def whole(path):
    """Yield a temporary path beside `path`; on success it is fsynced and renamed over `path`, on failure removed.

    A reader sees the old file or the new one, never a part. The folder is made where it is missing.
    Raises UserError where the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Keeping the suffix lets writers that choose a format by it (Pillow) do so.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; give this one what the umask would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno is None:  # raised by a library about its own data, not by the file system
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror}); the old file, if any, is kept") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_yaml(path, what: str) -> dict:
    """The mapping in a YAML file. Raises UserError naming the file, the line and `what` it should be."""
    import yaml

    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {what} must be a mapping of keys to values, not {type(value).__name__}")
    return value
