"""Writes the archive of masks for the PASCAL VOC evaluation server, and checks it by reading it back.

Section 5.3 of the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html: a palette
PNG an image, results/VOC2012/Segmentation/COMPETITION_SPLIT_cls/ID.png, all in one tar.gz. Its VOCevalseg.m refuses a mask of
another size than its image and values above 20.
"""

import gzip
import hashlib
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import Image

from .. import __version__, distributed
from ..data.images import decode
from ..data.voc import LISTS, Split, save_mask
from ..errors import UserError, reason
from ..files import atomic_write
from ..labels import VOC
from ..threads import prefetch
from ..weights.resolve import resolve_weights
from .predictor import Predictor

LIMIT = 2**24
"""Largest mask file, and largest rest after the last file, in bytes: a small archive could unpack to more than the memory."""


def folder(competition: str, split: Split) -> str:
    """Return the server's folder of the masks: `comp5` if trained only on VOC2012's data, `comp6` if on any data."""
    return f"results/VOC2012/Segmentation/{competition}_{split.name}_cls"


def submit(
    predictor: Predictor,
    split: Split,
    weights: str | Path,
    out: str | Path,
    competition: str = "comp6",
    on_image: Callable[[int, int], None] | None = None,
) -> tuple[Path, int]:
    """Predict the masks of a split, pack them, and check the archive.

    Existing masks made with the same weights file, settings, version and image are reused: each stores a checksum of these.
    Several processes share the images; rank 0 packs. Equal masks give an archive of equal bytes.

    Args:
        predictor: a model with VOC's 21 classes.
        split: images, without masks.
        weights: the file of the model, for the checksums.
        out: folder of the masks and of results.tar.gz.
        competition: `comp5` or `comp6`; see `folder`.
        on_image: called with (done, total) after each new mask.

    Returns:
        The archive, and the number of masks that were reused.

    Raises:
        UserError: the classes are not VOC's, an image cannot be read, or the archive fails `check_archive`.
    """
    if split.labels.names != VOC.names:
        raise UserError(f"{weights}: has {len(split.labels)} classes; the evaluation server scores VOC's 21 classes only")
    predictor = predictor.native()
    place = folder(competition, split)
    targets = [Path(out) / place / f"{item}.png" for item in split.ids]
    settings = json.dumps([__version__, asdict(predictor.config)], sort_keys=True).encode()
    shared = settings + hashlib.sha256(_read(resolve_weights(weights))).digest()

    def checksum(index: int) -> str:
        return hashlib.sha256(shared + _read(split.images[index])).hexdigest()

    mine = range(distributed.rank(), len(split), distributed.world_size())
    todo = [index for index in mine if _made_from(targets[index]) != checksum(index)]
    samples = zip(todo, prefetch(split.image, todo), strict=True)
    for done, (index, mask) in enumerate(predictor.stream(samples), 1):
        assert mask is not None  # `split.image` raises for an image that cannot be read
        save_mask(targets[index], mask, VOC, made_from=checksum(index))
        if on_image:
            on_image(done, len(todo))
    kept = sum(distributed.all_gather(len(mine) - len(todo)))
    path = Path(out) / "results.tar.gz"
    with distributed.raise_on_all_ranks():
        if distributed.is_main():
            with atomic_write(path) as temporary:
                _pack(temporary, {f"{place}/{target.name}": target for target in targets})
                check_archive(temporary, split, competition, name=path)
    return path, kept


def _read(path: str | Path) -> bytes:
    if not Path(path).is_file():  # opening a pipe would block
        raise UserError(f"{path}: no such file; it must be there for every process")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable to every process") from error


def _made_from(path: Path) -> str | None:
    """Return the checksum stored in a mask that `submit` wrote; None for another or damaged file."""
    try:
        found: str | None = decode(path, ("PNG",)).info.get("made_from")
        return found
    except UserError:
        return None


