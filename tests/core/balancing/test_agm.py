import json
import math

import numpy as np
import pytest
import torch
from balancing import NAMES, THREE, evidence_of_logits, evidence_of_losses, random_logits

from mwam_det.core.balancing.agm import AGM, AGMConfig, confidence_ratios, shapley_responses


def factors(balancer, evidence):
    return {name: weight.item() for name, weight in balancer.observe(evidence).items()}


def cross_entropy(logits, target):
    z = np.asarray(logits, dtype=float)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return np.mean([-math.log(max(p[i, y], 1e-8)) for i, y in enumerate(target)])


class PublishedForTwo:
    """Two modalities, as published: responses by halves, ratios of confidence, and a running mean over iterations."""

    def __init__(self, alpha):
        self.alpha, self.iteration, self.means = alpha, 0, np.zeros(2)

    def step(self, both, first, second, target):
        self.iteration += 1
        responses = 0.5 * (both - second + first), 0.5 * (both - first + second)
        s = np.array([cross_entropy(response, target) for response in responses])
        ratio = np.exp(s[::-1] - s)
        optimal = np.exp(self.means[::-1] - self.means)
        self.means = self.means * (self.iteration - 1) / self.iteration + s / self.iteration
        return np.exp(self.alpha * np.minimum(optimal - ratio, 10))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_with_classes_factors_are_the_published_ones_over_a_training(alpha):
    balancer, reference = AGM(NAMES, AGMConfig(alpha=alpha)), PublishedForTwo(alpha)
    for seed in range(6):
        logits, target = random_logits(NAMES, seed=seed)
        z = {c: own.double().numpy() for c, own in logits.items()}
        expected = reference.step(z[NAMES], z["rgb",], z["ir",], target.tolist())
        found = factors(balancer, evidence_of_logits(logits, target))
        assert list(found.values()) == pytest.approx(expected, rel=1e-4)
        assert len(set(found.values())) == 2


def test_responses_of_three_modalities_are_the_published_thirds_and_sixths():
    logits, _ = random_logits(THREE)
    r, i, d = (logits[name,] for name in THREE)
    ri, rd, i_d, all_three = (logits[c] for c in (THREE[:2], THREE[::2], THREE[1:], THREE))
    found = shapley_responses(logits, THREE)
    expected = (all_three - i_d + r) / 3 + (ri - i + rd - d) / 6
    assert torch.allclose(found["rgb"], expected, atol=1e-6)
    assert torch.allclose(sum(found.values()), all_three, atol=1e-6)  # what all put out is shared without remainder


def test_a_sum_of_outputs_is_attributed_to_who_put_them_out():
    alone = {name: torch.randn(4, 3, generator=torch.Generator().manual_seed(k)) for k, name in enumerate(THREE)}
    logits, _ = random_logits(THREE)
    found = shapley_responses({c: sum(alone[name] for name in c) for c in logits}, THREE)
    assert all(torch.allclose(found[name], alone[name], atol=1e-6) for name in THREE)


def test_ratios_of_three_are_the_published_ones():
    losses = {"rgb": 0.5, "ir": 1.0, "depth": 1.8}
    mean = sum(losses.values()) / 3
    expected = {name: math.exp((mean - loss) * 3 / 2) for name, loss in losses.items()}
    assert confidence_ratios(losses) == pytest.approx(expected)


@pytest.mark.parametrize("names", [NAMES, THREE])
def test_without_classes_the_losses_alone_count(names):
    balancer = AGM(names, AGMConfig(alpha=0.5))
    steps = [dict(zip(names, values, strict=False)) for values in ((1.0, 0.6, 0.9), (1.1, 0.3, 1.0))]
    balancer.observe(evidence_of_losses(**steps[0]))
    found = factors(balancer, evidence_of_losses(**steps[1]))
    now, so_far = confidence_ratios(steps[1]), confidence_ratios(steps[0])
    assert found == pytest.approx({name: math.exp(0.5 * (so_far[name] - now[name])) for name in names}, rel=1e-5)
    assert found["ir"] < 1 < found["rgb"]  # ir is further ahead than before


def test_logits_of_three_modalities_without_pairs_are_not_enough_and_losses_count():
    logits, target = random_logits(THREE)
    few = {c: own for c, own in logits.items() if len(c) != 2}
    evidence = evidence_of_logits(few, target)
    losses = {name: evidence.losses[name,].item() for name in THREE}
    assert factors(AGM(THREE, AGMConfig()), evidence) == pytest.approx(
        factors(AGM(THREE, AGMConfig()), evidence_of_losses(**losses))
    )
    assert factors(AGM(THREE, AGMConfig()), evidence_of_logits(logits, target)) != pytest.approx(
        factors(AGM(THREE, AGMConfig()), evidence), rel=1e-3
    )


def test_modalities_that_have_always_been_equal_are_left_alone():
    balancer = AGM(NAMES, AGMConfig())
    assert all(set(factors(balancer, evidence_of_losses(rgb=loss, ir=loss)).values()) == {1.0} for loss in (2.0, 1.0))


def test_no_factor_exceeds_its_limit_and_nothing_overflows():
    balancer = AGM(NAMES, AGMConfig(alpha=0.5, limit=7))
    balancer.observe(evidence_of_losses(rgb=0.0, ir=100.0))
    found = factors(balancer, evidence_of_losses(rgb=1000.0, ir=0.0))
    assert found["rgb"] == pytest.approx(math.exp(0.5 * 7)) and found["ir"] == 0


def test_an_absent_modality_keeps_its_mean():
    balancer = AGM(THREE, AGMConfig())
    balancer.observe(evidence_of_losses(rgb=1.0, ir=0.5, depth=0.7))
    before = balancer.state_dict()
    found = factors(balancer, evidence_of_losses(rgb=1.0, ir=0.4, depth=9.0, absent=("depth",)))
    after = balancer.state_dict()
    assert found["depth"] == 1 and found["ir"] < 1 < found["rgb"]
    assert after["means"]["depth"] == before["means"]["depth"] and after["means"]["ir"] < before["means"]["ir"]
    assert after["counts"] == {"rgb": 2, "ir": 2, "depth": 1}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_factors_of_one_and_the_mean_clean(loss):
    balancer = AGM(NAMES, AGMConfig())
    assert set(factors(balancer, evidence_of_losses(rgb=loss, ir=0.1)).values()) == {1.0}
    assert balancer.state_dict()["means"] == pytest.approx({"rgb": 0.0, "ir": 0.1})


def test_a_resumed_training_goes_on_as_an_uninterrupted_one():
    whole, first, second = (AGM(NAMES, AGMConfig()) for _ in range(3))
    steps = [evidence_of_losses(rgb=1 / (k + 1), ir=0.5) for k in range(4)]
    for step in steps[:2]:
        whole.observe(step)
        first.observe(step)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.weights == first.weights
    for step in steps[2:]:
        assert factors(second, step) == factors(whole, step)
    assert second.state_dict() == whole.state_dict()
    second.reset()
    assert second.state_dict() == AGM(NAMES, AGMConfig()).state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha=-0.1 must be at least 0"),
        ({"limit": 0}, "limit=0 must be above 0"),
        ({"limit": None}, "limit=None must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AGMConfig(**settings)
