import json
import math

import numpy as np
import pytest
import torch
from balancing import (
    NAMES,
    THREE,
    Streams,
    evidence_of_logits,
    evidence_of_losses,
    evidence_of_model,
    left,
    mini_batch,
    random_logits,
)
from torch import nn

from mwam_det.core.balancing.ogm_ge import OGMGE, OGMGEConfig, discrepancy_ratios, modulation_factor
from mwam_det.core.modulation import UpdateModulator


def factors(evidence, names=NAMES, **settings):
    return {name: weight.item() for name, weight in OGMGE(names, OGMGEConfig(**settings)).observe(evidence).items()}


def published(scores, alpha):
    """Eq. 10 for two modalities, as the paper writes it, of sums of the label's probabilities."""
    (a, b), found = scores, []
    for own, other in ((a, b), (b, a)):
        ratio = own / other
        found.append(1 - np.tanh(alpha * ratio) if ratio > 1 else 1.0)
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.1, 0.8])
def test_with_classes_factors_are_the_published_ones(seed, alpha):
    logits, target = random_logits(NAMES, seed=seed)
    scores = []
    for name in NAMES:
        z = logits[name,].double().numpy()
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        scores.append(sum(p[i, y] for i, y in enumerate(target.tolist())))
    found = factors(evidence_of_logits(logits, target), alpha=alpha)
    assert list(found.values()) == pytest.approx(published(scores, alpha), rel=1e-5)
    assert min(found.values()) < 1 == max(found.values())


def test_without_classes_the_loss_stands_for_the_score():
    found = factors(evidence_of_losses(rgb=1.5, ir=0.5), alpha=0.3)
    assert found == pytest.approx({"rgb": 1.0, "ir": 1 - math.tanh(0.3 * math.exp(1.0))})


def test_both_forms_agree_where_all_samples_are_equally_hard():
    logits, target = random_logits(NAMES, count=1)
    evidence = evidence_of_logits(logits, target)
    without = evidence_of_losses(**{name: evidence.losses[name,].item() for name in NAMES})
    assert factors(without) == pytest.approx(factors(evidence), rel=1e-5)


def test_of_three_modalities_each_is_held_against_the_mean_of_the_others():
    losses = {"rgb": 0.2, "ir": 0.4, "depth": 2.0}
    s = np.exp([-loss for loss in losses.values()])
    ratios = [s[0] / (s[1] + s[2]) * 2, s[1] / (s[0] + s[2]) * 2, s[2] / (s[0] + s[1]) * 2]
    assert ratios[0] > 1 and ratios[1] > 1  # two dominate
    expected = [1 - np.tanh(0.3 * ratio) if ratio > 1 else 1 for ratio in ratios]
    assert list(factors(evidence_of_losses(**losses), THREE).values()) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_equal_modalities_are_left_alone_however_their_mean_is_rounded(count):
    names = "abcdefg"[:count]
    for score in np.random.default_rng(0).uniform(size=50):
        assert {modulation_factor(r, 0.3) for r in discrepancy_ratios(dict.fromkeys(names, score)).values()} == {1.0}
    assert set(factors(evidence_of_losses(**dict.fromkeys(names, 0.7)), names).values()) == {1.0}


def test_an_absent_modality_is_no_evidence_and_the_others_are_compared_without_it():
    evidence = evidence_of_losses(rgb=0.1, ir=1.0, depth=0.0, absent=("depth",))
    assert factors(evidence, THREE) == pytest.approx({"rgb": 1 - math.tanh(0.3 * math.exp(0.9)), "ir": 1, "depth": 1})
    assert set(factors(evidence_of_losses(rgb=0.1, ir=1.0, absent=("ir",))).values()) == {1.0}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_factors_of_one(loss):
    assert set(factors(evidence_of_losses(rgb=loss, ir=0.1)).values()) == {1.0}


