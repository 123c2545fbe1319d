"""What is checked of a command's arguments before anything slow begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mwam_det.experiments import load
from mwam_det.recipe import HOST_TASKS, Recipe, RecipeError, read_arguments

RECIPE_SUFFIXES = (".yaml", ".yml")


def read_own(words: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Read the arguments of a command that takes no recipe, and check those that are Ultralytics'."""
    arguments = read_arguments(words, known)
    from ultralytics.utils import DEFAULT_CFG_DICT

    from mwam_det.engine.arguments import check_values

    try:
        check_values({key: value for key, value in arguments.items() if key in DEFAULT_CFG_DICT})
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return arguments


def check_weights(weights: str) -> None:
    """Check that there are weights, and that their name says of what kind they are."""
    if not Path(weights).exists():
        raise RecipeError(f"there are no weights {weights}")
    from ultralytics.engine.exporter import export_formats

    if not weights.rstrip("/").endswith(tuple(export_formats()["Suffix"])):
        raise RecipeError(
            f"weights={weights} must be a checkpoint like best.pt, or what was exported from one, like best.onnx"
        )


def check_order(command: str, weights: str, recipe: str) -> None:
    """Check that weights and recipe are not swapped."""
    if weights.endswith(RECIPE_SUFFIXES) and not recipe.endswith(RECIPE_SUFFIXES):
        raise RecipeError(f"the weights come before the recipe: mwam-det {command} {recipe} {weights}")


def load_with_objects(file: str, overrides: Sequence[str], what: str) -> Recipe:
    """Read a recipe whose labels are of objects; `what` is what needs them."""
    recipe = load(file, overrides).recipe
    if recipe.task in HOST_TASKS:
        raise RecipeError(f"{file}: task={recipe.task} is for `mwam-det train`, `robustness` and `compare` alone")
    if labels := {"semantic": "are pixels", "classify": "are of whole images"}.get(recipe.task):
        raise RecipeError(f"{what}, and the labels of task={recipe.task} {labels}: there are none")
    return recipe
