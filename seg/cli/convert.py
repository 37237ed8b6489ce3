"""seg convert: convert weights from other libraries."""

from __future__ import annotations

import argparse

from .options import Subparsers, add_json, add_verb


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "convert",
        run,
        "Convert weights from TensorFlow, timm or segmentation-models-pytorch, and report what matched.",
        example="seg convert tf:deeplabv3_pascal_train_aug/model.ckpt --out deeplab.safetensors",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="tf:PATH/model.ckpt-N (the released TensorFlow DeepLab or its ImageNet Xception weights); timm:NAME, such as "
        "timm:xception65.tf_in1k; a .safetensors file from timm; or a folder saved by segmentation-models-pytorch",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help=".safetensors file to write")
    parser.add_argument("--labels", metavar="voc|FILE", help="name or YAML file of the label set (default: voc)")
    add_json(parser, "the list of matched tensors")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..files import write_json
    from ..labels import load
    from ..weights.convert import convert

    report = convert(args.source, args.out, load(args.labels) if args.labels else None)
    print(report)
    use = (
        "backbone weights: pass them to seg train as model.weights"
        if report.missing
        else "a complete model: every seg command accepts it"
    )
    print(f"{args.out}: {use}")
    if args.json:
        write_json(args.json, vars(report))
    return 0
