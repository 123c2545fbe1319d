"""Jacobian descent: an aggregator of TorchJD settles conflicts between the views on the streams."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mwam_det.core.balancing.balancer import BalancingConfig
from mwam_det.core.balancing.combining import CombiningBalancer, GradientCombiner
from mwam_det.core.balancing.evidence import Evidence


@dataclass(frozen=True)
class JacobianDescentConfig(BalancingConfig):
    """Settings of `JacobianDescent`.

    Args:
        start: See `BalancingConfig`.
        stop: See `BalancingConfig`.
        aggregator: Name of a class of `torchjd.aggregation`, such as UPGrad, MGDA, PCGrad, CAGrad, AlignedMTL or Mean.
        options: Arguments of that class, by name; a list becomes a tensor, such as a preference for each view.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method = "torchjd"

    aggregator: str = "UPGrad"
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.aggregator, str):
            raise ValueError(f"aggregator={self.aggregator!r} must be the name of an aggregator, such as UPGrad")
        if self.options is not None and not isinstance(self.options, Mapping):
            raise ValueError(f"options={self.options!r} must be a mapping of arguments to values, like {{c: 0.5}}")


def build_aggregator(config: JacobianDescentConfig) -> Callable[[Tensor], Tensor]:
    """Build the aggregator that the settings name.

    Returns:
        A function of a matrix, shape (objectives, P), float, to a vector, shape (P,).

    Raises:
        ImportError: If TorchJD, or what the aggregator needs beside it, is not installed.
        ValueError: If there is no such aggregator, or it does not take the options.
    """
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ImportError(
            'balancing.method=torchjd needs the package torchjd: pip install "mwam-det[balancing]"'
        ) from error
    kinds = {
        name: kind
        for name, kind in vars(aggregation).items()
        if inspect.isclass(kind) and issubclass(kind, aggregation.Aggregator) and not name.endswith("Aggregator")
    }
    if config.aggregator not in kinds:
        raise ValueError(f"aggregator={config.aggregator!r} must be one of {', '.join(sorted(kinds))}")
    options = {
        key: torch.tensor(value) if isinstance(value, list | tuple) else value
        for key, value in (config.options or {}).items()
    }
    try:
        return kinds[config.aggregator](**options)
    except ImportError as error:
        raise ImportError(f"balancing.aggregator={config.aggregator}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"aggregator={config.aggregator}, options={dict(config.options or {})}: {error}") from None


class JacobianDescent(CombiningBalancer):
    """Jacobian descent on the streams, by TorchJD (Quinton and Rey, arXiv:2406.16232, and its aggregators' own papers).

    Each view c is an objective V · w_c · L_c with its share w_c of the loss and the number V of views. Their gradients
    on the parameters of all streams are the rows of a matrix, from which the aggregator makes the streams' gradient.
    Everything else is trained on Σ_c w_c L_c. With `aggregator: Mean`, training is as without the method; aggregators
    that add instead (Sum, PCGrad) step V times as far.

    Views are the complete one and each modality alone, with equal shares, or those of `incomplete: {views: all}`. A
    modality that is absent from the mini-batch has no view alone. If a gradient is not finite, the streams get that of
    Σ_c w_c L_c, which a host then treats as it treats any such step.

    Aggregators that draw at random use the generator of torch. Those that remember earlier steps (GradVac, PCD,
    NashMTL, ExcessMTL) begin anew when a training is resumed.

    Raises:
        ImportError: If TorchJD is not installed.
        ValueError: If there is no such aggregator, or it does not take the options.
    """

    config: JacobianDescentConfig

    def __init__(self, modalities: Sequence[str], config: JacobianDescentConfig):
        self._aggregate = build_aggregator(config)
        super().__init__(modalities, config)

    def reset(self) -> None:
        """Forget earlier steps, where the aggregator remembers any."""
        super().reset()
        if callable(forget := getattr(self._aggregate, "reset", None)):
            forget()

    def _combine(self, evidence: Evidence, combiner: GradientCombiner, scale: float | Tensor) -> Tensor:
        objectives = {c: weight * evidence.losses[c] for c, weight in evidence.weights.items() if weight}
        parameters = combiner.parameters()
        if not parameters:  # all streams are frozen
            return evidence.average()
        # Measured at the scale of the host, which keeps small gradients of half precision; aggregated at that of means.
        measured = [combiner.measure(objective * scale, parameters) for objective in objectives.values()]
        present = torch.stack([evidence.has(combination).any() for combination in objectives])
        finite = torch.stack([row.isfinite().all() for row in measured])
        known = torch.stack([present, finite], 1).tolist()  # one read for both
        kept = [(row, is_finite) for row, (counts, is_finite) in zip(measured, known, strict=True) if counts]
        if kept and all(is_finite for _, is_finite in kept):
            rows, total = torch.stack([row for row, _ in kept]), scale * evidence.multiple
            combiner.leave(parameters, self._aggregate(rows * (len(rows) / total)) * total)
        return evidence.average()
