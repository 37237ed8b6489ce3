"""Section start-up: from the command to its answer."""

import subprocess
import sys

from ..harness import Case, Limit, Side, Work


def python(code: int, *arguments: str) -> Work:
    """Prepare a Python process with these arguments that must end with this exit code."""

    def work() -> None:
        ended = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if ended.returncode != code:
            raise RuntimeError(f"python {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr}")

    return work


def cases(module: str = "torch") -> list[Case]:
    """Compare the help text and an error message of `seg` with the import of a module."""
    peer = Side(f"import {module}", python, (0, "-c", f"import {module}"))
    limit = Limit("Python alone", "starts", 1, (Side("python", python, (0, "-c", "pass")),), (1,))
    return [
        Case("start-up", f"seg {' '.join(words)}", Side("ours", python, (code, "-m", "seg", *words)), peer, limit)
        for code, words in ((0, ["--help"]), (2, ["train", "--resum"]))
    ]
