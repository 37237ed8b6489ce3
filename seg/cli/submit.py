"""seg submit: make the archive for the PASCAL VOC evaluation server."""

from __future__ import annotations

import argparse

from ..errors import UserError
from ..progress import print_stderr
from .options import WEIGHTS, Subparsers, add_inference, add_json, add_verb, open_predictor, progress

SERVER = "http://host.robots.ox.ac.uk:8080"


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "submit",
        run,
        "Make and check the archive of masks for the PASCAL VOC 2012 evaluation server.",
        details="With --check, only check an existing archive.",
        example="seg submit runs/voc_mini/best.safetensors --data data/VOC2012_test --split test --out submission",
    )
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?", help=f"{WEIGHTS}, with the classes of VOC")
    parser.add_argument("--data", metavar="ROOT", help="data set in VOC layout; masks are not needed (default: as trained)")
    parser.add_argument("--split", default="test", help="name of a list in ImageSets/Segmentation (default: test)")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder for results.tar.gz and the masks; existing masks made with the same weights and settings are reused",
    )
    parser.add_argument(
        "--competition",
        choices=("comp5", "comp6"),
        default="comp6",
        help="comp5: trained on VOC 2012 data only; comp6 (default): trained on any data",
    )
    add_inference(parser)
    parser.add_argument("--check", metavar="ARCHIVE", help="check this archive instead of making one")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    making, checking = args.weights and args.out, args.check and args.data
    if bool(making) == bool(checking) or (args.check and (args.weights or args.out)):
        raise UserError("seg submit: give WEIGHTS with --out DIR, or --check ARCHIVE with --data ROOT")
    return check(args) if checking else make(args)


def check(args: argparse.Namespace) -> int:
    """Check an existing archive."""
    from ..data.voc import open_images
    from ..files import write_json
    from ..inference.voc_submission import check_archive
    from ..labels import VOC

    split = open_images(args.data, args.split, VOC)
    check_archive(args.check, split, args.competition)
    print(f"{args.check}: {len(split)} masks, in the format that the server accepts")
    if args.json:
        write_json(args.json, {"archive": args.check, "masks": len(split)})
    return 0


def make(args: argparse.Namespace) -> int:
    """Predict the masks of a split, and pack them."""
    from ..data.voc import LISTS, data_folder, open_images
    from ..distributed import is_main
    from ..files import write_json
    from ..inference.voc_submission import submit

    predictor = open_predictor(args)
    root = args.data or (predictor.metadata.data_root() if predictor.metadata else "")
    if args.split == "test" and not args.data and not (data_folder(root) / LISTS / "test.txt").is_file():
        raise UserError(
            f"{root}: has no test split; the test images are another download: seg data download voc2012-test --from-archive "
            "VOC2012test.tar; then give --data data/VOC2012_test"
        )
    split = open_images(root, args.split, predictor.labels)
    if args.split != "test" and is_main():
        print_stderr(f"note: the server scores only the test split, not {args.split}; omit --split to predict the test split")
    with progress("submit", quiet=args.quiet) as bar:
        path, kept = submit(predictor, split, args.weights, args.out, args.competition, bar.update)
    if is_main():
        reused = f", {kept} of them reused" if kept else ""
        print(f"{path}: {len(split)} masks{reused}, in the format that the server accepts")
        print(f"  upload it for {args.competition}:  {SERVER}")
        if args.json:
            write_json(args.json, {"archive": str(path), "masks": len(split), "kept": kept})
    return 0
