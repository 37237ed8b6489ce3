"""`python -m seg`, and `torchrun ... -m seg`: the same as the command `seg`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
