import pytest
import torch
from ultralytics.utils.plotting import plot_images

from mwam_det.data.modality import Modality
from mwam_det.engine.compat import use_bundled_font
from mwam_det.engine.plots import MOST_SHOWN, predictions_beside, wide_batch

MODALITIES = (Modality("rgb", 3, 0, True), Modality("ir", 1, 3))


def batch_of(images=2, **labels):
    """Images of one row of two pixels; two objects in the first, one in the last."""
    return {
        "img": torch.arange(images * 4 * 2.0).reshape(images, 4, 1, 2),
        "cls": torch.tensor([[5.0], [6.0], [7.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.0, 0.1, 0.2, 0.3], [1.0, 1.0, 0.6, 0.6]]),
        "batch_idx": torch.tensor([0.0, 0.0, images - 1.0]),
        "im_file": [f"a/{i}.jpg" for i in range(images)],
        **labels,
    }


def test_the_modalities_of_an_image_stand_beside_each_other_each_with_all_labels():
    batch = batch_of()
    shown = wide_batch(batch, MODALITIES)
    assert shown["img"].shape == (2, 3, 1, 4)
    assert torch.equal(shown["img"][1, ..., :2], batch["img"][1, :3])
    assert torch.equal(shown["img"][1, ..., 2:], batch["img"][1, 3:].expand(3, 1, 2))
    assert shown["im_file"] == ["0.jpg rgb | ir", "1.jpg rgb | ir"]
    assert shown["batch_idx"].tolist() == [0, 0, 1, 0, 0, 1] and shown["cls"].flatten().tolist() == [5, 6, 7, 5, 6, 7]
    expected = torch.tensor([[0.25, 0.5, 0.1, 0.4], [0.75, 0.5, 0.1, 0.4]])
    assert torch.allclose(shown["bboxes"][[0, 3]], expected)


def test_keypoints_and_maps_of_pixels_stand_in_each_modality():
    points = torch.tensor([[[0.5, 0.25, 2.0]]]).repeat(3, 1, 1)
    maps = torch.tensor([[[1, 0]], [[0, 2]]])
    shown = wide_batch(batch_of(keypoints=points, semantic_mask=maps), MODALITIES)
    assert shown["keypoints"][[0, 3]].flatten(1).tolist() == [[0.25, 0.25, 2.0], [0.75, 0.25, 2.0]]
    assert shown["semantic_mask"].tolist() == [[[1, 0, 1, 0]], [[0, 2, 0, 2]]]


def test_masks_keep_belonging_to_their_objects():
    whole = torch.tensor([[[1, 2]], [[0, 1]]])  # one map an image, with the numbers of its objects
    assert wide_batch(batch_of(masks=whole), MODALITIES)["masks"].tolist() == [[[1, 2, 3, 4]], [[0, 1, 0, 2]]]
    single = torch.tensor([[[1, 0]], [[0, 1]], [[1, 1]]])
    assert wide_batch(batch_of(masks=single), MODALITIES)["masks"].tolist() == [
        [[1, 0, 0, 0]], [[0, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 0, 1, 0]], [[0, 0, 0, 1]], [[0, 0, 1, 1]]
    ]  # fmt: skip


def test_classes_of_whole_images_stay_as_they_are():
    batch = {"img": torch.zeros(2, 4, 1, 2), "cls": torch.tensor([3, 4]), "im_file": ["x.jpg", "y.jpg"]}
    assert wide_batch(batch, MODALITIES)["cls"].tolist() == [3, 4]


def test_of_a_large_batch_the_first_images_are_shown_with_their_labels_alone():
    shown = wide_batch(batch_of(MOST_SHOWN + 1), MODALITIES)
    assert len(shown["img"]) == len(shown["im_file"]) == MOST_SHOWN
    assert shown["cls"].flatten().tolist() == [5, 6, 5, 6] and len(shown["bboxes"]) == 4
    assert len(predictions_beside([{"conf": torch.ones(1)}] * (MOST_SHOWN + 1), 2, 64)) == MOST_SHOWN


def test_the_batch_itself_is_not_touched_by_what_is_drawn_on_the_copy():
    batch = batch_of()
    before = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    for value in wide_batch(batch, MODALITIES).values():
        if isinstance(value, torch.Tensor):
            value.fill_(1)
    assert all(torch.equal(batch[key], value) for key, value in before.items())


def test_predictions_that_are_drawn_stand_in_each_modality():
    found = {
        "conf": torch.tensor([0.9, 0.1]),
        "cls": torch.tensor([1.0, 0.0]),
        "bboxes": torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 1.0]]),
        "keypoints": torch.tensor([[[1.0, 2.0, 0.5]]]).repeat(2, 1, 1),
        "masks": torch.tensor([[[1, 0]], [[1, 1]]]),
    }
    (shown,) = predictions_beside([found], 2, 64)
    assert shown["conf"].tolist() == pytest.approx([0.9, 0.9]) and shown["cls"].tolist() == [1, 1]
    assert shown["bboxes"].tolist() == [[1, 2, 3, 4], [65, 2, 67, 4]]
    assert shown["keypoints"][:, 0].tolist() == [[1, 2, 0.5], [65, 2, 0.5]]
    assert shown["masks"].tolist() == [[[1, 0, 0, 0]], [[0, 0, 1, 0]]]
    rotated = torch.tensor([[10.0, 20.0, 8.0, 4.0, 0.5]])
    (shown,) = predictions_beside([{"conf": torch.ones(1), "bboxes": rotated}], 2, 64)
    assert shown["bboxes"].tolist() == [[10, 20, 8, 4, 0.5], [74, 20, 8, 4, 0.5]]


def test_maps_of_classes_are_shown_in_each_modality_and_scores_of_images_stay():
    assert predictions_beside(torch.tensor([[[1, 0]]]), 2, 2).tolist() == [[[1, 0, 1, 0]]]
    assert predictions_beside(torch.tensor([[0.3, 0.7]]), 2, 2).shape == (1, 2)


def test_ultralytics_draws_a_box_at_the_same_place_in_each_modality():
    use_bundled_font()
    batch = {
        "img": torch.full((1, 4, 64, 64), 0.5),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]),
        "batch_idx": torch.zeros(1),
        "im_file": ["x.jpg"],
    }
    shown = wide_batch(batch, MODALITIES)
    drawn = plot_images(shown, paths=[""], names={0: ""}, threaded=False, save=False)
    left, right = drawn[20:, :64], drawn[20:, 64:]
    assert (left != drawn[-4, 4]).any() and (left[:, 4:-4] == right[:, 4:-4]).all()
