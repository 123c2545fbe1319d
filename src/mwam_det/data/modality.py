"""Modalities: their channels in the stacked image, and how their files are found and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mwam_det.core.checks import is_finite_number
from mwam_det.data.errors import DatasetError
from mwam_det.data.filtering import WindowFilter, read_filters
from mwam_det.data.levels import read_range
from mwam_det.data.names import check_modality_names
from mwam_det.data.naming import Naming, match_pattern

READING_KEYS = ("suffix", "match", "range", "align", "filter")
"""Keys of a resolved dataset that define, by modality, how files are found and read; modalities may be left out."""
CHANNELS = (1, 3)
VISIBLE_NAMES = ("rgb", "visible", "vis", "color", "colour")
"""Names of a modality that takes colour augmentation by default."""


@dataclass(frozen=True)
class Modality:
    """One modality of a stacked image.

    Attributes:
        name: Its name.
        channels: Number of channels.
        start: Its first channel in the stacked image.
        visible: Whether it takes colour augmentation.
        suffix: Suffix of the stems of its files, see `resolve_dataset`.
        value_range: Values that become 0 and 255, see `mwam_det.data.levels.read_range`; or None for 8-bit files
            unchanged and the high byte of 16-bit ones.
        align: Rows of the 3×3 matrix that maps its pixels to pixels of the first modality, or None.
        match: Regular expression of the stems of its files, see `resolve_dataset`, or "" for none.
        filter: The frequencies that are kept, or None for all.
    """

    name: str
    channels: int = 3
    start: int = 0
    visible: bool = False
    suffix: str = ""
    value_range: tuple[float, float] | str | None = None
    align: tuple[tuple[float, ...], ...] | None = None
    match: str = ""
    filter: WindowFilter | None = None

    @property
    def slice(self) -> slice:
        """Its channels in the stacked image."""
        return slice(self.start, self.start + self.channels)

    @property
    def naming(self) -> Naming:
        """Suffix or pattern of the names of its files."""
        return match_pattern(self.match) if self.match else self.suffix


def modalities_of(data: Mapping[str, Any]) -> tuple[Modality, ...]:
    """List the modalities of a resolved dataset (see `resolve_dataset`), in the order of the stack.

    Raises:
        DatasetError: If a filter is invalid.
    """
    suffix, match, value_range, align, filters = (data.get(key, {}) for key in READING_KEYS)
    kept, start = filters_of(filters, data["modalities"]), 0
    modalities = []
    for name, channels in data["modalities"].items():
        modalities.append(
            Modality(
                name,
                channels,
                start,
                visible=name == data["visible"],
                suffix=suffix.get(name, ""),
                match=match.get(name, ""),
                value_range=_frozen(value_range.get(name)),
                align=_frozen(align.get(name)),
                filter=kept.get(name),
            )
        )
        start += channels
    return tuple(modalities)


def modalities_in(section: Mapping[str, Any]) -> tuple[Modality, ...]:
    """Read the modalities of a data section, see `mwam_det.data.section.resolve_dataset`.

    Raises:
        DatasetError: If the value of a modality is invalid; the message names the key and the modality.
    """
    folders = section["modalities"]
    texts = [*folders, *folders.values()] if isinstance(folders, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"modalities={folders!r} must map names to folders, like {{rgb: visible, ir: infrared}}")
    check_names(folders)
    visible = section.get("visible", next((name for name in folders if name.lower() in VISIBLE_NAMES), None))
    if visible is not None and (not isinstance(visible, str) or visible not in folders):
        raise DatasetError(f"visible={visible} is not a modality: choose from {', '.join(folders)}")
    if isinstance(match := section.get("match"), str):  # one expression for all
        section = {**section, "match": dict.fromkeys(folders, match)}
    suffixes, patterns, channels, ranges, matrices = (
        _by_modality(section, key, check)
        for key, check in (
            ("suffix", _suffix),
            ("match", _match),
            ("channels", _channels),
            ("range", _range),
            ("align", _matrix),
        )
    )
    if both := [name for name in patterns if suffixes.get(name)]:
        raise DatasetError(f"match and suffix both define the names of {both[0]}: use one of them")
    if (first := next(iter(folders))) in matrices:
        raise DatasetError(f"align: {first} is the first modality, onto which the others are mapped; leave it out")
    return modalities_of(
        {
            "modalities": {name: channels.get(name, 3) for name in folders},
            "visible": visible,
            **dict(zip(READING_KEYS, (suffixes, patterns, ranges, matrices, section.get("filter")), strict=True)),
        }
    )


def keys_of(modalities: Sequence[Modality]) -> dict[str, Any]:
    """Return the entries of Ultralytics' dataset dictionary from which `modalities_of` reads modalities."""
    values = {
        "suffix": {modality.name: modality.suffix for modality in modalities},
        "match": {modality.name: modality.match for modality in modalities},
        "range": {modality.name: _thawed(modality.value_range) for modality in modalities},
        "align": {modality.name: _thawed(modality.align) for modality in modalities},
        "filter": {each.name: {each.filter.keeps: each.filter.window} for each in modalities if each.filter},
    }
    return {
        "channels": sum(modality.channels for modality in modalities),
        "modalities": {modality.name: modality.channels for modality in modalities},
        "visible": next((modality.name for modality in modalities if modality.visible), None),
        **{key: {name: value for name, value in by_name.items() if value} for key, by_name in values.items()},
    }


