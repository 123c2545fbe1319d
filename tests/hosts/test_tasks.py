import math
import statistics

import numpy as np
import pytest
import torch

from mwam_det.hosts.tasks import Classification, Segmentation, median_frequency_weights


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


def test_the_loss_of_a_mini_batch_is_one_weighted_mean_over_its_pixels():
    """A sample with few labelled pixels, or with light ones, counts less than its neighbour."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    target = torch.randint(0, 3, (2, 4, 4), generator=generator)
    target[0, 1:] = -1
    weights = torch.tensor([0.5, 1.0, 4.0])
    wanted = torch.nn.functional.cross_entropy(logits, target, weights, ignore_index=-1)
    losses = Segmentation(3, weights).losses(logits, target)
    assert losses.mean().item() == pytest.approx(wanted.item(), rel=1e-5)
    alone = [Segmentation(3, weights).losses(logits[i : i + 1], target[i : i + 1]).item() for i in range(2)]
    assert losses.mean().item() != pytest.approx(sum(alone) / 2, rel=1e-2)


def test_classes_are_weighed_by_their_median_frequency_in_the_images_that_contain_them():
    """Restated image by image: ESANet takes a frequency over the images with the class, void pixels included."""
    images = [  # 0 is void, then 1 + class; the fourth of five classes never occurs
        np.array([[1, 1, 1, 1], [1, 1, 2, 0]]),
        np.array([[2, 2, 1, 0], [0, 0, 0, 0]]),
        np.array([[3, 1, 1, 1], [1, 1, 1, 5], [1, 1, 1, 1]]),
    ]
    counts = np.stack([np.bincount(image.ravel(), minlength=6) for image in images])
    frequency = {}
    for label in (1, 2, 3, 5):
        beside = [image for image in images if (image == label).any()]
        frequency[label] = sum((image == label).sum() for image in beside) / sum(image.size for image in beside)
    assert frequency == {1: 17 / 28, 2: 3 / 16, 3: 1 / 12, 5: 1 / 12}
    median = statistics.median(frequency.values())
    assert median == (3 / 16 + 1 / 12) / 2
    wanted = [median / frequency[label] if label in frequency else 0 for label in range(1, 6)]
    assert median_frequency_weights(counts).tolist() == pytest.approx(wanted)