def _pack(path: Path, members: dict[str, Path]) -> None:
    # Headers without names, owners and times, so that equal masks give equal bytes.
    with (
        open(path, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name in sorted(members):
            content = _read(members[name])
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def check_archive(path: str | Path, split: Split, competition: str = "comp6", name: str | Path | None = None) -> None:
    """Read an archive as the server does, and check it.

    It must hold exactly the masks of the split, as regular files in the right folder. Each is a palette PNG in VOC's colors
    with values 0 to 20, of the size of its image file (as stored, not turned by EXIF).

    Args:
        path: the archive.
        split: images, without masks.
        competition: `comp5` or `comp6`.
        name: name of the archive in errors; default: its path.

    Raises:
        UserError: the archive has faults; the message has the first one and the number of others.
    """
    name = name or path
    if not Path(path).is_file():
        raise UserError(f"{name}: no such archive; seg submit WEIGHTS --out DIR makes one")
    images = {f"{item}.png": image for item, image in zip(split.ids, split.images, strict=True)}
    place, listed = folder(competition, split), split.root / LISTS / f"{split.name}.txt"
    faults: list[str] = []
    found: set[str] = set()
    try:
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if not 0 <= member.size <= LIMIT:
                        raise ValueError(f"{member.name} states {member.size:,} bytes, more than any mask has")
                    if member.isdir():
                        continue
                    parent, file = posixpath.split(posixpath.normpath(member.name))
                    fault: str | None
                    if not member.isreg() or member.issparse():
                        fault = "not a regular file; pack only the masks"
                    elif parent != place:
                        fault = f"not in {place}, where the server looks for this split and competition"
                    elif file not in images:
                        fault = f"not an id of {listed}; remove it"
                    elif file in found:
                        fault = "appears twice; remove one"
                    else:
                        found.add(file)
                        fault = _fault(cast(IO[bytes], tar.extractfile(member)).read(), images[file])
                    if fault:
                        faults.append(f"{member.name if member.name.isprintable() else repr(member.name)}: {fault}")
            if len(stream.read(LIMIT)) == LIMIT:  # reads up to the checksum at the end
                raise ValueError("data after its last file")
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{name}: not a complete tar.gz archive ({reason(error)}); make it again with seg submit") from error
    faults += [
        f"{place}/{file}: missing; the server needs a mask for every id of {listed}" for file in images if file not in found
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(f"{name}: {faults[0]}{more}")


def _fault(content: bytes, image: Path) -> str | None:
    """Return why the server would refuse this mask of the image; None if it accepts it."""
    wanted = _size(image)
    try:
        Image.open(io.BytesIO(content), formats=("PNG",)).verify()  # decoding skips the checksums
        with Image.open(io.BytesIO(content), formats=("PNG",)) as mask:
            if mask.size != wanted:
                return (
                    f"{mask.size[0]}x{mask.size[1]} pixels, but its image is {wanted[0]}x{wanted[1]} ({image}); do not resize"
                )
            if mask.mode != "P":
                return f"mode {mask.mode}; the server accepts PNGs with a palette (mode P), with the class as the index"
            values, palette = np.asarray(mask), np.reshape(mask.getpalette() or [], (-1, 3))
    except Exception as error:  # Pillow raises whatever it runs into
        return f"not a readable PNG ({reason(error)})"
    for index, color in enumerate(VOC.colors):
        if index >= len(palette) or tuple(palette[index]) != color:
            theirs = tuple(palette[index].tolist()) if index < len(palette) else "none"
            return f"the color of class {index} in its palette is {theirs}, not VOC's {color}"
    if values.max() >= len(VOC):
        row, column = np.unravel_index((values >= len(VOC)).argmax(), values.shape)
        return f"value {values[row, column]} at ({row}, {column}); the server accepts 0 to 20, and no void"
    return None


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file as stored."""
    try:
        with Image.open(io.BytesIO(_read(path))) as image:
            return image.width, image.height
    except UserError:
        raise
    except Exception as error:  # Pillow raises whatever it runs into
        raise UserError(f"{path}: not a readable image ({reason(error)}); damaged or truncated: copy it again") from error
