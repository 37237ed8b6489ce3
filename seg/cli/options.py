"""Command-line flags that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..progress import Progress

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
WEIGHTS = "published model (see seg models), run folder, .safetensors file, or hf:OWNER/NAME"
OR_EXPORTED = f"{WEIGHTS}, or an exported .onnx or .xml"


def add_verb(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    *,
    details: str = "",
    example: str,
) -> argparse.ArgumentParser:
    """Add a parser for a verb; `run` executes the verb. `seg --help` shows `summary`; the help of the verb adds `details`."""
    description = f"{summary} {details}".strip()
    parser = subparsers.add_parser(name, help=summary, description=description, epilog=f"example: {example}")
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress; print results and errors only")
    return parser


def add_json(parser: argparse.ArgumentParser, what: str = "the numbers") -> None:
    """Add --json."""
    parser.add_argument("--json", metavar="FILE", help=f"write {what} to FILE")


def add_canvas(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the input size and output stride of the network; see `inference_overrides`."""
    parser.add_argument(
        "--output-stride", type=int, choices=(8, 16, 32), help="output stride of the network (default: as trained)"
    )
    parser.add_argument(
        "--canvas",
        metavar="SIZE|native",
        help="pad each image to a square of SIZE pixels, such as 513; native: no padding (default: as trained)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="precision of the network (default: as trained, float32); bfloat16 is faster on processors with AVX512-BF16 or "
        "AMX (openvino, torch and compile) and on GPUs since Ampere",
    )


def add_inference(parser: argparse.ArgumentParser) -> None:
    """Add all flags that `inference_overrides` reads, and --device."""
    add_canvas(parser)
    add_precision(parser)
    add_device(parser)
    parser.add_argument(
        "--scales", metavar="S,S,...", help="average the softmax over these image scales, such as 0.5,0.75,1,1.25,1.5,1.75"
    )
    parser.add_argument("--flip", action="store_true", help="also average over the horizontally flipped image")
    parser.add_argument(
        "--longest",
        metavar="auto|native|PIXELS",
        help="reduce larger images to this longest side for inference; masks keep the original size. auto (default): reduce "
        "images that are far larger than the training images to their size; native: never reduce. Evaluation uses native by "
        "default",
    )


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add --runtime."""
    parser.add_argument(
        "--runtime",
        choices=("torch", "compile", "onnx", "openvino"),
        help="inference engine with batch norm folded into the convolutions (default: PyTorch, the network as trained); "
        "compile is torch.compile, which takes about a minute to start",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device",
        metavar="auto|cpu|cuda|cuda:1|mps|xpu",
        help="compute device (default: auto: the first available of CUDA, MPS, XPU and CPU)",
    )


def inference_overrides(args: argparse.Namespace) -> list[str]:
    """Return the flags as settings KEY=VALUE that override those of the training."""
    chosen = []
    if args.output_stride:
        chosen.append(f"evaluate.output_stride={args.output_stride}")
    if args.scales:
        chosen.append(f"evaluate.scales=[{args.scales}]")
    if args.flip:
        chosen.append("evaluate.flip=true")
    if args.canvas:
        chosen.append(f"evaluate.canvas={'null' if args.canvas == 'native' else args.canvas}")
    if getattr(args, "longest", None):
        chosen.append(f"evaluate.longest={args.longest}")
    if args.precision:
        chosen.append(f"evaluate.precision={args.precision}")
    return chosen


def open_predictor(args: argparse.Namespace) -> Predictor:
    """Open the model of a verb for inference."""
    from ..inference.predictor import Predictor
    from ..memory import keep_free_memory
    from ..runtimes.open import open_runtime

    keep_free_memory()
    return Predictor.of(*open_runtime(args.weights, getattr(args, "runtime", None), inference_overrides(args), args.device))


def progress(what: str, total: int | None = 0, *, unit: str = "images", quiet: bool = False) -> Progress:
    """Return a progress display; in a process group, only the main process shows it."""
    from ..distributed import is_main

    return Progress(what, total, unit=unit, quiet=quiet or not is_main())


def size(text: str) -> tuple[int, int]:
    """Parse a size, `513` or `513x769`, to height and width in pixels."""
    height, _, width = text.partition("x")
    sides = int(height), int(width or height)
    if min(sides) < 33:
        raise argparse.ArgumentTypeError(f"{text}: each side must have at least 33 pixels")
    return sides


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)
