"""Resumable downloads of published archives, from several addresses, verified by size and checksum."""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit

from .errors import UserError, reason
from .files import write_json
from .locks import try_lock
from .progress import MIB, Progress, by_mebibyte, mebibytes, print_stderr

TIMEOUT = 20.0
"""Seconds to wait for a connection, and for the next byte."""
TRIES = 3
"""Number of consecutive connections to one address without new bytes before the next address is tried."""
PAUSE = 1.0
"""Seconds before the second try; the third waits twice that."""


@dataclass(frozen=True)
class Archive:
    """A published archive."""

    name: str
    """Description of the content, for messages."""
    file: str
    """Its file name."""
    urls: tuple[str, ...] = ()
    """The official addresses, then mirrors with the same bytes."""
    size: int | None = None
    """In bytes; None: as the server says."""
    checksum: str | None = None
    """`md5:...` or `sha256:...`, in hexadecimal digits; None: unknown."""
    remedy: str = "name a --mirror, or download the file elsewhere and give it by --from-archive"
    """Remedy if no address has the archive."""


def addresses(archive: Archive, mirrors: Iterable[str] = ()) -> list[str]:
    """List the addresses to try.

    Args:
        archive: the archive.
        mirrors: addresses of the file, or of the folder that holds it, instead of the published ones; if there are none, those
            of the environment variable SEG_MIRRORS, separated by spaces or commas.

    Raises:
        UserError: an address is not HTTP, or there are none.
    """
    given = list(mirrors) or os.environ.get("SEG_MIRRORS", "").replace(",", " ").split()
    for address in given:
        if not re.match(r"https?://[^/]", address):
            raise UserError(f"{address}: must begin with http:// or https://; give a file by --from-archive")
    if not (given or archive.urls):
        raise UserError(
            f"{archive.name}: {archive.file} is published behind a login; download it there and give it by --from-archive FILE"
        )
    return [
        address if urlsplit(address).path.endswith(f"/{archive.file}") else f"{address.rstrip('/')}/{archive.file}"
        for address in given
    ] or list(archive.urls)


class Part:
    """A partial archive: a file open for appending, and beside it the source of its bytes."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self.file, self.metadata = path, file, path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return os.fstat(self.file.fileno()).st_size

    def clear(self) -> None:
        """Remove all bytes."""
        self.file.truncate(0)

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); make room and run it again") from error

    def source(self, url: str | None = None) -> dict[str, object]:
        """Source of the bytes: `url`, `validator` (ETag or date) and `size` of the whole; empty if from another address."""
        try:
            found = json.loads(self.metadata.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) and url in (None, found["url"]) else {}
        except (OSError, ValueError, KeyError, RecursionError):
            return {}


@contextlib.contextmanager
def exclusive_part(path: Path, remedy: str = "wait for that one") -> Iterator[Part]:
    """Open the part at `path` for this process alone. An empty part is removed at the end.

    Raises:
        UserError: another process downloads it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    with file:
        busy = UserError(f"{path}: another process downloads it; {remedy}")
        # Not held by the process: closing any reader of the file would end that lock.
        if not try_lock(file, "file"):
            raise busy
        # Opened before another process removed it, locked after that.
        if not path.exists() or os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
            raise busy
        part = Part(path, file)
        try:
            yield part
        finally:
            if part.size == 0:
                part.metadata.unlink(missing_ok=True)
                with contextlib.suppress(PermissionError):  # Windows keeps a file that is open
                    path.unlink(missing_ok=True)


class _UselessError(Exception):
    """Reason why an address does not deliver the archive."""


class _UnreachableError(_UselessError):
    """No network, or no such server: most likely so at the next address too."""


def fetch(archive: Archive, part: Part, urls: list[str], quiet: bool = False) -> None:
    """Complete a partial archive from the first address that can.

    Args:
        archive: the archive.
        part: the partial archive; on failure, the received bytes are kept.
        urls: see `addresses`.
        quiet: print nothing.

    Raises:
        UserError: no address delivers the archive with the right checksum, or the disk is full.
    """
    known = archive.size if archive.size is not None else part.source().get("size")
    if isinstance(known, int) and part.size >= known > 0 and _is_right(archive, part, quiet):
        return
    problems: dict[str, list[str]] = {}
    for url, following in zip(urls, [*urls[1:], None], strict=True):
        try:
            return _fetch_from(archive, part, url, quiet)
        except _UselessError as error:
            problems.setdefault(str(error), []).append(urlsplit(url).netloc)
            told = quiet or isinstance(error, _UnreachableError)
            if not told and following and urlsplit(following).netloc != urlsplit(url).netloc:
                print_stderr(f"{url}: {error}; trying the next address")
    kept = f"; the {mebibytes(part.size)} MiB received are kept" if part.size else ""
    causes = "; ".join(f"{', '.join(dict.fromkeys(servers))}: {cause}" for cause, servers in problems.items())
    raise UserError(
        f"{archive.name}: no address delivered {archive.file} ({causes}){kept}; run it again later, {archive.remedy}"
    )


