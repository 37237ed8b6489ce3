"""seg models: list and download the published models."""

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
        "List the published models, or download one.",
        details="Every verb accepts these names as WEIGHTS, and downloads a model at its first use. Models are stored in the "
        "user's cache folder; the environment variable SEG_CACHE selects another folder.",
        example="seg models",
    )
    get = add_verb(
        parser.add_subparsers(title="kinds", dest="kind", metavar="KIND"),
        "get",
        run_get,
        "Download a published model in advance.",
        details="An interrupted download is resumed.",
        example="seg models get xception65_voc_trainval",
    )
    get.add_argument("name", metavar="NAME", help="name of a model that seg models lists")
    get.add_argument(
        "--from-archive", metavar="FILE", help="convert this local copy of the published archive; no network is needed"
    )
    get.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="URL of the archive or of its folder, used instead of the published URLs; can be repeated. The environment "
        "variable SEG_MIRRORS does the same; separate its URLs by spaces or commas",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb without a kind, and return the exit code."""
    from ..weights import zoo
    from ..weights.published import place_of
    from .tables import published_table

    print(published_table(list(zoo.MODELS.values()), {name for name, model in zoo.MODELS.items() if place_of(model).is_file()}))
    print(f"Published by Google under the license {zoo.LICENSE}. The training data of each model: docs/weights.md")
    return 0


def run_get(args: argparse.Namespace) -> int:
    """Run `seg models get` and return the exit code."""
    from ..weights.published import get

    print(get(args.name, args.from_archive, args.mirror, quiet=args.quiet))
    return 0


def origin(value: dict[str, Any]) -> str:
    """Describe a published model in a few lines."""
    from ..weights.zoo import PublishedScore

    scores = "; ".join(str(PublishedScore(**score)) for score in value["scores"])
    lines = [f"from {value['address']}, license {value['license']}; trained on {value['trained_on']}"]
    return "\n".join([*lines, f"published mIoU: {scores}"] if scores else lines)
