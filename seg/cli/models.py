"""seg models: the published models, by name."""

from __future__ import annotations

import argparse
from typing import Any

from .options import Subparsers, add_verb


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "models",
        run,
        "List the published models, or get one.",
        details="Every verb takes their names as WEIGHTS, and gets a model at its first use. They are kept in the folder for "
        "caches, which the environment variable SEG_CACHE replaces.",
        example="seg models",
    )
    get = add_verb(
        parser.add_subparsers(title="kinds", dest="kind", metavar="KIND"),
        "get",
        run_get,
        "Get a published model before it is used.",
        details="A download that stops resumes where it stopped.",
        example="seg models get xception65_voc_trainval",
    )
    get.add_argument("name", metavar="NAME", help="one of those that seg models lists")
    get.add_argument("--from-archive", metavar="FILE", help="convert this copy of the published archive, without a network")
    get.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="address of the archive, or of the folder that holds it, instead of the published ones; can be repeated. "
        "The environment variable SEG_MIRRORS does the same, with spaces or commas between addresses",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb without a kind, and return the exit code."""
    from ..weights import zoo
    from ..weights.published import place_of
    from .tables import published_table

    print(published_table(list(zoo.MODELS.values()), {name for name, model in zoo.MODELS.items() if place_of(model).is_file()}))
    print(f"Google published them under the license {zoo.LICENSE}. What each was trained on: docs/weights.md")
    return 0


def run_get(args: argparse.Namespace) -> int:
    """Run `seg models get` and return the exit code."""
    from ..weights.published import get

    print(get(args.name, args.from_archive, args.mirror, quiet=args.quiet))
    return 0


def origin(value: dict[str, Any]) -> str:
    """What is known of a published model, in a few lines."""
    from ..weights.zoo import PublishedScore

    scores = "; ".join(str(PublishedScore(**score)) for score in value["scores"])
    lines = [f"from {value['address']}, license {value['license']}; trained on {value['trained_on']}"]
    return "\n".join([*lines, f"published mIoU: {scores}"] if scores else lines)