def _fetch_from(archive: Archive, part: Part, url: str, quiet: bool) -> None:
    furthest = failed = 0
    total = archive.size
    while failed < TRIES:
        time.sleep(PAUSE * failed)
        resumed = part.size > 0
        try:
            resumed, total = _receive(archive, part, url, quiet)
            problem = f"the connection ended after {part.size:,} of {total:,} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _UselessError(reason(error)) from error
            part.clear()
            problem = reason(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            problem = reason(cause) if isinstance(cause, Exception) else str(cause)
            if _is_unreachable(cause, furthest > 0):
                raise _UnreachableError(f"no network, or no such server: {problem}") from error
        size = part.size
        if size and size == total:
            if _is_right(archive, part, quiet):
                return
            problem = f"wrong bytes: another {(archive.checksum or 'size').partition(':')[0]}"
            if not resumed:
                break
            # The first bytes may be those of an older file or of another address: start again.
        failed = 0 if size > furthest else failed + 1
        furthest = max(furthest, size)
        if failed < TRIES and not quiet:
            print_stderr(f"{url}: {problem}; trying again")
    raise _UselessError(problem)


def _is_unreachable(cause: object, connected: bool) -> bool:
    """Whether an error says that there is no network or no such server; after bytes have come, that may be for a moment."""
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return True
    absent = isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return absent and not connected


def _is_right(archive: Archive, part: Part, quiet: bool) -> bool:
    """Whether the part is the archive; if not, it is emptied."""
    try:
        verify(archive, part.path, quiet)
    except UserError:
        part.clear()
        return False
    return True


def _receive(archive: Archive, part: Part, url: str, quiet: bool) -> tuple[bool, int]:
    """Make one connection, and append its bytes or start again. Return whether earlier bytes were kept, and the total size."""
    headers, offset = {"User-Agent": "seg", "Accept-Encoding": "identity"}, part.size
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if isinstance(validator := part.source(url).get("validator"), str):
            headers["If-Range"] = validator
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        given, said = response.headers, None
        if response.status == http.client.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given.get("Content-Range", ""))
            if not match or int(match[1]) != offset:
                part.clear()
                raise ValueError("the server sent other bytes than requested")
            said = None if match[2] == "*" else int(match[2])
        else:
            offset, said = 0, int(given["Content-Length"]) if "Content-Length" in given else None
        total = said if archive.size is None else archive.size
        if said is not None and said != total:
            raise _UselessError(f"a file of {said:,} bytes, not {total:,}")
        if not offset:
            part.clear()
        etag = given.get("ETag", "")
        # A weak ETag does not identify single bytes (RFC 9110, 13.1.5).
        validator = etag if etag.startswith('"') else given.get("Last-Modified")
        write_json(part.metadata, {"url": url, "validator": validator, "size": total})
        if not quiet:
            print_stderr(f"{url}{f', resuming at {mebibytes(offset)} MiB' if offset else ''}")
        size, start, whole = offset, offset // MIB, None if total is None else mebibytes(total)
        with Progress(f"download {archive.name}", whole, start=start, unit="MiB", quiet=quiet) as progress:
            step = by_mebibyte(progress)
            while piece := response.read1(MIB):
                size += len(piece)
                if total is not None and size > total:
                    part.clear()
                    raise _UselessError(f"more than {total:,} bytes")
                part.append(piece)
                step(size)
    return offset > 0, size if total is None else total


def verify(archive: Archive, path: str | Path, quiet: bool = False) -> None:
    """Compare a file with the size and the checksum of the archive, if they are known.

    Raises:
        UserError: it differs, or cannot be read.
    """
    kind, _, wanted = (archive.checksum or "").partition(":")
    try:
        size = os.stat(path).st_size
        found = None if archive.size in (None, size) else f"{size:,} bytes, not {archive.size:,}"
        if found is None and wanted and (digest := checksum(path, kind, f"verify {archive.name}", quiet)) != wanted:
            found = f"{kind} {digest}, not {wanted}"
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if found is not None:
        raise UserError(f"{path}: not {archive.file}, or damaged ({found}); download it again")


def checksum(path: str | Path, kind: str, what: str, quiet: bool = False) -> str:
    """Return the checksum of a file in hexadecimal digits; `kind` is md5 or sha256, `what` names the progress bar."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with (
        open(path, "rb") as file,
        Progress(what, mebibytes(os.stat(path).st_size), unit="MiB", quiet=quiet) as progress,
    ):
        step = by_mebibyte(progress)
        while piece := file.read(MIB):
            digest.update(piece)
            step(file.tell())
    return digest.hexdigest()
