"""The `seg` command: one verb a job. Parses, calls the rooms, prints."""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from .. import __version__
from ..errors import UserError, reason
from ..progress import Progress, print_stderr

LOST = ("onnection", "NCCL", "timed out", "Broken pipe", "DataLoader worker")
"""Words of an error that another process's end causes."""
FULL = ("can't allocate memory", "out of memory")
"""Words of torch's error where memory is short."""

# Rooms are imported by the verb that needs them: `seg --help` does not wait for torch.


def train(args) -> int:
    from ..config import load
    from ..distributed import is_main

    config = load(args.config, args.overrides)  # whose mistakes do not wait for torch
    from ..files import write_json
    from ..training.trainer import Trainer
    from ..weights.file import open_safetensors, read_metadata
    from .tables import run_table

    trainer = Trainer(config, resume=args.resume, quiet=args.quiet)
    result = trainer.run()
    if not is_main():
        return 130 if result.stopped else 0
    if result.stopped:
        print_stderr(f"stopped after iteration {result.iteration}; {trainer.last} is complete: go on with --resume")
        return 130
    score = read_metadata(open_safetensors(trainer.best)[1], trainer.best).score
    print(run_table(score))
    print(f"  weights:            {trainer.best}")
    print(f"  curves and images:  tensorboard --logdir {trainer.folder}")
    print(f"  score in detail:    seg evaluate {trainer.best}")
    print(f"  where it is wrong:  seg report {trainer.folder}")
    print(f"  masks of images:    seg predict {trainer.best} IMAGES --out {trainer.folder / 'masks'}")
    if args.json:
        write_json(args.json, {"weights": str(trainer.best), **score})
    return 0


def policy_overrides(args) -> list[str]:
    """The evaluation flags as settings over those that the weights were trained with."""
    chosen = []
    if args.output_stride:
        chosen.append(f"evaluate.output_stride={args.output_stride}")
    if args.scales:
        chosen.append(f"evaluate.scales=[{args.scales}]")
    if args.flip:
        chosen.append("evaluate.flip=true")
    if args.canvas:
        chosen.append(f"evaluate.canvas={'null' if args.canvas == 'native' else args.canvas}")
    return chosen


def evaluate(args) -> int:
    from ..distributed import is_main
    from ..files import write_json

    if args.compare:
        return _compare(args)
    saved = args.predictions or args.truth
    if saved and (args.weights or not (args.predictions and args.truth)):
        raise UserError("seg evaluate: give WEIGHTS, or --predictions DIR with --truth DIR")
    if not saved and not args.weights:
        raise UserError("seg evaluate: give WEIGHTS (a best.safetensors), or --predictions DIR with --truth DIR")
    if args.against and not args.report:
        raise UserError("seg evaluate --against: stands in a page: add --report DIR, or give two JSON files to --compare")
    against = None
    if args.against:
        from ..report.page import read_against

        against = read_against(args.against)  # whose mistakes do not wait for the network
    pictures = {}
    scores, boundary, settings = _score_masks(args, pictures) if saved else _score_model(args, pictures, against)
    if not is_main():
        return 0
    from .tables import boundary_table, table

    print(table(scores))
    numbers = {**scores.as_dict(), "settings": settings}
    if boundary:
        print(boundary_table(boundary))
        numbers["boundary"] = boundary.as_dict()
    if args.json:
        write_json(args.json, numbers)
    if args.report:
        from ..report.curves import read_curves
        from ..report.page import write_report

        curves = read_curves(Path(args.weights).parent / "metrics.jsonl") if args.weights else {}
        print(f"report: {write_report(args.report, scores, settings, pictures, boundary, curves, against)}")
    return 0


def report(args) -> int:
    weights, folder = Path(args.run_folder) / "best.safetensors", Path(args.run_folder) / "report"
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; give the folder of a run that has validated, as runs/NAME")
    flags = ["--data", args.data] * bool(args.data) + ["--against", args.against] * bool(args.against)
    flags += ["--quiet"] * args.quiet + ["--json", args.json] * bool(args.json)
    return evaluate(parser().parse_args(["evaluate", str(weights), "--report", str(folder), "--boundary", *flags]))


