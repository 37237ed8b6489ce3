"""seg data prepare: make training sets from published data sets."""

from __future__ import annotations

import argparse
from shlex import quote

from ..options import Subparsers, add_json, add_verb, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "prepare",
        run,
        "Make a training set: trainaug (from VOC and SBD), coco (the VOC classes of COCO 2017), or cityscapes.",
        details="trainaug writes VOC/SegmentationClassAug, the masks of trainaug and val (from VOC where available, else "
        "from SBD), and VOC/ImageSets/Segmentation/trainaug.txt, 10,582 ids. coco writes COCO/voc: the images with more than "
        "1,000 pixels of the 20 classes; crowds are void. Running trainaug or coco again verifies every mask. cityscapes "
        "unpacks the two official archives into CITYSCAPES and writes the data set CITYSCAPES/voc; an interrupted run "
        "resumes.",
        example="seg data prepare trainaug --voc data/VOC2012 --sbd data/sbd",
    )
    parser.add_argument("what", choices=("trainaug", "coco", "cityscapes"), help="the training set")
    parser.add_argument(
        "--voc", metavar="DIR", default="data/VOC2012", help="folder of PASCAL VOC 2012 (default: data/VOC2012)"
    )
    parser.add_argument(
        "--sbd", metavar="DIR", default="data/sbd", help="folder of SBD, with cls/, train.txt and val.txt (default: data/sbd)"
    )
    parser.add_argument(
        "--coco",
        metavar="DIR",
        default="data/coco",
        help="folder of COCO 2017, with annotations/, train2017/ and val2017/ (default: data/coco)",
    )
    parser.add_argument(
        "--cityscapes", metavar="DIR", default="data/cityscapes", help="folder of Cityscapes (default: data/cityscapes)"
    )
    parser.add_argument(
        "--from-archive",
        metavar="FILE",
        nargs=2,
        default=[],
        help="with cityscapes: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (default: found in its folder)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...files import write_json

    made = {"trainaug": prepare_trainaug, "coco": prepare_coco, "cityscapes": prepare_cityscapes}[args.what](args)
    if args.json:
        write_json(args.json, made | {"path": str(made["path"])})
    return 0


def prepare_trainaug(args: argparse.Namespace) -> dict[str, object]:
    """Prepare trainaug and print a summary."""
    from ...data.prepare.sbd import prepare_trainaug

    with progress("prepare", unit="masks", quiet=args.quiet) as bar:
        made = prepare_trainaug(args.voc, args.sbd, progress=bar.update)
    print(f"{made.ids:,} ids in {made.path}")
    print(f"masks: {made.written:,} written, {made.replaced:,} replaced, {made.kept:,} unchanged")
    return vars(made)


def prepare_coco(args: argparse.Namespace) -> dict[str, object]:
    """Prepare COCO and print a summary."""
    from ...data.prepare.coco import SMALLEST, prepare_coco

    with progress("prepare", unit="images", quiet=args.quiet) as bar:
        made = prepare_coco(args.coco, progress=bar.update)
    for split, count in made.images.items():
        print(f"{split}: {count:,} images; {made.few[split]:,} with at most {SMALLEST:,} pixels of the classes were left out")
    print(f"data set: {made.path}")
    return vars(made)


def prepare_cityscapes(args: argparse.Namespace) -> dict[str, object]:
    """Prepare Cityscapes and print a summary."""
    from ...data.prepare.cityscapes import prepare_cityscapes, unpack
    from ...progress import by_mebibyte, mebibytes

    with progress("extract", unit="MiB", quiet=args.quiet) as bar:
        step = by_mebibyte(bar)

        def tell(done: int, total: int) -> None:
            bar.total = mebibytes(total)
            step(done)

        files = unpack(args.cityscapes, args.from_archive, progress=tell)
    with progress("prepare", unit="masks", quiet=args.quiet) as bar:
        made = prepare_cityscapes(args.cityscapes, progress=bar.update)
    print(f"{files:,} files extracted; images of each split: {', '.join(f'{s} {n:,}' for s, n in made.images.items())}")
    print(f"data set: {made.path}")
    root = "" if args.cityscapes == "data/cityscapes" else f" {quote(f'data.root={made.path}')}"
    print(f"  train:  seg train cityscapes_xception65 model.weights=xception65_imagenet{root}")
    return vars(made) | {"extracted": files}
