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
        absent: Modalities that are 0 in the whole mini-batch: alone they are no evidence.
        count: Number of samples B, which weighs this process against others.
        multiple: See `losses`. 1 for a host that trains on the mean; B for one that trains on the sum.
    """

    losses: Mapping[tuple[str, ...], Tensor]
    weights: Mapping[tuple[str, ...], float]
    logits: Mapping[tuple[str, ...], Tensor] | None = None
    target: Tensor | None = None
    absent: Collection[str] = ()
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

    def losses_alone(self, modalities: Collection[str]) -> dict[str, float]:
        """Return the mean loss of each modality alone, averaged over ranks; those without a finite one are left out."""
        return self.over_ranks({name: self.losses[name,].detach().sum() / self.multiple for name in modalities})

    def over_ranks(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Average a value of each modality over all ranks, weighted by their numbers of samples.

        Args:
            values: 0-d, by modality, all of them in the same order on every rank. What is not finite, or belongs to a
                modality that is absent here, is no evidence of this rank.

        Returns:
            The same on every rank, without the modalities of which no rank has evidence.
        """
        measured = torch.stack([value.detach().float() for value in values.values()])
        present = torch.tensor([name not in self.absent for name in values], device=measured.device)
        known = (measured.isfinite() & present).float()
        counts = known * self.count
        # One reduction for both: the mean of `known` over the ranks that have evidence is 1, and 0 where none has.
        mean = mean_over_ranks(torch.cat([measured.nan_to_num() * known, known]), torch.cat([counts, counts])).tolist()
        size = len(values)
        return {name: value for name, value, seen in zip(values, mean[:size], mean[size:], strict=True) if seen > 0}


def label_log_probabilities(logits: Tensor, target: Tensor) -> Tensor:
    """Return log softmax(z)_y, the logarithm of the probability that is given to the label.

    Args:
        logits: z, shape (B, classes, …), float.
        target: y, shape (B, …), integers; numbers outside 0..classes − 1 are left out.

    Returns:
        Shape (N,), float32, of the N samples, or places of them, that have a label.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if logits.ndim < 2 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} need a target of shape "
            f"{(*logits.shape[:1], *logits.shape[2:])}, got {tuple(target.shape)}"
        )
    logs = logits.float().log_softmax(1).movedim(1, -1).flatten(0, -2)
    labels = target.flatten().long()
    valid = (labels >= 0) & (labels < logs.shape[1])
    return logs[valid].gather(1, labels[valid][:, None])[:, 0]


def mean_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """Return, for each modality, the mean value of all others; two modalities or more."""
    return {name: sum(value for other, value in values.items() if other != name) / (len(values) - 1) for name in values}
