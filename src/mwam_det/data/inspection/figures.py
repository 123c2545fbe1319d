"""The figures of an inspection as plain values, the content of inspection.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SMALL_AT_TRAINING = 8.0
"""Longer side at the training size, in pixels, below which objects fill less than one cell."""


@dataclass(frozen=True)
class SplitFigures:
    """One split, over all its pairs.

    Attributes:
        images: Images of the first modality.
        pairs: Usable pairs.
        left_out: Number and examples of unusable pairs, by reason.
        left_over: By modality, images without a partner of the first.
        boxes: Objects by class name.
        images_with: Pairs that show the class, by class name.
        without_objects: Pairs without objects.
        without_label_file: Those of them without a label file.
        stray_labels: Label files without an image.
        past_border: Boxes that exceed the border by more than a pixel.
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
    """One modality, over the sampled pairs unless stated otherwise.

    Attributes:
        sampled: Number of sampled pairs.
        sizes: Number of files, over all pairs, by size, like {"640×512": 20} (width×height in pixels), the most
            frequent first.
        formats: Number of files by bit depth and channels, like {"16 bit, 1 channel": 20}.
        other_size: Files, over all pairs, of another size than the first modality's, unless they are aligned.
        other_shape: Those whose aspect ratio differs by more than 2 %, so that they get distorted.
        odd: Size by path of the files, over all pairs, that are unlike the others, if they are few.
        turned: Files rotated by EXIF.
        lost: Number of files by content that is not read, like {"4 channels": 20}.
        coloured: Files with colour.
        chroma: Median over the files of the mean of (largest − smallest channel), in levels of 255.
        levels: Percentiles 1, 50 and 99 of all pixels as training reads them, in levels of 255.
        uniform: Images of a single value as training reads them, except those in `narrow`.
        deep: Files of more than 8 bits.
        narrow: Those of them whose values fill a narrow band of the range that is read.
        band: Of these, the median percentiles 1 and 99 as training reads them, in levels of 255; None without any.
        values: Of these, the smallest and largest value, rounded; None without any.
        unmeasured: Of these, the median share of pixels that are 0, that is not measured.
        value_range: The key "range" of the data section.
        examples: Files by finding.
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
    """Position of a modality's view in the first one's, if it differs from the current one.

    Attributes:
        turn: Its current orientation, like "is turned by 180°", or None if it is upright.
        scale: Size of the common content in this modality over the first, in the width of the stretched files.
        displacement: Root mean square displacement over the image, in pixels of the first modality's files.
        clarity: Agreement of edges in that view, see `mwam_det.data.inspection.views.find_peak`.
    """

    turn: str | None
    scale: float
    displacement: float
    clarity: float


@dataclass(frozen=True)
class AlignmentFigures:
    """One modality relative to the first.

    Attributes:
        sampled: Number of sampled pairs.
        compared: Number of pairs whose files were compared byte for byte.
        same_file: Compared pairs whose two files have the same bytes, by earlier modality.
        same_picture: Sampled pairs that show the same picture, whatever the colours, by earlier modality.
        swapped: Sampled pairs in which this modality has colour but the visible one has not.
        turned_apart: Sampled pairs whose two files are turned differently by EXIF.
        looked: Whether the position of its view matters, which it does not for labels of whole images.
        edges_agree: Sampled pairs whose edges agree clearly enough to determine their shift.
        shifts_agree: Those of them with nearly the same shift.
        shift: Shift of this modality to the right and down, in pixels of the first modality's files: the median of
            `edges_agree`, or that of all pairs together if few are clear alone; None if neither is clear.
        spread: Half the distance between the quartiles of the shifts, (x, y), in the same pixels, or None.
        clarity: Agreement of the edges of all pairs as given, up to a shift; from
            `mwam_det.data.inspection.views.CLEAR` on it is not chance. 0 if not `looked`.
        view: Position of its view by the edges of all sampled pairs, if that is clearer than the current one and
            differs by more than a shift; else None.
        remedy: The 3×3 matrix for the key "align" of the data section that corrects its view or shift; None without
            either, or if files differ in size.
        examples: Files of the first modality by finding.
    """

    sampled: int
    compared: int
    same_file: dict[str, int]
    same_picture: dict[str, int]
    swapped: int
    turned_apart: int
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
    """MWAM's view of the modalities at the start of training, with training's augmentation.

    Means and ranges are over the mini-batches in which the modality is not 0 throughout; NaN if there is none.

    Attributes:
        rule: The rule that measures preference; "frequency_ratio" is FRM.
        pairs: Samples of the training split in these mini-batches.
        batch: Samples per mini-batch.
        batches: Number of mini-batches.
        frm: By modality, mean over the mini-batches (Eq. 4, or the rule).
        contributions: By modality, the contribution of each of the q×q lowest DCT coefficients to FRM, mean over the
            mini-batches; empty for other rules.
        share: T, mean over the mini-batches, including the bank (Eq. 6).
        weight: K, mean over the mini-batches (Eq. 5).
        share_range: Smallest and largest T of a mini-batch.
        weight_range: Smallest and largest K of a mini-batch.
        dead: By modality, the mini-batches in which it is 0 throughout and another modality is not.
        flat_patches: Share of the patches that are flat in all modalities, which are ignored by default. None if
            images are smaller than a patch.
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
    """Figures of the files of the pairs, without labels; also computed before training.

    Attributes:
        imgsz: Training size, longer side in pixels.
        visible: The camera's modality, or None.
        pairs: Usable pairs of all splits.
        sampled: Pairs whose pixels were sampled.
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
        """The reference of the others."""
        return next(iter(self.modalities))


@dataclass(frozen=True)
class Inspection(PairFigures):
    """All figures of a dataset.

    Attributes:
        path: Its folder.
        splits: Figures by split.
        preference: FRM, share and weight.
        repeated: Files with the same bytes as another, by modality and the splits that share them, like
            {"rgb": {"train, val": 3}}.
        findings: Sentences, the most serious first.
    """

    path: str
    splits: dict[str, SplitFigures]
    preference: PreferenceFigures
    repeated: dict[str, dict[str, int]]
    findings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as values for JSON, with None for non-finite numbers."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
