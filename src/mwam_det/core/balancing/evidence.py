"""How well a model does with each modality alone, measured on one mini-batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mwam_det.core.distributed import mean_over_ranks


@dataclass(frozen=True)
class Evidence:
    """What the views of one mini-batch yielded, by the combination of modalities that each view keeps.

    Args:
        losses: Loss of each view, `multiple` times its mean over the samples of this process, 0-d or of any shape whose
            sum is the loss. The complete combination and each modality alone are among them; more may be.
        weights: Share of each view in the loss that is trained. 0 for a view that only measures.
        logits: Class scores of each view, shape (B, classes, …); None for a task without.
        target: Class numbers, shape (B, …), integers; numbers outside 0..classes − 1 are not counted. None without
            logits.
        present: By modality, whether it is anything but 0 in the mini-batch, 0-d, bool; alone, an absent one is not
            evidence. All are present if it is left out.
        count: Number of samples B, which weighs this process against others.
        multiple: See `losses`. 1 for a host that trains on the mean; B for one that trains on the sum.
    """

    losses: Mapping[tuple[str, ...], Tensor]
    weights: Mapping[tuple[str, ...], float]
    logits: Mapping[tuple[str, ...], Tensor] | None = None
    target: Tensor | None = None
    present: Mapping[str, Tensor] | None = None
    count: int = 1
    multiple: float = 1.0

    @property
    def labelled(self) -> tuple[Mapping[tuple[str, ...], Tensor], Tensor] | None:
        """Scores of classes and labels, where both are there."""
        return None if self.logits is None or self.target is None else (self.logits, self.target)

    def average(self) -> Tensor:
        """Return Σ w_c · L_c over the views that are trained, of the shape of a loss."""
        first, *others = (self.weights[c] * loss for c, loss in self.losses.items() if self.weights[c])
        for part in others:
            first = first + part
        return first

    def has(self, names: Collection[str]) -> Tensor:
        """Return which modalities are present: shape (len(names),), bool, on the device of the losses; no wait."""
        device = next(iter(self.losses.values())).device
        if self.present is None:
            return torch.ones(len(names), dtype=torch.bool, device=device)
        return torch.stack([self.present[name].to(device, non_blocking=True) for name in names])

    def losses_alone(self, modalities: Collection[str]) -> dict[str, float]:
        """Return the mean loss of each modality alone, averaged over ranks; those without a finite one are left out."""
        return self.over_ranks({name: self.losses[name,].detach().sum() / self.multiple for name in modalities})

    def over_ranks(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Average a value of each modality over all ranks, weighted by their numbers of samples; read them once.

        Args:
            values: 0-d, by modality, all of them in the same order on every rank. A value that is not finite, or of a
                modality that is absent here, does not count as evidence of this rank.

        Returns:
            The same on every rank, without the modalities for which no rank has evidence.
        """
        measured = torch.stack([value.detach().float() for value in values.values()])
        known = (measured.isfinite() & self.has(values)).float()
        counts = known * self.count
        # One reduction for both: the mean of `known` over the ranks that have evidence is 1, and 0 where none has.
        mean = mean_over_ranks(torch.cat([measured.nan_to_num() * known, known]), torch.cat([counts, counts])).tolist()
        size = len(values)
        return {name: value for name, value, seen in zip(values, mean[:size], mean[size:], strict=True) if seen > 0}


def label_log_probabilities(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return log softmax(z)_y, the logarithm of the probability that is given to the label, and where there is one.

    Args:
        logits: z, shape (B, classes, …), float.
        target: y, shape (B, …), integers; numbers outside 0..classes − 1 are not labels.

    Returns:
        Shape (B, …), float32, and shape (B, …), bool: where there is not a label, the logarithm means nothing. Both
        keep their shape whatever the labels, so that nothing waits for the device.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if logits.ndim < 2 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} need a target of shape "
            f"{(*logits.shape[:1], *logits.shape[2:])}, got {tuple(target.shape)}"
        )
    valid = (target >= 0) & (target < logits.shape[1])
    labels = target.long().where(valid, 0)
    return logits.float().log_softmax(1).gather(1, labels[:, None])[:, 0], valid


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the values at the places that are valid, 0-d; NaN without any. Both have one shape."""
    return values.where(valid, 0).sum() / valid.sum()


def mean_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """Return, for each modality, the mean value of all others; two modalities or more."""
    return {name: sum(value for other, value in values.items() if other != name) / (len(values) - 1) for name in values}
