"""`mwam-det init`."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

from mwam_det.cli.parser import add_command
from mwam_det.data.errors import DatasetError
from mwam_det.experiments import load
from mwam_det.recipe import RecipeError

EXAMPLES = (
    "mwam-det init my_pairs",
    "mwam-det init photos/visible photos/thermal --out night.yaml",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "look at a folder of pairs and write a recipe for it; asks nothing"
    command = add_command(commands, "init", run, text, EXAMPLES)
    command.add_argument("folders", nargs="+", metavar="FOLDER", help="the dataset's folder, or one of each modality")
    command.add_argument(
        "--out",
        metavar="FILE",
        help="the recipe, like night.yaml (default: FOLDER's name, in the working directory); nothing is overwritten",
    )


def run(options: argparse.Namespace) -> int:
    """Draft a recipe and write it, or say what the folder is if it is to be converted first."""
    name = re.sub(r"[^\w.-]+", "-", Path(options.folders[0]).resolve().name).strip("-.") or "dataset"
    out = Path(options.out or f"{name}.yaml").expanduser().resolve()
    if out.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"--out {options.out} must be the file of a recipe, like {name}.yaml")
    from mwam_det.data.drafting.draft import draft
    from mwam_det.data.drafting.known import Known
    from mwam_det.data.section import resolve_dataset

    made = draft(options.folders, out)
    if isinstance(made, Known):
        print(f"This is {made.title}. {made.advice}")
        if made.command:
            print(made.command)
        return 0
    files = {out: made.recipe, **{out.with_name(name): text for name, text in made.lists.items()}}
    if there := [file for file in files if file.exists()]:
        raise RecipeError(f"{there[0]} is there already, and nothing is overwritten: name another file with --out")
    for line in "".join(files.values()).splitlines():
        if (shown := line.encode(errors="replace").decode()) != line:
            raise RecipeError(f"a name is in no encoding, so that no recipe can hold it: rename {shown.strip()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(text)
    for sentence in made.said:
        print(sentence)
    for doubt in made.doubts:
        print(f"Doubt: {doubt}")
    try:
        resolve_dataset(load(out).recipe.data)
    except (RecipeError, DatasetError) as error:
        raise RecipeError(f"the recipe {out} was written, but needs a hand: {error}") from None
    print(f"Wrote {' and '.join(map(str, files))}. Look through the recipe, then:")
    print(shlex.join(["mwam-det", "train", str(options.out or out.name)]))
    return 0
