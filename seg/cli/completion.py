"""seg completion: the shell completion script."""

from __future__ import annotations

import argparse

from .options import Subparsers, add_verb


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "completion",
        run,
        "Print the shell completion script.",
        details="It completes verbs, options and file names.",
        example='eval "$(seg completion bash)"',
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="your shell")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    import shtab

    complete_files(args.command)
    print(shtab.complete(args.command, args.shell))
    return 0


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Enable completion of file names for each free-text value of a parser and of its subparsers."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                complete_files(sub)
        elif action.choices is None and action.nargs != 0 and action.type is None:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
