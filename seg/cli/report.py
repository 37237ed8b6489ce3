"""seg report: write the HTML report of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..weights.zoo import MODELS
from .evaluate import AGAINST, score_model
from .options import WEIGHTS, Subparsers, add_device, add_json, add_verb

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

REPORTS = "report"
"""Folder of the report inside a run folder; a model without a run folder gets a subfolder of its own."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "report",
        run,
        "Write the report of a run, RUN/report/index.html: its curves, scores and errors.",
        details="The best weights of the run are scored on the validation split. For a published model or a model of the "
        "Hugging Face Hub, the report is report/NAME/index.html.",
        example="seg report runs/voc_mini",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help=WEIGHTS)
    parser.add_argument("--data", metavar="ROOT", help="data set in VOC layout (default: as trained)")
    parser.add_argument("--against", metavar="DIR|JSON", help=AGAINST)
    add_device(parser)
    add_json(parser, "all numbers")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    weights, folder = place_of(args.weights)

    def load() -> Predictor:
        from .. import api

        return api.load(weights, args.device)

    return score_model(
        weights,
        load,
        data=args.data,
        boundary=True,
        report=str(folder),
        against=args.against,
        json=args.json,
        quiet=args.quiet,
    )


def place_of(source: str) -> tuple[str, Path]:
    """Return the weights of a source and the folder of its report: inside the run folder, else report/NAME.

    Raises:
        UserError: the path has no weights, or the source is not supported.
    """
    from ..weights.resolve import BEST, resolve_weights

    if source in MODELS or source.startswith("hf:"):
        return source, Path(REPORTS) / source.removeprefix("hf:").replace("/", "_")
    weights = resolve_weights(source)
    if not weights.is_file():
        missing = weights if weights.suffix == ".safetensors" else weights / BEST
        raise UserError(f"{missing}: no such file; give the folder of a run that has been validated, such as runs/NAME")
    return str(weights), weights.parent / REPORTS
