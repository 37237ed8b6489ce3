"""seg data check: verify every image and mask of a data set."""

from __future__ import annotations

import argparse

from ..options import Subparsers, add_json, add_verb, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "check",
        run,
        "Read every image and mask of a data set, list the problems, and count classes and sizes.",
        details="ROOT is in VOC layout: JPEGImages, SegmentationClassAug or SegmentationClass, ImageSets/Segmentation. "
        "Masks are palette, index or RGB PNGs; 255 is void. The exit code is 1 if there are problems.",
        example="seg data check data/VOC2012 --split val",
    )
    parser.add_argument("root", metavar="ROOT", help="data set in VOC layout")
    parser.add_argument("--split", help="check this split only (default: all splits; each file is read once)")
    parser.add_argument(
        "--labels",
        metavar="NAME|FILE",
        help="voc, cityscapes, ade20k, camvid, or a YAML file (default: labels.yaml in ROOT, otherwise voc)",
    )
    parser.add_argument("--masks", metavar="FOLDER", help="folder of the masks, relative to ROOT")
    parser.add_argument(
        "--masks-only",
        action="store_true",
        help="check the masks without images; without split lists, check every mask in the folder",
    )
    parser.add_argument(
        "--convert", action="store_true", help="convert RGB masks to palette PNGs, by the colors of the label set"
    )
    add_json(parser, "the findings")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...data.label_mapping import labels_file
    from ...data.validation import check
    from ...files import write_json
    from ...labels import load
    from ..tables import class_table, size_table

    labels = load(args.labels or str(labels_file(args.root) or "voc"))
    with progress("check", quiet=args.quiet) as bar:
        report = check(args.root, labels, args.split, args.masks, args.masks_only, args.convert, bar.update)
    for problem in report.problems:
        print(problem)
    for note in [*report.notes, *report.split_notes]:
        print(f"note: {note}")
    for name, rows in report.splits.items():
        what, damaged = "masks" if args.masks_only else "images", (~report.scan.valid[rows]).sum()
        print(f"{name}: {len(rows):,} {what}, {damaged:,} with problems")
        print(class_table(report.scan.counts[rows], labels))
        print(size_table(report.scan.sizes[rows]))
    if args.json:
        write_json(args.json, report.as_dict())
    return 1 if report.problems else 0
