"""seg evaluate: score a model or saved masks, or compare two evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .calibration import add_calibration, store_temperature
from .options import OR_EXPORTED, Subparsers, add_inference, add_json, add_runtime, add_verb, open_predictor, progress

if TYPE_CHECKING:
    import numpy as np

    from ..data.voc import Split
    from ..evaluation.result import Evaluation
    from ..inference.predictor import Predictor
    from ..report.page import Against
    from ..report.pictures import Picture

AGAINST = "also show another evaluation of the same images in the report: the DIR of its report, or its --json file"


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "evaluate",
        run,
        "Score a model or saved masks, or compare two evaluations.",
        details="Each image is scored at its original size; one confusion matrix counts the pixels of all images.",
        example="seg evaluate runs/voc_mini/best.safetensors --scales 0.75,1,1.25 --flip --json scores.json",
    )
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?", help=OR_EXPORTED)
    parser.add_argument(
        "--data",
        metavar="ROOT",
        help="data set in VOC layout (default: as trained); with --predictions: the data set with the photos for the report",
    )
    parser.add_argument(
        "--split",
        help="name of a list in ImageSets/Segmentation (default: the validation split of the training); with --predictions: "
        "a split of the data set given by --truth (default: every mask in it)",
    )
    add_inference(parser)
    add_runtime(parser)
    parser.add_argument("--boundary", action="store_true", help="also score boundaries: trimap mIoU and Boundary IoU")
    add_calibration(parser)
    parser.add_argument("--save-masks", metavar="DIR", help="write each prediction to DIR as a palette PNG")
    _add_saved_masks(parser)
    parser.add_argument(
        "--labels",
        metavar="NAME|FILE",
        help="label set of the data: voc, cityscapes, ade20k, camvid, or a YAML file (default: labels.yaml in the data set, "
        "else the label set of the model; with --predictions: voc)",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="write DIR/index.html: scores, confusion matrix, and every image with its errors"
    )
    parser.add_argument("--against", metavar="DIR|JSON", help=f"with --report: {AGAINST}")
    parser.add_argument("--compare", nargs=2, metavar="JSON", help="compare two evaluations, given by their --json files")
    add_json(parser, "all numbers")


def _add_saved_masks(parser: argparse.ArgumentParser) -> None:
    """Add the flags that score saved masks."""
    parser.add_argument(
        "--predictions",
        metavar="DIR",
        help="score the saved masks in DIR instead of a model: PNG, BMP, TIFF, GIF, or .npy (integers)",
    )
    parser.add_argument(
        "--truth", metavar="DIR", help="with --predictions: the ground truth, as a folder of masks or a data set in VOC layout"
    )
    parser.add_argument(
        "--pair",
        metavar="PATTERN",
        help="with --predictions: pattern of the prediction file names, where {stem} is the name of the ground truth without "
        "suffix: '{stem}_pred.png'; or patterns of the ground truth and the predictions: '{stem}_gt.png={stem}.npy' "
        "(default: same names, any suffix)",
    )
    parser.add_argument(
        "--resize-predictions",
        nargs="?",
        const="nearest",
        choices=("nearest",),
        help="with --predictions: resize predictions to the ground truth (nearest neighbor), and report the effect",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    if args.compare:
        if args.weights or args.predictions or args.truth or args.report or args.against:
            raise UserError(
                "seg evaluate --compare: compares two JSON files of evaluations only; leave out weights, masks and report"
            )
        return compare(*args.compare, json=args.json)
    saved = args.predictions or args.truth
    if saved and (args.weights or not (args.predictions and args.truth)):
        raise UserError("seg evaluate: give WEIGHTS, or --predictions DIR with --truth DIR")
    if not saved and not args.weights:
        raise UserError("seg evaluate: give WEIGHTS (a best.safetensors), or --predictions DIR with --truth DIR")
    if not saved and (args.pair or args.resize_predictions):
        raise UserError(
            "seg evaluate --pair and --resize-predictions: apply to saved masks only; add --predictions DIR --truth DIR"
        )
    if args.against and not args.report:
        raise UserError("seg evaluate --against: add --report DIR, or compare two JSON files with --compare")
    output = {"report": args.report, "against": args.against, "json": args.json, "quiet": args.quiet}
    if saved and (args.calibration or args.store_temperature):
        raise UserError("seg evaluate --calibration: masks have no probabilities; give WEIGHTS instead of --predictions")
    if saved:
        how = {"split": args.split, "pair": args.pair, "resize": args.resize_predictions is not None}
        return score_masks(args.predictions, args.truth, args.labels, args.data, boundary=args.boundary, how=how, **output)
    return score_model(
        args.weights,
        lambda: open_predictor(args),
        data=args.data,
        split=args.split,
        boundary=args.boundary,
        calibrated=args.calibration or args.store_temperature,
        store=args.store_temperature,
        save_masks=args.save_masks,
        labels=args.labels,
        **output,
    )


def score_model(
    weights: str,
    load: Callable[[], Predictor],
    *,
    data: str | None = None,
    split: str | None = None,
    boundary: bool = False,
    calibrated: bool = False,
    store: bool = False,
    save_masks: str | None = None,
    labels: str | None = None,
    report: str | None = None,
    against: str | None = None,
    json: str | None = None,
    quiet: bool = False,
) -> int:
    """Score a model, print the tables, and write the requested files. All other arguments go to `evaluate_split`.

    Args:
        weights: source of the model, for the settings and the curves.
        load: function that opens the model; called after the other evaluation has been read.
        store: write the fitted temperature into the weights file.
        report: folder of an HTML report.
        against: another evaluation to show in the report: the folder of its report, or its JSON file.
        json: JSON file for all numbers.
        quiet: show no progress.
    """
    other = read_other(against)
    from ..distributed import all_gather, is_main
    from ..evaluation.evaluator import evaluate_split
    from ..report.curves import read_curves
    from ..weights.resolve import resolve_weights

    predictor = load()
    pictures: dict[int, Picture] = {}
    with progress("evaluate", quiet=quiet) as bar:
        evaluation = evaluate_split(
            predictor,
            data,
            split,
            boundary=boundary,
            calibrated=calibrated,
            save_masks=save_masks,
            labels=labels,
            on_split=_same_images(other),
            on_image=collect(pictures) if report else None,
            progress=bar.update,
        )
    evaluation.settings = {"weights": str(weights), **evaluation.settings}
    for part in all_gather(dict(pictures)):
        pictures.update(part)
    if is_main():
        curves = read_curves(resolve_weights(weights).parent / "metrics.jsonl") if report else {}
        publish(evaluation, pictures, report, other, curves, json)
        if store:
            store_temperature(weights, evaluation)
    return 0


def score_masks(
    predictions: str,
    truth: str,
    labels: str | None = None,
    data: str | None = None,
    *,
    boundary: bool = False,
    how: Mapping[str, Any] = MappingProxyType({}),
    report: str | None = None,
    against: str | None = None,
    json: str | None = None,
    quiet: bool = False,
) -> int:
    """Score saved masks; see `score_model`. The report shows the images of the data set `data`; `how` has the other arguments
    of `evaluate_folders`."""
    other = read_other(against)
    from ..distributed import is_main
    from ..evaluation.saved_masks import evaluate_folders

    pictures: dict[int, Picture] = {}
    see = collect_masks(pictures, data) if report else None
    with progress("evaluate", quiet=quiet) as bar:
        evaluation = evaluate_folders(predictions, truth, labels, boundary=boundary, on_image=see, progress=bar.update, **how)
    if is_main():
        publish(evaluation, pictures, report, other, {}, json)
    return 0


def read_other(against: str | None) -> Against | None:
    """Load the other evaluation of the report, before the network is loaded, so that errors are reported at once."""
    if not against:
        return None
    from ..report.page import read_against

    return read_against(against)


def _same_images(other: Against | None) -> Callable[[Split], None] | None:
    """Return a function that checks that a split has the same images as the other evaluation."""
    return (lambda split: other.require_same(split.labels, split.ids)) if other else None


def collect(pictures: dict[int, Picture]) -> Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]:
    """Return a callback that adds the picture of each image to `pictures`."""
    from ..report.pictures import Picture

    def see(index: int, image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        pictures[index] = Picture.of(truth, prediction, image)

    return see


def collect_masks(pictures: dict[int, Picture], data: str | None) -> Callable[[int, str, np.ndarray, np.ndarray], None]:
    """Return a callback that adds the picture of each mask to `pictures`, with the photo of the same name if it exists."""
    from ..data.images import read_image
    from ..data.inventory import IMAGE_SUFFIXES
    from ..data.voc import IMAGES, files_of
    from ..report.pictures import Picture

    photos = files_of(Path(data) / IMAGES, IMAGE_SUFFIXES) if data else {}

    def see(index: int, name: str, truth: np.ndarray, prediction: np.ndarray) -> None:
        image = read_image(photos[name]) if name in photos else None
        pictures[index] = Picture.of(truth, prediction, image)

    return see


def publish(
    evaluation: Evaluation,
    pictures: dict[int, Picture],
    report: str | None,
    other: Against | None,
    curves: dict[str, Any],
    json: str | None,
) -> None:
    """Print the tables of an evaluation, and write its numbers and its report if requested."""
    from ..files import write_json
    from .tables import boundary_table, calibration_table, table

    print(table(evaluation.scores))
    if evaluation.boundary:
        print(boundary_table(evaluation.boundary))
    if evaluation.calibration:
        print(calibration_table(evaluation.calibration))
    if json:
        write_json(json, evaluation.as_dict())
    if report:
        from ..report.page import write_report

        about = evaluation.scores, evaluation.settings, pictures, evaluation.boundary, curves, other, evaluation.calibration
        page = write_report(report, *about)
        print(f"report: {page}")


def compare(first: str, second: str, *, json: str | None = None) -> int:
    """Print the difference between two evaluations, and write it to a file if requested."""
    from ..evaluation import compare as comparing
    from ..files import write_json
    from .tables import comparison_table

    try:
        comparison = comparing.compare(comparing.read_scores(first), comparing.read_scores(second))
    except ValueError as error:
        raise UserError(f"{first} and {second}: {error}; compare two evaluations of the same split") from error
    print(comparison_table(comparison, first, second))
    if json:
        write_json(json, comparison.as_dict())
    return 0