def test_labels_that_all_do_not_count_leave_factors_of_one():
    logits, _ = random_logits(NAMES)
    evidence = evidence_of_logits(logits, torch.full((5,), 255))
    assert set(factors(evidence).values()) == {1.0}


@pytest.mark.parametrize("gap", [50.0, 1e4, 3e38])
def test_a_modality_that_is_far_ahead_is_stopped_and_nothing_overflows(gap):
    found = factors(evidence_of_losses(rgb=gap, ir=0.0))
    assert found["rgb"] == 1 and found["ir"] == pytest.approx(0, abs=1e-6)


def test_outside_of_its_share_of_the_training_it_does_nothing():
    balancer = OGMGE(NAMES, OGMGEConfig(start=0.25, stop=0.5))
    acted = []
    for epoch in range(8):
        balancer.begin_epoch(epoch, 8)
        acted.append(balancer.observe(evidence_of_losses(rgb=1.0, ir=0.0))["ir"].item() < 1)
        assert acted[-1] == bool(balancer.draw_noise(torch.arange(4.0)).any())
    assert acted == [False] * 2 + [True] * 2 + [False] * 4


@pytest.mark.parametrize(
    ("epochs", "start", "stop", "expected"),
    [
        (3, 0.9, 1.0, [2]),  # the share begins after the last epoch does
        (3, 0.5, 0.6, [2]),  # the share is over before the next epoch
        (1, 0.5, 1.0, [0]),
        (100, 0.07, 0.075, [7]),  # 0.07 · 100 is above 7 in floating point
        (4, 0.0, 0.1, [0]),
    ],
)
def test_however_few_the_epochs_it_acts_in_one(epochs, start, stop, expected):
    balancer = OGMGE(NAMES, OGMGEConfig(start=start, stop=stop))
    acted = []
    for epoch in range(epochs):
        balancer.begin_epoch(epoch, epochs)
        if balancer.observe(evidence_of_losses(rgb=1.0, ir=0.0))["ir"].item() < 1:
            acted.append(epoch)
    assert acted == expected


def backward(model, balancer, seed=0):
    evidence = evidence_of_model(model, *mini_batch(seed=seed), weights=(1, 0, 0))
    balancer.observe(evidence)
    model.zero_grad()
    balancer.loss(evidence).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_without_noise_gradients_of_a_stream_are_multiplied_and_the_head_is_left_alone():
    model, balancer = Streams(), OGMGE(NAMES, OGMGEConfig(noise=False))
    plain = backward(model, balancer)
    attachment = balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))
    scaled = backward(model, balancer)
    assert len({weight.item() for weight in balancer.weights.values()}) == 2
    for name, gradient in scaled.items():
        stream = name.split(".")[1]
        factor = balancer.weights[stream] if name.startswith("streams") else 1
        assert torch.equal(gradient, plain[name] * factor), name
    attachment.remove()
    assert all(torch.equal(gradient, plain[name]) for name, gradient in backward(model, balancer).items())


def test_noise_has_the_spread_of_the_gradient_before_it_was_modulated():
    torch.manual_seed(0)
    streams = nn.ModuleDict({name: nn.Linear(100, 100) for name in NAMES})
    single = nn.Linear(1, 1, bias=False)
    balancer = OGMGE(NAMES, OGMGEConfig())
    balancer.attach({"rgb": streams["rgb"], "ir": [*streams["ir"].parameters(), *single.parameters()]}, sgd(streams))
    balancer.begin_epoch(0, 10, seed=3)
    balancer.observe(evidence_of_losses(rgb=2.0, ir=0.0))
    gradient = 3 * torch.randn(100, 100) + 1
    (streams["ir"].weight * gradient).sum().backward()
    (single.weight * 5.0).sum().backward()
    factor = balancer.weights["ir"]
    noise = streams["ir"].weight.grad - factor * gradient
    assert factor < 0.1
    assert noise.std() == pytest.approx(gradient.std().item(), rel=0.03) and abs(noise.mean()) < 0.1
    assert torch.equal(single.weight.grad, 5 * factor.view(1, 1))  # one value has no spread


