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
from mwam_det.files.paths import expanded
from mwam_det.files.writing import written_whole
from mwam_det.recipe import RecipeError

EXAMPLES = (
    "mwam-det init my_pairs",
    "mwam-det init photos/visible photos/thermal --out night.yaml",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "write a recipe for a folder of pairs, without questions"
    command = add_command(commands, "init", run, text, EXAMPLES)
    command.add_argument("folders", nargs="+", metavar="FOLDER", help="the dataset's folder, or one per modality")
    command.add_argument(
        "--out",
        metavar="FILE",
        help="the recipe, like night.yaml (default: FOLDER's name, in the working directory); nothing is overwritten",
    )


def run(options: argparse.Namespace) -> int:
    """Draft a recipe and write it, or name the dataset in the folder if it has to be converted first."""
    name = re.sub(r"[^\w.-]+", "-", Path(options.folders[0]).resolve().name).strip("-.") or "dataset"
    out = expanded(options.out or f"{name}.yaml").resolve()
    if out.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"--out {options.out} must be the file of a recipe, like {name}.yaml")
    from mwam_det.data.drafting.draft import draft
    from mwam_det.data.drafting.known import Known
    from mwam_det.data.section import resolve_dataset

    result = draft(options.folders, out)
    if isinstance(result, Known):
        print(f"This is {result.title}. {result.advice}")
        if result.command:
            print(result.command)
        return 0
    # the recipe comes last: it names the lists, and without it the same command starts over
    files = {**{out.with_name(name): text for name, text in result.lists.items()}, out: result.recipe}
    if existing := [file for file, text in files.items() if file.exists() and (file == out or not _holds(file, text))]:
        raise RecipeError(f"{existing[0]} exists, and nothing is overwritten: name another file with --out")
    for line in "".join(files.values()).splitlines():
        if (shown := line.encode(errors="replace").decode()) != line:
            raise RecipeError(f"a name is in no encoding, so a recipe cannot hold it: rename {shown.strip()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        with written_whole(file) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    for sentence in result.conclusions:
        print(sentence)
    for doubt in result.doubts:
        print(f"Doubt: {doubt}")
    try:
        resolve_dataset(load(out).recipe.data)
    except (RecipeError, DatasetError) as error:
        raise RecipeError(f"the recipe {out} was written, but has to be edited: {error}") from None
    print(f"Wrote {' and '.join(map(str, files))}. Check the recipe, then:")
    print(shlex.join(["mwam-det", "train", str(options.out or out.name)]))
    return 0


def _holds(file: Path, text: str) -> bool:
    """Return whether a file holds a text already, like a list of the same command that was killed."""
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace") == text
