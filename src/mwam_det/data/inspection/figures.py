"""The figures of a dataset, in plain values: what an inspection finds out and inspection.json holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SMALL_AT_TRAINING = 8.0
"""Objects whose longer side is shorter than this at the training size, in pixels, fill less than one cell."""


@dataclass(frozen=True)
class SplitFigures:
    """One split. All figures are of all its pairs.

    Attributes:
        images: Images of the first modality.
        pairs: Those that training can use.
        left_out: Number and examples by reason why the others cannot be used.
        left_over: By modality, its images that belong to no image of the first.
        boxes: Objects by class name.
        images_with: Pairs that show the class, by class name.
        without_objects: Pairs without any object.
        without_label_file: Pairs among them that have no label file at all.
        stray_labels: Label files that belong to no image.
        past_border: Boxes that reach more than a pixel past the border.
        thin: Boxes less than a pixel wide or high.
        small: Boxes whose longer side is below `SMALL_AT_TRAINING` at the training size.
        median_side: Median of √(width·height) of the boxes at the training size, in pixels, or None.
    """

    images: int
    pairs: int
    left_out: dict[str, dict[str, Any]]
    left_over: dict[str, int]
    boxes: dict[str, int]
    images_with: dict[str, int]
    without_objects: int
    without_label_file: int
    stray_labels: int
    past_border: int
    thin: int
    small: int
    median_side: float | None


@dataclass(frozen=True)
class ModalityFigures:
    """One modality, in the sampled pairs if not said otherwise.

    Attributes:
        sampled: Number of pairs looked at.
        sizes: Number of files, of all pairs, by size, like {"640×512": 20} (width×height in pixels), the most frequent
            first.
        formats: Number of files by bit depth and channels, like {"16 bit, 1 channel": 20}.
        other_size: Files, of all pairs, of another size than the first modality's file of the pair, if nothing aligns
            them.
        other_shape: Those whose ratio of width to height differs by more than 2 %, so that they get distorted.
        odd: Size of each file, of all pairs, that is unlike the others, if these are few, by path.
        turned: Files that are turned upright by EXIF.
        lost: Number of files by what of them is not read, like {"4 channels": 20}.
        coloured: Files with colour.
        chroma: Median over the files of the mean of (largest − smallest channel), in levels of 255.
        levels: Percentiles 1, 50 and 99 of all pixels as training reads them, in levels of 255.
        uniform: Images that are one even value as training reads them, without those in `narrow`.
        deep: Files of more than 8 bits.
        narrow: Those of them whose values fill a narrow band of the range that is read.
        band: Of these, the median percentiles 1 and 99 as training reads them, in levels of 255; None without any.
        values: Of these, the values from which to which the files reach, as round numbers; None without any.
        unmeasured: Of these, the median share of the pixels that are 0 and so were not measured.
        value_range: What the data section says by the key "range".
        examples: Files by what was seen there.
    """

    sampled: int
    sizes: dict[str, int]
    formats: dict[str, int]
    other_size: int
    other_shape: int
    odd: dict[str, str]
    turned: int
    lost: dict[str, int]
    coloured: int
    chroma: float
    levels: tuple[float, float, float]
    uniform: int
    deep: int
    narrow: int
    band: tuple[float, float] | None
    values: tuple[float, float] | None
    unmeasured: float
    value_range: tuple[float, float] | str | None
    examples: dict[str, list[str]]


@dataclass(frozen=True)
class ViewFigures:
    """Where a modality's view lies in the first one's, if not where it is read.

    Attributes:
        turn: How it lies now, like "is turned by 180°", or None if it is upright.
        scale: Size of what both show, in this modality over the first, in the width as the files are stretched.
        displacement: How far off what it shows is now, the root of the mean square over the image, in pixels of the
            first modality's files.
        clarity: How clearly edges agree in that view, see `mwam_det.data.inspection.views.find_peak`.
    """

    turn: str | None
    scale: float
    displacement: float
    clarity: float


@dataclass(frozen=True)
class AlignmentFigures:
    """One modality beside the first.

    Attributes:
        sampled: Number of pairs looked at.
        compared: Number of pairs whose files were compared byte for byte.
        same_file: Pairs, of those compared, whose two files hold the same bytes, by the modality before this one.
        same_picture: Sampled pairs that show one picture twice, whatever the colours, likewise.
        swapped: Sampled pairs in which the visible modality has no colour while this one has.
        looked: Whether it matters where its view lies: labels of whole images have no place in them.
        edges_agree: Sampled pairs whose edges agree so clearly that their shift can be told.
        shifts_agree: Those of them with nearly the same shift.
        shift: How far this modality lies to the right of and below the first, in pixels of the first modality's files:
            the median of `edges_agree`, or what the pairs tell together where few tell it alone; None if neither does.
        spread: Half the distance between the quartiles of the shifts, (x, y), in the same pixels; None if none is told.
        clarity: How clear it is that the edges of the pairs agree as they lie, but for a shift: from
            `mwam_det.data.inspection.views.CLEAR` on it is no chance. 0 if that does not matter.
        view: Where its view lies by the edges of all pairs looked at together, if that is clearer than where it is read
            and off by more than a shift; else None.
        remedy: The 3×3 matrix for the key "align" of the data section that brings its view to its place, or takes the
            shift back; None without either, or where the files differ in size among themselves.
        examples: Files of the first modality by what was seen there.
    """

    sampled: int
    compared: int
    same_file: dict[str, int]
    same_picture: dict[str, int]
    swapped: int
    looked: bool
    edges_agree: int
    shifts_agree: int
    shift: tuple[float, float] | None
    spread: tuple[float, float] | None
    clarity: float
    view: ViewFigures | None
    remedy: list[list[float]] | None
    examples: dict[str, list[str]]


@dataclass(frozen=True)
class PreferenceFigures:
    """What MWAM makes of the modalities at the start of training, with the augmentation of training.

    Means and ranges are of the mini-batches in which the modality shows something; NaN where there is none.

    Attributes:
        rule: The rule that measures preference; "frequency_ratio" is FRM.
        pairs: Samples of the training split in these mini-batches.
        batch: Samples in a mini-batch.
        batches: Number of mini-batches.
        frm: By modality, mean over the mini-batches (Eq. 4, or the rule).
        contributions: By modality, what each of the q×q lowest DCT coefficients adds to FRM, mean over the
            mini-batches; empty for other rules.
        share: T, mean over the mini-batches, the bank included (Eq. 6).
        weight: K, mean over the mini-batches (Eq. 5).
        share_range: Smallest and largest T of a mini-batch.
        weight_range: Smallest and largest K of a mini-batch.
        dead: By modality, the mini-batches in which it is 0 throughout and another modality is not.
        flat_patches: Part of the patches of the images that is flat in all modalities, in [0, 1]; such patches are left
            out unless the configuration says otherwise. None where the rule cannot look (images smaller than a patch).
        skipped: Mini-batches without evidence, by reason.
    """

    rule: str
    pairs: int
    batch: int
    batches: int
    frm: dict[str, float]
    contributions: dict[str, list[list[float]]]
    share: dict[str, float]
    weight: dict[str, float]
    share_range: dict[str, tuple[float, float]]
    weight_range: dict[str, tuple[float, float]]
    dead: dict[str, int]
    flat_patches: float | None
    skipped: dict[str, int]


@dataclass(frozen=True)
class PairFigures:
    """What the files of the pairs show, whatever their labels say; training looks at that before it begins.

    Attributes:
        imgsz: Training size, longer side in pixels.
        visible: The modality that is meant to be the camera's, or None.
        pairs: Pairs of all splits that training can use.
        sampled: Pairs whose pixels were looked at.
        modalities: Figures by modality.
        alignment: Figures of every modality but the first.
        aligns: Whether the data section takes the key "align", and "percentile" as a range.
    """

    imgsz: int
    visible: str | None
    pairs: int
    sampled: int
    modalities: dict[str, ModalityFigures]
    alignment: dict[str, AlignmentFigures]
    aligns: bool

    @property
    def first_modality(self) -> str:
        """The modality beside which the others are looked at."""
        return next(iter(self.modalities))


@dataclass(frozen=True)
class Inspection(PairFigures):
    """Everything that was found out about a dataset, in plain values.

    Attributes:
        path: Its folder.
        splits: Figures by split.
        preference: FRM, share and weight.
        repeated: Files that hold the same bytes as another: by modality and by the splits that share them, like
            {"rgb": {"train, val": 3}}.
        findings: Sentences, the most serious first.
    """

    path: str
    splits: dict[str, SplitFigures]
    preference: PreferenceFigures
    repeated: dict[str, dict[str, int]]
    findings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON: a value that is no number is None."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
