"""The settings of a training, checked when built."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch

from mwam_det.core.config import Settings

OPTIMIZERS = ("SGD", "Adam", "AdamW")
SCHEDULES = ("constant", "step", "one-cycle")
CLASS_WEIGHTS = (None, "median_frequency")

MOMENTUM_SWING = 0.05
"""How far one cycle takes the momentum up and down: with 0.9, between PyTorch's defaults of 0.85 and 0.95."""


@dataclass(frozen=True)
class TrainSettings(Settings):
    """How a host is trained. Where Ultralytics has the same key, it has the same name here.

    Args:
        epochs: Number of epochs.
        batch: Samples of a mini-batch, at least 2, because of batch normalisation. Those that do not fill the last one
            are left out of the epoch; the order differs from epoch to epoch.
        imgsz: Side of the images, or [height, width], in pixels.
        optimizer: "SGD", with Nesterov's momentum as in Ultralytics and in the published code of ESANet and MMANet;
            "Adam" or "AdamW".
        lr0: Learning rate; with "one-cycle" the highest.
        momentum: Momentum of SGD; the first β of Adam.
        weight_decay: Weight decay.
        schedule: "constant"; "step", the rate is multiplied by `step_factor` every `step_epochs`, or after each of the
            epochs in that list; "one-cycle", it rises from 1/25 of `lr0` in the first tenth of all steps and then falls
            along a cosine to almost 0, while the momentum falls from `momentum` + 0.05 to `momentum` − 0.05 and rises
            again: PyTorch's cycle, as ESANet uses it, but with a step after each mini-batch instead of each epoch.
        step_epochs: See `schedule`.
        step_factor: See `schedule`.
        warmup_epochs: With "constant" and "step", the rate rises from 0 over this many epochs: in epoch e, from 0, it
            is e / warmup_epochs of what it would be. 0 for none; "one-cycle" has a rise of its own.
        flip: Probability of a mirror image, left and right, in training.
        scale: Training images are enlarged by a factor between 1 and this and cropped back at random.
        degrees: Training images are rotated by at most this angle either way, in degrees.
        class_weights: None, or "median_frequency": a class counts in the loss of segmentation in inverse proportion to
            its share of the pixels of the images that contain it.
        teacher: For the model "mmanet": the best.pt of an "sf-md" trained on complete inputs.
        distillation: For "mmanet": α, weight of the margin-aware distillation.
        regularization: For "mmanet": β, weight of the modality-aware regularisation.
        mining_epochs: For "mmanet": the number of epochs, at least 3, after which the weak combinations are known and
            both begin.
        seed: Seed of weights, order, augmentation and modality dropout.
        device: "cpu", "cuda", the number of a GPU, or None for a GPU where there is one.
        workers: Processes that load data; 0 for none.
        amp: Mixed precision: float16 on a GPU, bfloat16 elsewhere. MWAM measures in float32 all the same.
        project: Folder of run folders.
        name: Name of the run folder; the recipe's if left out.
        resume: A last.pt to resume from, or True for that of the newest run of this name.

    Raises:
        ValueError: If a value is outside its range; the message names key, value and choices.
    """

    epochs: int = 100
    batch: int = 64
    imgsz: int | list[int] = 224
    optimizer: str = "SGD"
    lr0: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    step_epochs: int | list[int] = 30
    step_factor: float = 0.1
    warmup_epochs: int = 0
    flip: float = 0.5
    scale: float = 1.0
    degrees: float = 0.0
    class_weights: str | None = None
    teacher: str | None = None
    distillation: float = 30.0
    regularization: float = 0.5
    mining_epochs: int = 5
    seed: int = 0
    device: str | int | None = None
    workers: int = 0
    amp: bool = False
    project: str = "runs"
    name: str | None = None
    resume: bool | str = False

    def __post_init__(self):
        lowest = {"epochs": 1, "batch": 2, "warmup_epochs": 0, "mining_epochs": 3, "seed": 0, "workers": 0}
        for key, low in lowest.items():
            if type(value := getattr(self, key)) is not int or value < low:
                raise ValueError(f"{key}={value!r} must be a whole number, at least {low}")
        steps = self.step_epochs if isinstance(self.step_epochs, list) else [self.step_epochs]
        if not steps or not all(type(epoch) is int and epoch > 0 for epoch in steps):
            raise ValueError(f"step_epochs={self.step_epochs!r} must be a number of epochs, or a list of epochs")
        sides = self.imgsz if isinstance(self.imgsz, list) else [self.imgsz]
        if not all(type(side) is int and side > 0 for side in sides) or len(sides) not in (1, 2):
            raise ValueError(f"imgsz={self.imgsz!r} must be a number of pixels, or a list of height and width")
        ranges = {
            "lr0": (0, None), "momentum": (0, 1), "weight_decay": (0, None), "step_factor": (0, 1), "flip": (0, 1),
            "scale": (1, None), "degrees": (0, 180), "distillation": (0, None), "regularization": (0, None),
        }  # fmt: skip
        for key, (low, high) in ranges.items():
            value = getattr(self, key)
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or not low <= value <= (float("inf") if high is None else high):
                raise ValueError(f"{key}={value!r} must be a number " + (f"of at least {low}" if high is None else
                                 f"in [{low}, {high}]"))  # fmt: skip
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "class_weights": CLASS_WEIGHTS, "amp": (True, False)}
        for key, values in choices.items():
            if (value := getattr(self, key)) not in values:
                raise ValueError(f"{key}={value!r} must be one of {', '.join(map(str, values))}")
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError(f"warmup_epochs={self.warmup_epochs} is for constant and step: one-cycle rises by itself")
        for key in ("project", "name", "teacher"):
            if not isinstance(value := getattr(self, key), str | None):
                raise ValueError(f"{key}={value!r} must be text")
        if not isinstance(self.resume, bool | str):
            raise ValueError(f"resume={self.resume!r} must be true, false or a file")
        if self.device is not None and not isinstance(self.device, str | int):
            raise ValueError(f"device={self.device!r} must be cpu, cuda or the number of a GPU")

    def rate_factor(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0, over `lr0`, for the schedules "constant" and "step"."""
        every = self.step_epochs
        falls = sum(fall <= epoch for fall in every) if isinstance(every, list) else epoch // every
        risen = min(epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        return risen * self.step_factor**falls if self.schedule == "step" else risen

    @property
    def momentum_cycle(self) -> tuple[float, float]:
        """The lowest and the highest momentum of the schedule "one-cycle"; (0, 0) for a training without momentum."""
        if not self.momentum:
            return 0.0, 0.0
        return max(self.momentum - MOMENTUM_SWING, 0.0), min(self.momentum + MOMENTUM_SWING, (1 + self.momentum) / 2)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        sides = self.imgsz if isinstance(self.imgsz, list) else [self.imgsz]
        return sides[0], sides[-1]

    def find_device(self) -> torch.device:
        """Return the device.

        Raises:
            ValueError: If it is not available.
        """
        name: Any = self.device
        if name is None:
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(f"cuda:{name}" if str(name).isdecimal() else str(name))
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"train.device={self.device} is not there: {reason}") from None
        return device
