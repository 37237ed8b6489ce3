"""Compare this project with stored outputs of the released TensorFlow DeepLab, case by case.

    python -m tests.oracle DIR

DIR holds manifest.json and the files that it names. Each case gets a line: what was compared, the error and its bound.
Exit code 1 where one falls short or could not be run. Weights and images are drawn from names and seeds, as DIR was made.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from tests.oracle.forward import forward, image_form
from tests.oracle.preprocessing import preprocessing
from tests.oracle.training import training


def runner(section: str, case: dict):
    if section in ("forward", "training"):
        return {"forward": forward, "training": training}[section]
    return preprocessing if "files" in case else image_form


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        print(f"{manifest}: no such file; DIR holds the stored outputs and a manifest.json that lists them", file=sys.stderr)
        return 2
    short = 0
    cases = [
        (section, name, case) for section, found in json.loads(manifest.read_text()).items() for name, case in found.items()
    ]
    for section, name, case in cases:
        torch.manual_seed(0)
        try:
            checks = runner(section, case)(folder, name, case)
        except Exception as error:  # whatever stands in the way of one case, the others are run
            print(f"FAIL  {name}: could not be run: {type(error).__name__}: {error}", flush=True)
            short += 1
            continue
        held = all(check.holds for check in checks)
        short += not held
        print(f"{'ok  ' if held else 'FAIL'}  {name}: {'; '.join(map(str, checks))}", flush=True)
    print(f"{len(cases) - short} of {len(cases)} cases hold")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
