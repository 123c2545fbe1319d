"""Draw the pictures of README and docs from two runs of the demo, trained without and with missing modalities.

    mwam-det train cfg/demo.yaml mwam=false incomplete=false train.name=baseline
    mwam-det train cfg/demo.yaml
    python benchmarks/pictures.py runs/baseline runs/demo

missing.png shows one pair with each sensor missing, and how many objects are found in all pairs of the validation
split. The pair is not chosen by hand: it is the one whose shares of found objects are closest to those of the whole
split. The other pictures are figures of the second run's report. All go to docs/assets.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from machine import argument_parser
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from mwam_det import MultimodalYOLO
from mwam_det.data.section import resolve_dataset
from mwam_det.robustness.results import CONFIDENCE, Boxes
from mwam_det.robustness.samples import FALSE_ALARM, HIT, MISS, judge

ASSETS = Path(__file__).parents[1] / "docs" / "assets"
FIGURES = {
    "robustness_bars.png": ("bars.png", 1.0),
    "robustness_samples.png": ("samples.png", 0.354),
    "mwam.png": ("mwam.png", 1.0),
}
"""Figures of the report: the name in the documentation, and the share of the height that is shown there."""

WIDEST = 1200
"""Maximum width of a picture in pixels."""

COLOURS = 128
"""Colours of a picture: a third of the size, without a visible difference."""

LARGEST = 300_000
"""Maximum size of a picture in bytes."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "both sensors": (),
    "infrared failed: RGB alone": ("ir",),
    "RGB failed: infrared alone": ("rgb",),
}
"""Missing modalities of each column of missing.png, by its title."""


@dataclass(frozen=True)
class Found:
    """A model's predictions for a pair.

    Attributes:
        boxes: The predictions.
        hits: Whether each prediction is a hit.
        taken: Whether each object was found.
    """

    boxes: Boxes
    hits: np.ndarray
    taken: np.ndarray


def main() -> None:
    """Draw all pictures."""
    parser = argument_parser(__doc__)
    parser.add_argument("baseline", type=Path, help="run folder of a training on complete input")
    parser.add_argument("cure", type=Path, help="run folder of a training with incomplete views")
    options = parser.parse_args()
    ASSETS.mkdir(parents=True, exist_ok=True)
    weights = {
        "trained on complete pairs": options.baseline / "weights/best.pt",
        "trained with sensors missing": options.cure / "weights/best.pt",
    }
    folders = resolve_dataset(options.cure / "data.yaml").splits["val"]
    save(missing_sensors(weights, {name: Path(folder) for name, folder in folders.items()}), ASSETS / "missing.png")
    for name, (new, share) in FIGURES.items():
        figure = Image.open(options.cure / name)
        save(figure.crop((0, 0, figure.width, round(share * figure.height))), ASSETS / new)


def missing_sensors(weights: Mapping[str, Path], folders: Mapping[str, Path]) -> Image.Image:
    """Draw the predictions of each model for one pair with both sensors and with each sensor missing.

    Args:
        weights: The weights of each model, by the title of its row.
        folders: The folder of each modality and of the labels.
    """
    stems = sorted(file.stem for file in folders["labels"].glob("*.txt"))
    found = {row: predictions(file, folders, stems) for row, file in weights.items()}
    cells = [(row, column) for row in weights for column in COLUMNS]
    count = np.array([[found[row][column][stem].taken.sum() for row, column in cells] for stem in stems])
    objects = np.array([len(found[cells[0][0]][cells[0][1]][stem].taken) for stem in stems])
    typical = np.square(count / objects[:, None] - count.sum(0) / objects.sum()).sum(1).argmin()
    stem, total = stems[typical], dict(zip(cells, count.sum(0), strict=True))
    images = {name: cv2.imread(str(next(folders[name].glob(f"{stem}.*"))))[..., ::-1] for name in ("rgb", "ir")}
    labels = boxes_of(folders["labels"] / f"{stem}.txt", *images["rgb"].shape[:2])
    figure = Figure(figsize=(10.2, 7.7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.06, wspace=0.01, hspace=0.02)
    grid = figure.subplots(len(weights), len(COLUMNS))
    for axes, row in zip(grid, weights, strict=True):
        axes[0].set_ylabel(row, fontsize=12)
        for axis, (column, missing) in zip(axes, COLUMNS.items(), strict=True):
            cell = found[row][column][stem]
            axis.imshow(images["ir" if "rgb" in missing else "rgb"], interpolation="nearest")
            draw(axis, labels, cell)
            here = f"found {cell.taken.sum()} of {len(cell.taken)} here, "
            axis.set_xlabel(f"{here}{total[row, column]} of {objects.sum()} in all {len(stems)} pairs", fontsize=10)
            axis.set(xticks=[], yticks=[])
            if row == next(iter(weights)):
                axis.set_title(column, fontsize=12)
    kinds = {"found": (HIT, "-"), "missed": (MISS, "--"), "false alarm": (FALSE_ALARM, ":")}
    handles = [Line2D([], [], color=c, linestyle=s, linewidth=2.5, label=name) for name, (c, s) in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=12)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, facecolor="white", bbox_inches="tight", pad_inches=0.08)
    for (row, column), number in total.items():
        print(f"{row}, {column}: {number} of {objects.sum()} objects in {len(stems)} pairs")
    print(f"shown: {stem}")
    return Image.open(stream)


def predictions(weights: Path, folders: Mapping[str, Path], stems: list[str]) -> dict[str, dict[str, Found]]:
    """Return a model's predictions for each pair, by column and stem, with a confidence of at least `CONFIDENCE`."""
    model = MultimodalYOLO(weights)
    source = {name: [str(next(folders[name].glob(f"{stem}.*"))) for stem in stems] for name in ("rgb", "ir")}
    found: dict[str, dict[str, Found]] = {column: {} for column in COLUMNS}
    for column, missing in COLUMNS.items():
        results = model.predict(source, missing=missing, conf=CONFIDENCE, verbose=False)
        for stem, result in zip(stems, results, strict=True):
            predicted = result.boxes.numpy()
            boxes = Boxes(predicted.xyxy, predicted.cls.astype(int), predicted.conf)
            labels = boxes_of(folders["labels"] / f"{stem}.txt", *result.orig_shape)
            found[column][stem] = Found(boxes, *judge(labels, boxes))
    return found


def boxes_of(file: Path, height: int, width: int) -> Boxes:
    """Read the label file of an image of this size."""
    values = np.loadtxt(file, ndmin=2)
    centre, size = values[:, 1:3] * (width, height), values[:, 3:5] * (width, height)
    corners = np.concatenate([centre - size / 2, centre + size / 2], 1)
    return Boxes(corners, values[:, 0].astype(int), np.ones(len(values)))


def draw(axis: Axes, labels: Boxes, found: Found) -> None:
    """Draw missed objects, hits and false alarms."""
    outlines = [(corners, MISS, "--") for corners in labels.coordinates[~found.taken]]
    for corners, hit in zip(found.boxes.coordinates, found.hits, strict=True):
        outlines.append((corners, HIT, "-") if hit else (corners, FALSE_ALARM, ":"))
    for (left, top, right, bottom), colour, dashes in outlines:
        box = Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, linestyle=dashes, lw=1.8)
        axis.add_patch(box)


def save(picture: Image.Image, file: Path) -> None:
    """Write a picture with few colours and a limited width."""
    picture = picture.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(file, optimize=True)
    size = file.stat().st_size
    print(f"{file}: {picture.width}×{picture.height} pixels, {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"{file} has more than {LARGEST:,} bytes: choose fewer COLOURS")


if __name__ == "__main__":
    main()
