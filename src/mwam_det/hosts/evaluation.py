"""A host evaluated on combinations of its modalities, in one pass over the split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mwam_det.core.missing import check_missing
from mwam_det.hosts.data.samples import Normalise
from mwam_det.hosts.tasks import HostTask


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: The metric by available modalities, in [0, 1].
        groups: By name, the number of samples of a group and its scores; one without samples or labelled pixels is
            left out.
        samples: Number of samples.
        loss: The loss of the outputs with most modalities, the mean over mini-batches weighted by their samples.
    """

    scores: dict[tuple[str, ...], float]
    groups: dict[str, tuple[int, dict[tuple[str, ...], float]]]
    samples: int
    loss: float


def without(inputs: Mapping[str, Tensor], missing: Iterable[str]) -> dict[str, Tensor]:
    """Return normalised inputs by modality, those of missing modalities as zeros.

    Raises:
        ValueError: If a name is unknown or nothing would be left.
    """
    missing = check_missing(missing, inputs)
    return {name: torch.zeros_like(images) if name in missing else images for name, images in inputs.items()}


def _mini_batches(
    model: nn.Module,
    loader: Iterable,
    normalise: Normalise,
    combinations: Sequence[tuple[str, ...]],
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor, Iterator[tuple[tuple[str, ...], Tensor]]]]:
    """Yield targets, indices and, one combination after the other, outputs; the model's mode ends as it was."""
    was_training = model.training
    model.eval()
    for images, target, indices in loader:
        inputs = normalise({name: tensor.to(device) for name, tensor in images.items()})
        passes = ((kept, model(without(inputs, set(inputs) - set(kept)))) for kept in combinations)
        yield target.to(device), indices, passes
    model.train(was_training)


@torch.no_grad()
def count_predictions(
    model: nn.Module,
    loader: Iterable,
    normalise: Normalise,
    combinations: Sequence[tuple[str, ...]],
    device: torch.device,
) -> dict[tuple[str, ...], Tensor]:
    """Count how often a classifier predicts each class, by available modalities, whatever the labels.

    Takes what `evaluate` takes. Returns counts of shape (classes,), int64.
    """
    counts: dict[tuple[str, ...], Tensor] = {}
    for _, _, passes in _mini_batches(model, loader, normalise, combinations, device):
        for available, logits in passes:
            predicted = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
            counts[available] = counts.get(available, 0) + predicted
    return counts


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: HostTask,
    loader: Iterable,
    normalise: Normalise,
    combinations: Sequence[tuple[str, ...]],
    device: torch.device,
    groups: Sequence[Sequence[str]] | None = None,
) -> Evaluation:
    """Measure a host's metric on combinations of its modalities; the model's mode stays as it was.

    Args:
        model: The host, on `device`.
        task: Its task.
        loader: Batches of a `MultimodalDataset` without augmentation, in any order.
        normalise: What the host was trained with.
        combinations: The available modalities of each combination.
        device: Where it runs, in float32.
        groups: The groups of each sample of the dataset.
    """
    names = sorted({name for groups_of_sample in groups or () for name in groups_of_sample})
    metrics = {(group, c): task.new_metric().to(device) for group in [None, *names] for c in combinations}
    counts = dict.fromkeys([None, *names], 0)
    largest, loss = max(combinations, key=len), torch.zeros((), device=device)
    for target, indices, passes in _mini_batches(model, loader, normalise, combinations, device):
        members: dict[str | None, Tensor] = {None: torch.ones(len(target), dtype=torch.bool)}
        for name in names:
            members[name] = torch.tensor([name in (groups or ())[index] for index in indices.tolist()])
        for group, mask in members.items():
            counts[group] += int(mask.sum())
        for available, logits in passes:
            if available == largest:
                loss += task.losses(logits, target).sum()
            for group, mask in members.items():
                if mask.any():
                    metrics[group, available].update(logits[mask.to(device)].float(), target[mask.to(device)])
    scores = {
        group: {available: float(metrics[group, available].compute()) for available in combinations}
        for group, count in counts.items()
        if count
    }
    measured = [name for name in names if counts[name] and not any(map(math.isnan, scores[name].values()))]
    by_group = {name: (counts[name], scores[name]) for name in measured}
    return Evaluation(scores[None], by_group, counts[None], float(loss) / max(counts[None], 1))
