"""seg predict: predict the masks of images, videos and cameras."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..data.inventory import is_image, is_video
from ..errors import UserError
from ..progress import print_stderr, speed_text
from .options import OR_EXPORTED, Subparsers, add_inference, add_json, add_runtime, add_verb, count, open_predictor, progress

if TYPE_CHECKING:
    from ..inference.inputs import Inputs
    from ..inference.predictor import Predictor


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "predict",
        run,
        "Predict the masks of images, videos or a camera.",
        details="Each mask has the size of its image. For videos and cameras, the output is an MP4 file.",
        example="seg predict runs/voc_mini/best.safetensors photos/ --out masks --mode side-by-side",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help=OR_EXPORTED)
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="images, videos, folders, glob patterns, .txt lists, or camera:0 (until Ctrl-C)",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the masks, or for the video NAME.mp4")
    parser.add_argument(
        "--mode",
        choices=("overlay", "palette", "side-by-side", "index", "confidence", "labelme", "coco"),
        default="overlay",
        help="output format. overlay (default): the image with colored classes and a legend; palette: the mask as a palette "
        "PNG; side-by-side: the image and its overlay; index: the mask as a gray PNG of class indices; confidence: heat maps "
        "of the largest probability and the entropy; labelme, coco: polygons to correct in an annotation tool",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="PIXELS",
        help="largest distance between a polygon and the border of its region, in pixels (default: 1); 0: keep every corner",
    )
    parser.add_argument(
        "--least-area",
        type=count,
        default=1,
        metavar="PIXELS",
        help="omit polygons with a smaller area, in pixels (default: 1, which keeps all)",
    )
    parser.add_argument("--no-legend", action="store_true", help="draw no legend on video frames")
    parser.add_argument("--frames", type=count, metavar="N", help="stop after N frames of a video or camera")
    add_inference(parser)
    add_runtime(parser)
    add_json(parser, "the paths of the written files, and the frames and seconds of videos,")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..distributed import all_gather, is_main
    from ..files import write_json
    from ..inference.inputs import find_inputs

    refuse_misplaced(args.weights, args.out)
    found = find_inputs(args.inputs)
    if found.videos and args.mode in ("labelme", "coco", "confidence"):
        raise UserError(f"{found.videos[0][0]}: --mode {args.mode} supports images only; save the frames as images first")
    predictor = open_predictor(args)
    made: dict[str, list[Any]] = {"images": [], "problems": [], "videos": []}
    if found.images:
        for written, problems in all_gather(predict_images(args, predictor, found)):
            made["images"] += map(str, written)
            made["problems"] += problems
        if is_main():
            print(summary(args.mode, args.out, len(made["images"])))
    if found.videos:
        mine = predict_videos(args, predictor, found.videos, made["problems"])
        # Videos differ in length: the processes wait for each other only where one file lists the videos of all.
        if args.json:
            made["videos"] = [video for part in all_gather(mine) for video in part]
    if args.json and is_main():
        write_json(args.json, made)
    return 2 if made["problems"] else 0


def refuse_misplaced(weights: str, out: str) -> None:
    """Refuse an image where the weights come, and the name of a picture as the folder for the masks. Raises UserError."""
    if is_image(Path(weights)) or is_video(Path(weights)):
        raise UserError(
            f"{weights}: an image or video, where the weights come first: seg predict WEIGHTS {quote(weights)} --out "
            f"{quote(out)}; seg models lists published weights"
        )
    if is_image(Path(out)) or is_video(Path(out)):
        raise UserError(f"--out {out}: the name of a file; give a folder, such as --out masks")


def summary(mode: str, out: str, files: int) -> str:
    """Describe the written files, and the next command for annotations."""
    if mode == "coco":
        return f"polygons in {out}/annotations.json; after correction: seg data init {quote(out)} --images FOLDER"
    if mode == "labelme":
        plural = "annotations" if files != 1 else "annotation"
        return f"{files} labelme {plural} in {out}; after correction: seg data init {quote(out)}"
    return f"{files} {mode} image{'s' if files != 1 else ''} in {out}"


def predict_images(args: argparse.Namespace, predictor: Predictor, inputs: Inputs) -> tuple[list[Path], list[str]]:
    """Predict the images of this process; return the written files, and one line for each unreadable image."""
    from ..inference import images as inference
    from ..inference.annotations import Outlines

    with progress("predict", quiet=args.quiet) as bar:
        outlines = Outlines(args.tolerance, args.least_area)
        written, problems = inference.predict_images(predictor, inputs, args.out, args.mode, bar.update, outlines)
    for problem in problems:
        print_stderr(f"seg: {problem}")
    return written, problems


def predict_videos(
    args: argparse.Namespace, predictor: Predictor, videos: list[tuple[str, Path]], problems: list[str]
) -> list[dict[str, Any]]:
    """Predict the videos of this process; return their paths, frames and seconds. `problems` gets a line per unreadable video.

    Raises:
        UserError: the only video cannot be read.
    """
    from ..distributed import rank, world_size
    from ..inference.video import predict_video

    found = []
    for video, place in videos[rank() :: world_size()]:
        try:
            with progress("predict", None, unit="frames", quiet=args.quiet) as bar:
                folder = Path(args.out) / place.parent
                made = predict_video(predictor, video, folder, args.mode, args.frames, bar.update, not args.no_legend)
        except UserError as error:
            if len(videos) == 1:
                raise
            problems.append(str(error))
            print_stderr(f"seg: {error}")
            continue
        speed = speed_text(made.frames / made.seconds, "frames")
        print("; ".join([f"{made.path}: {made.frames} frames, {speed}", *made.notes]))
        found.append({"path": str(made.path), "frames": made.frames, "seconds": made.seconds})
    return found
