"""Untrained models that answer to their input, and pairs to show them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from mwam_det import MultimodalYOLO
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg

TINY = str(Path(__file__).with_name("tiny.yaml"))
"""A detector of few layers, for whatever does not depend on the model: a training takes a third of YOLOv8n's time."""

QUIET = {"imgsz": 64, "conf": 0.1, "verbose": False, "device": "cpu"}


@torch.no_grad()
def awake(model: nn.Module, channels: int) -> nn.Module:
    """Let batch norms see noise once: with fresh statistics the input hardly reaches the head. Returns it in eval mode.

    Class scores of objects are raised, so that there are predictions.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(torch.rand(8, channels, 96, 96))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    head = model.model[-1]
    for scores in (*getattr(head, "cv3", ()), *getattr(head, "one2one_cv3", ())):
        scores[-1].bias.fill_(-2.0)
    return model.eval()


def untrained(file, modalities=None, reading=None, description=TINY):
    """Save a detector of one class that finds small boxes everywhere."""
    torch.manual_seed(0)
    modalities = modalities or {"rgb": 3, "ir": 3}
    yolo = MultimodalYOLO(description, modalities)
    model = build_two_stream(two_stream_cfg(description, modalities), nc=1)
    model.names, model.args, model.task = {0: "car"}, yolo.model.args, "detect"
    model.yaml["reading"] = reading or {}
    yolo.model = awake(model, channels=sum(modalities.values()))
    for boxes in model.model[-1].cv2:
        boxes[-1].bias.data.view(4, -1)[:, 1] += 5  # sides lie about one stride from the centre
    yolo.save(file)
    return file


def smooth(seed, height, width, low=0, high=256, dtype=np.uint8):
    """Like a photograph: few details, so that a detector answers alike to almost the same image."""
    coarse = np.random.default_rng(seed).uniform(low, high, (6, 8, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(low, high - 1).astype(dtype)


def make_set(folder, size=(96, 128), infrared=(96, 128), suffix=".png", deep=False, **section):
    """Write four pairs with a label each and return the data section."""
    for number in range(4):
        images = {"rgb": smooth(number, *size), "ir": smooth(number + 50, *infrared)}
        if deep:
            images["ir"] = smooth(number + 50, *infrared, 7000, 9000, np.uint16)[..., 0]
        for name, image in images.items():
            file = folder / name / "val" / f"{number}{'.png' if deep and name == 'ir' else suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), image)
        label = folder / "labels" / "val" / f"{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    return {
        "path": str(folder), "modalities": {"rgb": "rgb", "ir": "ir"}, "labels": "labels", "train": "val",
        "val": "val", "names": ["car"], **section,
    }  # fmt: skip


def folders(section):
    return {name: f"{section['path']}/{name}/val" for name in section["modalities"]}
