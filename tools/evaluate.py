"""Evaluate weights with every combination of modalities: python tools/evaluate.py WEIGHTS RECIPE [split=val]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["robustness", *sys.argv[1:]]))
