"""What tests of README and docs share: the blocks of a page, and what the command line makes of a command."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from mwam_det.cli import main
from mwam_det.experiments import load
from mwam_det.study.arms import arm_experiments, read_study

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

SCRIPTS = {"train": "train", "evaluate": "robustness"}
"""What each script in tools is the command of."""

PLACEHOLDER = r"=[A-Z][A-Z0-9_]+(\.pt)?$"
"""Overrides that a reader fills in."""


def name_of(page):
    """Return what a page is called in the names of tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Return the fenced blocks of a language, also those within lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


def commands(page):
    """Return the commands of all shell blocks as lists of words, `a && b` being two."""
    found = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                found.append(words[: words.index("&&")])
                words = words[words.index("&&") + 1 :]
            found.append(words)
    return [words for words in found if words]


def as_command(words):
    """Return the words after `mwam-det` that a command stands for; None for another program."""
    if words[0] == "mwam-det":
        return words[1:]
    script = next((Path(word) for word in words if word.startswith("tools/")), None)
    if script is None:
        return None
    place = words.index(str(script))
    return [SCRIPTS[script.stem], *words[place + 1 :]]


class Parsed(BaseException):
    """What the command line read, thrown before it acts."""


def command_parser():
    """Return the parser of `mwam-det` by command."""

    def stop(parser, *args, **kwargs):
        raise Parsed(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        try:
            main(["--help"])
        except Parsed as caught:
            (parser,) = caught.args
    return next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def parse(words):
    """Let the command line read a command; return its options and the overrides of a recipe in it."""
    original, depth = argparse.ArgumentParser.parse_known_args, 0

    def read(self, *args, **kwargs):
        nonlocal depth
        depth += 1
        try:
            found = original(self, *args, **kwargs)
        finally:
            depth -= 1
        if not depth:
            raise Parsed(*found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", read)
        try:
            main(words)
        except Parsed as caught:
            options, rest = caught.args
        except SystemExit:
            raise AssertionError(f"the command line does not understand mwam-det {' '.join(words)}") from None
    return options, [*getattr(options, "overrides", []), *rest]


def check_recipe(recipe, overrides=(), arms=None):
    """Let a recipe of the repository be read with overrides, or that of each arm of a study."""
    overrides = [override for override in overrides if not re.search(PLACEHOLDER, override)]
    recipe = ROOT / recipe
    if arms is None:
        load(recipe, overrides)
    else:
        arm_experiments(recipe, overrides, read_study(ROOT / arms if arms.endswith(".yaml") else arms))
