"""Turn figures into findings, in sentences for the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mwam_det.data.inspection.figures import SMALL_AT_TRAINING, Inspection, PairFigures
from mwam_det.data.inspection.views import CLEAR

PSEUDO_COLOUR_CHROMA = 60.0
"""Mean chroma that few photographs exceed; thermal images in pseudo-colour have about 100."""

MISMATCH_PAIRS = 6
"""Minimum number of pairs to report that their edges do not agree."""

SHIFT_AT_TRAINING = 5.0
"""Shift in pixels at the training size from which it is reported: more than half a cell of the finest grid (8)."""

NARROW_SHARE = 0.2
"""Share of deep files with a narrow band from which they are reported: some scenes have a uniform temperature."""

EVEN = 8.0
"""Levels that a modality must use for its edges to be judged."""

CHANCE = 0.15
"""Maximum share of pairs whose edges agree by chance, for simple scenes of a few blocks."""

_SERIOUS, _COSTLY, _HINT = range(3)
_Found = Iterator[tuple[int, str]]


def findings_of(inspection: Inspection) -> list[str]:
    """Return all findings, the most serious first."""
    return _sorted(
        [
            *_pair_findings(inspection),
            *_leak_findings(inspection),
            *_split_findings(inspection),
            *_hints(inspection),
        ]
    )


def pair_findings_of(figures: PairFigures) -> list[str]:
    """Return the findings about files that cost accuracy in training, the most serious first."""
    return _sorted([finding for finding in _pair_findings(figures) if finding[0] < _HINT])


def _sorted(found: Iterable[tuple[int, str]]) -> list[str]:
    return [sentence for _, sentence in sorted(found, key=lambda finding: finding[0])]  # stable


def _pair_findings(figures: PairFigures) -> _Found:
    yield from _identical_findings(figures)
    yield from _swap_findings(figures)
    yield from _pixel_findings(figures)
    yield from _lost_findings(figures)
    yield from _size_findings(figures)
    yield from _turn_findings(figures)
    yield from _view_findings(figures)


def _identical_findings(inspection: PairFigures) -> _Found:
    for name, figures in inspection.alignment.items():
        for other, count in figures.same_file.items():
            yield (
                _SERIOUS,
                f"{name} is the same file as {other} in {count:,} of {figures.compared:,} pairs, byte for byte, like "
                f"{figures.examples[f'same_file {other}'][0]}: check the folders in 'modalities'.",
            )
        for other, count in figures.same_picture.items():
            if other not in figures.same_file:
                yield (
                    _SERIOUS,
                    f"{name} shows the same picture as {other}, except for colour or compression, in {count:,} of "
                    f"{figures.sampled:,} sampled pairs, like {figures.examples[f'same_picture {other}'][0]}: it is a "
                    "copy, not another sensor.",
                )


def _swap_findings(inspection: PairFigures) -> _Found:
    for name, figures in inspection.alignment.items():
        if not figures.swapped:
            continue
        visible = inspection.visible
        where = f"in {figures.swapped:,} of {figures.sampled:,} sampled pairs, like {figures.examples['swapped'][0]}"
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
                f"{name} is a single value, as training reads it, in {figures.uniform:,} of {figures.sampled:,} "
                f"sampled pairs, like {figures.examples['uniform'][0]}.",
            )
        if figures.band is not None and figures.narrow > NARROW_SHARE * figures.deep:
            yield (
                _SERIOUS,
                f"{name} fills only levels {figures.band[0]:.0f} to {figures.band[1]:.0f} of 255, as training reads "
                f"its files of more than 8 bits, in {figures.narrow:,} of {figures.sampled:,} sampled pairs, like "
                f"{figures.examples['narrow'][0]}: it is nearly a single value.{_range_remedy(inspection, name)}",
            )
        elif figures.uniform < figures.sampled and high - low < 32:
            yield (
                _SERIOUS,
                f"{name} uses only levels {low:.0f} to {high:.0f} of 255, as training reads it (98 % of the pixels of "
                f"{figures.sampled:,} pairs; files: {', '.join(figures.formats)}): it is nearly a single value."
                f"{_range_remedy(inspection, name)}",
            )


def _range_remedy(inspection: PairFigures, name: str) -> str:
    """Suggest the key "range" of the data section."""
    figures = inspection.modalities[name]
    given = figures.value_range
    remedies = []
    if figures.values is not None:
        remedies.append(f"'range: {{{name}: {list(figures.values)}}}' spreads all values of these files")
    if inspection.aligns and given != "percentile" and figures.unmeasured < 0.01:  # the 1st percentile would be 0
        remedies.append(f"'range: {{{name}: percentile}}' spreads each image separately")
    if not remedies:
        remedies.append("'range' takes the values [lo, hi] that become 0 and 255")
    misfit = ""
    if given is not None:
        shown = given if isinstance(given, str) else list(given)
        misfit = f" Its values do not fit 'range: {{{name}: {shown}}}'."
    return f"{misfit} In the data section, {', and '.join(remedies)}."


def _lost_findings(inspection: PairFigures) -> _Found:
    for name, figures in inspection.modalities.items():
        for what, count in figures.lost.items():
            part = "first 3 (a 4th is transparency, or a sensor)" if what == "4 channels" else "first"
            yield (
                _SERIOUS,
                f"{name} has {what} in {count:,} of {figures.sampled:,} sampled pairs, like "
                f"{figures.examples['lost'][0]}, and training reads only the {part}: if the rest is a modality, write "
                "it to separate files and name their folder in 'modalities'.",
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
                f"{name} has another aspect ratio than {first} {where} ({beside}): it is distorted to fit."
                f"{_turned_by_exif(inspection, name)}{_orientation(inspection, name)}",
            )
        elif figures.other_shape:
            shown = "; ".join(figures.examples["other_shape"])
            yield (
                _COSTLY,
                f"{name} has another aspect ratio than {first} {where}, like {shown}: it is distorted to fit. Are "
                "these files complete, and of the same sensor?",
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
                f"{shown}, where most have {next(iter(figures.sizes))}. Are these files complete, and of the same "
                "sensor?",
            )


def _turn_findings(inspection: PairFigures) -> _Found:
    """Find pairs that EXIF turns unlike the others; one modality turned in all of them shows in its view."""
    for name, figures in inspection.alignment.items():
        if figures.looked and 0 < figures.turned_apart < figures.sampled:
            yield (
                _COSTLY,
                f"The EXIF tags of {name} and {inspection.first_modality} turn them differently in "
                f"{figures.turned_apart:,} of {figures.sampled:,} sampled pairs, like "
                f"{figures.examples['turned_apart'][0]}, and not in the others: which tags are wrong?",
            )


def _turned_by_exif(inspection: PairFigures, name: str) -> str:
    """Say which of a modality and the first is rotated by EXIF in most pairs, if only one is."""
    first = inspection.first_modality
    turned = [each for each in (first, name) if inspection.modalities[each].turned > 0.5 * inspection.sampled]
    if len(turned) != 1:
        return ""
    other = name if turned == [first] else first
    return f" {turned[0]} is turned upright by the EXIF tag of its files, and {other} has no such tag."


def _is_distorted(inspection: PairFigures, name: str) -> bool:
    """Return whether most files of a modality have another shape than their partners."""
    return inspection.modalities[name].other_shape > 0.5 * inspection.pairs


def _orientation(inspection: PairFigures, name: str) -> str:
    """Describe the orientation of a modality relative to the first, as far as edges show it, and the remedy."""
    first, figures = inspection.first_modality, inspection.alignment[name]
    if figures.view is not None:
        turned = f" By its edges, {name} {figures.view.turn} against {first}." if figures.view.turn else ""
        return f"{turned}{_align_remedy(inspection, name)}"
    if figures.clarity >= CLEAR:
        return f" Its edges then agree with those of {first}, so it may have been resized before."
    return _align_remedy(inspection, name) if figures.looked else ""


def _align_remedy(inspection: PairFigures, name: str) -> str:
    """Suggest the matrix that aligns a modality, or how to get one."""
    first, matrix = inspection.first_modality, inspection.alignment[name].remedy
    by_hand = "a calibration, or from four points that both show (cv2.getPerspectiveTransform)"
    if not inspection.aligns:
        source = f"{matrix}" if matrix else f"a matrix from {by_hand}"
        return f" There is no key for that here: write its files anew, mapped onto {first}'s by {source}."
    if matrix:
        return f" In the data section, 'align: {{{name}: {matrix}}}' maps it onto {first}."
    return (
        f" See pairs.png of `mwam-det inspect`; 'align: {{{name}: [[…], […], […]]}}' in the data section maps it onto "
        f"{first}, by a matrix from {by_hand}."
    )


def _view_findings(inspection: PairFigures) -> _Found:
    first = inspection.first_modality
    longest = max(int(number) for number in next(iter(inspection.modalities[first].sizes)).split("×"))
    unit = longest / inspection.imgsz  # pixels of a file per pixel of training
    for name, figures in inspection.alignment.items():
        if not figures.looked or first in figures.same_file or first in figures.same_picture:
            continue
        agree = f"edges agree in {figures.edges_agree:,} of {figures.sampled:,} sampled pairs"
        if _is_distorted(inspection, name) and (figures.view is not None or figures.clarity < CLEAR):
            continue  # reported with the shape
        if figures.view is not None and figures.view.turn is not None:
            cause = _turned_by_exif(inspection, name)
            yield (
                _SERIOUS,
                f"{name} has another orientation than {first} ({agree}).{cause}{_orientation(inspection, name)}",
            )
        elif figures.view is not None:
            yield (
                _SERIOUS,
                f"{name} has another field of view than {first}: what both show is {figures.view.scale:.2f} times as "
                f"wide in {name}, and {figures.view.displacement:.0f} px off on average ({agree} as they are). Labels "
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
                f"{name} is shifted: its content lies {' and '.join(parts)} that of {first} (in pixels of {first}'s "
                f"files; {agree}). Labels fit one of the two at best.{_align_remedy(inspection, name)}",
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
                f"{name} and {first} may differ in orientation ({agree}).{cause}{_align_remedy(inspection, name)}",
            )
        elif (
            figures.clarity < CLEAR
            and figures.edges_agree <= CHANCE * figures.sampled
            and figures.sampled >= MISMATCH_PAIRS
            and all(
                levels[2] - levels[0] >= EVEN for levels in (inspection.modalities[m].levels for m in (first, name))
            )
        ):
            yield (
                _COSTLY,
                f"{name} and {first} have common edges in only {figures.edges_agree:,} of {figures.sampled:,} sampled "
                "pairs, no more than by chance: perhaps pairs are mixed up, or their fields of view differ."
                f"{_align_remedy(inspection, name)}",
            )


def _leak_findings(inspection: Inspection) -> _Found:
    for name, repeated in inspection.repeated.items():
        for splits, count in repeated.items():
            files = "1 file" if count == 1 else f"{count:,} files"
            if ", " in splits:
                shared = f"{files} of {name} in both {splits.replace(', ', ' and ')}, byte for byte"
                yield _SERIOUS, f"{shared}: results on such images say nothing about new ones."
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
            yield _SERIOUS, f"{split}: no pair has an object; check the folder of the labels."
            continue
        if figures.stray_labels:
            yield _COSTLY, f"{split}: label files without an image: {figures.stray_labels:,}."
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
                f"{name} has no colour in {figures.sampled - figures.coloured:,} of {figures.sampled:,} sampled pairs: "
                "perhaps night, a grey camera or another sensor.",
            )
        if visible is not None and name != visible and figures.coloured and not swapped:
            mixed = " and grey in the others" if coloured < 0.95 else ""
            yield (
                _HINT,
                f"{name} has colour in {figures.coloured:,} of {figures.sampled:,} sampled pairs{mixed}: perhaps "
                "thermal in pseudo-colour, or camera images in the wrong folder.",
            )
    flat = inspection.preference.flat_patches
    if flat is not None and flat > 0.05:
        yield (
            _HINT,
            f"{flat:.0%} of the 8×8 patches are flat in all modalities at once: perhaps a frame around the images, "
            "which could be cropped.",
        )
    for name, count in inspection.preference.dead.items():
        if count:
            yield (
                _COSTLY,
                f"{name} is 0 throughout in {count:,} of {inspection.preference.batches:,} mini-batches of training; "
                "its shares and weights are over the others.",
            )
    for reason, count in inspection.preference.skipped.items():
        yield _COSTLY, f"MWAM has no evidence in {count:,} of {inspection.preference.batches:,} batches: {reason}."


def brief_list(words: Iterable[str], most: int = 8) -> str:
    """Join words by commas, naming the first ones and counting the others if there are many."""
    words = list(words)
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[: most - 1])} and {len(words) - most + 1} more"
