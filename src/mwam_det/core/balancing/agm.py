"""AGM: keep each modality as far ahead of the others as it has been so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mwam_det.core.balancing.balancer import Balancer, BalancingConfig, check_number
from mwam_det.core.balancing.evidence import Evidence, label_log_probabilities, mean_of_others, mean_where
from mwam_det.core.missing import modality_combinations

SMALLEST_PROBABILITY = 1e-8
"""Probabilities of a label below this count as this, as published: one sample cannot outweigh the others."""

LARGEST_GAP = 50.0
"""Losses further apart count as this far apart, so that the exponential of their gap is a number."""


@dataclass(frozen=True)
class AGMConfig(BalancingConfig):
    """Settings of `AGM`.

    Args:
        start: See `BalancingConfig`.
        stop: See `BalancingConfig`.
        alpha: α, how strongly gradients are modulated, at least 0.
        limit: Largest τ − r that counts, above 0: no factor exceeds exp(α·limit). Published: 10 for two modalities, 7
            for three.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method = "agm"

    alpha: float = 1.0
    limit: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, least=0)
        check_number("limit", self.limit, above=0)


def shapley_responses(outputs: Mapping[tuple[str, ...], Tensor], modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Attribute what a model puts out to its modalities: φ_m = Σ_{S ∌ m} |S|!(M−|S|−1)!/M! · (Φ(S ∪ m) − Φ(S)).

    Φ(S) is the output with the modalities S alone, and 0 for none, as published: so Σ_m φ_m = Φ of all.

    Args:
        outputs: Φ of all 2^M − 1 combinations, named in the order of `modalities`, tensors of one shape.
        modalities: All M modalities.

    Returns:
        φ by modality, of that shape.
    """
    count = len(modalities)
    responses: dict[str, Tensor] = {}
    for combination, output in outputs.items():
        size = len(combination)
        for name in modalities:
            # Of the differences, each Φ(c) occurs once with m in c (+) and, if m is not in c, once as Φ(S) (−).
            members = size - 1 if name in combination else size
            share = math.factorial(members) * math.factorial(count - members - 1) / math.factorial(count)
            term = output * (share if name in combination else -share)
            responses[name] = responses[name] + term if name in responses else term
    return responses


def confidence_ratios(losses: Mapping[str, float]) -> dict[str, float]:
    """Relate how well each modality does to the others: r_m = exp(mean_{j≠m} s_j − s_m) of their losses s.

    That is exp(s_j − s_m) for two modalities, and exp(M/(M − 1) · (s̄ − s_m)) with the mean s̄ of all, the form published
    for three.
    """
    others = mean_of_others(losses)
    return {name: math.exp(min(max(others[name] - loss, -LARGEST_GAP), LARGEST_GAP)) for name, loss in losses.items()}


class AGM(Balancer):
    """Adaptive gradient modulation (Li et al., ICCV 2023, arXiv:2308.07686).

    The gradient of a stream of modality m is multiplied by

        κ_m = exp(α · min(τ_m − r_m, limit)),   r_m = exp(mean_{j≠m} s_j − s_m),   τ_m = the same of the running means ŝ

    s_m is the loss of modality m on the mini-batch, ŝ_m its mean over all earlier mini-batches (0 before the first, so
    τ = 1), r_m how far m is ahead of the others now, τ_m how far it has been on average, and α sets the strength. A
    modality that is further ahead than before is slowed down, one that has fallen back is sped up. Modalities that do
    equally well, now and before, have κ = 1.

    With scores of classes of all 2^M − 1 combinations (the views of two modalities; `incomplete: {views: all}` with
    more), s_m is the cross-entropy of the modality's Shapley response φ_m, see `shapley_responses`, as published.
    Otherwise s_m is the loss of modality m alone. That is ours; where the output of modalities together is the sum of
    their outputs alone, both are the same.

    Departures: published is a factor on the gradient that enters the response φ_m, which for a head that is linear in
    concatenated features reaches stream m and its columns of the head. Here it is the stream alone, for any fusion; the
    head keeps its gradient. The published code also clips the gradient of the whole model to norm 1 where the head's is
    large; here that is left to the host.
    """

    needs_views = True
    remembered = ("means", "counts")

    config: AGMConfig

    def reset(self) -> None:
        """Forget everything, as before the first mini-batch."""
        super().reset()
        self._means = dict.fromkeys(self.modalities, 0.0)
        self._counts = dict.fromkeys(self.modalities, 0)

    def _allocate(self, evidence: Evidence) -> dict[str, float]:
        losses = self._losses(evidence)
        factors = {}
        if len(losses) > 1:
            now, so_far = confidence_ratios(losses), confidence_ratios({name: self._means[name] for name in losses})
            excess = {name: min(so_far[name] - now[name], self.config.limit) for name in losses}
            factors = {name: math.exp(self.config.alpha * value) for name, value in excess.items()}
        for name, loss in losses.items():
            self._counts[name] += 1
            self._means[name] += (loss - self._means[name]) / self._counts[name]
        return factors

    def _losses(self, evidence: Evidence) -> dict[str, float]:
        combinations = modality_combinations(self.modalities)
        if evidence.labelled is None or any(c not in evidence.labelled[0] for c in combinations):
            return evidence.losses_alone(self.modalities)
        given, target = evidence.labelled
        logits = {c: given[c].detach().float() for c in combinations}
        least = math.log(SMALLEST_PROBABILITY)
        values = {}
        for name, response in shapley_responses(logits, self.modalities).items():
            logs, valid = label_log_probabilities(response, target)
            values[name] = -mean_where(logs.clamp(min=least), valid)
        return evidence.over_ranks(values)
