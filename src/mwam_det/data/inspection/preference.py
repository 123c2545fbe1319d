"""What MWAM makes of the modalities: FRM, share T and weight K over mini-batches of the training split."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from ultralytics.data.augment import LetterBox

from mwam_det.core.config import MWAMConfig
from mwam_det.core.frequency import joint_flat_patches
from mwam_det.core.mwam import MWAM, Observation
from mwam_det.data.inspection.figures import PreferenceFigures
from mwam_det.data.layout import Modality


class PreferenceMeter:
    """Feeds mini-batches to MWAM and keeps what it says."""

    def __init__(self, modalities: Sequence[Modality], config: MWAMConfig, imgsz: int, batch: int):
        self.modalities, self.config, self.batch = modalities, config, batch
        self.letterbox = LetterBox((imgsz, imgsz))
        self.mwam = MWAM([modality.name for modality in modalities], config)
        self.observations: list[Observation] = []
        self.flat_patches: list[float] = []
        self.pairs = 0

    def observe(self, stacks: Sequence[np.ndarray]) -> None:
        """Measure one mini-batch of stacks of shape (H, W, C); an incomplete one counts only if there is no other."""
        if self.observations and len(stacks) < self.batch:
            return
        self.pairs += len(stacks)
        patch = self.config.patch
        for stack in stacks:
            if min(stack.shape[:2]) >= patch:
                image = torch.from_numpy(stack).permute(2, 0, 1)[None]
                flat = joint_flat_patches([image[:, m.slice] for m in self.modalities], patch=patch)
                self.flat_patches.append(flat.float().mean().item())
        images = torch.from_numpy(np.stack([self.letterbox(image=stack) for stack in stacks])).permute(0, 3, 1, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `skipped` says the same
            self.mwam.observe({m.name: images[:, m.slice] for m in self.modalities})
        self.observations.append(self.mwam.last)

    def figures(self) -> PreferenceFigures:
        """Average over the mini-batches."""
        names = [modality.name for modality in self.modalities]
        values = {
            what: {name: [getattr(seen, what)[name] for seen in self.observations] for name in names}
            for what in ("frm", "share", "weight")
        }
        means = {what: {name: _mean(series) for name, series in by.items()} for what, by in values.items()}
        ranges = {
            what: {name: (min(series), max(series)) for name, series in by.items()} for what, by in values.items()
        }
        return PreferenceFigures(
            rule=self.config.rule,
            pairs=self.pairs,
            batch=min(self.batch, self.pairs),
            batches=len(self.observations),
            **means,
            share_range=ranges["share"],
            weight_range=ranges["weight"],
            flat_patches=_mean(self.flat_patches) if self.flat_patches else None,
            skipped=dict(self.mwam.skipped),
        )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
