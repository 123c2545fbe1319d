import math

import pytest
import torch
from balancing import evidence_of_losses

from mwam_det.core.balancing.evidence import Evidence, label_log_probabilities, mean_of_others, mean_where


def test_the_probability_of_a_label_is_that_of_the_softmax():
    logits = torch.tensor([[0.0, math.log(3)], [math.log(9), 0.0]])
    logs, valid = label_log_probabilities(logits, torch.tensor([1, 1]))
    assert logs.exp().tolist() == pytest.approx([0.75, 0.1]) and valid.all()


def test_places_without_a_label_do_not_count():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, generator=generator), torch.randint(0, 3, (2, 4, 5), generator=generator)
    target[0, 1, 2], target[1, 3, 4], target[1, 0, 0] = 255, -1, 3
    expected = [
        logits[b, :, y, x].softmax(0)[target[b, y, x]].log().item()
        for b in range(2)
        for y in range(4)
        for x in range(5)
        if 0 <= target[b, y, x] < 3
    ]
    logs, valid = label_log_probabilities(logits, target)
    assert logs[valid].tolist() == pytest.approx(expected, abs=1e-6)
    assert mean_where(logs, valid).item() == pytest.approx(sum(expected) / len(expected), abs=1e-6)
    assert mean_where(logs, torch.zeros_like(valid)).isnan()


@pytest.mark.parametrize("target", [torch.zeros(3, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long)])
def test_a_target_of_another_shape_is_refused(target):
    with pytest.raises(ValueError, match=r"need a target of shape \(2,\)"):
        label_log_probabilities(torch.zeros(2, 5), target)


def test_the_average_leaves_out_views_that_only_measure():
    losses = {("a", "b"): torch.tensor(2.0), ("a",): torch.tensor(4.0), ("b",): torch.tensor(math.nan)}
    evidence = Evidence(losses, {("a", "b"): 0.5, ("a",): 0.5, ("b",): 0.0})
    assert evidence.average() == 3.0


def test_a_loss_in_parts_counts_by_its_sum_and_keeps_its_shape():
    evidence = Evidence({("a",): torch.tensor([1.0, 2.0])}, {("a",): 1.0})
    assert evidence.losses_alone(["a"]) == {"a": 3.0}
    assert evidence.average().tolist() == [1.0, 2.0]


def test_what_is_not_finite_or_absent_is_no_evidence():
    evidence = evidence_of_losses(rgb=1.0, ir=math.nan, depth=math.inf, lidar=2.0, absent=("lidar",))
    assert evidence.losses_alone(["rgb", "ir", "depth", "lidar"]) == {"rgb": 1.0}


def test_the_mean_of_others_leaves_out_oneself():
    assert mean_of_others({"a": 1.0, "b": 2.0, "c": 6.0}) == {"a": 4.0, "b": 3.5, "c": 1.5}
