"""python tools/evaluate.py WEIGHTS [flags]: the same as `seg evaluate`."""

import sys

from seg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