def filters_of(value: Any, modalities: Mapping[str, Any]) -> dict[str, WindowFilter]:
    """Read the filter of each modality that has one, see `read_filters`."""
    try:
        return read_filters(value, modalities)
    except ValueError as error:
        raise DatasetError(str(error)) from None


def check_names(modalities: Mapping[str, Any]) -> None:
    """Raise DatasetError if a name of a modality is not allowed, see `check_modality_names`."""
    try:
        check_modality_names(modalities)
    except ValueError as error:
        raise DatasetError(f"modalities: {error}") from None


def _frozen(value: Any) -> Any:
    """Turn lists into tuples, at any depth."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    """Turn tuples into lists, at any depth, for YAML."""
    return list(map(_thawed, value)) if isinstance(value, tuple) else value


def _by_modality(section: Mapping[str, Any], key: str, check: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Return the checked values of a key by modality, in the order of the modalities; {} if it is left out."""
    values, modalities = section.get(key), section["modalities"]
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise DatasetError(f"{key}={values!r} must map modalities to values, like {{{next(iter(modalities))}: …}}")
    for name in values:
        if name not in modalities:
            raise DatasetError(f"{key}: {name} is not a modality: choose from {', '.join(modalities)}")
    return {name: check(name, values[name]) for name in modalities if name in values}


def _suffix(name: str, value: Any) -> str:
    if not isinstance(value, str) or "/" in value or "\\" in value:
        raise DatasetError(f"suffix: {name}={value!r} must be the end of a file's stem, like _{name}")
    return value


def _match(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise DatasetError(f"match: {name}={value!r} must be a regular expression with one group, like {name}_(.+)")
    try:
        match_pattern(value)
    except ValueError as error:
        raise DatasetError(f"match: {name}={value!r} {error}") from None
    return value


def _channels(name: str, value: Any) -> int:
    if type(value) is not int or value not in CHANNELS:
        raise DatasetError(f"channels: {name}={value!r} is unknown: choose from {', '.join(map(str, CHANNELS))}")
    return value


def _range(name: str, value: Any) -> tuple[float, float] | str:
    try:
        return read_range(name, value)
    except ValueError as error:
        raise DatasetError(str(error)) from None


def _matrix(name: str, value: Any) -> list[list[float]]:
    rows = value if isinstance(value, list | tuple) else []
    sizes = [len(row) if isinstance(row, list | tuple) else 0 for row in rows]
    if sizes != [3, 3, 3] or not all(is_finite_number(number) for row in rows for number in row):
        raise DatasetError(f"align: {name}={value!r} must be a matrix of three rows with three numbers each")
    if np.linalg.matrix_rank(np.array(rows, float)) < 3:
        raise DatasetError(f"align: {name}={value!r} is singular: it maps the image onto a line or a point")
    return [list(row) for row in rows]
