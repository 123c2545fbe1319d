"""A recipe of a classifier for folders that nobody has trained on yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mwam_det.hosts.experiment import CLASSIFICATION


def classifier_recipe(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe to begin with: SF-MD for the three modalities that it is made for, ResNet-18 for others.

    Args:
        section: The data section, see `mwam_det.hosts.data.layout`.
    """
    model, imgsz = ("sf-md", 112) if len(section["modalities"]) == 3 else ("resnet18-concat", 64)
    train = {"epochs": 30, "imgsz": imgsz, "batch": 32, "lr0": 0.01, "schedule": "one-cycle"}
    return {"task": CLASSIFICATION, "model": model, "data": dict(section), "mwam": True, "train": train}