def _compare(args) -> int:
    from ..evaluation.compare import compare, read_scores
    from ..files import write_json
    from .tables import comparison_table

    if args.weights or args.predictions or args.truth or args.report or args.against:
        raise UserError("seg evaluate --compare: takes two JSON files of evaluations, and no weights, masks or page")
    first, second = map(read_scores, args.compare)
    try:
        comparison = compare(first, second)
    except ValueError as error:
        raise UserError(f"{args.compare[0]} and {args.compare[1]}: {error}; compare two evaluations of one split") from error
    print(comparison_table(comparison, *args.compare))
    if args.json:
        write_json(args.json, comparison.as_dict())
    return 0


def _score_masks(args, pictures):
    from ..evaluation.boundary import Boundary
    from ..evaluation.saved_masks import evaluate_masks
    from ..labels import load

    labels = load(args.labels)
    boundary = Boundary(labels) if args.boundary else None
    total = len(list(Path(args.truth).glob("*.png")))
    photos = {}
    if args.report and args.data:
        from ..data.images import IMAGE_SUFFIXES, read_image
        from ..data.voc import IMAGES, files_of

        photos = files_of(Path(args.data) / IMAGES, IMAGE_SUFFIXES)

    def on_image(index, name, expected, got):
        if args.report:
            from ..report.pictures import Picture

            image = read_image(photos[name]) if name in photos else None
            pictures[index] = Picture.of(expected, got, image)
        progress(index + 1)

    with Progress("evaluate", total, quiet=args.quiet) as progress:
        scores = evaluate_masks(args.predictions, args.truth, labels, on_image, boundary)
    return scores, boundary, {"predictions": args.predictions, "truth": args.truth, "labels": args.labels}


def _open(args):
    """The model of a verb that predicts, and its metadata."""
    from ..inference.predictor import Predictor
    from ..memory import keep_free_memory
    from ..runtimes.models import open_runtime

    keep_free_memory()
    model, metadata = open_runtime(args.weights, args.runtime, policy_overrides(args))
    return Predictor.of(model, metadata), metadata


def _score_model(args, pictures, against):
    from dataclasses import asdict

    from ..data.voc import open_split, save_mask
    from ..distributed import all_gather, is_main
    from ..evaluation.boundary import Boundary
    from ..evaluation.evaluator import evaluate_model

    predictor, about = _open(args)
    data = about.config.data
    split = open_split(args.data or data.root, args.split or data.val, about.labels, data.masks)
    if against:
        against.require_same(about.labels, split.ids)

    boundary = Boundary(about.labels) if args.boundary else None

    def on_image(index, image, truth, prediction):
        if args.save_masks:
            save_mask(Path(args.save_masks) / f"{split.ids[index]}.png", prediction, about.labels)
        if args.report:
            from ..report.pictures import Picture

            pictures[index] = Picture.of(truth, prediction, image)
        progress(index + 1)

    with Progress("evaluate", len(split), quiet=args.quiet or not is_main()) as progress:
        scores = evaluate_model(predictor, split, on_image, boundary)
    for part in all_gather(dict(pictures)):
        pictures.update(part)
    settings = {"weights": args.weights, "data": str(split.root), "split": split.name}
    return scores, boundary, settings | asdict(predictor.config)


def predict(args) -> int:
    from ..distributed import all_gather, is_main
    from ..files import write_json
    from ..inference.images import find_videos

    predictor, about = _open(args)
    videos = find_videos(args.inputs)
    images = [item for item in args.inputs if item not in videos]
    made = {"images": [], "problems": [], "videos": []}
    if images:
        for written, problems in all_gather(_predict_images(args, predictor, about, images)):
            made["images"] += map(str, written)
            made["problems"] += problems
        if is_main():
            count = len(made["images"])
            print(f"{count} {args.mode} image{'s' if count != 1 else ''} in {args.out}")
    if videos:
        mine = _predict_videos(args, predictor, videos)
        # Videos differ in length: a process whose own are done waits for the others only where one file tells of all.
        if args.json:
            made["videos"] = [video for part in all_gather(mine) for video in part]
    if args.json and is_main():
        write_json(args.json, made)
    return 2 if made["problems"] else 0


def _predict_videos(args, predictor, videos) -> list[dict]:
    """Of those that this process makes: path, frames and seconds."""
    from ..distributed import is_main, rank, world_size
    from ..inference.video import predict_video

    found = []
    for video in videos[rank() :: world_size()]:
        with Progress("predict", None, unit="frames", quiet=args.quiet or not is_main()) as progress:

            def on_frame(done, total):
                progress.total = total
                progress(done)

            made = predict_video(predictor, video, args.out, args.mode, args.frames, on_frame)
        print("; ".join([f"{made.path}: {made.frames} frames, {made.frames / made.seconds:.1f} frames/s", *made.notes]))
        found.append({"path": str(made.path), "frames": made.frames, "seconds": made.seconds})
    return found


