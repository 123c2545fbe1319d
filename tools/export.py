"""Export weights to a format for deployment: python tools/export.py WEIGHTS format=onnx [key=value ...]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
