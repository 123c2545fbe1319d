"""The parts that the parsers of all commands are made of. Nothing here imports torch or Ultralytics."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mwam_det
from mwam_det.cli.completion import completer_of, set_completer

OVERRIDES_HELP = "section.key=value, like train.epochs=60, data.path=datasets/LLVIP or mwam=false"


class Versions(argparse.Action):
    """Prints the versions of this package and of what it stands on, without importing them."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        """Print, and exit."""
        from importlib.metadata import PackageNotFoundError, version

        found = [f"mwam-det {mwam_det.__version__}"]
        for package in ("ultralytics", "torch"):
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:  # installed under another name, or not at all
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
        name: What it is called.
        run: Takes the parsed options and returns the exit status; mistakes of the user and Ctrl-C may leave it.
        text: What it does, in a line.
        examples: Shown below its help.
        stopped: What is printed after Ctrl-C.
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
    """Add the words KEY=VALUE, which are of the command's own keys or of a recipe; `main` adds those behind options."""
    words = command.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=text)
    set_completer(words, completer_of(keys, of_recipe))


def add_weights(command: argparse.ArgumentParser) -> None:
    """Add the weights of a command that takes exported ones, too."""
    command.add_argument("weights", help="checkpoint, like runs/demo/weights/best.pt, or what was exported from one")


def split_recipe(options: argparse.Namespace) -> tuple[str | None, list[str]]:
    """Split the words of a command whose recipe may be left out into the recipe, if the first is one, and the others.

    A word with an equals sign is a recipe where there is a file of that name.
    """
    words = [word for word in (options.recipe, *options.overrides) if word]
    is_recipe = bool(words) and ("=" not in words[0] or Path(words[0]).is_file())
    return (words[0], words[1:]) if is_recipe else (None, words)


def split_words(words: Sequence[str], keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split overrides into those of a command's own keys and those of the recipe."""
    own = [word for word in words if word.partition("=")[0] in keys]
    return own, [word for word in words if word not in own]
