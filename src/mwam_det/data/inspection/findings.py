"""From figures to findings: what a person should know, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mwam_det.data.inspection.figures import SMALL_AT_TRAINING, Inspection

PSEUDO_COLOUR_CHROMA = 60.0
"""Few photographs have a higher mean chroma, while thermal images in pseudo-colour have about 100."""

MISMATCH_IMGSZ = 240
"""Only of images at least so long at the training size, in pixels, it is told that their edges do not agree."""

MISMATCH_PAIRS = 10
"""Only of so many pairs it is told that their edges do not agree."""

SHIFT_AT_TRAINING = 5.0
"""A shift of so many pixels at the training size is a finding: more than half a cell of the finest grid (8 pixels)."""


def findings_of(inspection: Inspection) -> list[str]:
    """Say in sentences what a person should know, the most serious first; nothing if all is well."""
    found = [
        *_identical_findings(inspection),
        *_swap_findings(inspection),
        *_pixel_findings(inspection),
        *_shift_findings(inspection),
        *_leak_findings(inspection),
        *_split_findings(inspection),
        *_size_findings(inspection),
        *_hints(inspection),
    ]
    return [sentence for _, sentence in sorted(found, key=lambda finding: finding[0])]  # stable


_SERIOUS, _COSTLY, _HINT = range(3)
_Found = Iterator[tuple[int, str]]


def _identical_findings(inspection: Inspection) -> _Found:
    first = inspection.first_modality
    for name, figures in inspection.alignment.items():
        if figures.same_file:
            yield (
                _SERIOUS,
                f"{name} is the very file of {first} in {figures.same_file:,} of {inspection.pairs:,} pairs, byte for "
                f"byte, like {figures.examples['same_file'][0]}: look whether the folders in 'modalities' are right.",
            )
        elif figures.same_picture:
            yield (
                _SERIOUS,
                f"{name} shows the same picture as {first}, but for colour or compression, in {figures.same_picture:,} "
                f"of {figures.sampled:,} pairs looked at, like {figures.examples['same_picture'][0]}: it is a copy, "
                "not another sensor.",
            )


def _swap_findings(inspection: Inspection) -> _Found:
    for name, figures in inspection.alignment.items():
        if not figures.swapped:
            continue
        visible = inspection.visible
        where = f"in {figures.swapped:,} of {figures.sampled:,} pairs looked at, like {figures.examples['swapped'][0]}"
        sure = figures.swapped >= 0.8 * figures.sampled and inspection.modalities[name].chroma < PSEUDO_COLOUR_CHROMA
        verdict = "seem" if sure else "are perhaps"
        aside = "" if sure else f" (or {name} is thermal in pseudo-colour and {visible} has no colour)"
        yield (
            _SERIOUS,
            f"{visible} and {name} {verdict} swapped: {visible} is grey while {name} has colour {where}{aside}.",
        )


def _pixel_findings(inspection: Inspection) -> _Found:
    for name, figures in inspection.modalities.items():
        low, _, high = figures.levels
        if figures.uniform:
            yield (
                _SERIOUS,
                f"{name} is one even value, as training reads it, in {figures.uniform:,} of {figures.sampled:,} pairs "
                "looked at.",
            )
        if figures.uniform < figures.sampled and high - low < 32:
            remedy = ""
            if figures.value_range is not None:
                given = figures.value_range if isinstance(figures.value_range, str) else list(figures.value_range)
                remedy = f" Its values do not fit 'range: {{{name}: {given}}}' of the data section."
            elif any(not kind.startswith("8 bit") for kind in figures.formats):
                remedy = f" In the data section, 'range: {{{name}: percentile}}' or [lo, hi] spreads them."
            yield (
                _SERIOUS,
                f"{name} uses levels {low:.0f} to {high:.0f} of 255 alone, as training reads it (98 % of the pixels of "
                f"{figures.sampled:,} pairs; files: {', '.join(figures.formats)}): it is nearly one even value."
                f"{remedy}",
            )


def _shift_findings(inspection: Inspection) -> _Found:
    first = inspection.first_modality
    longest = max(int(number) for number in next(iter(inspection.modalities[first].sizes)).split("×"))
    unit = longest / inspection.imgsz  # pixels of a file in one of training
    for name, figures in inspection.alignment.items():
        rests = f"median of the {figures.edges_agree:,} of {figures.sampled:,} pairs looked at whose edges agree"
        if figures.shift is not None:
            x, y = figures.shift
            if max(abs(x), abs(y)) / unit < SHIFT_AT_TRAINING:
                continue
            sideways = f"{abs(x):.0f} px {'right' if x > 0 else 'left'} of"
            upright = f"{abs(y):.0f} px {'below' if y > 0 else 'above'}"
            parts = [part for part, by in ((sideways, x), (upright, y)) if abs(by) >= 1]
            remedy = f" In the data section, 'align: {{{name}: {figures.remedy}}}' takes it back."
            yield (
                _SERIOUS,
                f"{name} is shifted: what it shows lies {' and '.join(parts)} where {first} shows it (in pixels of "
                f"{first}'s files, {rests}). Boxes fit one of the two at best.{remedy if figures.remedy else ''}",
            )
        elif figures.edges_agree >= max(5, 0.5 * figures.sampled) and max(figures.spread) / unit >= SHIFT_AT_TRAINING:
            x, y = figures.spread
            yield (
                _COSTLY,
                f"{name} is perhaps shifted against {first} by an amount that differs from pair to pair: half of the "
                f"pairs lie within ±{x:.0f} px sideways and ±{y:.0f} px up and down ({rests}).",
            )
        elif (
            figures.edges_agree < 0.2 * figures.sampled
            and figures.sampled >= MISMATCH_PAIRS
            and inspection.imgsz >= MISMATCH_IMGSZ
            and inspection.modalities[name].uniform < 0.5 * figures.sampled
        ):
            yield (
                _COSTLY,
                f"{name} and {first} have edges in common in {figures.edges_agree:,} of {figures.sampled:,} pairs "
                "looked at: perhaps pairs are mixed up or far out of line, which the contact sheet shows.",
            )


def _leak_findings(inspection: Inspection) -> _Found:
    for name, repeated in inspection.repeated.items():
        for splits, count in repeated.items():
            several = ", " in splits  # splits that share them
            files = "1 file" if count == 1 else f"{count:,} files"
            if several:
                text = f"{files} of {name} in {splits.replace(', ', ' and ')} alike, byte for byte: figures on such"
                yield _SERIOUS, f"{text} images tell nothing of new ones."
            else:
                yield _HINT, f"{files} of {name} in {splits} repeating another, byte for byte."


def _split_findings(inspection: Inspection) -> _Found:
    for split, figures in inspection.splits.items():
        if left_out := figures.images - figures.pairs:
            reasons = "; ".join(
                f"{reason} ({entry['count']:,}, like {entry['examples'][0]})"
                for reason, entry in figures.left_out.items()
            )
            serious = left_out > 0.05 * figures.images
            yield (
                _SERIOUS if serious else _COSTLY,
                f"{split}: {left_out:,} of {figures.images:,} images are left out: {reasons}.",
            )
        for name, count in figures.left_over.items():
            yield _COSTLY, f"{split}: images of {name} without a partner, which are not used: {count:,}."
        total = sum(figures.boxes.values())
        if not total:
            yield _SERIOUS, f"{split}: no pair has an object; look whether the folder of the labels is right."
            continue
        if figures.stray_labels:
            yield _COSTLY, f"{split}: label files that have the name of no image: {figures.stray_labels:,}."
        if figures.without_label_file > 0.2 * figures.pairs:
            yield (
                _COSTLY,
                f"{split}: {figures.without_label_file:,} of {figures.pairs:,} pairs have no label file and count as "
                "images without objects.",
            )
        for count, what in ((figures.past_border, "reach past the border"), (figures.thin, "are thinner than 1 px")):
            if count:
                yield _COSTLY, f"{split}: of {total:,} boxes, {count:,} {what}."
        if figures.small > 0.1 * total:
            yield (
                _COSTLY,
                f"{split}: {figures.small:,} of {total:,} boxes are shorter than {SMALL_AT_TRAINING:.0f} px at "
                f"imgsz={inspection.imgsz}: a larger imgsz may find them.",
            )
        if missing := [name for name, count in figures.boxes.items() if not count]:
            yield _COSTLY, f"{split}: no object of {brief_list(missing)}."


def _size_findings(inspection: Inspection) -> _Found:
    first = inspection.first_modality
    for name, figures in inspection.modalities.items():
        if figures.other_shape:
            yield (
                _COSTLY,
                f"{name} has another ratio of width to height than {first} in {figures.other_shape:,} of "
                f"{inspection.pairs:,} pairs ({brief_list(figures.sizes)} px): it is distorted to fit.",
            )
        elif figures.other_size:
            yield (
                _HINT,
                f"{name} has another size than {first} in {figures.other_size:,} of "
                f"{inspection.pairs:,} pairs ({brief_list(figures.sizes)} px): it is resized to fit.",
            )


def _hints(inspection: Inspection) -> _Found:
    visible = inspection.visible
    for name, figures in inspection.modalities.items():
        coloured = figures.coloured / figures.sampled
        swapped = name in inspection.alignment and inspection.alignment[name].swapped
        if name == visible and coloured < 0.5 and not any(a.swapped for a in inspection.alignment.values()):
            yield (
                _HINT,
                f"{name} has no colour in {figures.sampled - figures.coloured:,} of {figures.sampled:,} pairs looked "
                "at: perhaps night, a grey camera or another sensor.",
            )
        if visible is not None and name != visible and figures.coloured and not swapped:
            mixed = " and grey in the others" if coloured < 0.95 else ""
            yield (
                _HINT,
                f"{name} has colour in {figures.coloured:,} of {figures.sampled:,} pairs looked at{mixed}: perhaps "
                "thermal in pseudo-colour, or a camera's pictures in the wrong folder.",
            )
    flat = inspection.preference.flat_patches
    if flat is not None and flat > 0.05:
        yield (
            _HINT,
            f"{flat:.0%} of the 8×8 patches are flat in all modalities at once: perhaps a frame around the images, "
            "which could be cut off.",
        )
    for name, count in inspection.preference.dead.items():
        if count:
            yield (
                _COSTLY,
                f"{name} is 0 throughout in {count:,} of {inspection.preference.batches:,} mini-batches as training "
                "makes them; its shares and weights are of the others.",
            )
    for reason, count in inspection.preference.skipped.items():
        yield _COSTLY, f"MWAM has nothing to go by in {count:,} of {inspection.preference.batches:,} batches: {reason}."


def brief_list(words: Iterable[str], most: int = 8) -> str:
    """Join words by commas; of many, name the first and count the others."""
    words = list(words)
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[: most - 1])} and {len(words) - most + 1} more"
