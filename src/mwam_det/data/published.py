"""Where to download published datasets, for users who have a recipe but no data yet."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Publication:
    """A published dataset.

    Attributes:
        title: Name given by its authors.
        home: The authors' page.
        download: What to download there.
    """

    title: str
    home: str
    download: str


PUBLICATIONS = {
    "dronevehicle": Publication(
        "DroneVehicle", "https://github.com/VisDrone/DroneVehicle", "the archives of train, validation and test"
    ),
    "llvip": Publication(
        "LLVIP", "https://bupt-ai-cz.github.io/LLVIP/", "the dataset with visible, infrared and Annotations"
    ),
    "flir": Publication(
        "FLIR-aligned", "https://arxiv.org/abs/2009.12664", "the aligned set that a footnote of this paper links to"
    ),
    "kaist": Publication(
        "KAIST", "https://github.com/SoonminHwang/rgbt-ped-detection", "images and annotations of set00 to set11"
    ),
    "m3fd": Publication(
        "M3FD", "https://github.com/JinyuanLiu-CV/TarDAL", "the detection part with Vis, Ir and Annotation"
    ),
    "vedai": Publication(
        "VEDAI", "https://downloads.greyc.fr/vedai/", "Vehicules1024 and Annotations1024, or both with 512"
    ),
    "nyuv2": Publication(
        "NYU-Depth V2",
        "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html",
        "the labeled dataset, to be laid out by prepare_dataset.py of https://github.com/TUI-NICR/ESANet",
    ),
}
"""By format, see `mwam_det.data.formats.FORMATS`; recipes name the folder of their data after the format."""


def how_to_get(folder: str | Path) -> str:
    """Return how to get the missing data folder of a recipe if it is named after a published dataset, else "".

    Args:
        folder: The folder, as the user wrote it.
    """
    name = Path(folder).name.casefold()
    if (publication := PUBLICATIONS.get(name)) is None:
        return ""
    return (
        f". {publication.title} is published at {publication.home}: download {publication.download}, unpack it to a "
        "folder SRC, and run: "
        f"{shlex.join(['mwam-det', 'convert', name, 'SRC', str(folder)])}"
    )
