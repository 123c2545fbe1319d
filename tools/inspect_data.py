"""Tell what is in a recipe's dataset: python tools/inspect_data.py RECIPE [sample=500] [section.key=value ...].

Not called inspect.py: Python would find it in the place of its own module of that name, and no script here would start.
"""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["inspect", *sys.argv[1:]]))
