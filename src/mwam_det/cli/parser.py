"""Shared parts of the commands' parsers. Nothing here imports torch or Ultralytics."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import mwam_det
from mwam_det.cli.completion import completer_of, set_completer
from mwam_det.recipe import KEYS as RECIPE_KEYS
from mwam_det.recipe import RecipeError

OVERRIDES_HELP = "section.key=value, like train.epochs=60, data.path=datasets/LLVIP or mwam=false"


class Versions(argparse.Action):
    """Prints the versions of this package and its main dependencies, without importing them."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        """Print, and exit."""
        from importlib.metadata import PackageNotFoundError, version

        found = [f"mwam-det {mwam_det.__version__}"]
        for package in ("ultralytics", "torch"):
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:  # not installed, or under another name
                found.append(f"{package} unknown")
        print(", ".join([*found, f"Python {platform.python_version()}"]))
        parser.exit()


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    examples: Sequence[str],
    stopped: str = "",
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: What `add_subparsers` returned.
        name: Its name.
        run: Takes the parsed options and returns the exit status; may raise on the user's mistakes and on Ctrl-C.
        text: What it does, in one line.
        examples: Shown below its help.
        stopped: Printed after Ctrl-C.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, stopped=stopped, usage_error=command.error)
    return command


def add_overrides(
    command: argparse.ArgumentParser, text: str = OVERRIDES_HELP, keys: Sequence[str] = (), of_recipe: bool = True
) -> None:
    """Add the words KEY=VALUE, with the command's own keys or a recipe's; `main` appends those behind options."""
    words = command.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=text)
    set_completer(words, completer_of(keys, of_recipe))


def add_weights(command: argparse.ArgumentParser) -> None:
    """Add the weights of a command that also takes exported ones."""
    command.add_argument("weights", help="checkpoint, like runs/demo/weights/best.pt, or a file exported from one")


def split_recipe(options: argparse.Namespace) -> tuple[str | None, list[str]]:
    """Split the words of a command with an optional recipe into the recipe, if the first word is one, and the rest.

    A word with an equals sign is a recipe if there is a file of that name.
    """
    words = [word for word in (options.recipe, *options.overrides) if word]
    is_recipe = bool(words) and ("=" not in words[0] or Path(words[0]).is_file())
    return (words[0], words[1:]) if is_recipe else (None, words)


def split_words(words: Sequence[str], keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into those with a command's own keys and those with the recipe's.

    Raises:
        RecipeError: If a key is neither, and looks like one of the command's.
    """
    own_words = [word for word in words if word.partition("=")[0] in keys]
    for name, equals, _ in (word.partition("=") for word in words):
        known = "." in name or name in keys or name in RECIPE_KEYS or not equals
        if not known and (near := get_close_matches(name, keys, 1)):
            raise RecipeError(f"unknown key '{name}': did you mean '{near[0]}'?")
    return own_words, [word for word in words if word not in own_words]
