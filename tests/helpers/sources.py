"""Datasets as they are published, for tests of their conversion: writing the source, reading what came of it."""

import hashlib
from pathlib import Path

import cv2
import numpy as np


def write(file: Path, content: str | bytes | np.ndarray) -> Path:
    """Write text, bytes or an image, in folders that may not exist yet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = cv2.imencode(file.suffix, content)[1].tobytes()
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def reasons(record: dict) -> dict[str, int]:
    """How much was left out, by reason."""
    return {reason: entry["count"] for reason, entry in record["left_out"].items()}


def snapshot(root: Path) -> dict[str, str]:
    """A digest of every file."""
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in root.rglob("*") if file.is_file()}


def labels_in(file: Path, size: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    """Class and points (N, 2) of each line of a label file, in pixels of an image of `size` (width, height).

    The points of a box are its centre and its sides, those of an outline its corners.
    """
    rows = [text.split() for text in file.read_text().splitlines()]
    return [(int(row[0]), np.array(row[1:], float).reshape(-1, 2) * size) for row in rows]


def boxes_in(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Rows of class, x1, y1, x2, y2 of a label file with boxes, in pixels of an image of `size` (width, height)."""
    rows = [[class_id, *centre - sides / 2, *centre + sides / 2] for class_id, (centre, sides) in labels_in(file, size)]
    return np.array(rows, float).reshape(-1, 5)


def voc_objects(*objects: tuple) -> str:
    """The nodes of a VOC annotation for objects (name, xmin, ymin, xmax, ymax)."""
    return "".join(
        f"<object><name>{name}</name><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )


def check_outline(bright: np.ndarray, outline: np.ndarray) -> None:
    """Check that an outline (N, 2) encloses a bright region of an image (H, W), uint8, to two pixels."""
    inside = cv2.fillPoly(np.zeros_like(bright), [np.round(outline).astype(int)], 1)
    around = cv2.dilate(inside, np.ones((9, 9))) - cv2.dilate(inside, np.ones((5, 5)))
    assert bright[cv2.erode(inside, np.ones((5, 5))) > 0].all()
    assert not bright[around > 0].any()
