"""seg share: prepare a model for the Hugging Face Hub."""

from __future__ import annotations

import argparse

from .options import WEIGHTS, Subparsers, add_verb


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "share",
        run,
        "Prepare a model for the Hugging Face Hub, and upload it.",
        details="The folder contains model.safetensors, config.json, and a model card with the measured scores. Every verb "
        "accepts hf:OWNER/NAME as WEIGHTS.",
        example="seg share runs/voc_mini/best.safetensors --out shared --push OWNER/NAME",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help=WEIGHTS)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="also upload the folder, with the login of 'hf auth login' or the token in HF_TOKEN",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..weights.hub import push
    from ..weights.share import share

    folder = share(args.weights, args.out, args.push or "OWNER/NAME")
    print(f"{folder}: model.safetensors, config.json and the model card README.md")
    if args.push:
        print(f"uploaded to {push(folder, args.push)}; use it as hf:{args.push}")
    return 0
