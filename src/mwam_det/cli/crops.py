"""`mwam-det crops`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from mwam_det.cli.checks import command_arguments, load_with_objects
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_words
from mwam_det.recipe import RecipeError

KEYS = ("margin", "smallest")
"""The command's own keys."""

EXAMPLES = (
    "mwam-det crops cfg/detect/flir.yaml datasets/flir_crops",
    "mwam-det crops cfg/detect/flir.yaml datasets/flir_crops margin=0.2 smallest=24",
)


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "crops",
        run,
        "cut out the objects of a recipe's dataset, for a classifier",
        EXAMPLES,
        stopped="Run the same command to start over.",
    )
    command.add_argument("recipe", help="YAML file whose data section names the dataset")
    command.add_argument("destination", metavar="DST", help="new or empty folder")
    add_overrides(command, f"margin=0.1 (of the longer side), smallest=16 (pixels), or {OVERRIDES_HELP}", KEYS)


def run(options: argparse.Namespace) -> int:
    """Cut out objects, and print how many of each class there are."""
    own_words, overrides = split_words(options.overrides, KEYS)
    recipe = load_with_objects(options.recipe, overrides, "crops cuts out objects")
    from rich.console import Console
    from rich.table import Table

    from mwam_det.core.checks import is_finite_number
    from mwam_det.data.crops import MARGIN, SMALLEST, cut_objects
    from mwam_det.data.section import resolve_dataset
    from mwam_det.hosts.drafting import classifier_recipe

    arguments = {"margin": MARGIN, "smallest": SMALLEST, **command_arguments(own_words, KEYS)}
    for key, value in arguments.items():
        if not is_finite_number(value) or value < 0:
            raise RecipeError(f"{key}={value} must be a number, at least 0")
    counts = cut_objects(resolve_dataset(recipe.data), options.destination, **arguments, recipe_for=classifier_recipe)
    table = Table("class", *counts, title="Objects")
    classes = list(dict.fromkeys(name for count in counts.values() for name in count))
    for name in classes:
        table.add_row(name, *(str(count[name]) for count in counts.values()))
    Console().print(table)
    if sum(any(count[name] for count in counts.values()) for name in classes) < 2:
        print("There is nothing to train on: a classifier needs at least two classes.")
        return 0
    print(f"Train on them: mwam-det train {shlex.quote(str(Path(options.destination) / 'recipe.yaml'))}")
    return 0
