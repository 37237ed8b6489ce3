"""The parser of the command and of its verbs: an error is one line, and a flag of other programs finds ours."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn

from ..synonyms import choice_meant

FLAGS = {
    **dict.fromkeys(("--output", "--output-dir", "--save", "--save-dir", "--dest", "-o"), "--out"),
    **dict.fromkeys(("--gpu", "--gpus", "--cuda", "--gpu-id"), "--device"),
    **dict.fromkeys(("--dataset", "--data-root", "--data-dir"), "--data"),
    **dict.fromkeys(("--tta", "--hflip"), "--flip"),
    **dict.fromkeys(("--engine", "--backend"), "--runtime"),
    **dict.fromkeys(("--os", "--stride"), "--output-stride"),
    **dict.fromkeys(("--amp", "--fp16", "--bf16", "--half"), "--precision"),
}
"""What other programs call our flags."""
FIRST = ("--weights", "--model", "--checkpoint", "--ckpt", "--input", "--image", "--images", "--source", "--config", "--cfg")
"""Flags of other programs whose value stands without a flag here."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, with errors of one line and without abbreviated flags."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; a verb without KEY=VALUE refuses an unknown flag before a missing argument."""
        actions = self._actions
        if args is not None and not any(action.dest in ("overrides", "verb", "action") for action in actions):
            self._refuse_unknown_flags(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the error in one line, with the shape of the command where an argument is missing, and exit with 2."""
        if "required" in message:
            message = f"{message}; {self._shape()}"
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def _refuse_unknown_flags(self, args: Sequence[str]) -> None:
        if any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            return
        own = self._option_string_actions
        for item in args:
            flag = item.partition("=")[0]
            if item == "--":
                return
            if flag in own or not flag.startswith("-") or len(flag) < 2 or flag[1].isdigit():
                continue
            if flag in FIRST and any(not action.option_strings for action in self._actions):
                self.error(f"unknown flag {flag}: write its value without a flag: {self._shape()}")
            meant = self.flag_meant(flag)
            self.error(f"unknown flag {flag}" + (f"; did you mean {meant}?" if meant else ""))

    def flag_meant(self, flag: str) -> str | None:
        """The flag of this parser that is meant: another program's word for it, or one that is close; None if none is."""
        flag, own = flag.partition("=")[0], self._option_string_actions
        meant = FLAGS.get(flag)
        names = {name.lstrip("-"): name for name in own}  # the dashes are no likeness
        close = difflib.get_close_matches(flag.lstrip("-"), names, n=1)
        return meant if meant in own else names[close[0]] if close else None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = list(action.choices or ())
        if choices and value not in choices:
            meant = choice_meant(value, choices)
            hint = f"did you mean '{meant}'?" if meant else f"choose from {', '.join(map(str, choices))}"
            raise argparse.ArgumentError(action, f"invalid choice: '{value}'; {hint}")

    def _shape(self) -> str:
        """The arguments and the required flags, such as "seg predict WEIGHTS INPUT ... --out DIR"."""
        words = [self.prog]
        for action in sorted(self._actions, key=lambda action: bool(action.option_strings)):
            name = str(action.metavar or action.dest)
            if not action.option_strings and action.nargs != "*":
                words += [name, "..."] if action.nargs == "+" else [f"[{name}]"] if action.nargs == "?" else [name]
            elif action.option_strings and action.required:
                words += [action.option_strings[-1], name]
        return " ".join(words)
