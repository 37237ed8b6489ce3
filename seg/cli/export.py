"""seg export: export a model as one file for other programs."""

from __future__ import annotations

import argparse

from ..errors import UserError
from .options import WEIGHTS, Subparsers, add_canvas, add_json, add_precision, add_verb, inference_overrides, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "export",
        run,
        "Export a model as one file for other programs.",
        details="The exported model takes uint8 RGB [N,H,W,3] and returns classes uint8 [N,H,W]. The file is kept only "
        "if it agrees with the original model. --format safetensors writes only the weights.",
        example="seg export runs/voc_mini/best.safetensors --format openvino --out model.xml --int8 --calibrate photos/",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help=WEIGHTS)
    parser.add_argument(
        "--format",
        choices=("onnx", "openvino", "torch", "safetensors"),
        required=True,
        help="format to write; torch is torch.export",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help="file to write: .onnx, .xml (plus a .bin file of the weights), .pt2 or .safetensors",
    )
    add_canvas(parser)
    add_precision(parser)
    parser.add_argument("--int8", action="store_true", help="quantize the weights and activations to int8 (onnx, openvino)")
    parser.add_argument(
        "--calibrate",
        metavar="IMAGES",
        nargs="+",
        help="with --int8: images, folders, glob patterns or .txt lists of images that resemble those of the application",
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="add a second output: the probability of the predicted class of each pixel, float32 [N,H,W]",
    )
    parser.add_argument(
        "--newest",
        action="store_true",
        help="use the newest ONNX IR version and opset that PyTorch supports (default: those that ONNX Runtime 1.17 supports)",
    )
    add_json(parser, "the comparison with the original model")
    parser.set_defaults(scales=None, flip=False)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..files import write_json
    from ..runtimes.export import export
    from ..weights.loading import open_model

    if args.int8 != bool(args.calibrate):
        raise UserError("seg export: int8 needs calibration images; give both --int8 and --calibrate IMAGES")
    model, metadata = open_model(args.weights, inference_overrides(args))
    with progress("export", unit="steps", quiet=args.quiet) as bar:
        result = export(
            model,
            metadata,
            args.format,
            args.out,
            calibrate=args.calibrate or (),
            confidence=args.confidence,
            newest=args.newest,
            progress=bar.update,
        )
    print(result)
    if args.json:
        write_json(args.json, result.as_dict())
    return 0
