"""Checks of a command's arguments before anything slow starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mwam_det.experiments import load
from mwam_det.recipe import HOST_TASKS, Recipe, RecipeError, read_arguments

RECIPE_SUFFIXES = (".yaml", ".yml")


def command_arguments(words: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Read a command's own arguments, those that are not a recipe's, and check Ultralytics' among them."""
    arguments = read_arguments(words, known)
    from ultralytics.utils import DEFAULT_CFG_DICT

    from mwam_det.engine.arguments import check_batch, check_values

    try:
        check_batch(arguments)
        check_values({key: value for key, value in arguments.items() if key in DEFAULT_CFG_DICT})
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return arguments


def sample_size(words: Sequence[str], default: int, unit: str) -> int:
    """Read the number of things to sample from words "sample=…".

    Args:
        words: The words; the last one counts.
        default: The number without any.
        unit: What is sampled, for the message.
    """
    sample = command_arguments(words, ("sample",)).get("sample", default)
    if type(sample) is not int or sample < 1:
        raise RecipeError(f"sample={sample} must be a whole number of {unit}, at least 1")
    return sample


def check_weights(weights: str) -> None:
    """Check that weights exist and that their suffix is known."""
    if not Path(weights).exists():
        raise RecipeError(f"there are no weights {weights}")
    from ultralytics.engine.exporter import export_formats

    if not weights.rstrip("/").endswith(tuple(export_formats()["Suffix"])):
        raise RecipeError(f"weights={weights} must be a checkpoint like best.pt, or an exported file like best.onnx")


def check_order(command: str, weights: str, recipe: str) -> None:
    """Check that weights and recipe are not swapped."""
    if weights.endswith(RECIPE_SUFFIXES) and not recipe.endswith(RECIPE_SUFFIXES):
        raise RecipeError(f"the weights come before the recipe: mwam-det {command} {recipe} {weights}")


def load_with_objects(file: str, overrides: Sequence[str], what: str) -> Recipe:
    """Read a recipe whose labels are of objects; `what` says who needs them, for the message."""
    recipe = load(file, overrides).recipe
    if recipe.task in HOST_TASKS:
        raise RecipeError(f"{file}: task={recipe.task} only works with `mwam-det train`, `robustness` and `compare`")
    if labels := {"semantic": "pixels", "classify": "whole images"}.get(recipe.task):
        raise RecipeError(f"{what}, but with task={recipe.task} the labels are of {labels}")
    return recipe
