"""MSES: stop each stream early, when its modality no longer gains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from mwam_det.core.balancing.balancer import Balancer, BalancingConfig, check_count, check_number, finite


@dataclass(frozen=True)
class MSESConfig(BalancingConfig):
    """Settings of `MSES`.

    Args:
        start: See `BalancingConfig`. Validations before count; nothing is stopped.
        stop: See `BalancingConfig`. From there, streams that were stopped are trained again.
        patience: A stream stops after more validations than this in a row without a gain, at least 0. 80 is for runs of
            several hundred epochs.
        smoothing: Weight of the validation before in the value that counts, in [0, 1).

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method = "mses"

    patience: int = 80
    smoothing: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("patience", self.patience, 0)
        check_number("smoothing", self.smoothing)
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing} must lie in [0, 1)")


class MSES(Balancer):
    """Modality-specific early stopping (Fujimori et al., ACPR 2019).

    The factor of modality m is 0, and its stream no longer trained, once more than `patience` validations in a row have
    not lowered the least

        ℓ_m(t) = μ · L_m(t − 1) + (1 − μ) · L_m(t)

    so far. L_m is the validation loss with modality m alone and μ the smoothing; ℓ(1) = L(1). The others and the head
    train on. The numbers 80 and 0.6 are those of the published code of AGM, which compares this method.

    The paper takes the loss of a classifier of its own for each modality; here it is the model itself with the other
    modalities absent. Where a host has no validation losses, L_m = 1 − A_m with the metric A_m in [0, 1]: ours, and the
    usual early stopping by metric.

    The factor multiplies the optimizer's step, so that momentum and weight decay stop as well; batch norms of a stream
    that is stopped still follow the data. The stream stays as it is. (The code of AGM returns the whole model to its
    state of the epoch of the least loss, which undoes what the other modalities have learnt since.) A validation that
    is not finite is passed over.
    """

    needs_validation = True
    scales_steps = True
    remembered = ("before", "least", "waited")

    config: MSESConfig

    def reset(self) -> None:
        """Forget all validations, and train all streams."""
        super().reset()
        self._before: dict[str, float] = {}
        self._least = dict.fromkeys(self.modalities, math.inf)
        self._waited = dict.fromkeys(self.modalities, 0)
        self._warned = False

    @property
    def stopped(self) -> tuple[str, ...]:
        """The modalities whose streams have been stopped."""
        return tuple(name for name in self.modalities if self._factors.get(name) == 0)

    def begin_epoch(self, epoch: int, epochs: int, seed: int = 0) -> None:
        """Begin an epoch, see `Balancer.begin_epoch`; warn once if there are too few to stop a stream."""
        super().begin_epoch(epoch, epochs, seed)
        if epochs <= self.config.patience + 1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"balancing.patience={self.config.patience}: mses cannot stop a stream within {epochs} epochs",
                stacklevel=2,
            )

    def validated(self, scores: Mapping[str, float], losses: Mapping[str, float] | None = None) -> None:
        """Take in a validation, see `Balancer.validated`; its losses count, or else its scores."""
        current = {name: 1 - scores[name] if losses is None else losses[name] for name in self.modalities}
        factors = dict(self._factors)
        for name, loss in finite(current).items():
            smoothing = self.config.smoothing if name in self._before else 0.0
            smooth = smoothing * self._before.get(name, 0.0) + (1 - smoothing) * loss
            self._before[name] = loss
            if smooth < self._least[name]:
                self._least[name], self._waited[name] = smooth, 0
            else:
                self._waited[name] += 1
            if self._waited[name] > self.config.patience:
                factors[name] = 0.0
        self._set_factors(factors)
