"""One of two processes that balance modalities on parts of the same mini-batches, or one that has them whole."""

from pathlib import Path

import torch
from balancing import NAMES, Streams, all_but, evidence_of_logits, flat_gradient, mini_batch, random_logits
from ranks import one_of_two
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from mwam_det.core.balancing.agm import AGM, AGMConfig
from mwam_det.core.balancing.evidence import Evidence
from mwam_det.core.balancing.mmpareto import MMPareto, MMParetoConfig, pareto_gradient
from mwam_det.core.balancing.ogm_ge import OGMGE, OGMGEConfig

PARTS = (slice(0, 2), slice(2, 6))
VIEWS = [NAMES, ("rgb",), ("ir",)]


def factors_over_steps(part=slice(None)):
    """Factors of OGM-GE and AGM over three steps, with classes."""
    found = []
    balancers = [OGMGE(NAMES, OGMGEConfig()), AGM(NAMES, AGMConfig())]
    for seed in range(3):
        logits, target = random_logits(NAMES, count=6, seed=seed)
        logits = {c: own[part] for c, own in logits.items()}
        evidence = evidence_of_logits(logits, target[part])
        for balancer in balancers:
            found.append({name: weight.item() for name, weight in balancer.observe(evidence).items()})
    return found


def factors_with_a_gap(rank):
    """Factors where the first process has no evidence of one modality, and then neither of the two has."""
    balancer, found = OGMGE(NAMES, OGMGEConfig()), []
    for absent in (("ir",) if rank == 0 else (), ("ir",)):
        losses = {NAMES: torch.tensor(1.0), ("rgb",): torch.tensor(2.0), ("ir",): torch.tensor(0.5 + rank)}
        weights, present = {NAMES: 1.0, ("rgb",): 0.0, ("ir",): 0.0}, all_but(absent, NAMES)
        evidence = Evidence(losses, weights, present=present, count=4)
        found.append({name: weight.item() for name, weight in balancer.observe(evidence).items()})
    return found


class AllViews(nn.Module):
    """A model whose forward pass is that of all views, as it must be for what averages gradients over processes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return [self.model(inputs, view) for view in VIEWS]


def combined_gradients(part):
    """What MMPareto leaves on the streams of a model that is spread over processes."""
    model = Streams()
    host = DistributedDataParallel(AllViews(model))
    balancer = MMPareto(NAMES, MMParetoConfig())
    balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))
    inputs, target = mini_batch(count=6)
    outputs = host({name: own[part] for name, own in inputs.items()})
    losses = dict(zip(VIEWS, (F.cross_entropy(own, target[part]) for own in outputs), strict=True))
    balancer.loss(Evidence(losses, dict.fromkeys(VIEWS, 1 / 3))).backward()
    return {name: own.grad for name, own in model.named_parameters()}


def expected_gradients():
    """The mean of what MMPareto makes of the gradients of each part, one after the other and by torch alone."""
    model, total = Streams(), {}
    for part in PARTS:
        inputs, target = mini_batch(count=6)
        losses = {
            view: F.cross_entropy(model({n: own[part] for n, own in inputs.items()}, view), target[part])
            for view in VIEWS
        }
        for name in NAMES:
            parameters = list(model.streams[name].parameters())
            combined = pareto_gradient(*(flat_gradient(losses[view], parameters) for view in (NAMES, (name,))))
            total[name] = total.get(name, 0) + combined / 2
        head = flat_gradient(sum(losses.values()), model.head.parameters())
        total["head"] = total.get("head", 0) + head / 2
    return total


def run_a_rank(rank, folder):
    """Do everything that one rank does, and save it as `folder`/rank.pt."""
    with one_of_two(rank, folder):
        results = {
            "steps": factors_over_steps(PARTS[rank]),
            "gap": factors_with_a_gap(rank),
            "combined": combined_gradients(PARTS[rank]),
        }
    torch.save(results, Path(folder) / f"{rank}.pt")
