"""Gets published models: downloads the archive, reads its checkpoint, and stores the model as a weights file."""

import contextlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..archives import extract
from ..download import Archive, addresses, checksum, exclusive_part, fetch, verify
from ..errors import UserError
from ..files import cache_folder, require_space, write_text
from ..locks import try_lock
from ..progress import Progress, by_mebibyte, is_quiet, mebibytes, print_stderr
from .zoo import PublishedModel, find

LIMIT = 4 << 30
"""Largest total size of the files in an archive, in bytes; the published archives have about 0.7 GB."""
PAUSE = 0.5
"""Seconds between checks whether another process is ready."""


def place_of(model: PublishedModel) -> Path:
    """Return the path of the weights file of a published model, which may not exist yet."""
    return cache_folder() / "models" / f"{model.name}.safetensors"


def get(name: str, archive: str | Path | None = None, mirrors: Iterable[str] = (), quiet: bool = False) -> Path:
    """Return the weights file of a published model. It is downloaded and converted at the first use.

    The SHA-256 of the archive is then stored in ARCHIVE.sha256, and compared at later downloads.

    Args:
        name: one of `zoo.MODELS`.
        archive: a copy of the archive, instead of a download. A copy in the folder of the weights file is found automatically.
        mirrors: see `seg.download.addresses`.
        quiet: print nothing; also where `is_quiet`.

    Raises:
        UserError: there is no such model, no address has its archive, the archive is damaged or another one, or the cache
            cannot be written.
    """
    model, quiet = find(name), quiet or is_quiet()
    place = place_of(model)
    if place.is_file() and archive is None:
        return place
    with _only_process(place.with_suffix(".lock"), model.name, quiet):
        if place.is_file() and archive is None:
            return place
        copy = place.with_name(model.file)
        record = place.with_name(f"{model.file}.sha256")
        known = f"sha256:{record.read_text(encoding='utf-8').split()[0]}" if record.is_file() else None
        source = replace(model.archive, checksum=known)
        if archive is not None or copy.is_file():
            _convert_copy(model, source, Path(archive or copy), place, record, quiet)
        else:
            _download(model, source, place, record, addresses(source, mirrors), quiet)
    return place


@contextlib.contextmanager
def _only_process(path: Path, name: str, quiet: bool) -> Iterator[None]:
    """Hold the lock of a model: of several processes, such as the ranks of a training, only one downloads it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written ({error.strerror}); set SEG_CACHE to another folder") from error
    with file:
        waiting = False
        while not try_lock(file, "file"):
            if not waiting and not quiet:
                print_stderr(f"{name}: waiting for another process that downloads it")
            waiting = True
            time.sleep(PAUSE)
        yield


def _download(model: PublishedModel, source: Archive, place: Path, record: Path, urls: list[str], quiet: bool) -> None:
    with exclusive_part(place.with_name(f"{model.file}.part")) as part:
        size = model.megabytes * 10**6
        require_space(place.parent, max(0, size - part.size), 2 * size, "set SEG_CACHE to another folder")
        if not quiet:
            print_stderr(f"{model.name}: {model.megabytes} MB, once, into {place.parent}")
        fetch(source, part, urls, quiet)
        try:
            _convert(model, part.path, place, record, quiet)
        except UserError as error:
            part.clear()  # The bytes are wrong: the next download starts again.
            raise UserError(f"{error}; the download is removed: run it again, or {model.archive.remedy}") from error
        part.clear()


def _convert_copy(model: PublishedModel, source: Archive, archive: Path, place: Path, record: Path, quiet: bool) -> None:
    verify(source, archive, quiet)
    require_space(place.parent, 0, 2 * model.megabytes * 10**6, "set SEG_CACHE to another folder")
    _convert(model, archive, place, record, quiet)


def _convert(model: PublishedModel, archive: Path, place: Path, record: Path, quiet: bool) -> None:
    """Convert the checkpoint in an archive, and then record the archive's checksum."""
    folder = place.with_name(f".{model.name}.checkpoint")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        size = archive.stat().st_size
        with Progress(f"extract {model.name}", mebibytes(size), unit="MiB", quiet=quiet) as progress:
            extract(archive, "", folder, LIMIT, by_mebibyte(progress), wanted=_is_checkpoint)
        write_published(model, _prefix(folder, archive), place)
        digest = checksum(archive, "sha256", f"record {model.name}", quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write_text(record, f"{digest}  {model.file}\n")


def _is_checkpoint(path: PurePosixPath) -> bool:
    """Whether this is a file of a checkpoint. The archives also hold frozen graphs, and macOS's `._` files."""
    return re.fullmatch(r"[^.].*\.(index|data-\d{5}-of-\d{5})", path.name) is not None


def _prefix(folder: Path, archive: Path) -> Path:
    found = sorted(folder.rglob("*.index"))
    if len(found) != 1:
        raise UserError(f"{archive}: holds {len(found)} checkpoints, not one; it is not the published archive")
    return found[0].with_suffix("")


def write_published(model: PublishedModel, prefix: Path, out: Path) -> None:
    """Convert the checkpoint of a published model. Every tensor is verified by its CRC-32C.

    Args:
        model: its entry in the table.
        prefix: of the checkpoint, without `.index`.
        out: the .safetensors file to write.

    Raises:
        UserError: the checkpoint is damaged, or of another network.
    """
    # Imported late: they take a second, which a cached model does not need.
    from ..labels import BUILT_IN, VOC
    from .file import write_weights
    from .tensorflow import open_checkpoint

    weights = open_checkpoint(model.name, prefix)
    # The masks of a data set made by seg data init hold class indices, whatever values the original masks have.
    labels = replace(BUILT_IN[model.labels], values=None) if model.labels else VOC
    found = weights.settings["backbone"], weights.settings.get("context", "aspp"), weights.classes
    classes = (None, len(labels) + model.unused_outputs) if model.labels else (None,)
    if found[:2] != (model.backbone, model.context) or found[2] not in classes or (model.scores and found[2] is None):
        raise UserError(f"{prefix}: a checkpoint of {found[0]}, {found[1]}, {found[2]} outputs: not {model.name}")
    for name in ("classifier.weight", "classifier.bias"):
        if name in weights.tensors:
            weights.tensors[name] = weights.tensors[name][model.unused_outputs :]
    settings: dict[str, Any] = {"name": model.name}
    if model.labels:
        settings["data"] = {"root": model.data, "labels": model.labels, "train": model.split, "val": "val"}
    if model.scores:
        weights.score = {"miou": model.scores[0].miou, "split": model.scores[0].split}
    write_weights(out, weights, labels, settings, model.origin, max(model.size))
