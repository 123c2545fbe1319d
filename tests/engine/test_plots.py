import torch

from mwam_det.data.modality import Modality
from mwam_det.engine.plots import repeat_predictions, unstack_batch

MODALITIES = (Modality("rgb", 3, 0, True), Modality("ir", 1, 3))


def test_every_modality_of_an_image_follows_as_an_image_with_the_same_labels():
    batch = {
        "img": torch.arange(2 * 4 * 2 * 2).reshape(2, 4, 2, 2).float(),
        "cls": torch.tensor([[5.0], [6.0], [7.0]]),
        "bboxes": torch.arange(12.0).reshape(3, 4),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "im_file": ["a/x.jpg", "a/y.jpg"],
    }
    shown = unstack_batch(batch, MODALITIES)
    assert shown["img"].shape == (4, 3, 2, 2)
    assert torch.equal(shown["img"][2], batch["img"][1, :3])
    assert torch.equal(shown["img"][3], batch["img"][1, 3:].expand(3, 2, 2))
    assert shown["im_file"] == ["x.jpg rgb", "x.jpg ir", "y.jpg rgb", "y.jpg ir"]
    for place in range(4):
        mine, original = shown["batch_idx"] == place, batch["batch_idx"] == place // 2
        assert torch.equal(shown["bboxes"][mine], batch["bboxes"][original])
        assert torch.equal(shown["cls"][mine], batch["cls"][original])


def test_the_batch_itself_is_not_touched_by_what_is_drawn_on_the_copy():
    batch = {
        "img": torch.zeros(1, 4, 2, 2),
        "cls": torch.zeros(0, 1),
        "bboxes": torch.zeros(0, 4),
        "batch_idx": torch.zeros(0),
        "im_file": ["x.jpg"],
    }
    unstack_batch(batch, MODALITIES)["img"].fill_(1)
    assert batch["img"].eq(0).all()


def test_predictions_are_repeated_as_the_images_are():
    first, second = {"conf": torch.ones(1)}, {"conf": torch.zeros(1)}
    repeated = repeat_predictions([first, second], 2)
    assert [p["conf"].item() for p in repeated] == [1, 1, 0, 0]
    repeated[0]["batch_idx"] = 3
    assert "batch_idx" not in repeated[1] and "batch_idx" not in first
