"""`mwam-det train`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.parser import add_command, add_overrides
from mwam_det.experiments import load

EXAMPLES = (
    "mwam-det train cfg/demo.yaml",
    "mwam-det train cfg/llvip.yaml train.epochs=60 mwam=false train.name=baseline",
)


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "train", run, "train a recipe, then tell what a missing modality costs", EXAMPLES)
    command.add_argument("recipe", help="YAML file of the experiment")
    add_overrides(command)


def run(options: argparse.Namespace) -> int:
    """Train, and show the report."""
    report, folder = load(options.recipe, options.overrides).train()
    if report is not None:
        report.show()
        print(f"Results: {folder}")
    return 0
