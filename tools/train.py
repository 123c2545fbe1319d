"""Train a recipe: python tools/train.py RECIPE [section.key=value ...]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
