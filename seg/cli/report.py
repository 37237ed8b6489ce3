"""seg report: the page of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..weights.zoo import MODELS
from .evaluate import AGAINST, score_model
from .options import Subparsers, add_device, add_json, add_verb

if TYPE_CHECKING:
    from ..inference.predictor import Predictor


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "report",
        run,
        "Write RUN/report/index.html: the curves, scores and errors of a run.",
        details="It scores the best weights of the run on the validation split.",
        example="seg report runs/voc_mini",
    )
    parser.add_argument("run_folder", metavar="RUN", help="run folder, runs/NAME, or its best.safetensors")
    parser.add_argument("--data", metavar="ROOT", help="data set in VOC layout (default: as trained)")
    parser.add_argument("--against", metavar="DIR|JSON", help=AGAINST)
    add_device(parser)
    add_json(parser, "all numbers")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    given = Path(args.run_folder)
    weights = given if given.suffix == ".safetensors" else given / "best.safetensors"
    folder = weights.parent
    if args.run_folder in MODELS:
        raise UserError(
            f"{given}: a published model, not a run; seg evaluate {given} --data ROOT --report DIR writes its report"
        )
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; give the folder of a run that has been validated, such as runs/NAME")

    def load() -> Predictor:
        from .. import api

        return api.load(weights, args.device)

    return score_model(
        str(weights),
        load,
        data=args.data,
        boundary=True,
        report=str(folder / "report"),
        against=args.against,
        json=args.json,
        quiet=args.quiet,
    )
