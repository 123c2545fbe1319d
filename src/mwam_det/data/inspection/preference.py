"""What MWAM makes of the modalities: FRM, share T and weight K over mini-batches of the training split."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mwam_det.core.config import MWAMConfig
from mwam_det.core.frequency import joint_flat_patches
from mwam_det.core.mwam import MWAM, Observation
from mwam_det.data.inspection.figures import PreferenceFigures
from mwam_det.data.modality import Modality


class PreferenceMeter:
    """Shows mini-batches to MWAM and keeps what it measures."""

    def __init__(self, modalities: Sequence[Modality], config: MWAMConfig):
        self.modalities, self.config = modalities, config
        self.mwam = MWAM([modality.name for modality in modalities], config)
        self.observations: list[Observation] = []
        self.batch = 0

    def observe(self, images: Tensor) -> None:
        """Measure one mini-batch of stacked images, shape (B, ΣC_m, H, W), uint8."""
        self.batch = len(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `skipped` says the same
            self.mwam.observe({m.name: images[:, m.slice] for m in self.modalities})
        if self.mwam.last is not None:
            self.observations.append(self.mwam.last)

    def figures(self, flat_patches: float | None) -> PreferenceFigures:
        """Average over the mini-batches; of a modality that is 0 throughout some, over the others.

        Args:
            flat_patches: See `PreferenceFigures`.
        """
        names = [modality.name for modality in self.modalities]
        measured = [seen for seen in self.observations if any(map(math.isfinite, seen.share.values()))]
        showing = {name: [seen for seen in measured if math.isfinite(seen.share[name])] for name in names}
        values = {
            what: {name: [getattr(seen, what)[name] for seen in showing[name]] for name in names}
            for what in ("frm", "share", "weight")
        }
        means = {what: {name: _mean(series) for name, series in by.items()} for what, by in values.items()}
        ranges = {what: {name: _range(series) for name, series in by.items()} for what, by in values.items()}
        return PreferenceFigures(
            rule=self.config.rule,
            pairs=self.batch * len(self.observations),
            batch=self.batch,
            batches=len(self.observations),
            **means,
            share_range=ranges["share"],
            weight_range=ranges["weight"],
            dead={name: len(measured) - len(showing[name]) for name in names},
            flat_patches=flat_patches,
            skipped=dict(self.mwam.skipped),
        )


def flat_share(stack: np.ndarray, modalities: Sequence[Modality], patch: int) -> float | None:
    """Return the part of the patches of a pair that is flat in all modalities, in [0, 1].

    Args:
        stack: Shape (H, W, ΣC_m), uint8.
        modalities: The modalities of the stack.
        patch: Side of a patch, in pixels; None is returned for an image that is smaller.
    """
    if min(stack.shape[:2]) < patch:
        return None
    image = torch.from_numpy(stack).permute(2, 0, 1)[None]
    flat = joint_flat_patches([image[:, m.slice] for m in modalities], patch=patch)
    return None if flat is None else flat.float().mean().item()


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _range(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (math.nan, math.nan)
