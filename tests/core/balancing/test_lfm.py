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
    flat_gradient,
    left,
    mini_batch,
    random_logits,
)

from mwam_det.core.balancing.lfm import LFM, LFMConfig, alignment, label_weight


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def published_alignment(a, b):
    p, q = softmax(a.double().numpy()), softmax(b.double().numpy())
    m = 0.5 * p + 0.5 * q
    return 0.5 * sum((m * (np.log(m) - np.log(x))).sum() / len(x) for x in (p, q))


@pytest.mark.parametrize("seed", range(3))
def test_predictions_are_as_far_apart_as_published(seed):
    logits, _ = random_logits(NAMES, seed=seed)
    found = alignment(logits["rgb",], logits["ir",])
    assert found.item() == pytest.approx(published_alignment(logits["rgb",], logits["ir",]), rel=1e-5)


def test_predictions_of_places_are_averaged_over_them():
    a, b = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    flat = [z.movedim(1, -1).reshape(-1, 3) for z in (a, b)]
    assert alignment(a, b).item() == pytest.approx(published_alignment(*flat), rel=1e-5)


def test_equal_predictions_are_not_apart_and_sure_opposite_ones_are_finite():
    z = torch.tensor([[1e4, -1e4]])
    assert alignment(z, z + 3) == 0
    far = (z.clone().requires_grad_(), -z)
    alignment(*far).backward()
    assert alignment(*far).isfinite() and far[0].grad.isfinite().all()


def test_the_weight_of_labels_is_the_published_curve_stretched_over_the_training():
    coefficients = [2.04623704e-01, 3.35472727e-03, 1.22989557e-04, -2.92947416e-06, 2.23835486e-08, -5.39717505e-11]
    for epoch in (0, 1, 50, 120, 199):
        expected = np.polynomial.polynomial.polyval(epoch, coefficients)
        assert label_weight(epoch / 200) == pytest.approx(expected)
    assert label_weight(0) == pytest.approx(0.2046, abs=1e-4) and label_weight(0.995) > 0.9
    assert all(0 <= label_weight(k / 1000) <= 1 for k in range(1001))


@pytest.mark.parametrize("names", [NAMES, THREE])
def test_the_loss_is_twice_the_weighted_mean_of_labels_and_alignment(names):
    logits, target = random_logits(names)
    evidence = evidence_of_logits(logits, target)
    balancer = LFM(names, LFMConfig())
    balancer.begin_epoch(3, 10)
    balancer.observe(evidence)
    pairs = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    apart = np.mean([published_alignment(logits[a,], logits[b,]) for a, b in pairs])
    w = label_weight(0.3)
    expected = 2 * (w * evidence.average().item() + (1 - w) * apart)
    assert balancer.loss(evidence).item() == pytest.approx(expected, rel=1e-5)
    assert all(weight == 1 for weight in balancer.weights.values())


def test_streams_learn_from_views_that_have_no_share_of_the_loss():
    model, balancer = Streams(), LFM(NAMES, LFMConfig())
    evidence = evidence_of_model(model, *mini_batch(), weights=(1, 0, 0))
    parameters = list(model.streams.parameters())
    apart = alignment(evidence.logits["rgb",], evidence.logits["ir",])
    w = label_weight(0)
    labels, between = (flat_gradient(loss, parameters) for loss in (evidence.losses[NAMES], apart))
    expected = 2 * (w * labels + (1 - w) * between)
    assert balancer.attach(model.streams, torch.optim.SGD(parameters, 0.1)) is None
    balancer.loss(evidence).backward()
    assert torch.allclose(left(parameters), expected, atol=1e-6)


def test_an_absent_modality_is_aligned_with_none():
    logits, target = random_logits(THREE)
    evidence = evidence_of_logits(logits, target, absent=("ir",))
    w = label_weight(0)
    expected = 2 * (w * evidence.average().item() + (1 - w) * published_alignment(logits["rgb",], logits["depth",]))
    assert LFM(THREE, LFMConfig()).loss(evidence).item() == pytest.approx(expected, rel=1e-5)
    alone = evidence_of_logits(logits, target, absent=("ir", "rgb"))
    assert LFM(THREE, LFMConfig()).loss(alone).item() == pytest.approx(2 * w * alone.average().item())


def test_a_task_without_classes_is_refused_with_a_reason():
    assert LFM.needs_logits
    with pytest.raises(ValueError, match="lfm compares predictions of classes"):
        LFM(NAMES, LFMConfig()).loss(evidence_of_losses(rgb=1.0, ir=2.0))


def test_outside_of_its_share_of_the_training_the_loss_is_that_of_the_labels():
    balancer = LFM(NAMES, LFMConfig(stop=0.5))
    balancer.begin_epoch(5, 10)
    evidence = evidence_of_losses(rgb=1.0, ir=2.0)
    assert balancer.loss(evidence) == evidence.average()


def test_a_loss_that_is_not_finite_stays_one():
    logits, target = random_logits(NAMES)
    logits["rgb",] = logits["rgb",] * math.nan
    assert LFM(NAMES, LFMConfig()).loss(evidence_of_logits(logits, target)).isnan()  # for the host to see


def test_it_keeps_no_state_but_the_epoch_that_the_loop_tells():
    balancer, resumed = (LFM(NAMES, LFMConfig()) for _ in range(2))
    balancer.begin_epoch(5, 10)
    resumed.load_state_dict(json.loads(json.dumps(balancer.state_dict())))
    resumed.begin_epoch(5, 10)
    logits, target = random_logits(NAMES)
    evidence = evidence_of_logits(logits, target)
    assert resumed.loss(evidence) == balancer.loss(evidence)
