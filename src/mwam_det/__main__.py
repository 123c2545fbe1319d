"""`python -m mwam_det` runs `mwam-det`."""

import sys

from mwam_det.cli import main

if __name__ == "__main__":
    sys.exit(main())
