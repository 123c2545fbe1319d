"""Check a recipe's dataset: python tools/inspect_data.py RECIPE [sample=500] [section.key=value ...].

Not called inspect.py, which would shadow Python's own module of that name for every script here.
"""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["inspect", *sys.argv[1:]]))
