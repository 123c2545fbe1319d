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
"""Number of names compared per modality; more would take longer and show no more."""

ENOUGH = 0.5
"""Share of the names of the smaller modality that must have a partner."""


def find_namings(stems: Mapping[str, Iterable[str]]) -> tuple[dict[str, Naming], int]:
    """Find the naming of each modality by which partners share the rest of their names.

    Args:
        stems: By modality, the stems below its folder.

    Returns:
        A suffix ("" for none) or a pattern by modality, and the number of names shared by all modalities. Simple
        namings are preferred; if none helps, all are "".
    """
    names = {modality: sorted(of_modality)[:COMPARED] for modality, of_modality in stems.items()}
    plain: dict[str, Naming] = dict.fromkeys(names, "")
    best, most = plain, _shared(names, plain)
    enough = ENOUGH * min(map(len, names.values()), default=0)
    if most >= enough:
        return best, most
    for chosen in product(*(list(_candidates(of_modality)) for of_modality in names.values())):
        namings = dict(zip(names, chosen, strict=True))
        if (count := _shared(names, namings)) > most:
            best, most = namings, count
    return (best, most) if most >= enough else (plain, 0)


def _shared(names: Mapping[str, Iterable[str]], namings: Mapping[str, Naming]) -> int:
    parts = [
        {shared_part(name, namings[modality]) for name in of_modality if has_naming(name, namings[modality])}
        for modality, of_modality in names.items()
    ]
    return len(set.intersection(*parts)) if parts else 0


def _candidates(stems: Iterable[str]) -> Iterator[Naming]:
    """Yield possible namings of a modality, the simplest first."""
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
    """Return the pattern of names between a prefix and a suffix, followed by the expression `added`."""
    return re.compile(f"{re.escape(prefix)}(.+){re.escape(suffix)}{added}")


def _ends(names: list[str]) -> Iterator[str]:
    """Yield prefixes shared by all names that end with a word or a number, the longest first."""

    def is_border(end: int) -> bool:
        return all(len(name) > end and _kind(name[end - 1]) != _kind(name[end]) for name in names)

    common = os.path.commonprefix(names)
    ends = [end for end in range(len(common), 0, -1) if is_border(end)]
    for end in ends[:6]:
        yield common[:end]


def _kind(character: str) -> str:
    return "digit" if character.isdigit() else "letter" if character.isalpha() else character
