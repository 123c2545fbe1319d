"""What the tests of balancing methods share: evidence made up, and a small model of two streams or more."""

import torch
from torch import nn
from torch.nn import functional as F

from mwam_det.core.balancing.evidence import Evidence
from mwam_det.core.missing import modality_combinations

NAMES = ("rgb", "ir")
THREE = ("rgb", "ir", "depth")


def all_but(absent, names):
    """Which modalities are present, as evidence says it: all, in the shortest way, or each by itself."""
    return {name: torch.tensor(name not in absent) for name in names} if absent else None


def evidence_of_losses(complete=1.0, absent=(), **alone):
    """The evidence of a task without classes: the loss of each modality alone, and of all."""
    losses = {tuple(alone): torch.tensor(complete), **{(name,): torch.tensor(loss) for name, loss in alone.items()}}
    return Evidence(losses, dict.fromkeys(losses, 1 / len(losses)), present=all_but(absent, alone))


def evidence_of_logits(logits, target, absent=()):
    """The evidence of a classification, from the logits of every combination."""
    losses = {c: F.cross_entropy(own, target, ignore_index=255) for c, own in logits.items()}
    present = all_but(absent, max(logits, key=len))
    return Evidence(losses, dict.fromkeys(losses, 1 / len(losses)), logits, target, present, len(target))


def random_logits(names, count=5, classes=4, seed=0):
    """Logits of every combination, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = {c: 2 * torch.randn(count, classes, generator=generator) for c in modality_combinations(names)}
    return logits, torch.randint(0, classes, (count,), generator=generator)


class Streams(nn.Module):
    """A stream for each modality, and a head that is not linear; an absent modality counts as features of 0."""

    def __init__(self, names=NAMES, classes=3, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.streams = nn.ModuleDict({n: nn.Sequential(nn.Linear(4, 6), nn.Tanh()) for n in names})
            self.head = nn.Sequential(nn.Linear(6 * len(names), 8), nn.Tanh(), nn.Linear(8, classes))

    def forward(self, inputs, kept):
        features = {name: stream(inputs[name]) for name, stream in self.streams.items()}
        return self.head(torch.cat([f if n in kept else torch.zeros_like(f) for n, f in features.items()], 1))


def mini_batch(names=NAMES, seed=0, count=8):
    generator = torch.Generator().manual_seed(100 + seed)
    inputs = {name: torch.randn(count, 4, generator=generator) for name in names}
    return inputs, torch.randint(0, 3, (count,), generator=generator)


def evidence_of_model(model, inputs, target, absent=(), weights=None):
    """The evidence of a model on a mini-batch: the complete view and each modality alone, with equal shares."""
    names = tuple(model.streams)
    views = [names, *((name,) for name in names)]
    logits = {view: model(inputs, view) for view in views}
    losses = {view: F.cross_entropy(own, target) for view, own in logits.items()}
    weights = dict.fromkeys(views, 1 / len(views)) if weights is None else dict(zip(views, weights, strict=True))
    return Evidence(losses, weights, logits, target, all_but(absent, names), len(target))


def flat_gradient(loss, parameters):
    """The gradient of a loss on parameters, flat, by torch alone."""
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def left(parameters):
    """What backward left on parameters, flat."""
    return torch.cat([parameter.grad.flatten() for parameter in parameters])
