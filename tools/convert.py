"""Convert a published dataset: python tools/convert.py FORMAT SOURCE DESTINATION [--option ...]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
