"""`mwam-det spectrum`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mwam_det.cli.checks import sample_size
from mwam_det.cli.next_steps import shown
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_recipe, split_words
from mwam_det.experiments import load
from mwam_det.files.runs import new_folder, runs_folder
from mwam_det.recipe import RecipeError

KEYS = ("sample",)
"""The command's own keys."""

SAMPLE = 500
"""Number of images that are measured by default."""

EXAMPLES = (
    "mwam-det spectrum cfg/hosts/flir_crops.yaml sample=1000",
    "mwam-det spectrum --from runs/flir_crops-compare",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "measure the spectrum of each modality, or draw what a study of frequencies found"
    command = add_command(commands, "spectrum", run, text, EXAMPLES, stopped="Nothing was written.")
    command.add_argument("recipe", nargs="?", help="YAML file whose training images are measured")
    words = f"sample=1000 (images to measure), the folder for the results, or {OVERRIDES_HELP}"
    add_overrides(command, words, KEYS)
    command.add_argument(
        "--from",
        dest="comparison",
        metavar="FOLDER",
        help="folder of `mwam-det compare --arms cfg/studies/spectrum.yaml`: draw losses and accuracy over windows",
    )


def run(options: argparse.Namespace) -> int:
    """Measure or read, print tables, and write figures."""
    recipe, words = split_recipe(options)
    if options.comparison is not None:
        if recipe or words:
            raise RecipeError(f"--from reads only a comparison: leave {recipe or words[0]} out")
        return _show_study(Path(options.comparison))
    if recipe is None:
        raise RecipeError("name a recipe, or a comparison with --from")
    own_words, words = split_words(words, KEYS)
    folders, overrides = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if len(folders) > 1:
        raise RecipeError(f"name one folder for the results, not {' and '.join(folders)}")
    sample = sample_size(own_words, SAMPLE, "images")
    experiment = load(recipe, overrides)
    from mwam_det.study.spectra import FILES, measure_spectra, save_spectra, spectrum_tables

    folder = Path(folders[0]) if folders else None
    if folder and (taken := [path for path in (folder, *(folder / name for name in FILES)) if path.is_file()]):
        raise RecipeError(f"{taken[0]} exists and is not overwritten: name another folder")
    try:
        spectra = measure_spectra(experiment, sample)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = new_folder(runs_folder(), f"{experiment.recipe.name}-spectrum")
    for title, rows in spectrum_tables(spectra):
        _print(title, rows)
    print("\n".join(map(shown, save_spectra(spectra, folder))))
    return 0


def _show_study(folder: Path) -> int:
    from mwam_det.study.curves import claims, curve_table, read_curves, save_curves

    try:
        curves = read_curves(folder)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    _print("Low and high frequencies: means over seeds", curve_table(curves))
    print("\n".join([*claims(curves), *map(str, save_curves(curves, folder))]))
    return 0


def _print(title: str, rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", min_width=min(len(title) + 2, 80))
    for index, name in enumerate(rows[0]):
        table.add_column(Text(name), justify="right" if index else "left")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    Console().print(table)
