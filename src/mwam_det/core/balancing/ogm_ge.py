"""OGM-GE: slow the dominant modality down while it dominates, and make up for it with noise."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mwam_det.core.balancing.balancer import Attachment, Balancer, BalancingConfig, Streams, check_number
from mwam_det.core.balancing.evidence import Evidence, label_log_probabilities, mean_of_others, mean_where
from mwam_det.core.modulation import GradientModulator, keeps_gradient_scale

ROUNDING = 1e-6
"""Ratios no further above 1 are rounding: k leaps there, and equal modalities are to be left alone."""


@dataclass(frozen=True)
class OGMGEConfig(BalancingConfig):
    """Settings of `OGMGE`.

    Args:
        start: See `BalancingConfig`.
        stop: See `BalancingConfig`. The published training modulates in the first half: 0.5.
        alpha: α, how strongly a dominant modality is slowed down, at least 0. The authors recommend 0.1 to 0.8, by
            dataset.
        noise: Whether noise is added to the gradients (GE); false for OGM alone.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method = "ogm_ge"

    alpha: float = 0.3
    noise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, least=0)
        if not isinstance(self.noise, bool):
            raise ValueError(f"noise={self.noise!r} must be true or false")


def discrepancy_ratios(scores: Mapping[str, float]) -> dict[str, float]:
    """Relate how well each modality does to how well the others do: ρ_m = s_m / mean_{j≠m} s_j.

    With two modalities this is the paper's ρ; with more, several may be above 1, and so dominant.

    Args:
        scores: s, at least 0, two modalities or more.

    Returns:
        ρ of each modality, at least 0.
    """
    others = mean_of_others(scores)
    return {name: score / max(others[name], sys.float_info.min) for name, score in scores.items()}


def modulation_factor(ratio: float, alpha: float) -> float:
    """Return k = 1 − tanh(α·ρ) for a dominant modality, ρ > 1, and 1 for any other (Eq. 10)."""
    return 1 - math.tanh(alpha * ratio) if ratio > 1 + ROUNDING else 1.0


class OGMGE(Balancer):
    """On-the-fly gradient modulation with generalisation enhancement (Peng et al., CVPR 2022, arXiv:2203.15332).

    The gradient g of a stream of modality m becomes

        k_m · g + ε,   k_m = 1 − tanh(α·ρ_m) if ρ_m > 1, else 1,   ρ_m = s_m / mean_{j≠m} s_j,   ε ~ N(0, std(g)²)

    s_m is how well modality m does alone on the mini-batch, α sets the strength, and ε has the standard deviation of
    the gradient of each parameter before it is modulated. Modalities that do equally well keep their gradient, but for
    the noise.

    With scores of classes, s_m is the mean probability of the label, Σ_i softmax(z_m,i)_{y_i} / B, as published (the
    ratio of sums is that of means). The paper reads z_m from the part of a linear head that belongs to m, with half of
    its bias; here it is the model's own output with the other modalities absent, so any fusion will do.

    Without, s_m = exp(−L_m) with the loss L_m of modality m alone, so that ρ_m = exp(L_j − L_m) for two modalities.
    That is ours. For cross-entropy, exp(−L_m) is the geometric mean of the label's probabilities in place of the
    arithmetic one: the same where all samples are equally hard. For other losses it takes the loss for a negative
    log-likelihood, so that the size of its terms counts like α: tune α anew.

    Departures: the published code modulates weights of convolutions alone, here all parameters of a stream are, as in
    the paper; a parameter of one value gets no noise, as it has no deviation. At ρ = 1 the code slows one of two equal
    modalities down; the paper slows none.

    Noise is drawn from the seed of `begin_epoch`, by each process for its own gradients before they are averaged. It
    needs the scale of gradients: with an optimizer that undoes it (Adam), the factors would be lost, and a warning
    says so. Without noise the factors multiply the steps of such an optimizer instead.
    """

    needs_views = True

    config: OGMGEConfig

    def begin_epoch(self, epoch: int, epochs: int, seed: int = 0) -> None:
        """Begin an epoch, see `Balancer.begin_epoch`."""
        super().begin_epoch(epoch, epochs, seed)
        self._seed = seed
        self._generators.clear()

    def reset(self) -> None:
        """Forget everything, as before the first mini-batch."""
        super().reset()
        self._seed = 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def attach(self, streams: Streams, optimizer: torch.optim.Optimizer) -> Attachment | None:
        """Let the method act on the streams of a training, see `Balancer.attach`."""
        if not self.config.noise:
            return super().attach(streams, optimizer)
        if not keeps_gradient_scale(optimizer):
            warnings.warn(
                f"{type(optimizer).__name__} rescales gradients, which undoes the factors of ogm_ge in part or in "
                "whole: use SGD, or balancing.noise=false, which multiplies its steps",
                stacklevel=2,
            )
        return _NoisyGradientModulator(self, streams)

    def draw_noise(self, gradient: Tensor) -> Tensor:
        """Draw ε for a gradient: normal, with mean 0 and the standard deviation of its values.

        Args:
            gradient: Before modulation, any shape.

        Returns:
            Shape, dtype and device of `gradient`; 0 for a single value or where the method does not act.
        """
        if not self.active or gradient.numel() < 2:
            return torch.zeros_like(gradient)
        device = gradient.device
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        normal = torch.randn(gradient.shape, generator=self._generators[device], device=device, dtype=gradient.dtype)
        return normal * gradient.std()

    def _allocate(self, evidence: Evidence) -> dict[str, float]:
        scores = self._scores(evidence)
        if len(scores) < 2:
            return {}
        ratios = discrepancy_ratios(scores)
        return {name: modulation_factor(ratio, self.config.alpha) for name, ratio in ratios.items()}

    def _scores(self, evidence: Evidence) -> dict[str, float]:
        if evidence.labelled is not None:
            logits, target = evidence.labelled
            labels = {name: label_log_probabilities(logits[name,], target) for name in self.modalities}
            return evidence.over_ranks({name: mean_where(logs.exp(), valid) for name, (logs, valid) in labels.items()})
        losses = evidence.losses_alone(self.modalities)
        best = min(losses.values(), default=0.0)  # a common factor of all scores drops out of their ratios
        return {name: math.exp(best - loss) for name, loss in losses.items()}


class _NoisyGradientModulator(GradientModulator):
    """Multiply gradients by the factor of their modality and add noise with the spread that they had before."""

    def __init__(self, balancer: OGMGE, streams: Mapping[str, nn.Module | Iterable[nn.Parameter]]):
        super().__init__(balancer, streams)
        self._balancer = balancer

    def _scale(self, gradient: Tensor | None, name: str) -> Tensor | None:
        scaled = super()._scale(gradient, name)
        return None if scaled is None or gradient is None else scaled + self._balancer.draw_noise(gradient)
