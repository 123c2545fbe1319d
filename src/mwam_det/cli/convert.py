"""`mwam-det convert`, with one subcommand per format, which has the options of that format."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from mwam_det.cli.parser import add_command
from mwam_det.data.conversion.offers import OFFERS

EXAMPLES = (
    "mwam-det convert llvip downloads/LLVIP datasets/LLVIP",
    "mwam-det convert dronevehicle --help",
)


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "convert",
        run,
        "convert a published dataset to the layout that training reads",
        EXAMPLES,
        stopped="Run the same command to resume.",
    )
    formats = command.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for format_name, offer in OFFERS.items():
        title = offer.title.replace("%", "%%")
        parser = formats.add_parser(format_name, help=title, description=title)
        parser.add_argument("source", metavar="SRC", help="folder of the dataset as published; it is not changed")
        parser.add_argument(
            "destination",
            metavar="DST",
            help="new or empty folder, or that of an interrupted conversion, which is resumed",
        )
        for name, option in offer.options.items():
            flag, text = f"--{name.replace('_', '-')}", option.help.replace("%", "%%")
            if isinstance(option.default, bool):
                parser.add_argument(flag, dest=f"option {name}", action="store_true", help=text)
                continue
            parser.add_argument(
                flag,
                dest=f"option {name}",
                type=str if option.default is None else type(option.default),
                default=option.default,
                choices=option.choices or None,
                metavar=None if option.choices else name.upper(),
                help=text if option.default in (None, "") else f"{text} (default: {option.default})",
            )


def run(options: argparse.Namespace) -> int:
    """Convert a dataset, and print the next command: `train`, or `inspect` if there are doubts."""
    from rich.console import Console

    from mwam_det.data.conversion.record import summary
    from mwam_det.data.conversion.write import convert
    from mwam_det.data.formats import FORMATS

    format_ = FORMATS[options.format]
    chosen = {name: getattr(options, f"option {name}") for name in format_.options}
    record = convert(format_, options.source, options.destination, chosen)
    Console().print(summary(record))
    destination = Path(options.destination)
    if format_.recipe is None:
        recipe = [str(destination / "recipe.yaml")]
    else:
        recipe = [f"cfg/{format_.recipe}", f"data.path={destination}"]
    if record["doubts"]:
        print("Do not train on this dataset before the doubts are settled. To look at it:")
    command = "inspect" if record["doubts"] else "train"
    print(shlex.join(["mwam-det", command, *recipe]))  # not through rich, which would wrap the line
    return 0
