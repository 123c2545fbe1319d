"""Reasons to look at a converted set before training on it: what training or `inspect` would find later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOST = 0.5
"""From this share of pairs or objects left out, the rest does not represent the source."""

IDENTICAL = 0.01
"""From this share of pairs with the same file twice, folders were mixed up; fewer may be stand-ins."""

CONTRADICTING = 0.1
"""From this share of images with labels beyond the stated size, that size is wrong; single ones are slips."""


@dataclass(frozen=True)
class PairEvidence:
    """What one converted pair shows.

    Attributes:
        split: Its split.
        boxes: Number of objects kept.
        had_objects: Whether the source has objects for it.
        identical: Modalities whose file equals that of the first one.
        without_8_bits: Modalities whose image can be read only with the key "range".
        odd_size: The size stated by its annotation, as text, if none of its images has it.
        size_is_confirmed: Whether the labels fit that size and not another: they need the room, or stay within less.
        size_is_contradicted: Whether labels reach beyond that size.
        size_is_open: Whether its images differ in size, and the labels may be for any of them.
    """

    split: str = ""
    boxes: int = 0
    had_objects: bool = False
    identical: Sequence[str] = ()
    without_8_bits: Sequence[str] = ()
    odd_size: str = ""
    size_is_confirmed: bool = False
    size_is_contradicted: bool = False
    size_is_open: bool = False


def doubts_of(pairs: Sequence[PairEvidence], left_out: Mapping[str, Mapping[str, Any]], first: str) -> list[str]:
    """Return sentences why a converted set needs a look before training; empty if all is well.

    Args:
        pairs: The pairs kept.
        left_out: Counts by reason, as in conversion.json; a reason begins with "pair:", "image:" or "box:".
        first: The first modality.
    """
    return [*_identical(pairs, first), *_missing(pairs), *_lost(pairs, left_out), *_sizes(pairs), *_values(pairs)]


def notes_of(pairs: Sequence[PairEvidence], first: str) -> Iterator[str]:
    """Yield what the user should know about single pairs, short of a doubt."""
    for name, count in _count(pair.identical for pair in pairs).items():
        if count < IDENTICAL * len(pairs):
            yield f"{name} is the same file as {first} in {count} pairs, byte for byte"
    empty = sum(not pair.boxes for pair in pairs)
    if LOST * len(pairs) <= empty < len(pairs):
        yield f"{empty} of {len(pairs)} pairs have no object: check that all of them are annotated"
    odd_sizes = [pair.odd_size for pair in pairs if pair.odd_size]
    if odd_sizes and not any(_sizes(pairs)):
        yield f"{_odd_sizes(len(odd_sizes), odd_sizes[0])}: their labels were resized with it"


def _count(names: Iterator[Sequence[str]]) -> Counter[str]:
    return Counter(name for of_pair in names for name in of_pair)


def _odd_sizes(count: int | str, example: str) -> str:
    return f"{count} annotations state a size that none of their images has, for example {example}"


def _identical(pairs: Sequence[PairEvidence], first: str) -> Iterator[str]:
    for name, count in _count(pair.identical for pair in pairs).items():
        if count >= IDENTICAL * len(pairs):
            yield (
                f"{name} is the same file as {first} in {count} of {len(pairs)} pairs, byte for byte: check the folders"
            )


def _missing(pairs: Sequence[PairEvidence]) -> Iterator[str]:
    for split in ("train", "val"):
        boxes = [pair.boxes for pair in pairs if pair.split == split]
        if not boxes:
            yield f"there is no pair for {split}: training needs both train and val"
        elif not any(boxes):
            yield f"no pair for {split} has an object: there is nothing to learn or to measure"


def _lost(pairs: Sequence[PairEvidence], left_out: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for what, kinds, kept in (
        ("pairs", ("pair", "image"), len(pairs)),
        ("objects", ("box",), sum(pair.boxes for pair in pairs)),
    ):
        reasons = {reason: entry["count"] for reason, entry in left_out.items() if reason.partition(":")[0] in kinds}
        lost = sum(reasons.values())
        if lost and lost >= LOST * (lost + kept):
            most = max(reasons, key=reasons.__getitem__)
            yield f"{lost} of {lost + kept} {what} were left out, most of them for this reason: {most}"
    emptied = sum(pair.had_objects and not pair.boxes for pair in pairs)
    with_objects = emptied + sum(pair.boxes > 0 for pair in pairs)
    if emptied and emptied >= LOST * with_objects:
        yield f"{emptied} of {with_objects} pairs with objects lost them all"


def _sizes(pairs: Sequence[PairEvidence]) -> Iterator[str]:
    total, odd = len(pairs), [pair for pair in pairs if pair.odd_size]
    if odd and len(odd) >= LOST * total:
        finding = _odd_sizes(f"{len(odd)} of {total}", odd[0].odd_size)
        if sum(pair.size_is_contradicted for pair in odd) > CONTRADICTING * len(odd):
            yield f"{finding}, and labels reach beyond it: check whether they fit"
        elif not any(pair.size_is_confirmed for pair in odd):
            yield f"{finding}; their labels were resized with it, but would fit the images as they are: check some"
    ambiguous = sum(pair.size_is_open for pair in pairs)
    if ambiguous and ambiguous >= LOST * total:
        yield (
            f"the images of {ambiguous} of {total} pairs differ in size, and their annotations do not state which one "
            "the labels are for: the first modality was assumed"
        )


def _values(pairs: Sequence[PairEvidence]) -> Iterator[str]:
    for name, count in _count(pair.without_8_bits for pair in pairs).items():
        yield f"{count} {name} images hold values that have no 8-bit reading: training needs the key 'range' for {name}"
