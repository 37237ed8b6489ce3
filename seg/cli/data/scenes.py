"""seg data scenes: write synthetic scenes."""

from __future__ import annotations

import argparse
from shlex import quote

from ..options import Subparsers, add_verb, count, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "scenes",
        run,
        "Write synthetic scenes in VOC layout.",
        example="seg data scenes data/scenes --train 300 --val 60",
    )
    parser.add_argument("out", metavar="DIR", help="folder to write")
    parser.add_argument("--train", type=count, default=300, metavar="N", help="number of training scenes (default: 300)")
    parser.add_argument("--val", type=count, default=60, metavar="N", help="number of validation scenes (default: 60)")
    parser.add_argument("--size", type=int, default=192, help="longer side of each scene in pixels (default: 192)")
    parser.add_argument("--seed", type=int, default=0, help="random seed; the same seed gives the same scenes (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ...data.prepare.scenes import write_scenes

    with progress("scenes", args.train + args.val, quiet=args.quiet) as bar:
        write_scenes(args.out, train=args.train, val=args.val, size=args.size, seed=args.seed, progress=bar)
    settings = f"data.root={args.out}", f"data.labels={args.out}/labels.yaml"
    print(f"{args.train} training and {args.val} validation scenes in {args.out}")
    print(f"  train:  seg train quickstart {' '.join(map(quote, settings))}")
    return 0
