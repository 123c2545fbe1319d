"""The Multimodal Weight Allocation Module: a mini-batch in, a weight for every modality out."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mwam_det.core.allocation import allocate_weights, share
from mwam_det.core.bank import FRMBank
from mwam_det.core.config import MWAMConfig
from mwam_det.core.distributed import mean_over_ranks
from mwam_det.core.frequency import joint_flat_patches, modality_preference, signed_pixels

NEARLY_ALL = 0.995
"""A modality with a share T above this times the number of modalities looks constant: real ones stay below 0.9."""

CONSTANT_FOR = 20
"""Number of consecutive such mini-batches before the warning."""


@dataclass(frozen=True)
class Observation:
    """Measurements of one mini-batch, or of one call of `measure`, by modality, for logs.

    Attributes:
        frm: FRM of the mini-batch (Eq. 4), or the value of the configured rule, averaged over ranks; 0 for an absent
            modality. With preference="measured", the dependence.
        bank: Banked FRM after it (Eq. 2).
        share: T, from the bank (Eq. 6); NaN for a modality without evidence.
        weight: K, from the share (Eq. 5); 1 for a modality without evidence.
    """

    frm: dict[str, float]
    bank: dict[str, float]
    share: dict[str, float]
    weight: dict[str, float]


class MWAM:
    """Allocate a weight to every modality, inversely to its preference in the frequency domain.

    Call `observe` on each mini-batch of a training before its backward pass, with the input as the sensors provide it:
    before any modality dropout. All ranks of a distributed training must call it together; the FRM is averaged over
    them, so that state and weights are the same on all.

    Args:
        modalities: Names of the modalities, two or more (the weight of a single one is constant).
        config: Parameters; `MWAMConfig()`, the paper's, if left out.

    Raises:
        ValueError: If names are missing or repeated.

    Attributes:
        weights: Weight of every modality for the mini-batch observed last, 0-d float32; 1 before the first.
        last: `Observation` of that mini-batch, or None.
        skipped: Number of mini-batches without evidence, by reason. Their weights were 1.
        frozen: Whether the weights are frozen, see `freeze`.
    """

    def __init__(self, modalities: Sequence[str], config: MWAMConfig | None = None):
        self.modalities = tuple(modalities)
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities={list(modalities)} must be distinct names, at least one")
        self.config = config or MWAMConfig()
        self.bank = FRMBank(self.config.omega, self.config.bank_start)
        self._warned_of_sizes = False
        self.reset()

    def reset(self) -> None:
        """Forget the bank and all counts, as before the first mini-batch."""
        self.bank.reset()
        self.skipped: Counter[str] = Counter()
        self._constant: Counter[str] = Counter()
        self.last: Observation | None = None
        self.weights = {name: torch.ones(()) for name in self.modalities}
        self.frozen = False

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the weights, for a comparison; `freeze(False)` lets them follow the data again.

        A frozen MWAM measures nothing: `observe` returns the weights and leaves bank and counts unchanged.
        """
        self.frozen = frozen

    @torch.no_grad()
    def observe(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Measure a mini-batch, update the bank and allocate the weights (Algorithm 1, lines 3 to 5).

        A modality that is 0 in the whole mini-batch is absent: it carries no evidence, keeps its bank, is left out of
        the mean of Eq. 6 and gets weight 1. If nothing can be measured (NaN or Inf in a pixel, an image smaller than a
        patch, every patch left out), all weights are 1 for this step and `skipped` counts it, with one warning per
        reason.

        Args:
            inputs: Every modality of the mini-batch by name, shape (B, C_m, H_m, W_m) or as `config.layout` says, uint8
                or float in [0, 1].

        Returns:
            Weight of every modality by name, 0-d float32 on the device of its input, without gradient.

        Raises:
            ValueError: If the names are not those of the modalities, or a tensor does not have the shape that
                `config.layout` says.
            TypeError: If a tensor is neither uint8 nor floating point.
        """
        if set(inputs) != set(self.modalities):
            raise ValueError(f"inputs name {sorted(inputs)}, but the modalities are {sorted(self.modalities)}")
        if self.frozen or self.config.preference == "measured":
            self.weights = {name: self.weights[name].to(inputs[name].device) for name in self.modalities}
            return self.weights
        frm, reason = self._measure([inputs[name] for name in self.modalities])
        present = {name: value for name, value in zip(self.modalities, frm, strict=True) if value > 0}
        if reason is None and not present:
            reason = "every modality is 0, or every patch is flat in all of them"
        if reason is not None:
            present = {}
            self._skip(reason)
        self.last = self._allocate(dict(zip(self.modalities, frm, strict=True)), present)
        self._warn_of_constant_modalities(self.last)
        return self._set_weights(self.last, inputs)

    def measure(self, dependence: Mapping[str, float]) -> dict[str, Tensor]:
        """Allocate the weights by how much the model depends on each modality, instead of by its frequencies.

        Not in the paper. The values go through the same bank and Eq. 5 and 6 as an FRM: a modality on which the model
        depends more gets a smaller weight until the next call. For `MWAMConfig(preference="measured")`.

        Args:
            dependence: By modality, for instance the Performance Collapse Rate of a validation without it. Negative
                values, where the model does better without it, count as 0. Must be the same on all ranks.

        Returns:
            Weight of every modality, as `observe` returns it; all 1 if the model depends on no single modality.

        Raises:
            ValueError: If the names are not those of the modalities or a value is not finite.
        """
        if set(dependence) != set(self.modalities):
            raise ValueError(f"dependence names {sorted(dependence)}, but the modalities are {sorted(self.modalities)}")
        if bad := [name for name, value in dependence.items() if not math.isfinite(value)]:
            raise ValueError(f"the dependence on {', '.join(bad)} is not finite: {dict(dependence)}")
        values = {name: max(float(dependence[name]), 0.0) for name in self.modalities}
        evidence = values if any(values.values()) else {}
        if not evidence:
            self._skip("the model depends on no single modality")
        self.last = self._allocate(values, evidence)
        return self._set_weights(self.last, self.weights)

    def _measure(self, tensors: list[Tensor]) -> tuple[list[float], str | None]:
        """Return the FRM of each modality, averaged over ranks, and the reason if it cannot be used."""
        config = self.config
        # An image that is too small must not keep this rank from the reduction that all ranks take part in.
        axes, sides = {"image": (4, 2), "volume": (5, 3)}.get(config.layout, (5, 2))
        too_small = any(images.ndim == axes and min(images.shape[-sides:]) < config.patch for images in tensors)
        if too_small:
            values = torch.full((len(tensors),), math.nan, dtype=torch.float64, device=tensors[0].device)
        else:
            ignore = None
            if config.ignore == "joint_flat":
                ignore = joint_flat_patches(tensors, patch=config.patch, layout=config.layout)
                if ignore is None:
                    self._warn_of_sizes(tensors)
            values = torch.stack(
                [
                    modality_preference(
                        signed_pixels(images) if config.pixels == "signed" else images,
                        rule=config.rule,
                        align=config.align,
                        layout=config.layout,
                        patch=config.patch,
                        band=config.band,
                        sigma=config.sigma,
                        ignore=ignore,
                    ).to(tensors[0].device)
                    for images in tensors
                ]
            )
            if config.pixels == "signed":  # black is not 0 then: an absent modality would count
                present = torch.stack([(images != 0).any().to(values.device) for images in tensors])
                values = values.where(present, 0)
        values = values.double() if values.device.type != "mps" else values.cpu().double()
        samples = [images.shape[0] for images in tensors]
        counts = torch.tensor(samples, dtype=values.dtype).to(values.device, non_blocking=True) * (values != 0)
        frm = mean_over_ranks(values, counts).tolist()
        if all(math.isfinite(value) for value in frm):
            return frm, None
        if too_small:
            return frm, f"an image is smaller than a patch of {config.patch} pixels"
        return frm, "NaN or Inf in a pixel"

    def _allocate(self, frm: dict[str, float], present: dict[str, float]) -> Observation:
        config = self.config
        bank = self.bank.update(present)
        shares = dict.fromkeys(self.modalities, math.nan)
        weights = dict.fromkeys(self.modalities, 1.0)
        if present:
            banked = torch.tensor([bank[name] for name in present], dtype=torch.float64)
            measured = torch.tensor(list(present.values()), dtype=torch.float64)
            related = banked if config.share_of == "bank" else measured
            allocated = allocate_weights(
                related,
                mean_of=banked,
                alpha=config.alpha,
                beta=config.beta,
                lam=config.lam,
                gamma=config.gamma,
                sigma=config.sigma,
                normalize=config.normalize,
                scaling=config.scaling,
            )
            shares.update(zip(present, share(related, sigma=config.sigma, mean_of=banked).tolist(), strict=True))
            weights.update(zip(present, allocated.tolist(), strict=True))
        return Observation(frm, {name: bank.get(name, math.nan) for name in self.modalities}, shares, weights)

    def _set_weights(self, observation: Observation, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Set the weights to those of an observation, each on the device of its modality's tensor."""
        self.weights = {
            name: torch.tensor(observation.weight[name]).to(tensors[name].device, torch.float32, non_blocking=True)
            for name in self.modalities
        }
        return self.weights

    def _skip(self, reason: str) -> None:
        self.skipped[reason] += 1
        if self.skipped[reason] == 1:
            warnings.warn(f"MWAM has nothing to go by ({reason}): the weights are 1", stacklevel=4)

    def _warn_of_constant_modalities(self, observation: Observation) -> None:
        """Warn of a modality without detail in `CONSTANT_FOR` mini-batches in a row, while another one has some."""
        count = len(self.modalities)
        if count == 1 or all(map(math.isnan, observation.share.values())):
            return
        for name, value in observation.share.items():
            constant = math.isnan(value) or value > NEARLY_ALL * count
            self._constant[name] = self._constant[name] + 1 if constant else 0
            if self._constant[name] == CONSTANT_FOR:
                warnings.warn(
                    f"{name} shows no detail in {CONSTANT_FOR} mini-batches in a row (share T {value:.2f} of {count}): "
                    "its weight is meaningless. Is it black or of one colour? See its images with mwam-det inspect",
                    stacklevel=4,
                )

    def _warn_of_sizes(self, tensors: list[Tensor]) -> None:
        if self._warned_of_sizes:
            return
        self._warned_of_sizes = True
        sizes = ", ".join(
            f"{name} {tuple(images.shape)}" for name, images in zip(self.modalities, tensors, strict=True)
        )
        warnings.warn(
            f"the modalities share no patch grid ({sizes}): patches that are flat in all of them cannot be found, "
            "so padding counts; resize or crop the modalities to one size",
            stacklevel=5,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return bank, counts and weights as plain Python numbers, which any checkpoint can hold."""
        return {
            "bank": self.bank.state_dict(),
            "skipped": dict(self.skipped),
            "weights": {name: weight.item() for name, weight in self.weights.items()},
            "frozen": self.frozen,
            "last": self.last and asdict(self.last),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: If the state belongs to other modalities.
        """
        if set(state["weights"]) != set(self.modalities):
            raise ValueError(f"the state is of modalities {sorted(state['weights'])}, not of {sorted(self.modalities)}")
        self.bank.load_state_dict(state["bank"])
        self.skipped = Counter(state["skipped"])
        self.weights = {name: torch.tensor(state["weights"][name]) for name in self.modalities}
        self.frozen = state["frozen"]
        self.last = Observation(**state["last"]) if state.get("last") else None