def sgd(module):
    return torch.optim.SGD(module.parameters(), 0.1)


def test_noise_follows_from_the_seed_of_the_epoch():
    def noise(seed):
        balancer = OGMGE(NAMES, OGMGEConfig())
        balancer.begin_epoch(0, 2, seed)
        return [balancer.draw_noise(torch.arange(6.0)) for _ in range(2)]

    first, second = noise(7)
    assert torch.equal(noise(7)[0], first) and torch.equal(noise(7)[1], second)
    assert not torch.equal(first, second) and not torch.equal(noise(8)[0], first)


def test_noise_with_an_optimizer_that_undoes_factors_is_warned_of():
    model = Streams()
    with pytest.warns(UserWarning, match="Adam rescales gradients.*balancing.noise=false"):
        OGMGE(NAMES, OGMGEConfig()).attach(model.streams, torch.optim.Adam(model.parameters()))
    balancer = OGMGE(NAMES, OGMGEConfig(noise=False))
    assert isinstance(balancer.attach(model.streams, torch.optim.Adam(model.parameters())), UpdateModulator)


def test_steps_that_are_multiplied_are_exact_for_adam():
    model, plain = Streams(), Streams()
    balancer = OGMGE(NAMES, OGMGEConfig(noise=False, alpha=0.8))
    optimizers = [torch.optim.Adam(own.parameters(), 0.01) for own in (model, plain)]
    balancer.attach(model.streams, optimizers[0])
    before = left_parameters(model)
    backward(model, balancer)
    backward(plain, OGMGE(NAMES, OGMGEConfig()))
    for optimizer in optimizers:
        optimizer.step()
    for name, stream in model.streams.items():
        for own, other, old in zip(stream.parameters(), plain.streams[name].parameters(), before[name], strict=True):
            assert torch.allclose(own - old, balancer.weights[name] * (other - old), atol=1e-7)


def left_parameters(model):
    return {name: [p.detach().clone() for p in stream.parameters()] for name, stream in model.streams.items()}


def test_its_state_is_its_factors():
    balancer = OGMGE(NAMES, OGMGEConfig())
    balancer.observe(evidence_of_losses(rgb=1.0, ir=0.0))
    state = json.loads(json.dumps(balancer.state_dict()))
    resumed = OGMGE(NAMES, OGMGEConfig())
    resumed.load_state_dict(state)
    assert resumed.weights == balancer.weights and resumed.weights["ir"] < 1
    resumed.reset()
    assert set(resumed.state_dict()["factors"].values()) == {1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1}, "alpha=-1 must be at least 0"),
        ({"alpha": "0.3"}, "alpha='0.3' must be a finite number"),
        ({"alpha": math.nan}, "alpha=nan must be a finite number"),
        ({"noise": 1}, "noise=1 must be true or false"),
        ({"start": 0.5, "stop": 0.5}, "start=0.5, stop=0.5 must be shares of the training"),
        ({"stop": 2}, "start=0.0, stop=2 must be shares of the training"),
        ({"start": True}, "start=True must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OGMGEConfig(**settings)


def test_gradients_accumulated_over_mini_batches_are_each_scaled_by_their_own_factors():
    model, balancer = Streams(), OGMGE(NAMES, OGMGEConfig(noise=False))
    parameters = list(model.streams["ir"].parameters())
    expected, seen = 0, set()
    for seed in range(3):
        backward(model, balancer, seed)
        expected = expected + balancer.weights["ir"] * left(parameters)
        seen.add(balancer.weights["ir"].item())
    assert len(seen) > 1
    balancer.attach(model.streams, sgd(model))
    model.zero_grad()
    for seed in range(3):
        evidence = evidence_of_model(model, *mini_batch(seed=seed), weights=(1, 0, 0))
        balancer.observe(evidence)
        balancer.loss(evidence).backward()
    assert torch.allclose(left(parameters), expected, atol=1e-7)
