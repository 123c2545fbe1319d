from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mwam_det.engine.arguments import OWN_ARGUMENTS
from mwam_det.engine.origin import trained_with

ARGUMENTS = {
    **OWN_ARGUMENTS,
    "model": "yolov8n.yaml", "name": "night", "epochs": 14, "imgsz": 320, "batch": 4, "optimizer": "SGD", "seed": 2,
    "pretrained": True, "save_dir": "runs/night",
}  # fmt: skip


def checkpoint(folder, epochs=14, as_object=False, **changes):
    """A finished checkpoint with these arguments."""
    model, arguments = nn.Identity(), {**ARGUMENTS, **changes}
    model.args, model.yaml = SimpleNamespace(**arguments) if as_object else arguments, {"yaml_file": "yolov8n.yaml"}
    content = {"model": model, "ema": None, "train_results": {"epoch": list(range(1, epochs + 1))}}
    torch.save(content, folder / "best.pt")
    return folder / "best.pt"


@pytest.mark.parametrize("as_object", [False, True])
def test_a_checkpoint_says_what_was_trained_and_how(tmp_path, as_object):
    changes = {"mwam": False, "incomplete": {"views": 2}}
    assert trained_with(checkpoint(tmp_path, as_object=as_object, **changes)) == {
        "model": "yolov8n.yaml, fusion concat",
        "run": "night",
        "training": "14 epochs, 320 px, batch 4, SGD, seed 2",
        "MWAM": "off",
        "incomplete": "views=2",
    }


def test_a_training_that_stopped_early_says_so(tmp_path):
    assert trained_with(checkpoint(tmp_path, epochs=9))["training"].startswith("9 of 14 epochs, ")


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ({"model": "runs/night/weights/last.pt"}, "yolov8n.yaml, fusion concat"),  # resumed
        ({"model": "runs/day/weights/best.pt"}, "yolov8n.yaml, fusion concat, from runs/day/weights/best.pt"),
        ({"pretrained": "yolov8n.pt"}, "yolov8n.yaml, fusion concat, from yolov8n.pt"),
        ({"pretrained": {"rgb": "a.pt", "ir": "b.pt"}}, "yolov8n.yaml, fusion concat, from rgb=a.pt, ir=b.pt"),
        ({"share_backbone": True}, "yolov8n.yaml, fusion concat, one backbone for all"),
    ],
)
def test_the_model_is_named_with_what_it_began_with(tmp_path, changes, model):
    assert trained_with(checkpoint(tmp_path, **changes))["model"] == model


def test_what_is_no_checkpoint_of_ours_says_nothing(tmp_path):
    (tmp_path / "best.onnx").touch()
    assert trained_with(tmp_path / "best.onnx") == trained_with("yolov8n.yaml") == trained_with("none.pt") == {}
    torch.save({"model": nn.Identity()}, tmp_path / "other.pt")
    assert trained_with(tmp_path / "other.pt") == {}
