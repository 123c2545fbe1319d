"""`mwam-det train`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mwam_det.cli.completion import complete_recipe, set_completer
from mwam_det.cli.next_steps import next_commands, shown
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_recipe
from mwam_det.cli.stock_words import read_stock_words
from mwam_det.experiments import experiment_of, load
from mwam_det.keys import recipe_keys
from mwam_det.recipe import read_recipe, with_overrides

EXAMPLES = (
    "mwam-det train cfg/demo.yaml train.epochs=3",
    "mwam-det train model=yolo11n.yaml data=my_pairs epochs=60 incomplete.views=2",
)

NAME = "train"
"""Name of the run folder of a training without a recipe, as in Ultralytics."""


def add(commands: Any) -> None:
    """Add the command."""
    text = "train a recipe, then report what a missing modality costs"
    command = add_command(commands, "train", run, text, EXAMPLES)
    set_completer(command.add_argument("recipe", nargs="?", help="YAML file of the experiment"), complete_recipe)
    without_recipe = "without a recipe, Ultralytics' arguments, like model=yolo11n.yaml data=FOLDER epochs=3"
    add_overrides(command, f"{OVERRIDES_HELP}; {without_recipe}")
    command.add_argument("--keys", action="store_true", help="print every key of a recipe for its task")


def run(options: argparse.Namespace) -> int:
    """Train, and show the report."""
    recipe, words = split_recipe(options)
    if options.keys:
        content = with_overrides({}, words) if recipe is None else read_recipe(recipe, words)
        print_keys(str(content.get("task", "detect")))
        return 0
    if recipe is not None:
        experiment = load(recipe, words)
    elif words:
        content, sentences = read_stock_words(words)
        experiment = experiment_of(NAME, content)
        if os.environ.get("RANK", "0") == "0":
            for sentence in sentences:
                print(sentence)
    else:
        options.usage_error("the following arguments are required: recipe, or data=…")
    report, folder = experiment.train()
    if report is not None:
        report.show()
    if os.environ.get("RANK", "0") != "0":
        return 0
    if (page := folder / "report.html").is_file():
        print(f"Report: {shown(page)}")
    if commands := next_commands(folder, experiment, [recipe, *words] if recipe else []):
        print("\n".join(["Next:", *commands]))  # not through rich, which would wrap the lines
    return 0


def print_keys(task: str) -> None:
    """Print the keys of a recipe by section, as typed, each with its default, type and description."""
    sections = recipe_keys(task)
    top = sections[""]
    keys = {key: value for key, value in top.items() if key not in sections}
    for name, section in {**sections, "": keys}.items():
        if name:
            default = f"={top[name].default}" if top[name].default not in ("", "{}") else ""
            print(f"\n{name}{default}  {top[name].text}")
        for key, value in section.items():
            typed = f"  {name}{'.' * bool(name)}{key}={value.default}"
            print(f"{typed:<36} {f'({value.kind}) ' if value.kind else ''}{value.text}")
