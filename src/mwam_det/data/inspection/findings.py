"""From figures to findings: what a person should know, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mwam_det.data.inspection.figures import SMALL_AT_TRAINING, Inspection, ModalityFigures, PairFigures
from mwam_det.data.inspection.views import CLEAR

PSEUDO_COLOUR_CHROMA = 60.0
"""Few photographs have a higher mean chroma, while thermal images in pseudo-colour have about 100."""

MISMATCH_PAIRS = 6
"""Only of so many pairs it is told that their edges do not agree."""

SHIFT_AT_TRAINING = 5.0
"""A shift of so many pixels at the training size is a finding: more than half a cell of the finest grid (8 pixels)."""

NARROW_SHARE = 0.2
"""Files of more than 8 bits that fill a narrow band are a finding from this share on: some scenes are of one warmth."""

EVEN = 8.0
"""Levels that a modality must use for its edges to be told: where nothing is seen, nothing agrees."""

CHANCE = 0.15
"""In no more than this share of pairs edges agree by chance, where scenes are as simple as a few blocks."""

_SERIOUS, _COSTLY, _HINT = range(3)
_Found = Iterator[tuple[int, str]]


def findings_of(inspection: Inspection) -> list[str]:
    """Say in sentences what a person should know, the most serious first; nothing if all is well."""
    found = [
        *_pair_findings(inspection),
        *_leak_findings(inspection),
        *_split_findings(inspection),
        *_hints(inspection),
    ]
    return [sentence for _, sentence in sorted(found, key=lambda finding: finding[0])]  # stable


def pair_findings_of(figures: PairFigures) -> list[str]:
    """Say what spoils a training that reads such files, in a sentence each, the most serious first."""
    found = [finding for finding in _pair_findings(figures) if finding[0] < _HINT]
    return [sentence for _, sentence in sorted(found, key=lambda finding: finding[0])]


def _pair_findings(figures: PairFigures) -> _Found:
    yield from _identical_findings(figures)
    yield from _swap_findings(figures)
    yield from _pixel_findings(figures)
    yield from _lost_findings(figures)
    yield from _size_findings(figures)
    yield from _view_findings(figures)


def _identical_findings(inspection: PairFigures) -> _Found:
    for name, figures in inspection.alignment.items():
        for other, count in figures.same_file.items():
            yield (
                _SERIOUS,
                f"{name} is the same file as {other} in {count:,} of {figures.compared:,} pairs, byte for byte, like "
                f"{figures.examples[f'same_file {other}'][0]}: check the folders in 'modalities' are right.",
            )
        for other, count in figures.same_picture.items():
            if other not in figures.same_file:
                yield (
                    _SERIOUS,
                    f"{name} shows the same picture as {other}, but for colour or compression, in {count:,} of "
                    f"{figures.sampled:,} pairs looked at, like {figures.examples[f'same_picture {other}'][0]}: it is "
                    "a copy, not another sensor.",
                )


def _swap_findings(inspection: PairFigures) -> _Found:
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


def _pixel_findings(inspection: PairFigures) -> _Found:
    for name, figures in inspection.modalities.items():
        low, _, high = figures.levels
        if figures.uniform:
            yield (
                _SERIOUS,
                f"{name} is one even value, as training reads it, in {figures.uniform:,} of {figures.sampled:,} pairs "
                f"looked at, like {figures.examples['uniform'][0]}.",
            )
        if figures.band is not None and figures.narrow > NARROW_SHARE * figures.deep:
            yield (
                _SERIOUS,
                f"{name} fills levels {figures.band[0]:.0f} to {figures.band[1]:.0f} of 255 alone, as training reads "
                f"its files of more than 8 bits, in {figures.narrow:,} of {figures.sampled:,} pairs looked at, like "
                f"{figures.examples['narrow'][0]}: it is nearly one even value.{_range_remedy(inspection, name)}",
            )
        elif figures.uniform < figures.sampled and high - low < 32:
            yield (
                _SERIOUS,
                f"{name} uses levels {low:.0f} to {high:.0f} of 255 alone, as training reads it (98 % of the pixels of "
                f"{figures.sampled:,} pairs; files: {', '.join(figures.formats)}): it is nearly one even value."
                f"{_range_remedy(inspection, name)}",
            )


def _range_remedy(inspection: PairFigures, name: str) -> str:
    """Say what the key "range" of the data section should be."""
    figures = inspection.modalities[name]
    given = figures.value_range
    remedies = []
    if figures.values is not None:
        remedies.append(f"'range: {{{name}: {list(figures.values)}}}' spreads all that these files hold")
    if inspection.aligns and given != "percentile" and figures.unmeasured < 0.01:  # the 1st percentile would be 0
        remedies.append(f"'range: {{{name}: percentile}}' spreads each image by itself")
    if not remedies:
        remedies.append("[lo, hi] says which values become 0 and 255")
    misfit = ""
    if given is not None:
        shown = given if isinstance(given, str) else list(given)
        misfit = f" Its values do not fit 'range: {{{name}: {shown}}}'."
    return f"{misfit} In the data section, {', and '.join(remedies)}."


def _lost_findings(inspection: PairFigures) -> _Found:
    for name, figures in inspection.modalities.items():
        for what, count in figures.lost.items():
            rest = "first 3 alone" if what == "4 channels" else "first alone"
            rest += " (a 4th is transparency, or a sensor)" if what == "4 channels" else ""
            yield (
                _SERIOUS,
                f"{name} has {what} in {count:,} of {figures.sampled:,} pairs looked at, like "
                f"{figures.examples['lost'][0]}, and training reads the {rest}: if the rest is a modality, write it to "
                "files of its own and name their folder in 'modalities'.",
            )


def _size_findings(inspection: PairFigures) -> _Found:
    first = inspection.first_modality
    for name, figures in inspection.modalities.items():
        beside = (
            f"{brief_list(figures.sizes, 4)} px beside {brief_list(inspection.modalities[first].sizes, 4)} of {first}"
        )
        where = f"in {figures.other_shape:,} of {inspection.pairs:,} pairs"
        if _is_distorted(inspection, name):
            yield (
                _COSTLY,
                f"{name} has another ratio of width to height than {first} {where} ({beside}): it is distorted to fit."
                f"{_turned_by_exif(inspection, name)}{_lies(inspection, name)}",
            )
        elif figures.other_shape:
            shown = "; ".join(figures.examples["other_shape"])
            yield (
                _COSTLY,
                f"{name} has another ratio of width to height than {first} {where}, like {shown}: it is distorted to "
                "fit. Are these files whole, and of the same sensor?",
            )
        elif figures.other_size:
            yield (
                _HINT,
                f"{name} has another size than {first} in {figures.other_size:,} of {inspection.pairs:,} pairs "
                f"({beside}): it is resized to fit.",
            )
        if figures.odd:
            shown = brief_list((f"{path} with {size} px" for path, size in figures.odd.items()), 4)
            yield (
                _COSTLY,
                f"{name} has a size unlike the others in {len(figures.odd):,} of {inspection.pairs:,} pairs, like "
                f"{shown}, where most have {next(iter(figures.sizes))}. Are these files whole, and of the same sensor?",
            )


def _turned_by_exif(inspection: PairFigures, name: str) -> str:
    """Say which of a modality and the first is turned by EXIF in most pairs, if the other is not."""
    first = inspection.first_modality
    turned = [one for one in (first, name) if inspection.modalities[one].turned > 0.5 * inspection.sampled]
    if len(turned) != 1:
        return ""
    other = name if turned == [first] else first
    return f" {turned[0]} is turned upright by the EXIF tag of its files, and {other} has no such tag."


def _levels(figures: ModalityFigures) -> float:
    """Return how many levels of 255 a modality uses."""
    return figures.levels[2] - figures.levels[0]


def _is_distorted(inspection: PairFigures, name: str) -> bool:
    """Return whether most files of a modality have another shape than their partners."""
    return inspection.modalities[name].other_shape > 0.5 * inspection.pairs


def _lies(inspection: PairFigures, name: str) -> str:
    """Say how a modality of another shape lies beside the first, as far as edges tell."""
    first, figures = inspection.first_modality, inspection.alignment[name]
    if figures.view is not None:
        turned = f" By its edges, {name} {figures.view.turn} against {first}." if figures.view.turn else ""
        return f"{turned}{_align_remedy(inspection, name)}"
    if figures.clarity >= CLEAR:
        return f" Its edges agree with those of {first} when it is, so it may have been resized before."
    return _align_remedy(inspection, name) if figures.looked else ""


def _align_remedy(inspection: PairFigures, name: str) -> str:
    """Say which matrix brings a modality to its place, or where one comes from."""
    first, matrix = inspection.first_modality, inspection.alignment[name].remedy
    by_hand = "a calibration, or from four points that both show (cv2.getPerspectiveTransform)"
    if not inspection.aligns:
        source = f"{matrix}" if matrix else f"a matrix from {by_hand}"
        return f" There is no key for that here: write its files anew, mapped onto {first}'s by {source}."
    if matrix:
        return f" In the data section, 'align: {{{name}: {matrix}}}' maps it onto {first}."
    return (
        f" Look at pairs.png of `mwam-det inspect`; 'align: {{{name}: [[…], […], […]]}}' of the data section maps it "
        f"onto {first}, by a matrix from {by_hand}."
    )


def _view_findings(inspection: PairFigures) -> _Found:
    first = inspection.first_modality
    longest = max(int(number) for number in next(iter(inspection.modalities[first].sizes)).split("×"))
    unit = longest / inspection.imgsz  # pixels of a file in one of training
    for name, figures in inspection.alignment.items():
        if not figures.looked or first in figures.same_file or first in figures.same_picture:
            continue
        agree = f"edges agree in {figures.edges_agree:,} of {figures.sampled:,} pairs looked at"
        if _is_distorted(inspection, name) and (figures.view is not None or figures.clarity < CLEAR):
            continue  # it is told with the shape
        if figures.view is not None and figures.view.turn is not None:
            cause = _turned_by_exif(inspection, name)
            yield _SERIOUS, f"{name} does not lie as {first} does ({agree}).{cause}{_lies(inspection, name)}"
        elif figures.view is not None:
            yield (
                _SERIOUS,
                f"{name} has another field of view than {first}: what both show is {figures.view.scale:.2f} times as "
                f"wide in {name}, and {figures.view.displacement:.0f} px off in the mean ({agree} as they are). Labels "
                f"fit one of the two at best.{_align_remedy(inspection, name)}",
            )
        elif figures.shift is not None:
            x, y = figures.shift
            if max(abs(x), abs(y)) / unit < SHIFT_AT_TRAINING:
                continue
            sideways = f"{abs(x):.0f} px {'right' if x > 0 else 'left'} of"
            upright = f"{abs(y):.0f} px {'below' if y > 0 else 'above'}"
            parts = [part for part, by in ((sideways, x), (upright, y)) if abs(by) >= 1]
            yield (
                _SERIOUS,
                f"{name} is shifted: what it shows lies {' and '.join(parts)} where {first} shows it (in pixels of "
                f"{first}'s files; {agree}). Labels fit one of the two at best.{_align_remedy(inspection, name)}",
            )
        elif (
            figures.spread is not None
            and figures.edges_agree >= max(5, 0.5 * figures.sampled)
            and max(figures.spread) / unit >= SHIFT_AT_TRAINING
        ):
            x, y = figures.spread
            yield (
                _COSTLY,
                f"{name} is perhaps shifted against {first} by an amount that differs from pair to pair: half of the "
                f"pairs lie within ±{x:.0f} px sideways and ±{y:.0f} px up and down ({agree}).",
            )
        elif figures.clarity < CLEAR and (cause := _turned_by_exif(inspection, name)):
            yield (
                _COSTLY,
                f"{name} and {first} perhaps do not lie alike ({agree}).{cause}{_align_remedy(inspection, name)}",
            )
        elif (
            figures.clarity < CLEAR
            and figures.edges_agree <= CHANCE * figures.sampled
            and figures.sampled >= MISMATCH_PAIRS
            and min(_levels(inspection.modalities[one]) for one in (first, name)) >= EVEN
        ):
            yield (
                _COSTLY,
                f"{name} and {first} have edges in common in {figures.edges_agree:,} of {figures.sampled:,} pairs "
                f"looked at, no more than chance explains: perhaps pairs are mixed up, or their fields of view "
                f"differ.{_align_remedy(inspection, name)}",
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
