"""seg data prepare: training sets of VOC's classes, from published data sets."""

from __future__ import annotations

import argparse

from ..options import Subparsers, add_json, add_verb, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "prepare",
        run,
        "Make a training set of PASCAL VOC's classes: trainaug from VOC and SBD, or coco from COCO 2017.",
        details="trainaug writes VOC/SegmentationClassAug, the masks of trainaug and val (VOC's own where available, else "
        "SBD's), and VOC/ImageSets/Segmentation/trainaug.txt, 10,582 ids. coco writes COCO/voc: the images with more than "
        "1,000 pixels of the 20 classes; crowds are void. If you run it again, it verifies every mask.",
        example="seg data prepare trainaug --voc data/VOC2012 --sbd data/sbd",
    )
    parser.add_argument("what", choices=("trainaug", "coco"), help="the training set")
    parser.add_argument("--voc", metavar="DIR", default="data/VOC2012", help="PASCAL VOC 2012 (default: data/VOC2012)")
    parser.add_argument(
        "--sbd", metavar="DIR", default="data/sbd", help="SBD, with cls/, train.txt and val.txt (default: data/sbd)"
    )
    parser.add_argument(
        "--coco", metavar="DIR", default="data/coco", help="COCO 2017: annotations/, train2017/, val2017/ (default: data/coco)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...files import write_json

    made = (prepare_coco if args.what == "coco" else prepare_trainaug)(args)
    if args.json:
        write_json(args.json, made | {"path": str(made["path"])})
    return 0


def prepare_trainaug(args: argparse.Namespace) -> dict[str, object]:
    """Prepare trainaug and say what was done."""
    from ...data.prepare.sbd import prepare_trainaug

    with progress("prepare", unit="masks", quiet=args.quiet) as bar:
        made = prepare_trainaug(args.voc, args.sbd, progress=bar.update)
    print(f"{made.ids:,} ids in {made.path}")
    print(f"masks: {made.written:,} written, {made.replaced:,} replaced, {made.kept:,} unchanged")
    return vars(made)


def prepare_coco(args: argparse.Namespace) -> dict[str, object]:
    """Prepare COCO and say what was done."""
    from ...data.prepare.coco import SMALLEST, prepare_coco

    with progress("prepare", unit="images", quiet=args.quiet) as bar:
        made = prepare_coco(args.coco, progress=bar.update)
    for split, count in made.images.items():
        print(
            f"{split}: {count:,} images; {made.few[split]:,} have at most {SMALLEST:,} pixels of the classes, and are left out"
        )
    print(f"data set: {made.path}")
    return vars(made)
