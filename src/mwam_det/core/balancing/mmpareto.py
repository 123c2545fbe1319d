"""MMPareto: let the losses of single modalities assist the joint one, without ever pulling against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mwam_det.core.balancing.balancer import BalancingConfig, check_number
from mwam_det.core.balancing.combining import CombiningBalancer, GradientCombiner
from mwam_det.core.balancing.evidence import Evidence

CANCELLED = 1e-5
"""Combined gradients shorter than this, beside those they are made of, are rounding errors: they have no direction."""


@dataclass(frozen=True)
class MMParetoConfig(BalancingConfig):
    """Settings of `MMPareto`.

    Args:
        start: See `BalancingConfig`. Before, only the complete input is seen.
        stop: See `BalancingConfig`.
        gamma: γ, how much longer the combined gradient is made, above 0.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method = "mmpareto"

    gamma: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma, above=0)


def pareto_gradient(joint: Tensor, alone: Tensor, gamma: float = 1.5) -> Tensor:
    """Combine the gradients of the joint loss and of the loss of one modality on the stream of that modality.

    With g the joint gradient and u the other,

        a = ½ if g·u > 0, else u·(u − g) / ‖g − u‖²,   h = 2a·g + 2(1 − a)·u,   result = γ · h · max(1, ‖g + u‖ / ‖h‖)

    Gradients that agree are added. Of two that conflict, a·g + (1 − a)·u is the shortest vector between them, which
    descends on both; it is made as long as their sum. If they cancel out, nothing descends on both and the result is 0.

    Args:
        joint: g, shape (P,), float.
        alone: u, of that shape.
        gamma: γ.

    Returns:
        Shape (P,), without gradient.
    """
    difference = joint - alone
    conflict = joint.dot(alone) <= 0
    share = alone.dot(-difference) / difference.dot(difference).clamp(min=torch.finfo(joint.dtype).tiny)
    share = torch.where(conflict, share.clamp(0, 1), 0.5)
    combined = 2 * share * joint + 2 * (1 - share) * alone
    length, wanted = combined.norm(), (joint + alone).norm()
    cancelled = length.isfinite() & (length <= CANCELLED * (joint.norm() + alone.norm()))  # an overflow stays one
    return torch.where(cancelled, 0, gamma * (wanted / length).clamp(min=1) * combined)


class MMPareto(CombiningBalancer):
    """Pareto integration of joint and single-modality losses (Wei and Hu, ICML 2024, arXiv:2405.17730).

        loss = L_complete + Σ_m L_m

    with the loss L_m of modality m alone. Everything but the streams is trained on its gradient. The stream of modality
    m gets what `pareto_gradient` makes of those of L_complete and L_m.

    Departures: published, L_m is that of a classifier of its own on stream m; here it is that of the model itself with
    the other modalities absent, for any task. The published code stretches each parameter of a stream by itself; here
    the stream is stretched as a whole, since only then does its gradient keep the direction that descends on both
    losses. The sum of 1 + M losses makes longer steps than one loss: choose the learning rate accordingly.

    A modality without evidence adds no loss, and its stream keeps the gradient of the others.
    """

    fixed_views = True

    config: MMParetoConfig

    def _combine(self, evidence: Evidence, combiner: GradientCombiner, scale: float | Tensor) -> Tensor:
        complete = evidence.losses[self.modalities]
        finite = torch.stack([evidence.losses[name,].isfinite().all() for name in self.modalities])
        known = (finite & evidence.has(self.modalities)).tolist()
        alone = {name: evidence.losses[name,] for name, counts in zip(self.modalities, known, strict=True) if counts}
        for name, loss in alone.items():
            parameters = combiner.parameters(name)
            if not parameters:  # the stream is frozen
                continue
            joint, single = (combiner.measure(objective * scale, parameters) for objective in (complete, loss))
            combiner.leave(parameters, pareto_gradient(joint, single, self.config.gamma))
        return complete + sum(alone.values())
