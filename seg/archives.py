"""Unpack tar and zip archives without trusting them."""

import contextlib
import lzma
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from .errors import UserError, reason
from .files import sync_all

BROKEN = (tarfile.TarError, BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RuntimeError)
"""Exceptions of tarfile, zipfile and the decompressors for an archive that is damaged, cut short or encrypted."""


def extract(
    archive: str | Path,
    folder: str,
    target: str | Path,
    limit: int,
    progress: Callable[[int], None] | None = None,
    *,
    wanted: Callable[[PurePosixPath], bool] | None = None,
) -> None:
    """Unpack a folder of a tar archive, atomically.

    Only names and bytes are taken, not modes, owners and times: no file becomes setuid. One process per target.

    Args:
        archive: a tar file: plain, gzip, bzip2 or xz.
        folder: the folder in the archive; "" is the whole archive.
        target: the new folder.
        limit: largest size of all files of the archive together, in bytes.
        progress: called with the position in the archive, in bytes.
        wanted: of the files in `folder`, unpack those for which it is true; None: all.

    Raises:
        UserError: a name leads out of the archive; `folder` holds a link, a device or a pipe; the files are larger than
            `limit`; the archive is cut short or damaged (only a checksum can prove that it is not); or the target cannot be
            written.
    """
    # tarfile's own filter="data" is not in every Python 3.10. Without links there is little left to filter.
    with _new_folder(archive, target) as scratch, open(archive, "rb") as file, tarfile.open(fileobj=file) as tar:
        step = (lambda: progress(file.tell())) if progress else (lambda: None)
        if not _write(tar, archive, PurePosixPath(folder), scratch, limit, step, wanted):
            raise _useless(archive, folder)


def zipped_files(archive: str | Path, wanted: Callable[[PurePosixPath], bool], limit: int) -> dict[PurePosixPath, ZipInfo]:
    """List files of a zip archive.

    Args:
        archive: the zip file.
        wanted: which files.
        limit: largest size of these files together, in bytes.

    Raises:
        UserError: it is not a whole zip archive, a name leads out of it, a wanted file is a link, or they exceed `limit`.
    """
    found = {}
    with _refusing(archive), ZipFile(archive) as file:
        for entry in file.infolist():
            path = PurePosixPath(entry.filename)
            # A backslash separates folders on Windows.
            if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
                raise _leads_out(archive, entry.filename)
            if entry.is_dir() or not wanted(path):
                continue
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                raise _odd(archive, entry.filename)
            found[path] = entry
    if sum(entry.file_size for entry in found.values()) > limit:
        raise _too_large(archive, limit)
    return found


def extract_zip(
    archive: str | Path,
    folder: str,
    files: dict[PurePosixPath, ZipInfo],
    target: str | Path,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Unpack files of a folder of a zip archive, atomically; each is verified by its CRC-32. One process per target.

    Args:
        archive: the zip file.
        folder: the folder in the archive that all files are in.
        files: what to unpack: of the result of `zipped_files`.
        target: the new folder.
        progress: called with the bytes written.

    Raises:
        UserError: the archive is cut short or damaged, or the target cannot be written.
    """
    done = 0
    with _new_folder(archive, target) as scratch, ZipFile(archive) as file:
        for path, entry in files.items():
            place = scratch / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            with file.open(entry) as source, open(place, "wb") as new:
                shutil.copyfileobj(source, new, 1 << 20)
            done += entry.file_size
            if progress:
                progress(done)


@contextlib.contextmanager
def _new_folder(archive: str | Path, target: str | Path) -> Iterator[Path]:
    """Yield a new folder that becomes `target` at the end, or is removed."""
    target = Path(os.path.realpath(target))
    scratch = target.with_name(f".{target.name}.extracting")
    with _refusing(archive, f"cannot be extracted to {target}"):
        try:
            if scratch.exists():
                shutil.rmtree(scratch)
            scratch.mkdir(parents=True)
            yield scratch
            sync_all()  # once for ten thousand files: after a power cut, a renamed folder has its content
            os.rename(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _refusing(archive: str | Path, otherwise: str = "cannot be read") -> Iterator[None]:
    """Translate exceptions for an archive that is damaged or a folder that cannot be written."""
    try:
        yield
    except BROKEN as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # from a decompressor
            raise _damaged(archive, error) from error
        raise UserError(f"{archive}: {otherwise} ({error.strerror}); nothing of it was kept") from error


def _write(
    tar: Any,
    archive: str | Path,
    folder: PurePosixPath,
    scratch: Path,
    limit: int,
    step: Callable[[], None],
    wanted: Callable[[PurePosixPath], bool] | None,
) -> int:
    """Write the wanted files of `folder` below `scratch`; return their number."""
    size = found = 0
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise _leads_out(archive, member.name)
        size += member.size
        if member.size < 0 or size > limit:
            raise _too_large(archive, limit)
        if path.parts[: len(folder.parts)] != folder.parts or (wanted and not member.isdir() and not wanted(path)):
            continue
        place = scratch / path.relative_to(folder)
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif member.isreg():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, open(place, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            found += 1
        else:
            raise _odd(archive, member.name)
        step()
    # tarfile stops without an error at a block that is not a header; a real archive ends in zeros.
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no header at byte {tar.offset:,}")
    return found


def _leads_out(archive: str | Path, name: str) -> UserError:
    return UserError(f"{archive}: '{name}' leads out of the archive; it is not safe to extract")


def _too_large(archive: str | Path, limit: int) -> UserError:
    return UserError(f"{archive}: holds more than {limit:,} bytes; it is not safe to extract")


def _odd(archive: str | Path, name: str) -> UserError:
    return UserError(f"{archive}: '{name}' is a link, device or pipe; it is not safe to extract")


def _useless(archive: str | Path, folder: str) -> UserError:
    return UserError(f"{archive}: no files {f'in {folder}/' if folder else 'that are needed'}; is it the right archive?")


def _damaged(archive: str | Path, error: Exception) -> UserError:
    kind = "zip" if Path(archive).suffix == ".zip" else "tar"
    return UserError(f"{archive}: not a whole {kind} archive ({reason(error)}); download it again")
