"""`mwam-det crops`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from mwam_det.cli.checks import load_with_objects, read_own
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_words
from mwam_det.recipe import RecipeError

KEYS = ("margin", "smallest")
"""What the command takes beside a recipe's keys."""

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
        "cut the objects of a recipe's dataset out, for a classifier",
        EXAMPLES,
        stopped="The same command begins anew.",
    )
    command.add_argument("recipe", help="YAML file whose data section names the dataset")
    command.add_argument("destination", metavar="DST", help="new or empty folder")
    add_overrides(command, f"margin=0.1, of the longer side, smallest=16, in pixels, or {OVERRIDES_HELP}", KEYS)


def run(options: argparse.Namespace) -> int:
    """Cut objects out, and print how many of each class there are."""
    own, words = split_words(options.overrides, KEYS)
    recipe = load_with_objects(options.recipe, words, "crops cuts out objects")
    from rich.console import Console
    from rich.table import Table

    from mwam_det.data.crops import MARGIN, SMALLEST, cut_objects
    from mwam_det.data.section import resolve_dataset
    from mwam_det.hosts.drafting import classifier_recipe

    given = {"margin": MARGIN, "smallest": SMALLEST, **read_own(own, KEYS)}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise RecipeError(f"{key}={value} must be a number, at least 0")
    counts = cut_objects(resolve_dataset(recipe.data), options.destination, **given, recipe_for=classifier_recipe)
    table = Table("class", *counts, title="Objects")
    classes = list(dict.fromkeys(name for count in counts.values() for name in count))
    for name in classes:
        table.add_row(name, *(str(count[name]) for count in counts.values()))
    Console().print(table)
    if sum(any(count[name] for count in counts.values()) for name in classes) < 2:
        print("A classifier has nothing to tell apart here: it needs two classes at least.")
        return 0
    print(f"Train on them: mwam-det train {shlex.quote(str(Path(options.destination) / 'recipe.yaml'))}")
    return 0
