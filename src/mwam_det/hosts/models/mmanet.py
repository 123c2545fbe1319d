"""MMANet: a network learns from incomplete inputs, led by a teacher that sees everything (arXiv 2304.08028).

Three networks take part. The deployment network is the host, here an SF-MD that learns with modality dropout; it alone
is left in the end. A teacher of the same kind, trained before on complete inputs, shows how the samples of a mini-batch
resemble each other (margin-aware distillation). A regularisation network, on the features that the host fuses,
classifies the samples whose modalities are the weak ones, so that the streams learn more from those (modality-aware
regularisation).

What the paper leaves open is as in its authors' published code: resemblance is a row of the Gram matrix of the last
feature map, of length 1; uncertainty weighs its columns; weak is every combination without the modality whose absence
changes the predictions most, by the validations after epochs 2, 3 and 4; both losses begin with epoch 6. The code
counts epochs from 0 and trains nothing in the first, so that its numbers are those of epochs counted from 1 here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mwam_det.hosts.data.samples import Normalise
from mwam_det.hosts.models.classifiers import SFMD, STREAM_WIDTH, classifier, fused_stages
from mwam_det.training.incomplete import Views

TINY = 1e-12
"""Keeps the entropies of a teacher that is certain of everything apart from 0 / 0."""

UNKNOWN = -1

FIRST_MINED = 2
"""Predictions of earlier epochs do not show yet which modality is missed."""

LOSSES = ("distillation", "regularization")
"""Names of the losses of `MMANetGuidance`."""


def margin_aware_distillation(student: Tensor, teacher: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return how differently two networks relate the samples of a mini-batch to each other.

    With R the Gram matrix of the flattened features, each row divided by its length, and H_j the entropy of the
    teacher's prediction for sample j, the loss is Σ_j H_j / Σ_k H_k · Σ_i (R_ij of the student − R_ij of the teacher)².
    A sample near a decision boundary, of which the teacher is unsure, counts more: as in the published code, what all
    samples have to do with it (its column of R), not what it has to do with all (its row).

    Args:
        student: Features, shape (B, …).
        teacher: Features of the same samples, shape (B, …), without gradient.
        teacher_logits: Shape (B, classes).

    Returns:
        The loss, 0-d, float32, at least 0.
    """
    relations = []
    for features in (student, teacher):
        flat = features.float().flatten(1)
        relations.append(F.normalize(flat @ flat.T, dim=1))
    entropy = torch.special.entr(teacher_logits.float().softmax(1)).sum(1)
    return ((relations[0] - relations[1]).square().sum(0) * entropy).sum() / entropy.sum().clamp(min=TINY)


def prediction_shift(complete: Tensor, incomplete: Tensor) -> float:
    """Return how far predictions move without a modality: KL(incomplete ‖ complete).

    Both distributions are, as in the published code, the softmax over classes of how often each is predicted, as a
    share of all samples. A class that is never predicted so keeps a probability above 0.

    Args:
        complete: How often each class is predicted with all modalities, shape (classes,), not all 0.
        incomplete: The same without the modality.
    """
    first, second = ((counts.double() / counts.sum()).log_softmax(0) for counts in (incomplete, complete))
    return float((first.exp() * (first - second)).sum())


@dataclass(frozen=True)
class Teacher:
    """A network that was trained on complete inputs, to learn from.

    Attributes:
        model: An SF-MD.
        normalise: What its inputs go through.
    """

    model: SFMD
    normalise: Normalise


class MMANetGuidance(nn.Module):
    """The losses of MMANet beside the host's own, and the network that one of them trains.

    It is not part of the host, whose parameters and checkpoints stay as they are.

    Args:
        model: The host.
        teacher: The network that it learns from, which is not changed.
        modalities: All modalities, in order.
        classes: Number of classes.
        distillation: α, weight of the margin-aware distillation.
        regularization: β, weight of the modality-aware regularisation.
        mining_epochs: Number of epochs, at least 3, after which the weak combinations are known and both losses begin.
            The shift of predictions without a modality is summed over the epochs from the second to the one before.

    Attributes:
        without: The weak combinations are all without this modality; None until it is known. Of several that are
            missed alike, the last.
    """

    def __init__(
        self,
        model: SFMD,
        teacher: Teacher,
        modalities: Sequence[str],
        classes: int,
        distillation: float = 30.0,
        regularization: float = 0.5,
        mining_epochs: int = 5,
    ):
        super().__init__()
        self.modalities = tuple(modalities)
        self.network = nn.Sequential(fused_stages(STREAM_WIDTH * len(self.modalities)), classifier(classes))
        self.register_buffer("shifts", torch.zeros(len(self.modalities), dtype=torch.float64))
        self.register_buffer("weakest", torch.tensor(UNKNOWN))
        self.shifts: Tensor
        self.weakest: Tensor
        self._weights = distillation, regularization
        self._mining_epochs = mining_epochs
        self._teacher = (teacher.model.eval().requires_grad_(False), teacher.normalise)  # no submodule of this one
        self._fused: dict[str, Tensor] = {}
        model.fused.register_forward_hook(self._keep)
        teacher.model.fused.register_forward_hook(lambda module, args, output: self._fused.update(teacher=output))

    def _keep(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if module.training and self.without is not None:
            self._fused |= {"streams": args[0], "student": output}

    @property
    def without(self) -> str | None:
        """See the class."""
        return None if self.weakest == UNKNOWN else self.modalities[int(self.weakest)]

    def losses(self, images: Mapping[str, Tensor], target: Tensor, views: Views) -> dict[str, Tensor]:
        """Return the weighted losses of the mini-batch that the host has just seen; none before they begin.

        Args:
            images: The complete mini-batch, uint8, shape (B, C_m, H, W) by modality.
            target: Classes, shape (B,).
            views: How the host saw it.

        Returns:
            By the names in `LOSSES`, 0-d, averaged over the views: the latter is the cross-entropy of the
            regularisation network, summed over the samples with a weak combination and divided by B.
        """
        if self.without is None:
            return {}
        alpha, beta = self._weights
        model, normalise = self._teacher
        with torch.no_grad():
            logits = model.to(target.device)(normalise(images))
        student, teacher = views.split(self._fused["student"]), self._fused["teacher"]
        distillation = views.average(margin_aware_distillation(features, teacher, logits) for features in student)
        predicted = views.split(self.network(self._fused["streams"]).float())
        each = [F.cross_entropy(part, target, reduction="none") for part in predicted]
        weak = ~views.present[self.without].to(target.device)
        regularization = views.average((losses * row).mean() for losses, row in zip(each, weak, strict=True))
        self._fused.clear()
        return dict(zip(LOSSES, (alpha * distillation, beta * regularization), strict=True))

    def end_epoch(self, epoch: int, count: Callable[[Sequence[tuple[str, ...]]], Mapping[tuple[str, ...], Tensor]]):
        """Look for the weak combinations while they are not known.

        Args:
            epoch: Number of epochs trained.
            count: Returns how often each class is predicted by combination of modalities, see `count_predictions`.
        """
        if self.without is not None:
            return
        if FIRST_MINED <= epoch < self._mining_epochs:
            rest = [tuple(other for other in self.modalities if other != name) for name in self.modalities]
            counts = count([*rest, self.modalities])
            moved = [prediction_shift(counts[self.modalities], counts[others]) for others in rest]
            self.shifts += torch.tensor(moved, dtype=torch.float64, device=self.shifts.device)
        if epoch >= self._mining_epochs:
            shifts = self.shifts.tolist()
            self.weakest.fill_(max(reversed(range(len(shifts))), key=shifts.__getitem__))