def _predict_images(args, predictor, about, images) -> tuple[list[Path], list[str]]:
    from ..distributed import is_main
    from ..inference.images import predict_images

    with Progress("predict", 0, quiet=args.quiet or not is_main()) as progress:

        def on_image(done, total):
            progress.total = total
            progress(done)

        crop = None if args.scales else about.config.data.crop_size
        written, problems = predict_images(predictor, images, args.out, args.mode, on_image, crop)
    for problem in problems:
        print_stderr(f"seg: {problem}")
    return written, problems


def serve(args) -> int:
    try:
        from ..serve import app, server
    except ImportError as error:
        raise UserError(f"seg serve: {error}: pip install 'seg[serve]'") from error
    with server.listen(args.host, args.port) as opened:  # first: that a port is taken is said at once
        predictor, about = _open(args)
        made = app.make_app(app.Service(predictor, about.config.name or Path(args.weights).stem))
        print(f"{args.weights}: serving at {server.address(opened)}  (Ctrl-C ends it)", flush=True)
        server.run(made, opened, args.quiet)
    return 0


def submit(args) -> int:
    making, checking = args.weights and args.out, args.check and args.data
    if bool(making) == bool(checking) or (args.check and (args.weights or args.out)):
        raise UserError("seg submit: give WEIGHTS with --out DIR, or --check ARCHIVE with --data ROOT")
    from ..data.voc import open_images
    from ..distributed import device, is_main
    from ..files import write_json
    from ..inference.predictor import Predictor
    from ..inference.voc_submission import check_archive, submit
    from ..labels import VOC
    from ..weights.loading import open_model

    if checking:
        split = open_images(args.data, args.split, VOC)
        check_archive(args.check, split, args.competition)
        print(f"{args.check}: {len(split)} masks, as the server wants them")
        if args.json:
            write_json(args.json, {"archive": args.check, "masks": len(split)})
        return 0
    model, about = open_model(args.weights, policy_overrides(args))
    model.to(device())
    split = open_images(args.data or about.config.data.root, args.split, about.labels)
    predictor = Predictor.of(model, about)
    with Progress("submit", 0, quiet=args.quiet or not is_main()) as progress:

        def on_image(done, total):
            progress.total = total
            progress(done)

        path, kept = submit(predictor, split, args.weights, args.out, args.competition, on_image)
    if is_main():
        print(f"{path}: {len(split)} masks{f', {kept} of them from before' if kept else ''}, as the server wants them")
        print(f"  upload it for {args.competition}:  http://host.robots.ox.ac.uk:8080")
        if args.json:
            write_json(args.json, {"archive": str(path), "masks": len(split), "kept": kept})
    return 0


def export(args) -> int:
    from ..files import write_json
    from ..runtimes.export import export
    from ..weights.loading import open_model

    if args.int8 != bool(args.calibrate):
        raise UserError("seg export: --int8 takes its scales from images: give both --int8 and --calibrate IMAGES")
    model, about = open_model(args.weights, policy_overrides(args))
    with Progress("export", 0, unit="steps", quiet=args.quiet) as progress:

        def on_step(done, total):
            progress.total = total
            progress(done)

        result = export(model, about, args.format, args.out, calibrate=args.calibrate or (), progress=on_step)
    print(result)
    if args.json:
        write_json(args.json, result.as_dict())
    return 0


def share(args) -> int:
    from ..weights.hub import push, share

    folder = share(args.weights, args.out, args.push or "OWNER/NAME")
    print(f"{folder}: model.safetensors, config.json and the model card README.md")
    if args.push:
        print(f"pushed to {push(folder, args.push)}; take it as hf:{args.push}")
    return 0


