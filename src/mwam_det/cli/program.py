"""The command line: `mwam-det train`, `robustness`, `predict`, `export` and so on, each with its own --help.

A command is a module with `add(commands)` and `run(options)`. None of them imports torch or Ultralytics before `run`,
so that help and simple errors appear at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mwam_det.cli import compare, convert, crops, export, init, inspect, predict, robustness, spectrum, train, val
from mwam_det.cli.completion import answer
from mwam_det.cli.next_steps import shown
from mwam_det.cli.parser import Versions
from mwam_det.data.errors import DatasetError
from mwam_det.files.terminal import tolerate_encodings
from mwam_det.recipe import RecipeError

COMMANDS = (train, robustness, val, predict, export, compare, convert, init, inspect, spectrum, crops)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Returns:
        0 for success, 1 for a comparison with a failed run, 2 for a mistake of the user, 130 if interrupted.
    """
    tolerate_encodings()  # of the help and of Ultralytics' output
    parser = argparse.ArgumentParser(
        prog="mwam-det",
        description="Train and use models of several sensors that keep working when one fails.",
    )
    parser.add_argument("--version", action=Versions, nargs=0, help="print the versions of what is installed, and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    answer(parser)
    options, rest = parser.parse_known_args(argv)
    if rest:  # argparse does not find overrides behind an option
        if not hasattr(options, "overrides") or any(word.startswith("-") for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides += rest
    try:
        if options.command != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RecipeError(
                f"{options.command} runs in one process, and all would write the same files: do not use torchrun"
            )
        return options.run(options)
    except KeyboardInterrupt as interruption:
        resume = getattr(interruption, "resume", None)  # a training's checkpoint
        hint = f"Continue with the same command and train.resume={shown(resume)}" if resume else options.stopped
        print(f"\nStopped. {hint}".rstrip(), file=sys.stderr)
        return 130
    except (RecipeError, DatasetError, NotImplementedError, OSError) as error:  # the user's mistakes, and full disks
        print(f"error: {error}", file=sys.stderr)
        return 2
