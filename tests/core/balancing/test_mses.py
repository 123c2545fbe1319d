import json
import math
import warnings

import pytest
import torch
from balancing import NAMES, THREE, Streams, mini_batch
from torch.nn import functional as F

from mwam_det.core.balancing.mses import MSES, MSESConfig


def published(losses, patience, before=0.6):
    """At which validation, from 0, a modality stops: the rule of the published code, for one series of losses."""
    least, best, last = losses[0], 0, losses[0]
    for t, loss in enumerate(losses[1:], 1):
        smooth = before * last + (1 - before) * loss
        last = loss
        if least > smooth:
            least, best = smooth, t
        if t - best > patience:
            return t
    return None


SERIES = {
    "rgb": [1.0, 0.8, 0.7, 0.9, 0.85, 0.65, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1],
    "ir": [1.0 - 0.05 * t for t in range(12)],
    "depth": [0.5, 0.6, 0.7, 0.8] + [0.4] * 8,
}


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@pytest.mark.parametrize("names", [NAMES, THREE])
def test_streams_stop_where_the_published_rule_stops_them(names, patience):
    balancer = MSES(names, MSESConfig(patience=patience))
    stopped = {}
    for t in range(12):
        balancer.validated(dict.fromkeys(names, 0.0), {name: SERIES[name][t] for name in names})
        stopped.update({name: t for name in balancer.stopped if name not in stopped})
        assert {n for n, w in balancer.weights.items() if w == 0} == set(balancer.stopped)
    assert stopped == {n: at for n in names if (at := published(SERIES[n], patience)) is not None}
    assert "rgb" in stopped and "ir" not in stopped


def test_without_losses_what_is_missing_of_the_metric_counts():
    by_loss, by_score = (MSES(NAMES, MSESConfig(patience=2)) for _ in range(2))
    for t in range(12):
        scores = {name: 1 - SERIES[name][t] for name in NAMES}
        by_score.validated(scores)
        by_loss.validated(dict.fromkeys(NAMES, 0.5), {name: 1 - score for name, score in scores.items()})
        assert by_score.stopped == by_loss.stopped
    assert by_score.stopped == ("rgb",)


def test_modalities_that_go_on_gaining_are_left_alone():
    balancer = MSES(NAMES, MSESConfig(patience=0))
    for t in range(12):
        balancer.validated(dict.fromkeys(NAMES, t / 12))
    assert all(weight == 1 for weight in balancer.weights.values())


def test_a_validation_that_is_not_finite_is_passed_over():
    plain, with_gaps = (MSES(NAMES, MSESConfig(patience=2)) for _ in range(2))
    for t in range(12):
        losses = {name: SERIES[name][t] for name in NAMES}
        plain.validated({}, losses)
        with_gaps.validated({}, losses)
        with_gaps.validated({}, dict.fromkeys(NAMES, math.nan))
        assert plain.state_dict() == with_gaps.state_dict()


def test_a_stopped_stream_stays_bit_for_bit_whatever_momentum_and_weight_decay_ask_for():
    model = Streams()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    balancer = MSES(NAMES, MSESConfig(patience=0, smoothing=0))
    balancer.attach(model.streams, optimizer)

    def step():
        inputs, target = mini_batch()
        optimizer.zero_grad()
        F.cross_entropy(model(inputs, NAMES), target).backward()
        optimizer.step()
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    step()
    for loss in (0.5, 0.6):
        balancer.validated({}, {"rgb": loss, "ir": 0.5 - loss})
    assert balancer.stopped == ("rgb",)
    before, after = step(), step()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("streams.rgb"), name


def test_too_short_a_training_is_warned_of_once():
    balancer = MSES(NAMES, MSESConfig(patience=30))
    with pytest.warns(UserWarning, match="balancing.patience=30: mses cannot stop a stream within 31 epochs"):
        balancer.begin_epoch(0, 31)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        balancer.begin_epoch(1, 31)
        MSES(NAMES, MSESConfig(patience=30)).begin_epoch(0, 32)


def test_a_resumed_training_goes_on_as_an_uninterrupted_one():
    whole, first, second = (MSES(NAMES, MSESConfig(patience=2)) for _ in range(3))
    for t in range(6):
        whole.validated({}, {name: SERIES[name][t] for name in NAMES})
        first.validated({}, {name: SERIES[name][t] for name in NAMES})
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for t in range(6, 12):
        whole.validated({}, {name: SERIES[name][t] for name in NAMES})
        second.validated({}, {name: SERIES[name][t] for name in NAMES})
    assert second.state_dict() == whole.state_dict() and second.stopped == ("rgb",)
    second.reset()
    assert second.stopped == () and second.state_dict() == MSES(NAMES, MSESConfig(patience=2)).state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": -1}, "patience=-1 must be a number of validations, at least 0"),
        ({"patience": 2.5}, "patience=2.5 must be a number of validations"),
        ({"smoothing": 1}, r"smoothing=1 must lie in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MSESConfig(**settings)