def info(args) -> int:
    from ..files import write_json
    from .tables import model_table, profile_table

    if args.source.endswith((".yaml", ".yml")):
        from ..config import load
        from ..labels import load as load_labels
        from ..models.factory import build_meta_model, build_model

        config = load(args.source, args.overrides)
        model = (build_model if args.profile else build_meta_model)(config.model, len(load_labels(config.data.labels)))
        size = config.data.crop_size
    else:
        from ..weights.loading import open_model

        model, about = open_model(args.source, args.overrides)
        size = about.config.data.crop_size
        score = f"mIoU {about.score['miou']:.4f}" if "miou" in about.score else "not scored"
        score += f" on {about.score['split']}" if "split" in about.score else ""
        print(f"weights of {args.source}: {score}; classes: {', '.join(about.labels.names)}")
    from ..models.summary import summary

    height, width = args.size or (size, size)
    rows = summary(model, height, width)
    print(model_table(rows, height, width))
    numbers = {"size": [height, width], "rows": [vars(row) for row in rows]}
    if args.profile:
        from ..distributed import device
        from ..models.profile import profile

        groups = profile(model.to(device()), height, width)
        print(profile_table(groups, height, width))
        numbers["profile"] = [vars(process_group) | {"flops": process_group.flops} for process_group in groups]
    if args.json:
        write_json(args.json, numbers)
    return 0


def benchmark(args) -> int:
    from ..benchmark.machine import machine
    from ..benchmark.run import benchmark
    from ..files import write_json
    from .tables import benchmark_table

    with Progress("benchmark", 0, unit="runs", quiet=args.quiet) as progress:

        def on_run(done, total):
            progress.total = total
            progress(done)

        rows = benchmark(args.sections, args.data, args.runs, on_run)
    where = machine()
    print(benchmark_table(where, rows))
    if args.json:
        write_json(args.json, {"machine": where, "rows": [vars(row) for row in rows]})
    return 0


def convert(args) -> int:
    from ..files import write_json
    from ..labels import load
    from ..weights.convert import convert

    report = convert(args.source, args.out, load(args.labels) if args.labels else None)
    print(report)
    whole = "a whole model: seg evaluate, predict and train take it"
    print(f"{args.out}: {'a backbone: model.weights of a training takes it' if report.missing else whole}")
    if args.json:
        write_json(args.json, vars(report))
    return 0


def data_download(args) -> int:
    from ..data.prepare.download import download, find

    source = find(args.name)
    out = args.out or source.place
    new = download(source, out, args.from_archive, args.mirror, quiet=args.quiet)
    print(f"{source.name} is in {out}" if new else f"{source.name} is in {out} already; nothing was downloaded")
    return 0


def data_scenes(args) -> int:
    from ..data.prepare.scenes import write_scenes

    with Progress("scenes", args.train + args.val, quiet=args.quiet) as progress:
        write_scenes(args.out, train=args.train, val=args.val, size=args.size, seed=args.seed, progress=progress)
    print(f"{args.train} + {args.val} scenes in {args.out}; train with data.root={args.out} data.labels={args.out}/labels.yaml")
    return 0


def data_prepare(args) -> int:
    from ..data.prepare.sbd import prepare_trainaug
    from ..files import write_json

    with Progress("prepare", 0, unit="masks", quiet=args.quiet) as progress:

        def on_mask(done, total):
            progress.total = total
            progress(done)

        made = prepare_trainaug(args.voc, args.sbd, progress=on_mask)
    print(f"{made.ids:,} ids in {made.path}")
    print(f"masks: {made.written:,} written, {made.replaced:,} replaced, {made.kept:,} there already and right")
    if args.json:
        write_json(args.json, vars(made) | {"path": str(made.path)})
    return 0


def data_init(args) -> int:
    from shlex import quote

    from ..data.layouts.folders import init
    from ..files import write_json

    with Progress("init", 0, unit="masks", quiet=args.quiet) as progress:

        def on_mask(done, total):
            progress.total = total
            progress(done)

        made = init(args.folder, args.images, args.masks, args.out, on_mask)
    for note in made.notes:
        print(note)
    labels = made.out / "labels.yaml"
    counts = ", ".join(f"{name} {count:,}" for name, count in made.splits.items())
    print(f"{len(made.labels)} classes, to be named in {labels}: {', '.join(made.labels.names)}")
    print(f"images of each split in {made.out}: {counts}")
    split = "train" if "train" in made.splits else next(iter(made.splits))
    print(f"  look:   seg data check {quote(str(made.out))} --labels {quote(str(labels))}")
    settings = (f"data.root={made.out}", f"data.labels={labels}", f"data.train={split}")
    print(f"  train:  seg train configs/voc_mini.yaml {' '.join(map(quote, settings))}")
    if args.json:
        numbers = {"out": str(made.out), "classes": list(made.labels.names), "splits": made.splits, "notes": made.notes}
        write_json(args.json, numbers)
    return 0


