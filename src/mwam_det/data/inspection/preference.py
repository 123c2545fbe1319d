"""MWAM's view of the modalities: FRM, share T and weight K over mini-batches of the training split."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mwam_det.core.config import MWAMConfig
from mwam_det.core.frequency import frequency_contributions, joint_flat_patches, signed_pixels
from mwam_det.core.mwam import MWAM, Observation
from mwam_det.data.inspection.figures import PreferenceFigures
from mwam_det.data.modality import Modality


class PreferenceMeter:
    """Passes mini-batches to MWAM and keeps its measurements."""

    def __init__(self, modalities: Sequence[Modality], config: MWAMConfig):
        self.modalities, self.config = modalities, config
        self.mwam = MWAM([modality.name for modality in modalities], config)
        self.observations: list[Observation] = []
        self.parts: list[dict[str, np.ndarray]] = []
        self.batch = 0

    def observe(self, images: Tensor) -> None:
        """Measure one mini-batch of stacked images, shape (B, ΣC_m, H, W), uint8."""
        self.batch = len(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reported as `skipped`
            self.mwam.observe(batch := {m.name: images[:, m.slice] for m in self.modalities})
        if self.mwam.last is None:
            return
        self.observations.append(self.mwam.last)
        if self.config.rule == "frequency_ratio":
            self.parts.append(contributions(batch, self.config))

    def figures(self, flat_patches: float | None) -> PreferenceFigures:
        """Average over the mini-batches, except those in which a modality is 0 throughout.

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
            contributions={
                name: np.mean([parts[name] for parts in self.parts], 0).tolist() for name in names if self.parts
            },
            share_range=ranges["share"],
            weight_range=ranges["weight"],
            dead={name: len(measured) - len(showing[name]) for name in names},
            flat_patches=flat_patches,
            skipped=dict(self.mwam.skipped),
        )


def contributions(batch: Mapping[str, Tensor], config: MWAMConfig) -> dict[str, np.ndarray]:
    """Return the contribution of each DCT coefficient to the FRM of each modality (A.14).

    Args:
        batch: By modality, images of shape (B, C_m, H, W), uint8 or float in [0, 1].
        config: How FRM is measured.

    Returns:
        By modality, shape (q, q), see `frequency_contributions`; NaN if the images are smaller than a patch.
    """
    if min(side for images in batch.values() for side in images.shape[-2:]) < config.patch:
        return {name: np.full((config.band, config.band), np.nan) for name in batch}
    ignore = joint_flat_patches(batch.values(), patch=config.patch) if config.ignore else None
    parts = {}
    for name, images in batch.items():
        pixels = signed_pixels(images) if config.pixels == "signed" else images
        parts[name] = frequency_contributions(
            pixels, patch=config.patch, band=config.band, sigma=config.sigma, ignore=ignore, align=config.align
        ).numpy(force=True)
    return parts


def flat_share(stack: np.ndarray, modalities: Sequence[Modality], patch: int) -> float | None:
    """Return the share of a pair's patches that are flat in all modalities; None if the image is smaller than a patch.

    Args:
        stack: Shape (H, W, ΣC_m), uint8.
        modalities: The modalities of the stack.
        patch: Side of a patch, in pixels.
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
