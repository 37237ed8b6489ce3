"""Compare this project with stored outputs of the released TensorFlow DeepLab.

    python -m tests.oracle DIR

DIR holds manifest.json and the files it names. Each case prints one line: what was compared, the error and its bound.
The exit code is 1 if a case fails or cannot run. Weights and images are drawn from names and seeds, the same as for DIR.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.oracle.forward import classifier, dense_prediction_cell, forward
from tests.oracle.harness import Check
from tests.oracle.preprocessing import preprocessing
from tests.oracle.training import training


def runner(section: str, case: dict[str, Any]) -> Callable[[Path, str, dict[str, Any]], list[Check]]:
    """Return the function that runs the cases of a section."""
    if section in ("forward", "training"):
        return {"forward": forward, "training": training}[section]
    if "features_seed" in case:
        return dense_prediction_cell
    return preprocessing if "files" in case else classifier


def main() -> int:
    """Run all cases and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        print(f"{manifest}: no such file; DIR must hold stored outputs and their manifest.json", file=sys.stderr)
        return 2
    failed = 0
    cases = [
        (section, name, case) for section, found in json.loads(manifest.read_text()).items() for name, case in found.items()
    ]
    for section, name, case in cases:
        torch.manual_seed(0)
        try:
            checks = runner(section, case)(folder, name, case)
        except Exception as error:  # one case that cannot run does not stop the others
            print(f"FAIL  {name}: cannot run: {type(error).__name__}: {error}", flush=True)
            failed += 1
            continue
        held = all(check.holds for check in checks)
        failed += not held
        print(f"{'ok  ' if held else 'FAIL'}  {name}: {'; '.join(map(str, checks))}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
