"""Find objects in pairs: python tools/predict.py WEIGHTS --source rgb=FOLDER ir=FOLDER [key=value ...]."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