def data_check(args) -> int:
    from ..data.validation import check
    from ..files import write_json
    from ..labels import load
    from .tables import class_table, size_table

    labels = load(args.labels)
    with Progress("check", 0, quiet=args.quiet) as progress:

        def on_sample(done, total):
            progress.total = total
            progress(done)

        report = check(args.root, labels, args.split, args.masks, args.masks_only, args.convert, on_sample)
    for problem in report.problems:
        print(problem)
    for note in report.notes:
        print(f"note: {note}")
    for name, rows in report.splits.items():
        what, damaged = "masks" if args.masks_only else "images", (~report.scan.sound[rows]).sum()
        print(f"{name}: {len(rows):,} {what}, {damaged:,} with problems")
        print(class_table(report.scan.counts[rows], labels))
        print(size_table(report.scan.sizes[rows]))
    if args.json:
        write_json(args.json, report.as_dict())
    return 1 if report.problems else 0


def completion(args) -> int:
    import shtab

    command = parser()

    def files(of: argparse.ArgumentParser) -> None:
        """What takes a value that is none of a few words is completed by the names of files."""
        for action in of._actions:
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    files(sub)
            elif action.choices is None and action.nargs != 0 and action.type is None:
                action.complete = shtab.FILE

    files(command)
    print(shtab.complete(command, args.shell))
    return 0


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    sides = int(height), int(width or height)
    if min(sides) < 33:
        raise ValueError
    return sides


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="seg", description="DeepLab V3+ on the modified Xception: train, evaluate mIoU, look at masks."
    )
    main.add_argument("--version", action="version", version=f"seg {__version__}")
    verbs = main.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(process_group, name: str, run, text: str, example: str) -> argparse.ArgumentParser:
        added = process_group.add_parser(name, help=text, description=text, epilog=f"example: {example}")
        added.set_defaults(run=run)
        added.add_argument("--quiet", action="store_true", help="no progress; results and mistakes alone")
        return added

    def json(added, what: str = "the numbers") -> None:
        added.add_argument("--json", metavar="FILE", help=f"write {what} here")

    def canvas(added) -> None:
        added.add_argument("--output-stride", type=int, choices=(8, 16, 32), help="default: as trained")
        added.add_argument(
            "--canvas", metavar="513|native", help="pad each image to this square before the network, or not at all"
        )

    def policy(added) -> None:
        canvas(added)
        added.add_argument(
            "--scales", metavar="S,S,...", help="average the softmax over these image scales, such as 0.5,0.75,1,1.25,1.5,1.75"
        )
        added.add_argument("--flip", action="store_true", help="average with the mirrored image")

    def runtime(added) -> None:
        added.add_argument(
            "--runtime",
            choices=("torch", "compile", "onnx", "openvino"),
            help="what runs the network, batch norm folded; default: PyTorch, all as trained. compile: by torch.compile, which "
            "takes a minute first",
        )

    add = verb(
        verbs,
        "train",
        train,
        "Train by a configuration into runs/NAME.",
        "seg train configs/voc_mini.yaml data.root=data/voc-mini train.iterations=500",
    )
    add.add_argument("config", metavar="CONFIG", help="YAML file, as in configs/")
    add.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings that override the file's")
    add.add_argument("--resume", action="store_true", help="go on from the newest good checkpoint of runs/NAME")
    json(add, "the best score")

    add = verb(
        verbs,
        "evaluate",
        evaluate,
        "Score a model on a split, or saved masks, by one confusion matrix at the original sizes.",
        "seg evaluate runs/voc_mini/best.safetensors --scales 0.75,1,1.25 --flip --json scores.json",
    )
    add.add_argument("weights", metavar="WEIGHTS", nargs="?", help="best.safetensors of a run, or an exported .onnx or .xml")
    add.add_argument(
        "--data",
        metavar="ROOT",
        help="folder in VOC layout; default: as trained. Of saved masks: whose images the report shows",
    )
    add.add_argument("--split", help="list in ImageSets/Segmentation; default: the validation split as trained")
    policy(add)
    runtime(add)
    add.add_argument("--boundary", action="store_true", help="also score the borders of objects: trimap mIoU and Boundary IoU")
    add.add_argument("--save-masks", metavar="DIR", help="write each prediction as a palette PNG")
    add.add_argument("--predictions", metavar="DIR", help="score these saved masks instead of a model")
    add.add_argument("--truth", metavar="DIR", help="their ground truth, of the same file names")
    add.add_argument("--labels", default="voc", help="label set of saved masks: voc or a YAML file")
    add.add_argument(
        "--report",
        metavar="DIR",
        help="write DIR/index.html: the scores, the confusion matrix and every image with its errors, in one page",
    )
    against = "another evaluation of the same images beside it in the page: the DIR of its report, or its --json file"
    add.add_argument("--against", metavar="DIR|JSON", help=against)
    add.add_argument(
        "--compare", nargs=2, metavar="JSON", help="the difference of two evaluations, class by class, from their --json files"
    )
    json(add, "all numbers")

    add = verb(
        verbs,
        "report",
        report,
        "Write RUN/report/index.html: a run's curves and settings, and the scores and errors of its best weights in one page.",
        "seg report runs/voc_mini",
    )
    add.add_argument("run_folder", metavar="RUN", help="folder of a run, as runs/NAME")
    add.add_argument("--data", metavar="ROOT", help="folder in VOC layout; default: as trained")
    add.add_argument("--against", metavar="DIR|JSON", help=against)
    json(add, "all numbers")

    add = verb(
        verbs,
        "predict",
        predict,
        "Write the masks of images, at their original size, or of videos or a camera as a video.",
        "seg predict runs/voc_mini/best.safetensors photos/ --out masks --mode side-by-side",
    )
    add.add_argument("weights", metavar="WEIGHTS", help="best.safetensors of a run, or an exported .onnx or .xml")
    add.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="image, folder, glob, or .txt list of images; a video; camera:0, until Ctrl-C",
    )
    add.add_argument("--out", metavar="DIR", required=True, help="folder of the PNGs, or of the video NAME.mp4")
    add.add_argument("--mode", choices=("overlay", "palette", "side-by-side", "index"), default="overlay")
    add.add_argument("--frames", type=_count, metavar="N", help="of a video or a camera: the first N")
    policy(add)
    runtime(add)
    json(add, "the files made, the frames of videos and their seconds")

    text = (
        "Serve a page to try a model in the browser, and its API: POST /api/segment, described at /docs. "
        "It has no passwords: with a --host other than this machine's own, whoever reaches the port may use it."
    )
    add = verb(verbs, "serve", serve, text, "seg serve runs/voc_mini/best.safetensors --port 8080")
    add.add_argument("weights", metavar="WEIGHTS", help="best.safetensors of a run, or an exported .onnx or .xml")
    add.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine alone)")
    add.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes a free one")
    policy(add)
    runtime(add)

    add = verb(
        verbs,
        "submit",
        submit,
        "Make the archive of masks that the PASCAL VOC2012 evaluation server takes, and check it; or check one that is there.",
        "seg submit runs/voc_mini/best.safetensors --data data/VOC2012_test --split test --out submission",
    )
    add.add_argument("weights", metavar="WEIGHTS", nargs="?", help="best.safetensors of a run, of VOC's classes")
    add.add_argument("--data", metavar="ROOT", help="folder in VOC layout, which needs no masks; default: as trained")
    add.add_argument("--split", default="test", help="list in ImageSets/Segmentation (default test)")
    add.add_argument(
        "--out",
        metavar="DIR",
        help="folder of results.tar.gz and the masks; those there of the same weights, settings and image are kept",
    )
    add.add_argument(
        "--competition",
        choices=("comp5", "comp6"),
        default="comp6",
        help="comp5: trained on VOC2012's own data alone; comp6 (default): on any",
    )
    policy(add)
    add.add_argument("--check", metavar="ARCHIVE", help="check this archive instead of making one")
    json(add)

    text = (
        "Write a model as the Hugging Face Hub's users expect it: model.safetensors, config.json and a model card of its own "
        "numbers. Every verb then takes hf:OWNER/NAME as WEIGHTS."
    )
    add = verb(verbs, "share", share, text, "seg share runs/voc_mini/best.safetensors --out shared --push OWNER/NAME")
    add.add_argument("weights", metavar="WEIGHTS", help="best.safetensors of a run")
    add.add_argument("--out", metavar="DIR", required=True, help="folder to write")
    add.add_argument("--push", metavar="OWNER/NAME", help="upload it there too, by the login of hf auth login or HF_TOKEN")

    add = verb(
        verbs,
        "export",
        export,
        "Write a model as one file for other programs: a graph from uint8 RGB [N,H,W,3] to classes uint8 [N,H,W], checked "
        "against the model; or its weights.",
        "seg export runs/voc_mini/best.safetensors --format openvino --out model.xml --int8 --calibrate photos/",
    )
    add.add_argument("weights", metavar="WEIGHTS", help="best.safetensors of a run")
    add.add_argument(
        "--format", choices=("onnx", "openvino", "torch", "safetensors"), required=True, help="torch: torch.export"
    )
    add.add_argument("--out", metavar="FILE", required=True, help="named .onnx, .xml (with a .bin), .pt2 or .safetensors")
    canvas(add)
    add.add_argument("--int8", action="store_true", help="quantize after training (onnx, openvino)")
    add.add_argument(
        "--calibrate", metavar="IMAGES", nargs="+", help="of int8: images, folders, globs or .txt lists like those to come"
    )
    json(add, "the comparison with the model")
    add.set_defaults(scales=None, flip=False)

    add = verb(
        verbs,
        "info",
        info,
        "Parameters, multiply-adds and sizes of a configuration's or a file's network.",
        "seg info configs/voc_xception65.yaml model.output_stride=8",
    )
    add.add_argument("source", metavar="CONFIG|WEIGHTS")
    add.add_argument("overrides", metavar="KEY=VALUE", nargs="*")
    add.add_argument("--size", type=_size, metavar="HxW", help="input; default: the training crop")
    add.add_argument(
        "--profile", action="store_true", help="also time a forward pass and count the activations of a training one, by group"
    )
    json(add)

    add = verb(
        verbs,
        "benchmark",
        benchmark,
        "Speed and memory of forward pass, training step, loss, loader, evaluation and start-up, each against a peer in the "
        "same run: medians of runs in turn.",
        "seg benchmark loss loader --data data/VOC2012 --json speed.json",
    )
    add.add_argument(
        "sections", metavar="SECTION", nargs="*", help="forward, train-step, loss, loader, evaluation, start-up; default: all"
    )
    add.add_argument("--data", metavar="ROOT", help="folder in VOC layout with a list val; default: synthetic scenes")
    add.add_argument("--runs", type=_count, default=5, metavar="N", help="timed runs of each side (default 5)")
    json(add)

    add = verb(
        verbs,
        "convert",
        convert,
        "Write weights from elsewhere as a file of this project, and report what matched.",
        "seg convert tf:deeplabv3_pascal_train_aug/model.ckpt --out deeplab.safetensors",
    )
    add.add_argument(
        "source",
        metavar="SOURCE",
        help="tf:PATH/model.ckpt-N (the released TensorFlow DeepLab or its ImageNet Xceptions), timm:NAME such as "
        "timm:xception65.tf_in1k, a .safetensors file of timm's, or a folder that segmentation-models-pytorch saved",
    )
    add.add_argument("--out", metavar="FILE", required=True, help="the .safetensors to write")
    add.add_argument("--labels", help="label set of the classes: voc or a YAML file; default: VOC's 21")
    json(add, "what matched, by tensor,")

    text = "Print what makes a shell complete seg's verbs, options and files."
    add = verb(verbs, "completion", completion, text, 'eval "$(seg completion bash)"')
    add.add_argument("shell", choices=("bash", "zsh", "fish"))

    data = verbs.add_parser("data", help="Get, make and check data sets.", description="Get, make and check data sets.")
    kinds = data.add_subparsers(dest="kind", required=True, metavar="KIND")
    text = (
        "Download a published data set, verify its checksum and unpack it. A download that broke off goes on where it was; "
        "after an address that fails comes the next; what is there already is left alone."
    )
    add = verb(kinds, "download", data_download, text, "seg data download voc2012 --out data/VOC2012")
    add.add_argument(
        "name", metavar="NAME", help="voc2012 (train and val), sbd, or voc2012-test (by --from-archive or --mirror alone)"
    )
    add.add_argument("--out", metavar="DIR", help="its folder; default: data/VOC2012, data/sbd, data/VOC2012_test")
    add.add_argument("--from-archive", metavar="FILE", help="unpack this copy of the published archive; no network is needed")
    add.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="address of the archive or of the folder that holds it, instead of the published ones; may be repeated. "
        "Also the environment variable SEG_MIRRORS, with spaces or commas between",
    )
    add = verb(
        kinds,
        "scenes",
        data_scenes,
        "Write synthetic scenes in VOC layout.",
        "seg data scenes data/scenes --train 300 --val 60",
    )
    add.add_argument("out", metavar="DIR")
    add.add_argument("--train", type=_count, default=300, metavar="N", help="training scenes (default 300)")
    add.add_argument("--val", type=_count, default=60, metavar="N", help="validation scenes (default 60)")
    add.add_argument("--size", type=int, default=192, help="longest side in pixels (default 192)")
    add.add_argument("--seed", type=int, default=0)
    text = (
        "Build VOC's augmented training set from VOC and SBD: VOC/SegmentationClassAug (the masks of trainaug and val, VOC's "
        "own where there is one) and VOC/ImageSets/Segmentation/trainaug.txt (10,582 ids). Run again, it verifies every mask."
    )
    add = verb(kinds, "prepare", data_prepare, text, "seg data prepare trainaug --voc data/VOC2012 --sbd data/sbd")
    add.add_argument("what", choices=("trainaug",))
    add.add_argument("--voc", metavar="DIR", default="data/VOC2012", help="PASCAL VOC 2012 (default data/VOC2012)")
    add.add_argument(
        "--sbd", metavar="DIR", default="data/sbd", help="SBD's folder with cls/, train.txt and val.txt (default data/sbd)"
    )
    json(add)
    text = (
        "Make your own images and masks ready for training: find the classes, list the splits. FOLDER holds images/ and masks/ "
        "(or other usual names), with or without a folder a split; or train/, train_labels/, val/, val_labels/, as CamVid has "
        "them; or is in VOC layout. Writes links, lists and labels.yaml into FOLDER/voc (in VOC layout labels.yaml alone, into "
        "FOLDER); what is there stays as it is. Names of classes are read from class_dict.csv, label_colors.txt, labelmap.txt "
        "or codes.txt in FOLDER."
    )
    add = verb(kinds, "init", data_init, text, "seg data init data/mine --images photos --masks drawn")
    add.add_argument("folder", metavar="FOLDER")
    add.add_argument("--images", metavar="DIR", help="folder of the images under FOLDER; default: found by its name")
    add.add_argument("--masks", metavar="DIR", help="folder of the masks under FOLDER; default: found by its name")
    add.add_argument("--out", metavar="DIR", help="what is made; default FOLDER/voc")
    json(add, "what was found")
    text = (
        "Read every image and mask of a data set in VOC layout (JPEGImages, SegmentationClassAug or SegmentationClass, "
        "ImageSets/Segmentation); list what is wrong with lists, images and masks, and count classes and sizes. Masks are "
        "palette PNGs, index PNGs, or RGB PNGs in the label set's colors; 255 is void. Exit code 1 where anything is wrong."
    )
    add = verb(kinds, "check", data_check, text, "seg data check data/VOC2012 --split val")
    add.add_argument("root", metavar="ROOT")
    add.add_argument("--split", help="one list; default: all, each file read once")
    add.add_argument("--labels", default="voc", help="voc, or a YAML file of names and colors")
    add.add_argument("--masks", metavar="FOLDER", help="folder of the masks under ROOT")
    add.add_argument("--masks-only", action="store_true", help="ask for no images; where there are no lists, read every mask")
    add.add_argument(
        "--convert", action="store_true", help="rewrite the masks that are RGB in the label set's colors as palette PNGs"
    )
    json(add, "the findings")
    return main


