"""Every method, and MWAM, where a host scales its loss for mixed precision: the same steps, and none by an overflow."""

import math

import pytest
import torch
from balancing import NAMES, Streams, evidence_of_model, mini_batch

from mwam_det import MWAM, MWAMConfig
from mwam_det.core.balancing.methods import METHODS, balancing_config, make_balancer
from mwam_det.core.modulation import modulate

SETTINGS = {"mses": {"patience": 0, "smoothing": 0}, "mslr": {"window": 1}, "torchjd": {"aggregator": "Mean"}}
OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    "Adam, fused": lambda parameters: torch.optim.Adam(parameters, 0.01, fused=True),  # skips by itself: hooks run
}
ACTORS = [*METHODS, "mwam"]


class Host:
    """A model in a loop with a `GradScaler`, led by one method, or by MWAM."""

    def __init__(self, actor, optimizer, scaled):
        if actor == "torchjd":
            pytest.importorskip("torchjd", reason="TorchJD is an extra: pip install '.[balancing]'")
        self.model = Streams()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        self.balancer, self.mwam = None, None
        if actor == "mwam":
            self.mwam = MWAM(NAMES, MWAMConfig(mode="auto"))
            modulate(self.mwam, self.model.streams, self.optimizer)
            return
        self.balancer = make_balancer(balancing_config({"method": actor, **SETTINGS.get(actor, {})}), NAMES)
        self.balancer.attach(self.model.streams, self.optimizer)
        self.balancer.begin_epoch(2, 10, seed=3)
        self.balancer.validated({"rgb": 0.5, "ir": 0.4})
        self.balancer.validated({"rgb": 0.5, "ir": 0.5})

    def step(self, seed, overflow=False):
        inputs, target = mini_batch(seed=seed)
        if overflow:  # behind the first layer of a stream: fusion and head have finite gradients
            behind = self.model.streams["rgb"][0].register_forward_hook(overflowing)
        trains = self.balancer is not None and self.balancer.trains_views
        evidence = evidence_of_model(self.model, inputs, target, weights=None if trains else (1, 0, 0))
        if overflow:
            behind.remove()
        if self.mwam is not None:
            generator = torch.Generator().manual_seed(seed)
            images = {name: torch.rand(2, 3, 16, 16, generator=generator) for name in NAMES}
            images["ir"] = torch.nn.functional.avg_pool2d(images["ir"], 3, 1, 1)
            self.mwam.observe(images)
            loss = evidence.average()
        else:
            self.balancer.observe(evidence)
            loss = self.balancer.loss(evidence, self.scaler.scale(torch.ones(())))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self

    @property
    def weights(self):
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])

    @property
    def state(self):
        return (self.mwam or self.balancer).state_dict()


def overflowing(module, inputs, output):
    return Overflow.apply(output)


class Overflow(torch.autograd.Function):
    """Nothing forwards; backwards what float16 makes of a gradient beyond its range."""

    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return torch.full_like(gradient, math.inf)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.filterwarnings("ignore:Adam rescales gradients")
def test_a_scaled_loss_makes_the_same_steps(actor, optimizer):
    plain, scaled = (Host(actor, optimizer, scaled) for scaled in (False, True))
    before = plain.weights
    for seed in range(3):
        plain.step(seed)
        scaled.step(seed)
    assert scaled.scaler.get_scale() == 1024
    assert (plain.weights - before).abs().max() > 1e-3
    assert torch.allclose(scaled.weights, plain.weights, rtol=1e-5, atol=1e-6)
    assert scaled.state == plain.state


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.filterwarnings("ignore:Adam rescales gradients")
def test_an_overflow_in_one_stream_skips_the_step_and_poisons_nothing(actor, optimizer):
    struck = Host(actor, optimizer, True).step(0)
    before = struck.weights
    struck.step(1, overflow=True)
    assert torch.equal(struck.weights, before) and struck.scaler.get_scale() == 512
    struck.step(2)
    assert not torch.equal(struck.weights, before) and struck.weights.isfinite().all()
    assert all(map(math.isfinite, numbers(struck.state)))


def numbers(state):
    """All numbers in a nested state."""
    if isinstance(state, dict | list):
        for value in state.values() if isinstance(state, dict) else state:
            yield from numbers(value)
    elif isinstance(state, int | float):
        yield float(state)
