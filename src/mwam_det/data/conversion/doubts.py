"""What makes a converted set doubtful: what training or `inspect` would find, told before anybody trains on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GONE = 0.5
"""From this share of pairs or objects that are left out on, the rest is not what the source holds."""

IDENTICAL = 0.01
"""From this share of pairs with the same file twice on, folders were mixed up; fewer may be stand-ins."""

CONTRADICTING = 0.1
"""From this share of images on, labels beyond a stated size say that it is wrong; single ones are slips."""


@dataclass(frozen=True)
class PairEvidence:
    """What one pair shows.

    Attributes:
        identical: Modalities whose file is that of the first one.
        without_8_bits: Modalities whose image is read by the key "range" alone.
        had_objects: Whether the source has objects for it.
        odd_size: The size that its annotation states, if no image has it, for the user.
        size_is_confirmed: Whether its labels tell that this size is right: they need the room, or keep within less.
        size_is_contradicted: Whether labels reach beyond this size.
        size_is_open: Whether its images differ in size, and its labels may be for any of them.
    """

    identical: Sequence[str] = ()
    without_8_bits: Sequence[str] = ()
    had_objects: bool = False
    odd_size: str = ""
    size_is_confirmed: bool = False
    size_is_contradicted: bool = False
    size_is_open: bool = False


@dataclass
class Tally:
    """What became of the pairs of a conversion.

    Attributes:
        pairs: Pairs kept, by split.
        boxes: Objects kept, by split.
        labelled: Pairs with an object that was kept.
        bereft: Pairs that had objects, none of which was kept.
        identical: Pairs whose file of a modality is that of the first one, by modality.
        without_8_bits: Images that need a range to be read, by modality.
        odd_sizes: Stated sizes that no image has.
        confirmed: How many of these labels tell to be right.
        contradicted: How many of these labels reach beyond.
        open: Pairs whose labels may be for any of their images.
    """

    pairs: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    bereft: int = 0
    identical: Counter[str] = field(default_factory=Counter)
    without_8_bits: Counter[str] = field(default_factory=Counter)
    odd_sizes: list[str] = field(default_factory=list)
    confirmed: int = 0
    contradicted: int = 0
    open: int = 0

    def add(self, split: str, boxes: int, evidence: PairEvidence) -> None:
        """Count a pair of which `boxes` objects were kept."""
        self.pairs[split] += 1
        self.boxes[split] += boxes
        self.labelled += boxes > 0
        self.bereft += evidence.had_objects and not boxes
        self.identical.update(evidence.identical)
        self.without_8_bits.update(evidence.without_8_bits)
        self.odd_sizes += [evidence.odd_size] if evidence.odd_size else []
        self.confirmed += evidence.size_is_confirmed
        self.contradicted += evidence.size_is_contradicted
        self.open += evidence.size_is_open


def doubts_of(tally: Tally, left_out: Mapping[str, Mapping[str, Any]], first: str) -> list[str]:
    """Say in sentences why nobody should train on a converted set without a look; nothing if all is well.

    Args:
        tally: What became of its pairs.
        left_out: Number by reason, as in conversion.json; a reason begins with "pair:", "image:" or "box:".
        first: The first modality.
    """
    return [*_identical(tally, first), *_missing(tally), *_gone(tally, left_out), *_sizes(tally), *_values(tally)]


def notes_of(tally: Tally, first: str) -> Iterator[str]:
    """Say what a user should know of single pairs, which are no reason for doubt."""
    for name, count in tally.identical.items():
        if count < IDENTICAL * tally.pairs.total():
            yield f"{name} is the very file of {first} in {count} pairs, byte for byte"
    total, empty = tally.pairs.total(), tally.pairs.total() - tally.labelled
    if tally.labelled and empty >= GONE * total:
        yield f"{empty} of {total} pairs have no object: look whether all of them are annotated"
    if tally.odd_sizes and not any(_sizes(tally)):
        yield (
            f"{len(tally.odd_sizes)} annotations state a size that none of their images has, for example "
            f"{tally.odd_sizes[0]}: "
            "their labels were resized with it"
        )


def _identical(tally: Tally, first: str) -> Iterator[str]:
    total = tally.pairs.total()
    for name, count in tally.identical.items():
        if count >= IDENTICAL * total:
            yield (
                f"{name} is the very file of {first} in {count} of {total} pairs, byte for byte: look whether the "
                "folders are right"
            )


def _missing(tally: Tally) -> Iterator[str]:
    for split in ("train", "val"):
        if not tally.pairs[split]:
            yield f"there is no pair for {split}: training needs both train and val"
        elif not tally.boxes[split]:
            yield f"no pair for {split} has an object: there is nothing to learn or to measure"


def _gone(tally: Tally, left_out: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for what, kinds, kept in (
        ("pairs", ("pair", "image"), tally.pairs.total()),
        ("objects", ("box",), tally.boxes.total()),
    ):
        reasons = {reason: entry["count"] for reason, entry in left_out.items() if reason.partition(":")[0] in kinds}
        gone = sum(reasons.values())
        if gone and gone >= GONE * (gone + kept):
            most = max(reasons, key=reasons.__getitem__)
            yield f"{gone} of {gone + kept} {what} were left out, most of them for this reason: {most}"
    if tally.bereft and tally.bereft >= GONE * (tally.bereft + tally.labelled):
        yield f"of {tally.bereft + tally.labelled} pairs with objects, {tally.bereft} lost them all"


def _sizes(tally: Tally) -> Iterator[str]:
    total, odd = tally.pairs.total(), len(tally.odd_sizes)
    if odd and odd >= GONE * total:
        told = (
            f"{odd} of {total} annotations state a size that none of their images has, for example {tally.odd_sizes[0]}"
        )
        if tally.contradicted > CONTRADICTING * odd:
            yield f"{told}, and labels reach beyond it: look whether they fit"
        elif not tally.confirmed:
            yield f"{told}; their labels were resized with it, but would fit into the images as they are: look at some"
    if tally.open and tally.open >= GONE * total:
        yield (
            f"the images of {tally.open} of {total} pairs differ in size, and their annotations do not say which of "
            "them the labels are for: they were taken for the first modality"
        )


def _values(tally: Tally) -> Iterator[str]:
    for name, count in tally.without_8_bits.items():
        yield f"{count} {name} images hold values that have no 8-bit reading: training needs the key 'range' for {name}"
