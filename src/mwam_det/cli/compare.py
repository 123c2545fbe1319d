"""`mwam-det compare`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.checks import command_arguments
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_recipe, split_words
from mwam_det.recipe import RecipeError
from mwam_det.study.built_in import BUILT_IN, SEEDS

KEYS = ("jobs", "devices", "cluster")
"""The command's own keys, see `mwam_det.study.grid.compare`."""

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
        stopped="Run the same command to resume.",
    )
    command.add_argument(
        "recipe", nargs="?", help="YAML file of the experiment; may be left out if the study names one"
    )
    text = "jobs=4 (runs at a time), devices=0,1 (which they share), cluster=auto or ray://HOST:PORT, or "
    add_overrides(command, text + OVERRIDES_HELP, KEYS)
    command.add_argument(
        "--arms",
        default="baseline,mwam",
        help=f"{', '.join(BUILT_IN)} or only-MODALITY, separated by commas, or several joined by +; or a study, like "
        "cfg/studies/table8.yaml (default: %(default)s)",
    )
    command.add_argument("--seeds", type=int, help=f"number of seeds (default: the study's, or {SEEDS})")


def run(options: argparse.Namespace) -> int:
    """Train the missing runs, and compare; the status is 1 if a run failed."""
    from mwam_det.study.grid import compare

    recipe, words = split_recipe(options)
    own_words, overrides = split_words(words, KEYS)
    arguments = command_arguments(own_words, KEYS)
    if type(arguments.get("jobs", 1)) is not int:
        raise RecipeError(f"jobs={arguments['jobs']!r} must be a whole number of runs, at least 1")
    if "devices" in arguments:
        devices = arguments["devices"] if isinstance(arguments["devices"], list) else [arguments["devices"]]
        arguments["devices"] = tuple(map(str, devices))
    try:
        result = compare(recipe, overrides, arms=options.arms, seeds=options.seeds, **arguments)
    except ImportError as error:  # Ray is optional
        raise RecipeError(str(error)) from None
    return int(any(run.state == "failed" for run in result.runs))
