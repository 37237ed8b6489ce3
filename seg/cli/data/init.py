"""seg data init: make a data set from your own images and masks."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from shlex import quote

from ..options import Subparsers, add_json, add_verb, progress

SHOWN = 25
"""Largest number of class names to print."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "init",
        run,
        "Make a data set from your own images and masks.",
        details="FOLDER contains images/ and masks/ (or other common names), with or without a folder for each split; or "
        "train/, train_labels/, val/, val_labels/, as in CamVid; or it is in VOC layout. The classes are found in the masks; "
        "their names are read from class_dict.csv, label_colors.txt, labelmap.txt, codes.txt or classes.json in FOLDER. It "
        "writes links, split lists and labels.yaml to FOLDER/voc. In VOC layout, it writes only labels.yaml, to FOLDER. "
        "Existing files are not changed.",
        example="seg data init data/mine --images photos --masks drawn",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of your images and masks")
    parser.add_argument("--images", metavar="DIR", help="folder of the images, relative to FOLDER (default: found by its name)")
    parser.add_argument("--masks", metavar="DIR", help="folder of the masks, relative to FOLDER (default: found by its name)")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: FOLDER/voc)")
    parser.add_argument("--layout", metavar="NAME", help="layout of FOLDER (default: detected)")
    parser.add_argument(
        "--pair",
        metavar="PATTERN",
        help="pattern of the mask file names, where {stem} is the image name without suffix: '{stem}_segmentation.png'; or "
        "patterns of the images and the masks: 'photo_{stem}.jpg=drawn_{stem}.png'",
    )
    parser.add_argument(
        "--values",
        metavar="VALUE=CLASS",
        nargs="+",
        help="class of each value in the masks, such as 0=background 1=cat 2=cat 3=void; ranges (1-40=object) and colors "
        "(128,0,0=car) are also allowed. Several values may map to one class; void pixels are ignored",
    )
    parser.add_argument(
        "--split",
        type=_share,
        metavar="SHARE",
        help="share of the images in the train split, such as 0.8; the rest is the val split",
    )
    parser.add_argument(
        "--threshold",
        type=_level,
        metavar="LEVEL",
        help="make two classes from gray levels: below LEVEL, and LEVEL or above; for example 128",
    )
    parser.add_argument(
        "--resize-masks",
        nargs="?",
        const="nearest",
        choices=("nearest",),
        help="resize masks to the size of their images (nearest neighbor, so that class indices are kept)",
    )
    parser.add_argument(
        "--ignore-exif",
        action="store_true",
        help="do not rotate images by their EXIF orientation; use this if the masks match the images as stored",
    )
    add_json(parser, "what was found")


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and 1, such as 0.8")
    return value


def _level(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 255:
        raise argparse.ArgumentTypeError(f"{text} must be a gray level from 1 to 255, such as 128")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...data.layouts.base import Hints
    from ...data.layouts.classes import parse_values
    from ...data.layouts.create import create_dataset
    from ...files import write_json

    hints = Hints(
        layout=args.layout,
        images=args.images,
        masks=args.masks,
        pair=args.pair,
        labels=parse_values(args.values) if args.values else None,
        val_share=None if args.split is None else round(1 - args.split, 9),
        threshold=args.threshold,
        resize_masks=args.resize_masks is not None,
        ignore_exif=args.ignore_exif,
    )
    with progress("init", unit="masks", quiet=args.quiet) as bar:
        made = create_dataset(args.folder, hints, args.out, bar.update)
    for note in made.notes:
        print(note)
    labels = made.out / "labels.yaml"
    counts = ", ".join(f"{name} {count:,}" for name, count in made.splits.items())
    names = ", ".join([*made.labels.names[:SHOWN], *["..."] * (len(made.labels) > SHOWN)])
    print(f"{len(made.labels)} classes, which you can name in {labels}: {names}")
    print(f"images of each split in {made.out}: {counts}")
    split = "train" if "train" in made.splits else next(iter(made.splits))
    print(f"  check:  seg data check {quote(str(made.out))} --labels {quote(str(labels))}")
    name = re.sub(r"[^\w.-]+", "-", Path(args.folder).resolve().name) or "mine"
    settings = (
        "model.weights=timm:legacy_xception.tf_in1k",
        f"name={name}",
        f"data.root={made.out}",
        f"data.labels={labels}",
        f"data.train={split}",
    )
    print(f"  train:  seg train voc_mini {' '.join(map(quote, settings))}")
    if args.json:
        numbers = {"out": str(made.out), "classes": list(made.labels.names), "splits": made.splits, "notes": made.notes}
        write_json(args.json, numbers)
    return 0
