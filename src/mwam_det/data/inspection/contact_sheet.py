"""Draw some pairs as training reads them, with their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.sampling import divide_sample, evenly
from mwam_det.files.terminal import encodable

COLOURS = ("#ff4f4f", "#3fd0ff", "#ffd23f", "#7dff5a", "#ff7af2", "#ff9d2e", "#b59bff", "#5affc8", "#ffffff", "#c0ff00")
"""Box colours by class; bright, because infrared and night images are dark."""

NAMED_BOXES = 12
"""Class names are drawn up to this many boxes in an image; beyond that, colours alone."""


@dataclass(frozen=True)
class Picture:
    """One pair as training reads it, for display.

    Attributes:
        title: Its split and name.
        images: Every modality, shape (H, W) or (H, W, 3) RGB, uint8.
        boxes: Corners (x1, y1, x2, y2) of its N objects in pixels of these images, shape (N, 4).
        classes: Their class names.
    """

    title: str
    images: dict[str, np.ndarray]
    boxes: np.ndarray
    classes: list[str]


def choose_pictures(datasets: Mapping[str, PairedDataset], wanted: int) -> list[Picture]:
    """Read pairs spread over the splits, preferring those with objects."""
    pictures = []
    for split, number in divide_sample({split: len(d) for split, d in datasets.items()}, wanted).items():
        dataset = datasets[split]
        filled = [i for i, label in enumerate(dataset.labels) if len(label["cls"])]
        indices = filled if len(filled) >= number else list(range(len(dataset)))
        for index in (indices[i] for i in evenly(len(indices), number)):
            stack, (height, width), target = dataset.load_image(index)
            label = dataset.labels[index]
            centres, extents = label["bboxes"][:, :2], label["bboxes"][:, 2:]
            boxes = np.hstack([centres - extents / 2, centres + extents / 2]) * (target[::-1] * 2)
            views = {m.name: stack[..., m.slice] for m in dataset.modalities}
            stem = dataset.stem(dataset.im_files[index])
            pictures.append(
                Picture(
                    title=f"{split}: {stem} ({width}×{height} px)",
                    images={n: v[..., ::-1] if v.shape[2] == 3 else v[..., 0] for n, v in views.items()},
                    boxes=boxes,
                    classes=[dataset.data["names"][int(number)] for number in label["cls"].ravel()],
                )
            )
    return pictures


def draw_contact_sheet(pictures: Sequence[Picture], file: Path) -> None:
    """Draw pairs with their boxes, one row per pair and one column per modality.

    Args:
        pictures: At least one pair.
        file: The PNG to write.
    """
    names = list(pictures[0].images)
    shown = sorted({name for picture in pictures for name in picture.classes})
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(shown)}
    width = 4.6  # of a column, in inches
    heights = [width * image.shape[0] / image.shape[1] for image in (picture.images[names[0]] for picture in pictures)]
    margin, head, gap = 0.12, 0.3, 0.24
    size = (width * len(names) + margin * (len(names) + 1), head + sum(heights) + gap * len(heights) + margin)
    figure = Figure(size, dpi=110, facecolor="#202020")
    top = size[1] - head
    for picture, height in zip(pictures, heights, strict=True):
        top -= gap
        for column, (name, image) in enumerate(picture.images.items()):
            left = margin + column * (width + margin)
            axes = figure.add_axes((left / size[0], (top - height) / size[1], width / size[0], height / size[1]))
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
            axes.set_axis_off()
            label = f"{name} · {encodable(picture.title)}" if column == 0 else name
            axes.set_title(label, color="white", fontsize=8, loc="left", pad=3, parse_math=False)
            for box, class_name in zip(picture.boxes, picture.classes, strict=True):
                x1, y1, x2, y2 = box
                edge = colour[class_name]
                axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=edge, linewidth=1.1))
                if len(picture.classes) <= NAMED_BOXES:
                    text = axes.text(x1, y1, class_name, fontsize=6, color="black", va="bottom", parse_math=False)
                    text.set_bbox({"facecolor": edge, "edgecolor": "none", "pad": 0.6, "alpha": 0.85})
                    text.set_clip_on(True)
        top -= height
    fitting = [name for i, name in enumerate(shown, 1) if len("     ".join(shown[:i])) < 55 * len(names)]
    handles = [Patch(facecolor="none", edgecolor=colour[name], label=name) for name in fitting[: len(COLOURS)]]
    if handles:
        legend = figure.legend(handles=handles, loc="upper left", ncols=len(handles), frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set(color="white", parse_math=False)
    figure.savefig(file)
