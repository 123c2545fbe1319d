"""Bring labels of a source to the pixels of the converted image, and write them as YOLO's lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mwam_det.data.conversion.model import Label, Points
from mwam_det.data.conversion.untrusted import LARGEST_COORDINATE

SAME_SHAPE = 0.02
"""Largest relative difference of two aspect ratios at which one image may be the other one resized."""


def judge_stated_size(labels: Sequence[Label], stated: tuple[int, int], actual: tuple[int, int]) -> tuple[bool, bool]:
    """Return whether the extent of labels confirms, and whether it contradicts, a stated (height, width)."""
    corners = [point for label in labels for point in label.points]
    if not corners:
        return False, False
    x, y = np.max(corners, 0)
    height, width = np.array(stated) * (1 + SAME_SHAPE)
    beyond = bool(x > width or y > height)
    needs_room = bool(x > actual[1] or y > actual[0])
    return not beyond and (stated < actual or needs_room), beyond


def resize_labels(labels: Iterable[Label], down: float, across: float) -> list[Label]:
    """Scale labels vertically by `down` and horizontally by `across`."""
    return [replace(label, points=tuple((x * across, y * down) for x, y in label.points)) for label in labels]


def fit_labels(
    labels: Iterable[Label], size: tuple[int, int], offset: tuple[int, int] = (0, 0)
) -> tuple[list[Label], list[str]]:
    """Shift labels to an image, leave out those whose centre is outside, and clip the others to its border.

    Args:
        labels: Labels in pixels of the source; corners in any order.
        size: (height, width) of the image, in pixels.
        offset: (x, y) of its top left corner in the source.

    Returns:
        Labels in pixels of the image, and a reason for each one left out.
    """
    kept, dropped = [], []
    limits = np.array([size[1], size[0]], float)
    for label in labels:
        points = np.array(label.points, float).reshape(-1, 2) - offset
        if len(points) < 2 or not (np.abs(points) <= LARGEST_COORDINATE).all():  # nor is NaN
            dropped.append("box: no usable coordinates")
            continue
        low, high = points.min(0), points.max(0)
        centre = (low + high) / 2
        if (centre < 0).any() or (centre >= limits).any():
            dropped.append("box: centre outside of the image")
            continue
        points = np.clip(points, 0, limits)
        if (points.max(0) - points.min(0) < 1).any():
            dropped.append("box: less than a pixel wide or high")
            continue
        kept.append(Label(label.class_id, tuple(map(tuple, points.tolist()))))
    return kept, dropped


def box(points: Points) -> np.ndarray:
    """Return centre and sides, shape (2, 2), of the horizontal box around points."""
    low, high = np.min(points, 0), np.max(points, 0)
    return np.stack([(low + high) / 2, high - low])


def outline(points: Points) -> np.ndarray:
    """Return the points, shape (N, 2); for a horizontal box given by two, its four corners."""
    if len(points) > 2:
        return np.array(points)
    (x1, y1), (x2, y2) = points
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def yolo_line(class_id: int, pairs: np.ndarray, size: tuple[int, int]) -> str:
    """Return the line of a label file for coordinates (N, 2) in pixels of an image of `size` (height, width)."""
    normalised = (pairs / (size[1], size[0])).ravel()
    return " ".join([str(class_id), *(f"{value:.7f}" for value in normalised)]) + "\n"
