"""python tools/visualize.py WEIGHTS INPUT... --out DIR: image and overlay side by side, `seg predict --mode side-by-side`."""

import sys

from seg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", "--mode", "side-by-side", *sys.argv[1:]]))
