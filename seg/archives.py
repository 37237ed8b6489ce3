"""Unpack tar archives without trusting them."""

import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import UserError, reason
from .files import sync_all

BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)
"""Exceptions of tarfile and the decompressors for an archive that is damaged or cut short."""


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
    target = Path(os.path.realpath(target))
    scratch = target.with_name(f".{target.name}.extracting")
    try:
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        with open(archive, "rb") as file, tarfile.open(fileobj=file) as tar:
            step = (lambda: progress(file.tell())) if progress else (lambda: None)
            found = _write(tar, archive, PurePosixPath(folder), scratch, limit, step, wanted)
        if not found:
            raise UserError(f"{archive}: no files {f'in {folder}/' if folder else 'that are needed'}; is it the right archive?")
        sync_all()  # once for ten thousand files: after a power cut, a renamed folder has its content
        os.rename(scratch, target)
    except BROKEN as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # from a decompressor
            raise _damaged(archive, error) from error
        raise UserError(f"{archive}: cannot be extracted to {target} ({error.strerror}); nothing of it was kept") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
            raise UserError(f"{archive}: '{member.name}' leads out of the archive; it is not safe to extract")
        size += member.size
        if member.size < 0 or size > limit:
            raise UserError(f"{archive}: holds more than {limit:,} bytes; it is not safe to extract")
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
            raise UserError(f"{archive}: '{member.name}' is a link, device or pipe; it is not safe to extract")
        step()
    # tarfile stops without an error at a block that is not a header; a real archive ends in zeros.
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no header at byte {tar.offset:,}")
    return found


def _damaged(archive: str | Path, error: Exception) -> UserError:
    return UserError(f"{archive}: not a whole tar archive ({reason(error)}); download it again")
