"""Every balancing method in a stranger's loop, from a model of two streams in which one modality dominates."""

import importlib.util
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mwam_det import MWAMConfig
from mwam_det.core.balancing.methods import METHODS, balancing_config
from mwam_det.core.missing import modality_combinations
from mwam_det.training.incomplete import IncompleteConfig, draw_views, views_alone
from mwam_det.training.run import ModalityRun, build_balancer

NAMES = ("weak", "strong")
SIGNAL = {"weak": 0.25, "strong": 1.0}
EPOCHS, STEPS = 6, 25
METHOD = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "torchjd" and importlib.util.find_spec("torchjd") is None,
            reason="TorchJD is an extra: pip install '.[balancing]'",
        ),
    )
    for name in METHODS
]


class Host:
    """A stranger's model, data and loop."""

    def __init__(self, seed=0, **balancing):
        torch.manual_seed(seed)
        self.streams = nn.ModuleDict({name: nn.Sequential(nn.Linear(4, 8), nn.Tanh()) for name in NAMES})
        self.head = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))
        self.optimizer = torch.optim.SGD([*self.streams.parameters(), *self.head.parameters()], 0.1, momentum=0.5)
        self.run = ModalityRun(NAMES, balancing=balancing_config(balancing) if balancing else None, seed=seed)
        self.run.attach(self.streams, self.optimizer)
        self.losses, self.factors = [], []

    def draw(self, count):
        target = torch.randint(0, 2, (count,))
        sign = (2 * target - 1).float()[:, None]
        return {name: SIGNAL[name] * sign + torch.randn(count, 4) / 2 for name in NAMES}, target

    def step(self):
        inputs, target = self.draw(32)
        self.run.observe(inputs)
        views = self.run.incomplete(len(target))
        features = {name: self.streams[name](own) for name, own in inputs.items()}
        if views is not None:
            features = {name: views.mix(name, own) for name, own in features.items()}
        outputs = self.head(torch.cat(list(features.values()), 1))
        parts = [outputs] if views is None else views.split(outputs)
        losses = [F.cross_entropy(part, target) for part in parts]
        loss = self.run.balance(views, losses, logits=parts, target=target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(losses[0].item())
        if self.run.balancer is not None:
            self.factors.append({name: weight.item() for name, weight in self.run.balancer.weights.items()})

    @torch.no_grad()
    def scores(self):
        with torch.random.fork_rng():
            torch.manual_seed(99)
            inputs, target = self.draw(2000)
        found = {}
        for kept in modality_combinations(NAMES):
            own = [self.streams[n](inputs[n]) if n in kept else torch.zeros(2000, 8) for n in NAMES]
            found[kept] = (self.head(torch.cat(own, 1)).argmax(1) == target).float().mean().item()
        return found

    def epoch(self, epoch, epochs=EPOCHS):
        torch.manual_seed(1000 + epoch)
        self.run.begin_epoch(epoch, epochs)
        for _ in range(STEPS):
            self.step()
        if self.run.due(epoch):
            self.run.take_in(self.scores())

    def train(self, epochs=EPOCHS):
        for epoch in range(epochs):
            self.epoch(epoch, epochs)
        return self


@pytest.fixture(scope="module")
def baseline():
    return Host().train()


@pytest.mark.filterwarnings("ignore:balancing.patience")
@pytest.mark.parametrize("method", METHOD)
def test_the_loss_falls_and_the_model_learns(method):
    host = Host(method=method).train()
    assert sum(host.losses[-STEPS:]) < 0.5 * sum(host.losses[:STEPS])
    assert host.scores()[NAMES] > 0.95


@pytest.mark.parametrize("noise", [True, False])
def test_ogm_ge_holds_the_dominant_modality_back_and_no_other(noise):
    host = Host(method="ogm_ge", alpha=0.5, noise=noise).train()
    late = host.factors[STEPS:]
    assert all(factors["strong"] < 0.6 and factors["weak"] == 1 for factors in late)


def test_agm_holds_a_modality_back_while_it_runs_ahead():
    host = Host(method="agm", alpha=1.0).train()
    early = host.factors[STEPS // 2 : 2 * STEPS]  # while the lead of the strong one grows
    ahead = [factors["strong"] < 1 < factors["weak"] for factors in early]
    assert sum(ahead) > 0.8 * len(ahead)
    assert all(math.isfinite(value) for factors in host.factors for value in factors.values())


def test_mslr_speeds_up_what_has_gained_since_its_last_validations():
    host = Host(method="mslr", window=1, rates={"weak": 1.5})
    found = []
    for epoch in range(EPOCHS):
        host.epoch(epoch)
        found.append(host.run.scores)
    before, last = found[-2:]
    expected = {"weak": 1.5 * last["weak",] / before["weak",], "strong": last["strong",] / before["strong",]}
    assert {name: weight.item() for name, weight in host.run.balancer.weights.items()} == pytest.approx(expected)


def test_mses_stops_the_stream_that_no_longer_gains_and_trains_the_other_on():
    host = Host(method="mses", patience=0, smoothing=0)
    host.epoch(0, 40)
    accuracy = {("weak",): 0.6, ("strong",): 0.9, NAMES: 0.9}
    host.run.take_in(accuracy)
    host.run.take_in({**accuracy, ("weak",): 0.7})  # the strong one stays where it is
    assert host.run.balancer.stopped == ("strong",)
    before = {name: [p.detach().clone() for p in host.streams[name].parameters()] for name in NAMES}
    for _ in range(3):
        host.step()
    assert all(torch.equal(a, b) for a, b in zip(before["strong"], host.streams["strong"].parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before["weak"], host.streams["weak"].parameters(), strict=True))


def test_lfm_draws_the_predictions_of_both_modalities_together(baseline):
    def gap(host):
        scores = host.scores()
        return scores["strong",] - scores["weak",]

    assert gap(Host(method="lfm").train()) < gap(baseline) - 0.05


@pytest.mark.parametrize("method", [case for case in METHOD if case.values[0] in ("mmpareto", "torchjd")])
def test_views_that_are_trained_bring_the_weak_modality_to_life(method, baseline):
    host = Host(method=method).train()
    assert host.scores()["weak",] > baseline.scores()["weak",] + 0.05
    assert host.scores()[NAMES] > 0.95


@pytest.mark.filterwarnings("ignore:balancing.patience")
@pytest.mark.parametrize("method", METHOD)
def test_a_resumed_training_ends_as_an_uninterrupted_one(method):
    whole = Host(method=method).train()
    first, second = Host(method=method), Host(method=method)
    for epoch in range(3):
        first.epoch(epoch)
    second.run.load_state_dict(json.loads(json.dumps(first.run.state_dict())), 3)
    for own, other in zip((second.streams, second.head), (first.streams, first.head), strict=True):
        own.load_state_dict(other.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for epoch in range(3, EPOCHS):
        second.epoch(epoch)
    assert second.losses == whole.losses[3 * STEPS :]
    assert second.run.state_dict() == whole.run.state_dict()


@pytest.mark.parametrize("method", ["agm", "mslr"])
def test_the_factors_of_an_epoch_are_logged_as_their_means_over_its_steps(method):
    host = Host(method=method, **({"window": 1} if method == "mslr" else {}))
    for epoch in range(3):
        host.epoch(epoch)
        host.run.end_epoch()
        steps = host.factors[-STEPS:]
        expected = {f"balancing/factor/{name}": sum(step[name] for step in steps) / STEPS for name in NAMES}
        assert host.run.means(epoch + 1) == pytest.approx(expected)
    assert set(expected.values()) != {1.0} and host.run.means(2) == {}


@pytest.mark.parametrize("method", ["ogm_ge", "agm"])
def test_views_that_only_measure_leave_the_loss_as_it_is(method, baseline):
    host = Host(method=method, alpha=0, **({"noise": False} if method == "ogm_ge" else {})).train()
    assert host.losses == pytest.approx(baseline.losses, abs=1e-5)


def test_outside_of_the_share_in_which_a_method_acts_a_step_sees_samples_once():
    for method in ("ogm_ge", "mmpareto"):
        run = ModalityRun(NAMES, balancing=balancing_config({"method": method, "start": 0.5}))
        run.begin_epoch(0, 2)
        assert run.incomplete(4) is None
        run.begin_epoch(1, 2)
        assert run.incomplete(4).combinations == [NAMES, ("weak",), ("strong",)]


def test_methods_that_go_by_validations_ask_for_every_combination():
    due = {
        name: ModalityRun(NAMES, balancing=balancing_config({"method": name})).due(0)
        for name in METHODS
        if name != "torchjd"
    }
    assert {name for name, asks in due.items() if asks} == {"mslr", "mses"}


def test_a_modality_that_is_zero_in_the_whole_mini_batch_is_no_evidence():
    run = ModalityRun(NAMES, balancing=balancing_config({"method": "ogm_ge"}))
    images = torch.ones(2, 3, 4, 4)
    losses = [torch.tensor(loss) for loss in (1.0, 2.0, 0.1)]
    for strong, expected in ((images, True), (images * 0, False)):
        run.observe({"weak": images, "strong": strong})
        assert run.balance(run.incomplete(2), losses) == 1.0
        assert (run.balancer.weights["strong"] < 1) == expected


def test_all_views_of_incomplete_serve_as_evidence_and_are_averaged_as_ever():
    names = ("a", "b", "c")
    run = ModalityRun(names, incomplete=IncompleteConfig(), balancing=balancing_config({"method": "ogm_ge"}))
    views = run.incomplete(3)
    assert sorted(views.combinations) == sorted(modality_combinations(names))
    by_view = {("a",): 0.1, ("b",): 2.0, ("c",): 2.0}
    losses = [torch.tensor(by_view.get(c, 0.5)) for c in views.combinations]
    assert torch.equal(run.balance(views, losses), views.average(losses))
    assert run.balancer.weights["a"] < 1 == run.balancer.weights["b"] == run.balancer.weights["c"]


def test_before_incomplete_views_begin_methods_that_measure_have_views_of_their_own():
    run = ModalityRun(NAMES, incomplete=IncompleteConfig(start=0.5), balancing=balancing_config({"method": "agm"}))
    run.begin_epoch(0, 2)
    assert run.incomplete(2).weights == (1, 0, 0)
    run.begin_epoch(1, 2)
    assert run.incomplete(2).weights == pytest.approx([1 / 3] * 3)


def test_without_balancing_the_loss_is_the_average_of_the_views():
    run, losses = ModalityRun(NAMES, incomplete=IncompleteConfig()), [torch.tensor(loss) for loss in (1.0, 2.0, 6.0)]
    assert run.balance(run.incomplete(2), losses) == 3.0
    assert run.balance(None, losses[:1]) == 1.0
    run.attach({}, None)
    assert run.attachments == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"balancing": "ogm_ge", "incomplete": IncompleteConfig(views=2)},
            "incomplete.views=2: balancing.method=ogm_ge",
        ),
        ({"balancing": "agm", "incomplete": IncompleteConfig(views=1)}, "use all, or set incomplete to false"),
        ({"balancing": "mmpareto", "incomplete": IncompleteConfig()}, "mmpareto trains views of its own"),
        ({"balancing": "mmpareto", "mwam": MWAMConfig()}, "mwam.mode=gradient: balancing.method=mmpareto combines"),
        (
            {"balancing": "mmpareto", "mwam": MWAMConfig(mode="loss")},
            "mwam.mode=loss: .*mmpareto combines",
        ),
        ({"balancing": "torchjd", "incomplete": IncompleteConfig(distill=0.5)}, "would lose those of another one"),
    ],
)
def test_what_does_not_fit_together_is_refused_when_built(settings, message):
    settings["balancing"] = balancing_config({"method": settings["balancing"]})
    with pytest.raises(ValueError, match=message):
        ModalityRun(NAMES, **settings)


