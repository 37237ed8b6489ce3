"""seg train: train a network."""

from __future__ import annotations

import argparse
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..progress import print_stderr
from .options import Subparsers, add_device, add_json, add_verb

if TYPE_CHECKING:
    from ..training.trainer import Trainer


class List(argparse.Action):
    """Print the configurations that come with seg, and exit."""

    def __init__(self, option_strings: list[str], dest: str, help: str):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ..config import headline, names

        width = max(map(len, names()), default=0)
        for name in names():
            print(f"{name:{width}}  {headline(name)}")
        parser.exit()


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "train",
        run,
        "Train a network and write the run folder runs/NAME.",
        details="The name of the run is that of its configuration; name=NAME sets another.",
        example="seg train voc_mini data.root=data/voc-mini train.iterations=500",
    )
    parser.add_argument("config", metavar="CONFIG", help="name of a configuration (see --list) or path of a YAML file")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings that override the configuration")
    add_device(parser)
    parser.add_argument("--resume", action="store_true", help="resume from the newest valid checkpoint of runs/NAME")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train one step, predict one image, and print the estimated time and memory of the training; write nothing",
    )
    parser.add_argument("--list", action=List, help="list the configurations that come with seg, and exit")
    add_json(parser, "the best score")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..config import load
    from ..distributed import is_main

    overrides = [*args.overrides, *([f"device={args.device}"] if args.device else [])]
    config = load(args.config, overrides)  # before torch is imported: a wrong setting is reported at once
    from ..files import write_json
    from ..opencv import check_opencv
    from ..training.run_folder import resume_command
    from ..training.trainer import Trainer
    from ..weights.file import open_safetensors, read_metadata

    check_opencv()
    trainer = Trainer(config, resume=args.resume, quiet=args.quiet)
    if args.dry_run:
        from ..training.dry_run import dry_run

        for name, text in dry_run(trainer).items():
            if is_main():
                print(f"{name + ':':13} {text}")
        return 0
    result = trainer.run()
    if not is_main():
        return 130 if result.stopped else 0
    if result.stopped:
        print_stderr(
            f"stopped after iteration {result.iteration}; the checkpoint {trainer.training_run.last} is complete; "
            f"to resume: {resume_command(trainer.folder)}"
        )
        return 130
    score = read_metadata(open_safetensors(trainer.training_run.best)[1], trainer.training_run.best).score
    print_outcome(trainer, score)
    if args.json:
        write_json(args.json, {"weights": str(trainer.training_run.best), **score})
    return 0


def print_outcome(trainer: Trainer, score: dict[str, Any]) -> None:
    """Print the scores and the suggested next commands."""
    from ..data.voc import LISTS
    from .tables import run_table

    best, folder, data = quote(str(trainer.training_run.best)), trainer.folder, trainer.config.data
    images = f"{data.root}/{LISTS}/{data.val}.txt"
    print(run_table(score))
    print(f"  weights:            {trainer.training_run.best}")
    if "tensorboard" in trainer.config.train.loggers:
        print(f"  curves and images:  tensorboard --logdir {quote(str(folder.parent))}")
    print(f"  score in detail:    seg evaluate {best}")
    print(f"  errors:             seg report {quote(str(folder))}")
    print(f"  masks:              seg predict {best} {quote(images)} --out {quote(str(folder / 'masks'))}")
