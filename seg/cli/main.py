"""The command `seg`: builds the parser, runs a verb, and translates errors to exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..config import expanded, setting_names
from ..distributed import is_started_with_others, process_group
from ..errors import UserError, reason
from ..progress import print_stderr, quieted
from ..synonyms import flag_hint
from . import (
    benchmark,
    completion,
    convert,
    data,
    evaluate,
    export,
    info,
    models,
    predict,
    report,
    serve,
    share,
    submit,
    train,
)
from .parser import Parser

# Each verb imports what it needs when it runs: `seg --help` does not wait for torch.
VERBS = (train, evaluate, report, predict, serve, submit, models, export, share, info, benchmark, convert, data, completion)

LOST = ("onnection", "NCCL", "timed out", "Broken pipe", "DataLoader worker")
"""Phrases in errors caused by the end of another process."""
MEMORY = ("can't allocate memory", "out of memory")
"""Phrases in torch's out-of-memory errors."""


def parser() -> Parser:
    """Return the parser of the command."""
    command = Parser(
        prog="seg",
        description="Semantic segmentation with DeepLab V3+ on the modified Xception: train, measure mIoU, draw masks.",
        epilog="Run seg VERB --help for details.",
    )
    command.add_argument("--version", action="version", version=f"seg {__version__}")
    command.set_defaults(run=None, command=command)
    verbs = command.add_subparsers(title="verbs", dest="verb", metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs)
    return command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; unlike plain argparse, this accepts KEY=VALUE after flags."""
    command = parser()
    args: argparse.Namespace
    args, rest = command.parse_known_args(arguments)
    if rest and hasattr(args, "overrides") and all("=" in item and not item.startswith("-") for item in rest):
        args.overrides += rest
    elif rest:
        verb = getattr(args, "parser", command)
        setting = next((name for item in rest if (name := flag_hint(item, setting_names()))), None)
        flag = next((flag for item in rest if (flag := verb.flag_meant(item))), None)
        hint = f"; settings have no dashes: {setting}=VALUE" if setting and hasattr(args, "overrides") else ""
        verb.error(f"unrecognized: {' '.join(rest)}{hint or (f'; did you mean {flag}?' if flag else '')}")
    return args


def expand_paths(args: argparse.Namespace) -> None:
    """Expand `~` and environment variables in arguments where the shell does not, such as --out=~/masks.

    The configuration expands the values of KEY=VALUE. Raises UserError if a variable is not set.
    """
    for name, value in vars(args).items():
        if isinstance(value, str):
            setattr(args, name, expanded(value))
        elif isinstance(value, list) and name != "overrides":
            setattr(args, name, [expanded(item) if isinstance(item, str) else item for item in value])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit code: 0 for success; 1 if `seg data check` finds problems; 2 for a user error; 130 after Ctrl-C; 141 if the
        output pipe is closed.
    """
    if sys.platform == "darwin":
        # Read when torch is imported. PyTorch warns of each operator that then runs on the CPU.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    name = "seg"
    try:
        args = parse(arguments)
        if args.run is None:  # `seg` or `seg data` alone
            args.command.print_help()
            return 0
        with quieted(getattr(args, "quiet", False)), _processes() as rank:
            name = "seg" if rank is None else f"seg: rank {rank}"
            expand_paths(args)
            return int(args.run(args))
    except UserError as error:
        # Some messages start with the command themselves: "seg evaluate: give WEIGHTS ..."
        print_stderr(str(error) if str(error).startswith(f"{name} ") else f"{name}: {error}")
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would report it again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print_stderr(f"{name}: stopped")
        return 130
    except (MemoryError, RuntimeError) as error:
        code, line = explain(error, alone=name == "seg")
        print_stderr(f"{name}: {line}")
        return code


def explain(error: Exception, alone: bool) -> tuple[int, str]:
    """Return the exit code and the message for an error of a library: out of memory, or another process has ended.

    Raises any other error again: its traceback helps to find the bug.
    """
    if isinstance(error, MemoryError) or any(word in str(error) for word in MEMORY):
        settings = "train.batch_size, data.crop_size, evaluate.canvas, evaluate.tile, or the width and channels of the model"
        return 2, f"out of memory ({reason(error)}): lower {settings}; or close other programs"
    if alone or not any(word in str(error) for word in LOST):
        raise error
    return 1, f"another process has ended; see its own message for the reason ({str(error).splitlines()[0]})"


def _processes() -> contextlib.AbstractContextManager[int | None]:
    """Join the process group of torchrun or srun; a single process needs no group and does not import torch."""
    return process_group() if is_started_with_others() else contextlib.nullcontext()


if __name__ == "__main__":
    sys.exit(main())
