"""seg data: get, make and check data sets."""

from __future__ import annotations

from ..options import Subparsers
from . import check, download, init, prepare, scenes

KINDS = (init, check, download, prepare, scenes)


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    text = "Download, prepare and check data sets."
    parser = subparsers.add_parser("data", help=text, description=text, epilog="Run seg data KIND --help for details.")
    parser.set_defaults(run=None, command=parser)
    kinds = parser.add_subparsers(title="kinds", dest="kind", metavar="KIND")
    for kind in KINDS:
        kind.add_parser(kinds)
