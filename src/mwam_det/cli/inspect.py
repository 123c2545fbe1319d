"""`mwam-det inspect`."""

from __future__ import annotations

import argparse
from typing import Any

from mwam_det.cli.checks import load_with_objects, sample_size
from mwam_det.cli.next_steps import shown
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_words
from mwam_det.files.runs import new_folder, runs_folder
from mwam_det.files.writing import write_json

EXAMPLES = (
    "mwam-det inspect cfg/demo.yaml",
    "mwam-det inspect my_pairs.yaml sample=500",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "check a recipe's dataset before a long run"
    command = add_command(commands, "inspect", run, text, EXAMPLES, stopped="Nothing was written.")
    command.add_argument("recipe", help="YAML file whose data section is inspected")
    add_overrides(command, f"sample=500 (pairs whose pixels are read), or {OVERRIDES_HELP}", ("sample",))


def run(options: argparse.Namespace) -> int:
    """Inspect a dataset, print the findings, and write figures and pictures."""
    own_words, overrides = split_words(options.overrides, ("sample",))
    recipe = load_with_objects(options.recipe, overrides, "inspect counts and draws objects")
    from rich.console import Console

    from mwam_det.core.config import mwam_config
    from mwam_det.data.inspection.contact_sheet import draw_contact_sheet
    from mwam_det.data.inspection.gather import inspect_dataset
    from mwam_det.data.inspection.sampling import DEFAULT_SAMPLE
    from mwam_det.data.inspection.tables import tables
    from mwam_det.data.section import resolve_dataset

    sample = sample_size(own_words, DEFAULT_SAMPLE, "pairs")
    data = resolve_dataset(recipe.data)
    imgsz, batch = recipe.train.get("imgsz", 640), recipe.train.get("batch", 16)
    single_cls = bool(recipe.train.get("single_cls"))
    inspection, pictures = inspect_dataset(
        data.as_single_class() if single_cls else data,
        mwam_config(recipe.mwam),
        imgsz=max(imgsz) if isinstance(imgsz, list) else imgsz,
        batch=batch if isinstance(batch, int) and batch > 0 else 16,  # Ultralytics chooses a size in training only
        sample=sample,
        single_cls=single_cls,
        task=recipe.task,
        arguments=recipe.train,
    )
    folder = new_folder(runs_folder(), f"{recipe.name}-inspect")
    write_json(folder / "inspection.json", inspection.to_dict())
    draw_contact_sheet(pictures, folder / "pairs.png")
    Console().print(tables(inspection))
    print(f"Figures: {shown(folder / 'inspection.json')}\nPairs with their boxes: {shown(folder / 'pairs.png')}")
    return 0
