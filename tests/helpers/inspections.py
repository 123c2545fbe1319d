"""Inspections of small sets, and what tests do to spoil a set."""

import io
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from mwam_det.data.inspection.figures import Inspection
from mwam_det.data.inspection.gather import inspect_dataset
from mwam_det.data.inspection.tables import tables
from mwam_det.data.pairing import list_images
from mwam_det.data.section import resolve_dataset


def look_at(section: dict, imgsz: int = 128, **options) -> Inspection:
    """Inspect the set of a data section with small images."""
    return inspect_dataset(resolve_dataset(section), imgsz=imgsz, **{"pictures": 1, **options})[0]


def finding_with(inspection: Inspection, word: str) -> str:
    """Return the one finding that holds a word."""
    found = [sentence for sentence in inspection.findings if word in sentence]
    assert len(found) == 1, (word, inspection.findings)
    return found[0]


def render(inspection: Inspection) -> str:
    """Return what the terminal shows of an inspection, its white space joined."""
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(tables(inspection))
    return " ".join(console.export_text().split())


def files(section: dict, name: str, split: str = "train") -> list[Path]:
    """The images of a modality."""
    return [Path(file) for file in list_images(Path(section["path"]) / section["modalities"][name] / split)]


def rewrite(file: Path, pixels: np.ndarray, suffix: str | None = None) -> None:
    """Put other pixels in the place of an image."""
    file.unlink()
    assert cv2.imwrite(str(file.with_suffix(suffix or file.suffix)), pixels)


def scene(seed: int, size: tuple[int, int] = (260, 300)) -> np.ndarray:
    """Random blocks, shape (H, W), float32."""
    rng = np.random.default_rng(seed)
    image = np.full(size, 90, np.float32)
    for _ in range(40):
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        image[y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = rng.uniform(0, 255)
    return image


def write_pairs(folder: Path, rgb=None, ir=None, suffixes=(".jpg", ".png"), count: int = 12) -> dict:
    """Write pairs of random blocks, a quarter of them in val, and return their data section.

    Args:
        folder: Where to.
        rgb: Changes the colour image, (160, 208, 3) uint8, given its number in the split.
        ir: Changes the infrared image, (160, 208) uint8, likewise.
        suffixes: Of both.
        count: How many pairs.
    """
    rng = np.random.default_rng(0)
    for number in range(count):
        split, index = ("val", number // 4) if number % 4 == 3 else ("train", number - number // 4)
        blocks = scene(number, (160, 208)) + rng.normal(0, 4, (160, 208))
        colour = np.dstack([blocks * share for share in (1.0, 0.7, 0.4)]).clip(0, 255).astype(np.uint8)
        warm = (200 - 0.6 * blocks + rng.normal(0, 4, blocks.shape)).clip(0, 255).astype(np.uint8)
        images = (rgb(colour, index) if rgb else colour), (ir(warm, index) if ir else warm)
        for name, suffix, image in zip(("visible", "infrared"), suffixes, images, strict=True):
            (folder / name / split).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / name / split / f"{index:03}{suffix}"), image)
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split / f"{index:03}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return {
        "path": str(folder),
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": ["thing"],
    }
