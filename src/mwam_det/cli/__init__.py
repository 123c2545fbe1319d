"""The command line `mwam-det`."""

from mwam_det.cli.program import main

__all__ = ["main"]
