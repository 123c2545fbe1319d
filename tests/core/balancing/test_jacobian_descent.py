import importlib.util
import math
import sys
import types

import pytest
import torch
from balancing import NAMES, THREE, Streams, evidence_of_model, flat_gradient, left, mini_batch

from mwam_det.core.balancing.jacobian_descent import JacobianDescent, JacobianDescentConfig

needs_torchjd = pytest.mark.skipif(
    importlib.util.find_spec("torchjd") is None, reason="TorchJD is an extra: pip install '.[balancing]'"
)


class Aggregator(torch.nn.Module):
    pass


class Mean(Aggregator):
    def forward(self, matrix):
        return matrix.mean(0)


class Pick(Aggregator):
    """The row of one number, and how often it was asked; forgotten by `reset`."""

    def __init__(self, row):
        super().__init__()
        self.row, self.asked = row, 0

    def forward(self, matrix):
        self.asked += 1
        self.last = matrix
        return matrix[self.row]

    def reset(self):
        self.asked = 0


@pytest.fixture
def stand_in(monkeypatch):
    """A package in the place of TorchJD that has two aggregators."""
    package, aggregation = types.ModuleType("torchjd"), types.ModuleType("torchjd.aggregation")
    package.aggregation = aggregation
    for kind in (Aggregator, Mean, Pick):
        setattr(aggregation, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "torchjd", package)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", aggregation)


def trained(aggregator, names=NAMES, scale=1.0, weights=None, absent=(), **options):
    """A model after one backward pass, and what combined its gradients."""
    model = Streams(names)
    balancer = JacobianDescent(names, JacobianDescentConfig(aggregator=aggregator, options=options or None))
    balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))
    evidence = evidence_of_model(model, *mini_batch(names), weights=weights, absent=absent)
    balancer.observe(evidence)
    (balancer.loss(evidence, scale) * scale).backward()
    return model, balancer


def plain(names=NAMES, weights=None):
    """The same model without hooks, and its evidence."""
    model = Streams(names)
    return model, evidence_of_model(model, *mini_batch(names), weights=weights)


@pytest.mark.parametrize("names", [NAMES, THREE])
def test_the_mean_of_the_rows_trains_as_without_the_method(stand_in, names):
    weights = [0.4, *[0.6 / len(names)] * len(names)]
    model, _ = trained("Mean", names, weights=weights)
    expected, evidence = plain(names, weights)
    evidence.average().backward()
    assert torch.allclose(left(model.parameters()), left(expected.parameters()), atol=1e-6)


@pytest.mark.parametrize("row", range(3))
def test_rows_are_the_gradients_of_the_views_on_all_streams_and_the_head_keeps_its_own(stand_in, row):
    model, _ = trained("Pick", row=row)
    expected, evidence = plain()
    view = [NAMES, ("rgb",), ("ir",)][row]
    streams = flat_gradient(evidence.losses[view], expected.streams.parameters())
    assert torch.allclose(left(model.streams.parameters()), streams, atol=1e-6)
    head = flat_gradient(evidence.average(), expected.head.parameters())
    assert torch.allclose(left(model.head.parameters()), head, atol=1e-7)


def test_aggregators_see_gradients_without_the_scale_that_the_host_gives_its_loss(stand_in):
    (model, balancer), (scaled, other) = trained("Pick", row=1), trained("Pick", row=1, scale=2.0**16)
    assert torch.allclose(other._aggregate.last, balancer._aggregate.last, atol=1e-6)
    assert torch.allclose(left(scaled.parameters()) / 2**16, left(model.parameters()), atol=1e-6)


def test_an_absent_modality_has_no_row(stand_in):
    _, balancer = trained("Pick", THREE, absent=("ir",), row=0)
    assert len(balancer._aggregate.last) == 3


def test_a_mini_batch_without_any_modality_keeps_the_gradient_of_all_views(stand_in):
    model, balancer = trained("Pick", absent=NAMES, row=0)
    expected, evidence = plain()
    evidence.average().backward()
    assert balancer._aggregate.asked == 0
    assert torch.allclose(left(model.parameters()), left(expected.parameters()), atol=1e-7)


def test_gradients_that_are_not_finite_are_left_to_the_host(stand_in):
    model = Streams()
    balancer = JacobianDescent(NAMES, JacobianDescentConfig(aggregator="Pick", options={"row": 0}))
    balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))
    inputs, target = mini_batch()
    inputs["ir"][0, 0] = math.nan
    evidence = evidence_of_model(model, inputs, target)
    balancer.loss(evidence).backward()
    assert balancer._aggregate.asked == 0
    assert left(model.streams["ir"].parameters()).isnan().any()


def test_what_an_aggregator_remembers_can_be_forgotten(stand_in):
    _, balancer = trained("Pick", row=0)
    assert balancer._aggregate.asked == 1
    balancer.reset()
    assert balancer._aggregate.asked == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregator": "UpGrad"}, "aggregator='UpGrad' must be one of Mean, Pick"),
        ({"aggregator": "Aggregator"}, "aggregator='Aggregator' must be one of Mean, Pick"),
        ({"aggregator": "Mean", "options": {"c": 1}}, r"aggregator=Mean, options=\{'c': 1\}: .*unexpected keyword"),
        ({"aggregator": "Pick"}, r"aggregator=Pick, options=\{\}: .*missing 1 required"),
        ({"aggregator": 3}, "aggregator=3 must be the name of an aggregator"),
        ({"options": [1]}, r"options=\[1\] must be a mapping"),
    ],
)
def test_what_does_not_exist_is_refused_when_built(stand_in, settings, message):
    with pytest.raises(ValueError, match=message):
        JacobianDescent(NAMES, JacobianDescentConfig(**settings))


def test_without_torchjd_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    config = JacobianDescentConfig()
    with pytest.raises(ImportError, match=r'needs the package torchjd: pip install "mwam-det\[balancing\]"'):
        JacobianDescent(NAMES, config)


@needs_torchjd
@pytest.mark.parametrize("aggregator", ["UPGrad", "MGDA", "DualProj"])
@pytest.mark.parametrize("names", [NAMES, THREE])
def test_aggregators_of_torchjd_leave_no_view_worse_off(aggregator, names):
    model, _ = trained(aggregator, names)
    expected, evidence = plain(names)
    gradient = left(model.streams.parameters())
    for view, loss in evidence.losses.items():
        own = flat_gradient(loss, expected.streams.parameters())
        assert gradient.dot(own) >= -1e-3 * gradient.norm() * own.norm(), view
    assert gradient.norm() > 0


@needs_torchjd
def test_torchjd_gets_the_views_as_rows():
    from torchjd.aggregation import PCGrad, UPGrad

    torch.manual_seed(0)
    expected, evidence = plain()
    rows = torch.stack([flat_gradient(loss, expected.streams.parameters()) for loss in evidence.losses.values()])
    model, _ = trained("UPGrad")
    assert torch.allclose(left(model.streams.parameters()), UPGrad()(rows), atol=1e-5)
    model, _ = trained("UPGrad", pref_vector=[0.5, 0.25, 0.25])
    preferring = UPGrad(pref_vector=torch.tensor([0.5, 0.25, 0.25]))
    assert torch.allclose(left(model.streams.parameters()), preferring(rows), atol=1e-5)
    torch.manual_seed(0)
    model, _ = trained("PCGrad")
    torch.manual_seed(0)
    assert torch.allclose(left(model.streams.parameters()), PCGrad()(rows), atol=1e-5)
    with pytest.raises((ValueError, ImportError), match="CAGrad"):
        trained("CAGrad")
