"""How the names of partners differ, found by comparing them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from mwam_det.data.naming import Naming, has_naming, shared_part

ADDED = r"\.rf\.[0-9a-zA-Z]+"
"""What Roboflow adds to names, as a regular expression."""

HASH = re.compile(f"(.+){ADDED}")
"""Names that Roboflow exports."""

COMPARED = 2000
"""Names that are compared of each modality; more would take long and tell no more."""

ENOUGH = 0.5
"""Share of the names of the smaller modality that must have a partner."""


def find_namings(stems: Mapping[str, Iterable[str]]) -> tuple[dict[str, Naming], int]:
    """Find how the names of each modality are made, so that partners share the rest.

    Args:
        stems: By modality, the names below its folder without the file extension.

    Returns:
        A suffix ("" for none) or a pattern by modality, and how many names all of them share then. Simple ones are
        preferred; if nothing helps, all are "".
    """
    lists = {name: sorted(of)[:COMPARED] for name, of in stems.items()}
    plain: dict[str, Naming] = dict.fromkeys(lists, "")
    best, most = plain, _shared(lists, plain)
    if most >= ENOUGH * min(map(len, lists.values()), default=0):
        return best, most
    options = {name: list(_options(of)) for name, of in lists.items()}
    for chosen in product(*options.values()):
        namings = dict(zip(lists, chosen, strict=True))
        if (count := _shared(lists, namings)) > most:
            best, most = namings, count
    return (best, most) if most >= ENOUGH * min(map(len, lists.values())) else (plain, 0)


def _shared(stems: Mapping[str, Iterable[str]], namings: Mapping[str, Naming]) -> int:
    parts = [{shared_part(stem, namings[name]) for stem in of if has_naming(stem, namings[name])}
             for name, of in stems.items()]  # fmt: skip
    return len(set.intersection(*parts)) if parts else 0


def _options(stems: Iterable[str]) -> Iterator[Naming]:
    """Yield how the names of a modality may be made, the simplest first."""
    names = [stem.rpartition("/")[2] for stem in stems]
    yield ""
    hashed = [match for match in map(HASH.fullmatch, names) if match]
    if len(hashed) < len(names):
        for suffix in _ends([name[::-1] for name in names]):
            yield suffix[::-1]
        for prefix in _ends(names):
            yield pattern_of(prefix, "")
        return
    yield HASH
    originals = [match[1] for match in hashed]
    for suffix in _ends([name[::-1] for name in originals]):
        yield pattern_of("", suffix[::-1], ADDED)
    for prefix in _ends(originals):
        yield pattern_of(prefix, "", ADDED)


def pattern_of(prefix: str, suffix: str, added: str = "") -> re.Pattern[str]:
    """Return the pattern of names between a prefix and a suffix, with an expression for what is added behind."""
    return re.compile(f"{re.escape(prefix)}(.+){re.escape(suffix)}{added}")


def _ends(names: list[str]) -> Iterator[str]:
    """Yield the beginnings that all names share, up to each place where a word or a number ends, the longest first."""
    common = os.path.commonprefix(names)
    places = [place for place in range(len(common), 0, -1) if _is_border(names, place)]
    for place in places[:6]:
        yield common[:place]


def _is_border(names: list[str], place: int) -> bool:
    """Return whether all names have the end of a word, or of a number, before a place."""
    return all(len(name) > place and _kind(name[place - 1]) != _kind(name[place]) for name in names)


def _kind(character: str) -> str:
    return "digit" if character.isdigit() else "letter" if character.isalpha() else character
