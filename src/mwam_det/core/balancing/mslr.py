"""MSLR: a learning rate for each modality, which follows its validations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mwam_det.core.balancing.balancer import Balancer, BalancingConfig, check_count, check_number, finite


@dataclass(frozen=True)
class MSLRConfig(BalancingConfig):
    """Settings of `MSLR`.

    Args:
        start: See `BalancingConfig`.
        stop: See `BalancingConfig`.
        window: N, how many validations before this one it is compared with, at least 1.
        rates: c, learning rate of each modality over that of the model, above 0, by name; 1 for what is not named. The
            paper tunes it on a training with that modality alone.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    method = "mslr"

    window: int = 5
    rates: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("window", self.window, 1)
        if self.rates is not None and not isinstance(self.rates, Mapping):
            raise ValueError(f"rates={self.rates!r} must be a mapping of modalities to factors, like {{rgb: 0.9}}")
        for name, rate in (self.rates or {}).items():
            check_number(f"rates.{name}", rate, above=0)


class MSLR(Balancer):
    """Modality-specific learning rates (Yao and Mihalcea, Findings of ACL 2022), with the dynamic strategy.

    After each validation t, the learning rate of a stream of modality m is that of the model times

        c_m · A_m(t) / mean(A_m(t − N), …, A_m(t − 1))

    A_m is the metric of the validation with modality m alone, c_m a constant and N the window; until N validations are
    known, it is c_m. A modality whose validation improves learns faster than one whose does not. With c = 1 and a
    metric that does not change, nothing changes.

    The paper takes the accuracy of a classifier of late fusion; here A_m is the metric of any task with the other
    modalities absent. N = 5 and c by hand are those of the published code of AGM, which compares this method. That code
    multiplies gradients; here it is the optimizer's step, which is a learning rate for every optimizer. A window whose
    mean is 0 leaves c_m; a metric that is not finite is passed over.
    """

    needs_validation = True
    scales_steps = True
    remembered = ("past",)

    config: MSLRConfig

    def __init__(self, modalities: Sequence[str], config: MSLRConfig):
        if unknown := set(config.rates or {}) - set(modalities):
            names = ", ".join(sorted(unknown))
            raise ValueError(f"rates names {names}, but the modalities are {', '.join(modalities)}")
        super().__init__(modalities, config)

    def reset(self) -> None:
        """Forget all validations."""
        self._past: dict[str, list[float]] = {name: [] for name in self.modalities}
        self._set_factors({name: self._constant(name) for name in self.modalities})

    def validated(self, scores: Mapping[str, float], losses: Mapping[str, float] | None = None) -> None:
        """Take in a validation, see `Balancer.validated`; its scores set the factors until the next one."""
        factors = dict(self._factors)
        for name, score in finite({name: scores[name] for name in self.modalities}).items():
            past = self._past[name]
            mean = math.fsum(past) / len(past) if len(past) == self.config.window else 0.0
            factors[name] = self._constant(name) * (score / mean if mean > 0 else 1.0)
            self._past[name] = [*past, score][-self.config.window :]
        self._set_factors(factors)

    def _constant(self, name: str) -> float:
        return float((self.config.rates or {}).get(name, 1.0))
