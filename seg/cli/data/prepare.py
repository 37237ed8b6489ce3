"""seg data prepare: the augmented training set of PASCAL VOC."""

from __future__ import annotations

import argparse

from ..options import Subparsers, add_json, add_verb, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "prepare",
        run,
        "Make the augmented training set of PASCAL VOC, trainaug, from VOC and SBD.",
        details="It writes VOC/SegmentationClassAug, the masks of trainaug and val (VOC's own where available, else SBD's), "
        "and VOC/ImageSets/Segmentation/trainaug.txt, 10,582 ids. If you run it again, it verifies every mask.",
        example="seg data prepare trainaug --voc data/VOC2012 --sbd data/sbd",
    )
    parser.add_argument("what", choices=("trainaug",), help="the augmented training set")
    parser.add_argument("--voc", metavar="DIR", default="data/VOC2012", help="PASCAL VOC 2012 (default: data/VOC2012)")
    parser.add_argument(
        "--sbd", metavar="DIR", default="data/sbd", help="SBD, with cls/, train.txt and val.txt (default: data/sbd)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...data.prepare.sbd import prepare_trainaug
    from ...files import write_json

    with progress("prepare", unit="masks", quiet=args.quiet) as bar:
        made = prepare_trainaug(args.voc, args.sbd, progress=bar.update)
    print(f"{made.ids:,} ids in {made.path}")
    print(f"masks: {made.written:,} written, {made.replaced:,} replaced, {made.kept:,} unchanged")
    if args.json:
        write_json(args.json, vars(made) | {"path": str(made.path)})
    return 0
