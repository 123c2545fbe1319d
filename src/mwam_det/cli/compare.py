"""`mwam-det compare`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.checks import read_own
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_recipe, split_words
from mwam_det.recipe import RecipeError
from mwam_det.study.built_in import BUILT_IN, SEEDS

KEYS = ("jobs", "devices", "cluster")
"""What the command takes beside a recipe's keys, see `mwam_det.study.grid.compare`."""

EXAMPLES = (
    "mwam-det compare cfg/demo.yaml --arms baseline,mwam,views jobs=2",
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
    text = "jobs=4, so many runs at a time, devices=0,1, which they share, cluster=auto or ray://HOST:PORT, or "
    add_overrides(command, text + OVERRIDES_HELP, KEYS)
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

    recipe, words = split_recipe(options)
    own, overrides = split_words(words, KEYS)
    given = read_own(own, KEYS)
    if type(given.get("jobs", 1)) is not int:
        raise RecipeError(f"jobs={given['jobs']!r} must be a whole number of runs, at least 1")
    if "devices" in given:
        devices = given["devices"] if isinstance(given["devices"], list) else [given["devices"]]
        given["devices"] = tuple(map(str, devices))
    try:
        result = compare(recipe, overrides, arms=options.arms, seeds=options.seeds, **given)
    except ImportError as error:  # Ray is an extra
        raise RecipeError(str(error)) from None
    return int(any(run.state == "failed" for run in result.runs))
