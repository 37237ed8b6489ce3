"""seg data init: your own images and masks as a data set."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from shlex import quote

from ..options import Subparsers, add_json, add_verb, progress


def add_parser(subparsers: Subparsers) -> None:
    parser = add_verb(
        subparsers,
        "init",
        run,
        "Make a data set from your own images and masks.",
        details="FOLDER holds images/ and masks/ (or other usual names), with or without a folder for each split; or train/, "
        "train_labels/, val/, val_labels/, as in CamVid; or it is in VOC layout. The classes are found in the masks; their "
        "names are read from class_dict.csv, label_colors.txt, labelmap.txt or codes.txt in FOLDER. FOLDER/voc gets links, "
        "lists and labels.yaml; a folder in VOC layout only gets labels.yaml. Existing files stay as they are.",
        example="seg data init data/mine --images photos --masks drawn",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of your images and masks")
    parser.add_argument("--images", metavar="DIR", help="folder of the images in FOLDER (default: found by its name)")
    parser.add_argument("--masks", metavar="DIR", help="folder of the masks in FOLDER (default: found by its name)")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: FOLDER/voc)")
    add_json(parser, "what was found")


def run(args: argparse.Namespace) -> int:
    from ...data.layouts.folders import init
    from ...files import write_json

    with progress("init", unit="masks", quiet=args.quiet) as bar:
        made = init(args.folder, args.images, args.masks, args.out, bar.update)
    for note in made.notes:
        print(note)
    labels = made.out / "labels.yaml"
    counts = ", ".join(f"{name} {count:,}" for name, count in made.splits.items())
    print(f"{len(made.labels)} classes, which you can name in {labels}: {', '.join(made.labels.names)}")
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
