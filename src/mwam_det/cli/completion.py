"""Shell completion by argcomplete, if installed. It runs at every TAB, so nothing slow is imported."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

from mwam_det.keys import recipe_keys
from mwam_det.recipe import RecipeError, read_recipe

Completer = Callable[..., list[str]]


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer a completion request of a shell, and exit; return if there is none, or argcomplete is not installed."""
    if "_ARGCOMPLETE" in os.environ:
        try:
            import argcomplete
        except ImportError:
            return
        argcomplete.autocomplete(parser)


def set_completer(argument: argparse.Action, completer: Completer) -> None:
    """Set the function that argcomplete asks for the values of an argument."""
    argument.completer = completer  # type: ignore[attr-defined]


def completer_of(keys: Iterable[str], of_recipe: bool) -> Completer:
    """Return a completer of words KEY=VALUE, for these keys and, if wanted, those of the recipe on the command line."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
        key, equals, value = prefix.partition("=")
        if equals:
            return [f"{key}={path}" for path in _paths(value)]
        return [f"{name}=" for name in (*keys, *(_names(getattr(parsed_args, "recipe", None)) if of_recipe else ()))]

    return complete


def complete_recipe(prefix: str, **_: object) -> list[str]:
    """Complete the first word of a training: a file, or a key of a training without a recipe."""
    return [*_paths(prefix), *(f"{name}=" for name in recipe_keys()[""])]


def _names(recipe: str | None) -> list[str]:
    """Return the keys of the recipe's task; without a recipe, those of training also without their section."""
    stock_words = recipe is not None and "=" in recipe
    try:
        task = "detect" if recipe is None or stock_words else str(read_recipe(recipe).get("task", "detect"))
    except RecipeError:
        task = "detect"
    sections = recipe_keys(task)
    full = [f"{section}.{key}" for section, keys in sections.items() if section for key in keys]
    return [*sections[""], *full, *(sections["train"] if stock_words else ())]


def _paths(prefix: str) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    return FilesCompleter()(prefix)
