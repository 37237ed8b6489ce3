"""seg data download: download published data sets."""

from __future__ import annotations

import argparse

from ..options import Subparsers, add_verb


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "download",
        run,
        "Download a published data set, verify its checksum and unpack it.",
        details="An interrupted download is resumed. If one address fails, the next is tried. "
        "Existing data sets are not downloaded again.",
        example="seg data download voc2012 --out data/VOC2012",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="voc2012 (train and val), sbd, or voc2012-test (only with --from-archive or --mirror)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: data/VOC2012, data/sbd or data/VOC2012_test)")
    parser.add_argument(
        "--from-archive", metavar="FILE", help="unpack this local copy of the published archive; no network is needed"
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="URL of the archive or of its folder, used instead of the published URLs; can be repeated. The environment "
        "variable SEG_MIRRORS does the same; separate its URLs by spaces or commas",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...data.prepare.download import download, find

    source = find(args.name)
    out = args.out or source.place
    new = download(source, out, args.from_archive, args.mirror, quiet=args.quiet)
    print(f"{source.name} is in {out}" if new else f"{source.name} is already in {out}; nothing was downloaded")
    return 0
