import math

import pytest
import torch

from mwam_det.adapters.tasks import Classification, Segmentation, median_frequency_weights


def test_the_loss_of_a_classifier_is_cross_entropy_a_sample():
    losses = Classification(2).losses(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-2)), math.log(2)])


def test_accuracy_is_over_all_samples():
    metric = Classification(3).new_metric()
    metric.update(torch.eye(3)[[0, 0, 0, 1]], torch.tensor([0, 0, 1, 2]))
    assert float(metric.compute()) == pytest.approx(0.5)


def test_void_pixels_count_neither_in_the_loss_nor_in_the_metric():
    task = Segmentation(2)
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 0, 0, 0] = 50.0  # right with certainty
    logits[:, 0, 1] = 50.0  # wrong with certainty, where there is no label
    target = torch.tensor([[[0, 1], [-1, -1]]])
    assert task.losses(logits, target).item() == pytest.approx(math.log(2) / 2)
    metric = task.new_metric()
    metric.update(logits, torch.tensor([[[0, -1], [-1, -1]]]))
    assert float(metric.compute()) == pytest.approx(1)


def test_a_sample_without_labels_has_loss_0():
    assert Segmentation(2).losses(torch.randn(1, 2, 4, 4), torch.full((1, 4, 4), -1)).item() == 0


def test_scales_are_summed_each_with_the_labels_at_its_size():
    target = torch.tensor([[0, 0, 1, 1]]).repeat(4, 1)[None]
    fine, coarse = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
    task = Segmentation(2)
    expected = task.losses(fine, target) + task.losses(coarse, target[:, ::2, ::2])
    assert torch.allclose(task.losses([fine, coarse], target), expected)


def test_class_weights_make_a_weighted_mean():
    logits, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    weights = torch.tensor([0.5, 1.0, 4.0])
    expected = torch.nn.functional.cross_entropy(logits, target, weights)
    assert Segmentation(3, weights).losses(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_miou_is_the_mean_over_classes_that_occur():
    target = torch.tensor([[[0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1]]])
    metric = Segmentation(5).new_metric()
    metric.update(torch.nn.functional.one_hot(predicted, 5).permute(0, 3, 1, 2).float(), target)
    assert float(metric.compute()) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_rare_classes_weigh_more_and_absent_ones_nothing():
    assert median_frequency_weights([100, 50, 0, 25]).tolist() == pytest.approx([0.5, 1, 0, 2])