def main(arguments=None) -> int:
    """Run the command line; the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C, 141 where the reader of a pipe went."""
    command = parser()
    args, rest = command.parse_known_args(arguments)
    # argparse takes KEY=VALUE only in one place; people write them after the flags too.
    if rest and hasattr(args, "overrides") and all("=" in item and not item.startswith("-") for item in rest):
        args.overrides += rest
    elif rest:
        command.error(f"unrecognized: {' '.join(rest)}; see seg {args.verb} --help")
    name = "seg"
    try:
        with _processes() as rank:
            name = "seg" if rank is None else f"seg: rank {rank}"
            return args.run(args)
    except UserError as error:
        print_stderr(f"{name}: {error}")
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print_stderr(f"{name}: stopped")
        return 130
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(word in str(error) for word in FULL):
            what = "train.batch_size, data.crop_size, evaluate.canvas or evaluate.tile, or the model's width and channels"
            print_stderr(f"{name}: out of memory ({reason(error)}): lower {what}; or end other programs")
            return 2
        if name == "seg" or not any(word in str(error) for word in LOST):
            raise
        print_stderr(f"{name}: lost another process, which says why ({str(error).splitlines()[0]})")
        return 1


def _processes():
    """The group of processes that torchrun started; alone, nothing: and torch is not waited for."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return contextlib.nullcontext()
    from ..distributed import process_group

    return process_group()


if __name__ == "__main__":
    sys.exit(main())
