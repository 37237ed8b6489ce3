"""python tools/train.py CONFIG [key=value ...] [--resume]: the same as `seg train`."""

import sys

from seg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
