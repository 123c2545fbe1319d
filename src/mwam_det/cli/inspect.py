"""`mwam-det inspect`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from mwam_det.cli.checks import load_with_objects
from mwam_det.cli.parser import OVERRIDES_HELP, add_command, add_overrides, split_words
from mwam_det.recipe import RecipeError

EXAMPLES = (
    "mwam-det inspect cfg/demo.yaml",
    "mwam-det inspect my_pairs.yaml sample=500",
)


def add(commands: Any) -> None:
    """Add the command."""
    text = "tell what is in a recipe's dataset, before a long run"
    command = add_command(commands, "inspect", run, text, EXAMPLES, stopped="Nothing was written.")
    command.add_argument("recipe", help="YAML file whose data section is looked at")
    add_overrides(command, f"sample=500, the pairs whose pixels are looked at, or {OVERRIDES_HELP}", ("sample",))


def run(options: argparse.Namespace) -> int:
    """Look at a dataset, print what is there, and write figures and pictures."""
    samples, words = split_words(options.overrides, ("sample",))
    recipe = load_with_objects(options.recipe, words, "inspect counts and draws objects")
    sample = _sample(samples)
    from rich.console import Console
    from ultralytics.utils.files import increment_path

    from mwam_det.core.config import mwam_config
    from mwam_det.data.inspection.contact_sheet import draw_contact_sheet
    from mwam_det.data.inspection.gather import inspect_dataset
    from mwam_det.data.inspection.tables import tables
    from mwam_det.data.section import resolve_dataset
    from mwam_det.engine.experiment import RUNS

    data = resolve_dataset(recipe.data)
    imgsz, batch = recipe.train.get("imgsz", 640), recipe.train.get("batch", 16)
    single_cls = bool(recipe.train.get("single_cls"))
    inspection, pictures = inspect_dataset(
        data.as_single_class() if single_cls else data,
        mwam_config(recipe.mwam),
        imgsz=max(imgsz) if isinstance(imgsz, list) else imgsz,
        batch=batch if isinstance(batch, int) and batch > 0 else 16,  # Ultralytics finds a size for training alone
        sample=sample,
        single_cls=single_cls,
        task=recipe.task,
        arguments=recipe.train,
    )
    folder = increment_path(RUNS / f"{recipe.name}-inspect", mkdir=True)
    text = json.dumps(inspection.to_dict(), indent=2, ensure_ascii=False)
    (folder / "inspection.json").write_text(f"{text}\n", encoding="utf-8")
    draw_contact_sheet(pictures, folder / "pairs.png")
    Console().print(tables(inspection))
    print(f"Figures: {folder / 'inspection.json'}\nPairs with their boxes: {folder / 'pairs.png'}")
    return 0


def _sample(words: Sequence[str]) -> int:
    """Return how many pairs to look at, as the last "sample=…" says."""
    from mwam_det.data.inspection.sampling import DEFAULT_SAMPLE

    if not words:
        return DEFAULT_SAMPLE
    text = words[-1].partition("=")[2]
    if not text.isdecimal() or int(text) < 1:
        raise RecipeError(f"sample={text} must be a whole number of pairs, at least 1")
    return int(text)
