"""`mwam-det compare`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.parser import add_command, add_overrides
from mwam_det.study.built_in import BUILT_IN, SEEDS

EXAMPLES = (
    "mwam-det compare cfg/demo.yaml --arms baseline,mwam,views --seeds 3",
    "mwam-det compare --arms cfg/studies/table8.yaml train.epochs=60",
)


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "compare",
        run,
        "train arms × seeds of a recipe and compare them; can be resumed",
        EXAMPLES,
        stopped="The same command goes on where this one was.",
    )
    command.add_argument("recipe", nargs="?", help="YAML file of the experiment; a study may name one itself")
    add_overrides(command)
    command.add_argument(
        "--arms",
        default="baseline,mwam",
        help=f"{', '.join(BUILT_IN)}, only-MODALITY, joined by + if you like, separated by commas; or a study, like "
        "cfg/studies/table8.yaml (default: %(default)s)",
    )
    command.add_argument("--seeds", type=int, help=f"how many seeds (default: the study's, or {SEEDS})")


def run(options: argparse.Namespace) -> int:
    """Train what is not trained yet, and compare; the status is 1 if a run failed."""
    from mwam_det.study.grid import compare

    words = [word for word in (options.recipe, *options.overrides) if word]
    recipe = words.pop(0) if words and "=" not in words[0] else None
    result = compare(recipe, words, arms=options.arms, seeds=options.seeds)
    return int(any(run.state == "failed" for run in result.runs))
