import math

import numpy as np
import pytest
import torch
from balancing import NAMES, THREE, Streams, evidence_of_model, flat_gradient, left, mini_batch

from mwam_det.core.balancing.mmpareto import MMPareto, MMParetoConfig, pareto_gradient


def by_search(g, u, gamma):
    """The rule of the paper, with the shortest vector between two that conflict found by trying."""
    a = 0.5
    if g @ u <= 0:
        tried = np.linspace(0, 1, 200_001)[:, None]
        a = tried[np.argmin(np.linalg.norm(tried * g + (1 - tried) * u, axis=1)), 0]
    h = 2 * a * g + 2 * (1 - a) * u
    wanted, length = np.linalg.norm(g + u), np.linalg.norm(h)
    return gamma * h * (wanted / length if wanted > length else 1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_two_gradients_are_combined_as_in_the_paper(seed, gamma):
    generator = np.random.default_rng(seed)
    g, u = generator.normal(size=(2, 3)) * [[1.0], [2.0 + seed]]
    found = pareto_gradient(torch.tensor(g), torch.tensor(u), gamma).numpy()
    assert found == pytest.approx(by_search(g, u, gamma), rel=1e-3, abs=1e-4)
    assert found @ g >= -1e-9 and found @ u >= -1e-9  # it descends on both


def test_gradients_that_agree_are_added():
    g, u = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])
    assert pareto_gradient(g, u, 1.5).tolist() == pytest.approx([1.5 * 1.5, 1.5 * 2.0])


def test_a_conflict_takes_the_common_direction_at_the_length_of_the_sum():
    g, u = torch.tensor([1.0, 1.0]), torch.tensor([-2.0, 1.0])
    found = pareto_gradient(g, u, 1.0)
    assert found.dot(g - u).item() == pytest.approx(0, abs=1e-6)  # as far along one as along the other
    assert found.norm() >= (g + u).norm() - 1e-6


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 1e4])
def test_gradients_that_cancel_out_leave_nothing(factor):
    g = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert not pareto_gradient(g, -factor * g).any()


def test_a_gradient_of_zero_leaves_nothing_to_agree_on_and_no_nan():
    g = torch.tensor([1.0, 2.0])
    assert not pareto_gradient(torch.zeros(2), torch.zeros(2)).any()
    assert not pareto_gradient(g, torch.zeros(2)).any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("g", "u"), [(math.inf, math.inf), (math.inf, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_an_overflow_stays_one_so_that_the_host_skips_the_step(g, u, sign):
    found = pareto_gradient(torch.tensor([g, 1.0]), torch.tensor([sign * u, 1.0]))
    assert not found.isfinite().all()


def attached(model, names=NAMES, **settings):
    balancer = MMPareto(names, MMParetoConfig(**settings))
    return balancer, balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))


def expected_of(model, evidence, names, gamma=1.5):
    """What each stream is to get, from gradients that torch alone gives."""
    return {
        name: pareto_gradient(
            *(flat_gradient(evidence.losses[c], model.streams[name].parameters()) for c in (names, (name,))), gamma
        )
        for name in names
    }


@pytest.mark.parametrize("names", [NAMES, THREE])
def test_streams_get_the_combination_and_the_head_the_sum(names):
    model = Streams(names)
    plain = evidence_of_model(model, *mini_batch(names))
    expected = expected_of(model, plain, names)
    head = flat_gradient(sum(plain.losses.values()), model.head.parameters())
    balancer, _ = attached(model, names)
    evidence = evidence_of_model(model, *mini_batch(names))
    balancer.observe(evidence)
    loss = balancer.loss(evidence)
    loss.backward()
    assert loss.item() == pytest.approx(sum(own.item() for own in plain.losses.values()))
    assert torch.allclose(left(model.head.parameters()), head, atol=1e-6)
    for name in names:
        assert torch.allclose(left(model.streams[name].parameters()), expected[name], atol=1e-6), name


def test_gradients_of_several_mini_batches_are_combined_one_by_one_and_added():
    model = Streams()
    batches = [mini_batch(seed=seed) for seed in range(3)]
    expected = [expected_of(model, evidence_of_model(model, *batch), NAMES)["ir"] for batch in batches]
    balancer, _ = attached(model)
    for batch in batches:
        balancer.loss(evidence_of_model(model, *batch)).backward()
    assert torch.allclose(left(model.streams["ir"].parameters()), sum(expected), atol=1e-6)


def test_a_loss_that_the_host_scales_gives_gradients_of_that_scale():
    model = Streams()
    expected = expected_of(model, evidence_of_model(model, *mini_batch()), NAMES)
    balancer, _ = attached(model)
    (balancer.loss(evidence_of_model(model, *mini_batch()), scale=1024.0) * 1024.0).backward()
    for name in NAMES:
        assert torch.allclose(left(model.streams[name].parameters()) / 1024, expected[name], atol=1e-6)


@pytest.mark.parametrize("reason", ["absent", "not finite"])
def test_a_modality_without_evidence_adds_no_loss_and_its_stream_keeps_the_gradient_of_the_others(reason):
    model = Streams()
    balancer, _ = attached(model)
    evidence = evidence_of_model(model, *mini_batch(), absent=("ir",) if reason == "absent" else ())
    if reason == "not finite":
        evidence.losses["ir",] = torch.tensor(math.nan)
    plain = evidence_of_model(model, *mini_batch())
    with_rgb = plain.losses[NAMES] + plain.losses["rgb",]
    loss = balancer.loss(evidence)
    loss.backward()
    assert loss.item() == pytest.approx(with_rgb.item())
    again = Streams()  # without hooks
    own = evidence_of_model(again, *mini_batch())
    expected = flat_gradient(own.losses[NAMES], again.streams["ir"].parameters())
    assert torch.allclose(left(model.streams["ir"].parameters()), expected, atol=1e-7)


def test_a_training_without_it_is_as_ever():
    model, balancer = Streams(), MMPareto(NAMES, MMParetoConfig(stop=0.5))
    evidence = evidence_of_model(model, *mini_batch())
    with pytest.raises(RuntimeError, match=r"call attach\(streams, optimizer\) first"):
        balancer.loss(evidence)
    attachment = balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))
    plain = Streams()
    evidence_of_model(plain, *mini_batch()).average().backward()
    expected = left(plain.parameters())
    balancer.loss(evidence)  # and no backward: nothing of it may reach another one
    balancer.begin_epoch(5, 10)
    for _ in range(2):
        model.zero_grad()
        evidence = evidence_of_model(model, *mini_batch())
        balancer.loss(evidence).backward()
        assert torch.equal(left(model.parameters()), expected)
        attachment.remove()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="gamma=0 must be above 0"):
        MMParetoConfig(gamma=0)
    with pytest.raises(ValueError, match="gamma='x' must be a finite number"):
        MMParetoConfig(gamma="x")
