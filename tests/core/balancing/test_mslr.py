import json
import math

import numpy as np
import pytest
import torch
from balancing import NAMES, THREE, Streams, mini_batch
from torch.nn import functional as F

from mwam_det.core.balancing.mslr import MSLR, MSLRConfig


def factors(balancer):
    return {name: weight.item() for name, weight in balancer.weights.items()}


@pytest.mark.parametrize("names", [NAMES, THREE])
def test_rates_follow_the_mean_of_the_validations_before(names):
    generator = np.random.default_rng(0)
    series = {name: generator.uniform(0.1, 0.9, 9) for name in names}
    constants = dict(zip(names, (0.9, 1.1, 1.4), strict=False))
    balancer = MSLR(names, MSLRConfig(window=3, rates=constants))
    for t in range(9):
        balancer.validated({name: values[t] for name, values in series.items()})
        ratios = {n: values[t] / values[t - 3 : t].mean() if t >= 3 else 1 for n, values in series.items()}
        assert factors(balancer) == pytest.approx({n: constants[n] * ratios[n] for n in names})


def test_a_constant_rate_holds_before_any_validation_and_where_none_is_named():
    assert factors(MSLR(NAMES, MSLRConfig(rates={"rgb": 0.5}))) == {"rgb": 0.5, "ir": 1.0}


def test_metrics_that_stay_as_they_are_change_nothing():
    balancer = MSLR(NAMES, MSLRConfig(window=2))
    for _ in range(5):
        balancer.validated({"rgb": 0.4, "ir": 0.8})
    assert set(factors(balancer).values()) == {1.0}


def test_a_modality_that_finds_nothing_or_is_not_measured_keeps_its_rate():
    balancer = MSLR(NAMES, MSLRConfig(window=2))
    for _ in range(2):
        balancer.validated({"rgb": 0.0, "ir": 0.2})
    balancer.validated({"rgb": 0.3, "ir": 0.4})
    assert factors(balancer) == pytest.approx({"rgb": 1.0, "ir": 2.0})
    balancer.validated({"rgb": 0.3, "ir": math.nan})
    assert factors(balancer)["ir"] == pytest.approx(2.0) and factors(balancer)["rgb"] == pytest.approx(0.3 / 0.15)


def test_the_step_of_the_optimizer_is_multiplied_for_any_optimizer():
    for build in (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1), lambda p: torch.optim.Adam(p)):
        model, plain = Streams(), Streams()
        optimizers = [build(own.parameters()) for own in (model, plain)]
        balancer = MSLR(NAMES, MSLRConfig(rates={"rgb": 0.25, "ir": 2.0}))
        balancer.attach(model.streams, optimizers[0])
        before = [p.detach().clone() for p in model.parameters()]
        inputs, target = mini_batch()
        for own, optimizer in zip((model, plain), optimizers, strict=True):
            F.cross_entropy(own(inputs, NAMES), target).backward()
            optimizer.step()
        for (name, own), other, old in zip(model.named_parameters(), plain.parameters(), before, strict=True):
            factor = {"rgb": 0.25, "ir": 2.0}.get(name.split(".")[1], 1.0)
            assert torch.allclose(own - old, factor * (other - old), atol=1e-7), name


def test_a_resumed_training_goes_on_as_an_uninterrupted_one():
    whole, first, second = (MSLR(NAMES, MSLRConfig(window=2)) for _ in range(3))
    series = [{"rgb": 0.1 * (k + 1), "ir": 0.5 / (k + 1)} for k in range(6)]
    for scores in series[:3]:
        whole.validated(scores)
        first.validated(scores)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert factors(second) == factors(first)
    for scores in series[3:]:
        whole.validated(scores)
        second.validated(scores)
    assert second.state_dict() == whole.state_dict()
    second.reset()
    assert second.state_dict() == MSLR(NAMES, MSLRConfig(window=2)).state_dict()


def test_outside_of_its_share_of_the_training_rates_are_those_of_the_model():
    balancer = MSLR(NAMES, MSLRConfig(rates={"rgb": 0.5}, start=0.5))
    balancer.begin_epoch(0, 2)
    assert factors(balancer) == {"rgb": 1.0, "ir": 1.0}
    balancer.begin_epoch(1, 2)
    assert factors(balancer) == {"rgb": 0.5, "ir": 1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window=0 must be a number of validations, at least 1"),
        ({"window": 2.0}, "window=2.0 must be a number of validations"),
        ({"rates": 0.9}, "rates=0.9 must be a mapping"),
        ({"rates": {"rgb": 0}}, "rates.rgb=0 must be above 0"),
        ({"rates": {"rgb": "a"}}, "rates.rgb='a' must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MSLRConfig(**settings)


def test_rates_of_unknown_modalities_are_refused():
    with pytest.raises(ValueError, match="rates names depth, but the modalities are rgb, ir"):
        MSLR(NAMES, MSLRConfig(rates={"depth": 2}))
