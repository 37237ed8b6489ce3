"""Files that are written whole or not at all."""

import contextlib
import json
import os
import re
import secrets
from pathlib import Path

from .errors import UserError, reason

DEEPEST = 50
"""Lists and mappings within each other that a YAML file may have."""


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path beside `path`; on success it is fsynced and renamed over `path`, on failure removed.

    A reader sees the old file or the new one, never a part. The folder is made where it is missing; links are followed; what
    is there and no regular file (/dev/stdout) is written to directly. Raises UserError where the place cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    # Keeping the suffix lets writers that choose a format by it (Pillow) do so.
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        # A library's complaint about its own data has no number; one about another file is not ours to explain.
        ours = error.filename is None or os.path.dirname(os.path.realpath(error.filename)) in (
            *map(str, path.parents),
            str(path),
        )
        if error.errno is None or not ours:
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror}); the old file, if any, is kept") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all; a list of plain values stands on one line."""
    text = json.dumps(value, indent=1)
    # A bracket before a line break is never part of a string: JSON escapes those.
    text = re.sub(r"\[\n[^][{}]*\]", lambda found: re.sub(r"\n *", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)
    write_text(path, text + "\n")


def read_json(path, what: str) -> dict:
    """The object in a JSON file. Raises UserError naming the file and `what` it should be."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {what} cannot be read ({reason(error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {what} must be a JSON object, not {type(value).__name__}")
    return value


def read_lines(path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises UserError where it is not UTF-8 text."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a list in UTF-8 text ({reason(error)})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_yaml(path, what: str) -> dict:
    """The mapping in a YAML file of plain values. Raises UserError naming the file, the line and `what` it should be."""
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        _check_plain(text)
        value = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror})") from error
    except Exception as error:  # a date, a number or a tag that is none, or brackets too deep, come as any of a dozen
        raise UserError(f"{path}: not YAML: {reason(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: {what} must be a mapping of keys to values, not {type(value).__name__}")
    return value


def _check_plain(text: str) -> None:
    """Aliases of aliases make a few lines a value without end, and brackets in brackets use up the stack: ValueError."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            what = f"the alias *{event.anchor} is not read; write the value out" if depth <= DEEPEST else "nested too deeply"
            raise ValueError(f"line {event.start_mark.line + 1}: {what}")