@pytest.mark.parametrize("mode", ["update", "observe"])
def test_mwam_that_leaves_gradients_alone_goes_with_what_combines_them(mode):
    ModalityRun(NAMES, mwam=MWAMConfig(mode=mode), balancing=balancing_config({"method": "mmpareto"}))


def test_balancing_needs_two_modalities():
    with pytest.raises(ValueError, match="balancing: with rgb alone there is nothing to balance; set it to false"):
        build_balancer(balancing_config({"method": "ogm_ge"}), ["rgb"], None, None)


def test_a_method_that_compares_predicted_classes_is_refused_where_there_are_none():
    with pytest.raises(ValueError, match="balancing.method=lfm compares predicted classes"):
        build_balancer(balancing_config({"method": "lfm"}), NAMES, None, None, classes=False)
    assert build_balancer(balancing_config({"method": "lfm"}), NAMES, None, None).needs_logits


def test_the_state_of_a_run_with_balancing_is_refused_by_one_without_and_older_states_load():
    balanced = ModalityRun(NAMES, balancing=balancing_config({"method": "agm"}))
    plain = ModalityRun(NAMES)
    with pytest.raises(ValueError, match="the state is of a run with balancing"):
        plain.load_state_dict(balanced.state_dict(), 1)
    with pytest.raises(ValueError, match="the state is of a run without balancing"):
        balanced.load_state_dict(plain.state_dict(), 1)
    older = {key: value for key, value in plain.state_dict().items() if key != "balancer"}
    plain.load_state_dict(older, 1)


def test_views_know_the_combination_that_they_keep():
    assert views_alone(3, NAMES, shared=True).combinations == [NAMES, ("weak",), ("strong",)]
    drawn = draw_views(64, NAMES, IncompleteConfig(views=2), generator=torch.Generator().manual_seed(0))
    assert drawn.combinations == [NAMES, None]
    assert views_alone(3, ("a", "b", "c")).weights == (1, 0, 0, 0)
