"""Checks that the recipes of all models share; errors name the section, the key, the value and the choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Content = TypeVar("Content")

FORMER = {
    "missing": "the section 'missing' is called 'incomplete' now: modality dropout of the input with p=0.5 is "
    "incomplete={views: 1, level: input, p: 0.5}; allocation is weights: equal or mwam",
    "robustness": "the section 'robustness' is two now: 'report', with split, fill, degradations and so on, and "
    "'select', what decides on the best checkpoint, like select: mean or select: {by: mean, every: 5}",
}
"""Sections of earlier recipes, and their successors."""


def refuse_former_sections(recipe: Mapping[str, Any]) -> None:
    """Refuse sections of earlier recipes, and name their successors.

    Raises:
        ValueError: If there is one.
    """
    if former := [sentence for name, sentence in FORMER.items() if name in recipe]:
        raise ValueError(former[0])


def in_section(name: str, read: Callable[..., Content], *values: Any) -> Content:
    """Return what `read` makes of a section's values; its errors begin with the name of the section.

    Raises:
        ValueError: As `read`.
    """
    try:
        return read(*values)
    except ValueError as error:
        raise ValueError(f"in section '{name}': {error}") from None


def section_of(recipe: Mapping[str, Any], name: str, also: str = "") -> Mapping[str, Any]:
    """Return a section of a recipe, {} if there is none.

    Raises:
        ValueError: If it is not a mapping; `also` names what it may be otherwise.
    """
    section = recipe.get(name, {})
    if not isinstance(section, Mapping):
        raise ValueError(f"{name}={section!r} must be a mapping of keys to values{also}")
    return section


def check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Check that a value is one of its choices.

    Raises:
        ValueError: If it is not.
    """
    if value not in list(choices):  # in a dictionary, a list of the user's would be an error
        raise ValueError(f"{key}={value!r} is unknown: choose from {', '.join(choices)}")
