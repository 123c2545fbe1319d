"""Compare arms over seeds: python tools/compare.py RECIPE --arms baseline,mwam [--seeds 3] [section.key=value ...]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
