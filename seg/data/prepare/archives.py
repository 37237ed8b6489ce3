"""Archives unpacked without trusting them."""

import lzma
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from ...errors import UserError, reason

BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)
"""What tarfile and the decompressors raise for an archive that is garbled or cut short."""


def extract(archive, folder: str, target, limit: int, progress=None) -> None:
    """Make `folder` of a tar file (plain, gzip, bzip2 or xz) the new folder `target`, whole or not at all.

    Names and bytes alone are taken, not modes, owners and times: no file is setuid. Raises UserError for a name that leads
    out of the archive, for a link, device or pipe in `folder`, for more than `limit` bytes, for an archive that cannot be read
    to its end (whether its bytes are the right ones is for a checksum to say), and where `target` is in use or cannot be
    written. One process a target. `progress(position)` is called with bytes of the archive.
    """
    # tarfile's own filter="data" is not in every Python 3.10; without links to follow there is little left to filter.
    target = Path(os.path.realpath(target))
    scratch = target.with_name(f".{target.name}.extracting")
    try:
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        with open(archive, "rb") as file, tarfile.open(fileobj=file) as tar:
            found = _write(tar, archive, PurePosixPath(folder), scratch, limit, lambda: progress and progress(file.tell()))
        if not found:
            raise UserError(f"{archive}: no files in {folder}/; is it the right archive?")
        os.sync()  # one for ten thousand files: a power cut after the rename finds them written
        os.rename(scratch, target)
    except BROKEN as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # the decompressors' own
            raise _damaged(archive, error) from error
        raise UserError(f"{archive}: cannot be extracted to {target} ({error.strerror}); nothing of it was kept") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(tar, archive, folder: PurePosixPath, scratch: Path, limit: int, step) -> int:
    """Write the files of `folder` below `scratch`; how many."""
    size = found = 0
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{archive}: '{member.name}' leads out of the archive; it is not safe to extract")
        size += member.size
        if member.size < 0 or size > limit:
            raise UserError(f"{archive}: holds more than {limit:,} bytes; it is not safe to extract")
        if path.parts[: len(folder.parts)] != folder.parts:
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
    # What is no header ends the loop without a word; the end of an archive is zeros.
    tar.fileobj.seek(tar.offset)
    if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no header at byte {tar.offset:,}")
    return found


def _damaged(archive, error) -> UserError:
    return UserError(f"{archive}: not a whole tar archive ({reason(error)}); download it again")
