"""Cut out the objects of a recipe's dataset: python tools/crops.py RECIPE DESTINATION [KEY=VALUE ...]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["crops", *sys.argv[1:]]))
