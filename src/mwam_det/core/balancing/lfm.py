"""LFM: fit the modalities to each other first, and to the labels more and more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mwam_det.core.balancing.balancer import Attachment, Balancer, BalancingConfig, Streams
from mwam_det.core.balancing.evidence import Evidence

CURVE = (2.04623704e-1, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)
"""Weight of the labels as a polynomial of the epoch, coefficients in rising order, as published for CREMA-D."""

CURVE_EPOCHS = 200
"""Number of epochs of the training that the curve was fitted to."""


@dataclass(frozen=True)
class LFMConfig(BalancingConfig):
    """Settings of `LFM`: those of `BalancingConfig` alone."""

    method = "lfm"


def label_weight(share: float) -> float:
    """Return w, the weight of the labels, after a share of the training in [0, 1]: 0.20 at first, above 0.9 at the end.

    w = Σ_k c_k e^k, e = 200 · share, kept in [0, 1]: the curve that the authors fitted to what they had learnt.
    """
    epoch = CURVE_EPOCHS * share
    return min(max(sum(c * epoch**power for power, c in enumerate(CURVE)), 0.0), 1.0)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Measure how far apart two predictions of classes are: ½ KL(m ‖ p) + ½ KL(m ‖ q), m = ½ (p + q).

    Args:
        first: Logits of p, shape (B, classes, …), float.
        second: Logits of q, of that shape.

    Returns:
        The mean over samples and places, 0-d, float32, with gradient; 0 for equal predictions. (The published code
        calls it the Jensen-Shannon divergence, which has KL(p ‖ m) and KL(q ‖ m) instead.)
    """
    p, q = first.float().log_softmax(1), second.float().log_softmax(1)
    mean = torch.logaddexp(p, q) - math.log(2)
    return (mean.exp() * (mean - (p + q) / 2)).sum(1).mean()


class LFM(Balancer):
    """Learning to facilitate modalities: the modality gap learnt dynamically (Yang et al., NeurIPS 2024).

        loss = 2 · (w · L + (1 − w) · A),   A = mean over pairs (m, n) of the alignment of z_m and z_n

    L is the loss that is trained otherwise, z_m the logits with modality m alone, and w the weight of the labels, which
    follows `label_weight`. For classification alone, of images or places: it needs scores of classes. Where all
    modalities predict the same, A = 0. It has no factors: streams are balanced by what the second term asks of them.

    This is the published script: w is the authors' fit to their own run, stretched here from its 200 epochs to the
    length of the training. Their bilevel learning of w by second derivatives is not part of it.

    Departures: published, L is that of the mean of the outputs of two separate classifiers, here that of the model's
    own fusion; and z_m is the model's output with the other modalities absent. A modality that is absent from the
    mini-batch is aligned with none.
    """

    needs_views = True
    follows_views = True
    needs_logits = True

    config: LFMConfig

    def reset(self) -> None:
        """Begin at the start of the training."""
        super().reset()
        self._share = 0.0

    def begin_epoch(self, epoch: int, epochs: int, seed: int = 0) -> None:
        """Begin an epoch, see `Balancer.begin_epoch`."""
        super().begin_epoch(epoch, epochs, seed)
        self._share = epoch / epochs

    def loss(self, evidence: Evidence, scale: float | Tensor = 1.0) -> Tensor:
        """Return 2 · (w · L + (1 − w) · A), see `Balancer.loss`.

        Raises:
            ValueError: If the evidence has no logits.
        """
        average = evidence.average()
        if not self.active:
            return average
        if evidence.logits is None:
            raise ValueError("lfm compares predictions of classes: give it logits; a task without classes has none")
        pairs = list(combinations(self.modalities, 2))
        each = torch.stack([alignment(evidence.logits[a,], evidence.logits[b,]) for a, b in pairs])
        known = torch.stack([evidence.has(pair).all() for pair in pairs])
        apart = evidence.multiple * each.where(known, 0).sum() / known.sum().clamp(min=1)
        weight = label_weight(self._share)
        return 2 * (weight * average + (1 - weight) * apart)

    def attach(self, streams: Streams, optimizer: torch.optim.Optimizer) -> Attachment | None:
        """Return None: the method acts by its loss alone."""
        return None
