"""A loop that trains any module with named streams, with MWAM and incomplete views in it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mwam_det.core.missing import modality_combinations
from mwam_det.core.modulation import weighted_loss
from mwam_det.core.mwam import MWAM
from mwam_det.files.writing import written_whole
from mwam_det.hosts.data.samples import MultimodalDataset, Normalise
from mwam_det.hosts.evaluation import Evaluation, count_predictions, evaluate
from mwam_det.hosts.models.heads import ClassifierHeads
from mwam_det.hosts.models.mmanet import LOSSES, MMANetGuidance
from mwam_det.hosts.progress import Progress
from mwam_det.hosts.settings import TrainSettings
from mwam_det.hosts.tasks import HostTask
from mwam_det.training.config import RunConfig
from mwam_det.training.history import keep_epochs
from mwam_det.training.incomplete import IncompleteConfig, Views, confident_divergence
from mwam_det.training.measuring import measuring
from mwam_det.training.run import ModalityRun
from mwam_det.training.selection import score_name


@dataclass
class Host:
    """A model with named streams, and what its training needs.

    Attributes:
        model: The host. `model(inputs)` takes normalised images by modality and returns what the task computes the loss
            from; in evaluation mode, logits. A modality of zeros is missing. For incomplete views at the level of
            features, `model(inputs, views)` returns an output of each sample in each view.
        streams: The modules of each modality alone, whose gradients MWAM scales.
        task: The task: its loss and metric.
        classes: Number of classes, for auxiliary heads.
        train_set: The training set.
        val_set: The validation set, which decides on the best checkpoint.
        folder: The run folder, which must exist.
        settings: How it is trained.
        config: What training does with the modalities; with the defaults, it is plain training.
        guidance: Losses beside the host's own, or None; it needs incomplete views.
        describe: Further content of the checkpoints: plain values and tensors.
    """

    model: nn.Module
    streams: Mapping[str, nn.Module]
    task: HostTask
    classes: int
    train_set: MultimodalDataset
    val_set: MultimodalDataset
    folder: Path
    settings: TrainSettings = field(default_factory=TrainSettings)
    config: RunConfig = field(default_factory=RunConfig)
    guidance: MMANetGuidance | None = None
    describe: dict[str, Any] = field(default_factory=dict)


def check_recomputed(incomplete: IncompleteConfig | None) -> None:
    """Check that views are not to be computed again in the backward pass, which hosts do not do.

    Raises:
        ValueError: If they are.
    """
    if incomplete is not None and incomplete.checkpoint:
        raise ValueError("incomplete.checkpoint is for models of Ultralytics: leave it out")


class HostTrainer:
    """Train a host; each epoch leaves weights/last.pt, history.csv and mwam.csv in the run folder.

    All randomness of an epoch follows from the seed and the epoch, so that a run that was killed resumes from last.pt
    with the same results (on a CPU bit for bit).

    Args:
        host: The host, its data and its settings.

    Attributes:
        run: The `ModalityRun` of the training.
        progress: Where progress is shown.
        heads: Auxiliary heads of the modes "loss" and "hybrid", or None.

    Raises:
        ValueError: If the device is not available, there is guidance without incomplete views, the host does not take
            views or they are to be checkpointed, there are fewer than two samples to train on, or the mode needs heads
            that the host cannot have.
    """

    def __init__(self, host: Host):
        mwam, incomplete = host.config.mwam, host.config.incomplete
        if host.guidance is not None and incomplete is None:
            raise ValueError("guidance needs incomplete input: set incomplete")
        check_recomputed(incomplete)
        self._takes_views = "views" in signature(host.model.forward).parameters
        if incomplete is not None and incomplete.level == "features" and not self._takes_views:
            raise ValueError(
                f"incomplete.level=features needs a forward(inputs, views), which {type(host.model).__name__} lacks: "
                "use level: input"
            )
        if len(host.train_set) < 2:
            raise ValueError("batch normalisation needs at least two samples to train on")
        self.host = host
        settings = host.settings
        self.device = settings.find_device()
        self.names = tuple(modality.name for modality in host.train_set.modalities)
        statistics = host.describe.get("statistics") or host.train_set.statistics()
        host.describe["statistics"] = statistics
        self.normalise = Normalise(statistics)
        self.model = host.model.to(self.device)
        self.run = ModalityRun(self.names, **vars(host.config), file=host.folder / "mwam.csv", seed=settings.seed)
        balancer = self.run.balancer
        if balancer and (balancer.trains_views or balancer.follows_views) and not self._takes_views:
            raise ValueError(
                f"balancing.method={balancer.config.method} needs a forward(inputs, views), which "
                f"{type(host.model).__name__} lacks"
            )
        self.guidance = host.guidance.to(self.device) if host.guidance else None
        self.heads: ClassifierHeads | None = None
        if mwam is not None and mwam.mode in ("loss", "hybrid"):
            zeros = {
                m.name: torch.zeros(1, m.channels, *settings.size, device=self.device)
                for m in host.train_set.modalities
            }
            self.heads = ClassifierHeads(self.model, host.streams, zeros, host.classes).to(self.device)
        self.optimizer = self._build_optimizer()
        self.steps = max(len(host.train_set) // settings.batch, 1)
        self.schedule = self._build_schedule()
        self.scaler = torch.amp.GradScaler("cuda", enabled=settings.amp and self.device.type == "cuda")
        self.run.attach(host.streams, self.optimizer)
        self.history = History(host.folder / "history.csv", self._columns())
        self.epoch = 0
        self.best = -math.inf
        self.progress = Progress()

    @property
    def mwam(self) -> MWAM | None:
        """The `MWAM` of the run, or None."""
        return self.run.mwam

    def _build_optimizer(self) -> torch.optim.Optimizer:
        settings = self.host.settings
        modules = [module for module in (self.model, self.heads, self.guidance) if module is not None]
        parameters = [weights for module in modules for weights in module.parameters() if weights.requires_grad]
        common: dict[str, Any] = {"lr": settings.lr0, "weight_decay": settings.weight_decay}
        if settings.optimizer == "SGD":
            momentum = settings.momentum
            return torch.optim.SGD(parameters, momentum=momentum, nesterov=momentum > 0, **common)
        kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[settings.optimizer]
        return kind(parameters, betas=(settings.momentum, 0.999), **common)

    def _build_schedule(self) -> torch.optim.lr_scheduler.LRScheduler:
        settings, schedulers = self.host.settings, torch.optim.lr_scheduler
        if settings.schedule == "one-cycle":
            low, high = settings.momentum_cycle
            total = settings.epochs * self.steps + 1
            return schedulers.OneCycleLR(
                self.optimizer,
                settings.lr0,
                total,
                pct_start=0.1 if total != 10 else 0.11,  # torch would divide by the rise's 0.1 · 10 − 1 = 0 steps
                base_momentum=low,
                max_momentum=high,
            )
        return schedulers.LambdaLR(self.optimizer, lambda step: settings.rate_factor(step // self.steps))

    def _columns(self) -> list[str]:
        losses = ["loss", "loss_fused"] if self.heads or self.guidance else ["loss"]
        losses += [f"loss_{name}" for name in self.names if self.heads]
        losses += [*(f"loss_{name}" for name in LOSSES if self.guidance), "val_loss"]
        factors = [f"factor_{name}" for name in self.names if self.run.balancer]
        scores = (score_name(self.host.task.metric, c) for c in modality_combinations(self.names))
        return ["epoch", "lr", *losses, *factors, *scores]

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def resume(self, checkpoint: Mapping[str, Any]) -> None:
        """Resume from the content of a last.pt.

        Args:
            checkpoint: Its content.

        Raises:
            ValueError: If the run had other modalities or other weights than this one.
        """
        try:
            self.model.load_state_dict(checkpoint["model"])
            if self.heads is not None:
                self.heads.load_state_dict(checkpoint["heads"])
            if self.guidance is not None:
                self.guidance.load_state_dict(checkpoint["guidance"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.schedule.load_state_dict(checkpoint["schedule"])
            if checkpoint["scaler"]:  # empty after training on a CPU
                self.scaler.load_state_dict(checkpoint["scaler"])
            self.run.load_state_dict(checkpoint["run"], checkpoint["epoch"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"the checkpoint belongs to another host or other settings: {error}") from None
        self.epoch, self.best = checkpoint["epoch"], checkpoint["best"]
        self.history.keep_epochs(self.epoch)

    def _save(self, is_best: bool) -> None:
        weights = self.host.folder / "weights"
        weights.mkdir(exist_ok=True)
        whole = {**self.host.describe, "model": self.model.state_dict(), "epoch": self.epoch}
        if is_best:
            save_whole(whole, weights / "best.pt")
        state = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "heads": self.heads.state_dict() if self.heads else None,
            "guidance": self.guidance.state_dict() if self.guidance else None,
            "run": self.run.state_dict(),
            "best": self.best,
        }
        save_whole({**whole, **state}, weights / "last.pt")

    # Training ---------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train up to the last epoch.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        settings = self.host.settings
        with self.progress:
            self.progress.say(self._outline())
            while self.epoch < settings.epochs:
                trained = self._train_epoch()
                self.epoch += 1
                is_best, val_loss = self._validate()
                if self.guidance is not None:
                    self.guidance.end_epoch(self.epoch, self._count_predictions)
                self.run.end_epoch()
                row = {"epoch": self.epoch, **trained, "val_loss": val_loss, **self._factors(), **self._scores()}
                self.history.append(row)
                self._save(is_best)
                self._say(row)

    def _outline(self) -> str:
        where = str(self.device)
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            where += f" with {threads} thread" + "s" * (threads > 1)
        samples, epochs = len(self.host.train_set), self.host.settings.epochs
        return f"{self.host.folder}: {samples} samples, {epochs} epochs of {self.steps} mini-batches, on {where}"

    def _say(self, row: Mapping[str, Any]) -> None:
        parts = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
        self.progress.say(f"epoch {row['epoch']}/{self.host.settings.epochs}: {', '.join(parts)}")

    def _train_epoch(self) -> dict[str, float]:
        """Train an epoch; return the rate of its last step and its mean losses."""
        settings, host = self.host.settings, self.host
        seed = self.run.begin_epoch(self.epoch, settings.epochs)
        torch.manual_seed(seed)
        host.train_set.epoch = self.epoch
        loader = DataLoader(
            host.train_set,
            min(settings.batch, len(host.train_set)),
            shuffle=True,
            drop_last=True,
            num_workers=settings.workers,
            generator=torch.Generator().manual_seed(seed),
            pin_memory=self.device.type == "cuda",
        )
        self.model.train()
        sums: dict[str, float] = {}
        rate = 0.0
        what = f"epoch {self.epoch + 1}/{settings.epochs}, mini-batch"
        for images, target, _ in self.progress.over(loader, len(loader), what):
            images = {name: tensor.to(self.device, non_blocking=True) for name, tensor in images.items()}
            rate = self.optimizer.param_groups[0]["lr"]
            losses = self._step(images, target.to(self.device, non_blocking=True))
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
        return {"lr": rate, **{name: value / self.steps for name, value in sums.items()}}

    def _step(self, images: dict[str, Tensor], target: Tensor) -> dict[str, float]:
        weights = self.run.observe(images)
        inputs, views = self.normalise(images), self.run.incomplete(len(target))
        seen = None if views is None or views.measure_only else views
        measured = self._measure(inputs, views) if views is not None and views.measure_only else []
        with self._precision():
            parts = self._outputs(inputs, seen)
            each = [self.host.task.losses(part, target).mean() for part in [*parts, *measured[1:]]]
            alone = self._losses_alone(target, seen)
            guiding = self.guidance.losses(images, target, seen or self._complete(target)) if self.guidance else {}
        logits = [_logits(part) for part in measured or parts]
        scale = self.scaler.scale(torch.ones((), device=self.device))
        fused = self.run.balance(views, each, logits=logits, target=target, scale=scale)
        loss = sum(guiding.values(), weighted_loss(fused, alone, weights) if alone else fused)
        if views is not None and views.distill:
            loss = loss + views.distillation([_logits(part) for part in parts], confident_divergence)
        values = {"loss": loss.item()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss is {values['loss']} in epoch {self.epoch + 1}: try a smaller train.lr0"
                + (", or train.amp=false" if self.host.settings.amp else "")
            )
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.heads or self.guidance:
            each_loss = {"fused": fused, **alone, **guiding}
            values |= {f"loss_{name}": part.item() for name, part in each_loss.items()}
        return values

    def _precision(self) -> AbstractContextManager:
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.host.settings.amp)

    def _outputs(self, inputs: dict[str, Tensor], views: Views | None) -> list[Any]:
        """Run the model on normalised inputs; return its outputs in each view."""
        if views is None:
            return [self.model(inputs)]
        if views.level == "features" and self._takes_views:
            return views.split(self.model(inputs, views))
        return views.split(self.model({name: views.mix(name, tensor) for name, tensor in inputs.items()}))

    @torch.no_grad()
    def _measure(self, inputs: dict[str, Tensor], views: Views) -> list[Any]:
        """Return the outputs in each view, and leave the model as it was."""
        with measuring(self.model.modules()), self._precision():
            return self._outputs(inputs, views)

    def _complete(self, target: Tensor) -> Views:
        """Return the one view of a step on complete input."""
        return Views({name: torch.ones(1, len(target), dtype=torch.bool) for name in self.names}, (1.0,))

    def _losses_alone(self, target: Tensor, views: Views | None) -> dict[str, Tensor]:
        """Return the loss of each auxiliary head over the samples whose modality its stream saw."""
        if self.heads is None:
            return {}
        losses = {}
        for name, logits in self.heads().items():
            each = self.host.task.losses(logits[: len(target)], target)  # of the first view
            if views is None or views.level == "features":  # its stream saw every sample
                has = torch.ones_like(each)
            else:
                has = views.present[name][0].to(each)
            losses[name] = (each * has).sum() / has.sum().clamp(min=1)
        return losses

    # Validation -------------------------------------------------------------------------------------------------------

    def _validate(self) -> tuple[bool, float]:
        """Validate as the selection asks; return whether this epoch is the best, and the loss on complete input."""
        if self.run.begins_views:
            self.best = -math.inf
        due = self.run.due(self.epoch - 1, self.epoch == self.host.settings.epochs)
        combinations = modality_combinations(self.names) if due else [self.names]
        found = self.evaluate(combinations)
        if warning := self.run.take_in(found.scores, self.host.task.metric):
            self.progress.say(Text.assemble(("Note:", "bold"), " ", warning))
        fitness = self.run.fitness(found.scores)
        if is_best := fitness is not None and fitness > self.best:
            self.best = fitness
        return is_best, found.loss

    def _factors(self) -> dict[str, float]:
        means = self.run.means(self.epoch)
        return {f"factor_{name}": means[f"balancing/factor/{name}"] for name in self.names if self.run.balancer}

    def _scores(self) -> dict[str, float]:
        known, metric = self.run.scores, self.host.task.metric
        return {score_name(metric, c): known[c] for c in modality_combinations(self.names) if c in known}

    def evaluate(self, combinations: Sequence[tuple[str, ...]]) -> Evaluation:
        """Evaluate the model on the validation set as it is; see `mwam_det.hosts.evaluation.evaluate`."""
        batches = self._batches("evaluation")
        return evaluate(self.model, self.host.task, batches, self.normalise, combinations, self.device)

    def _count_predictions(self, combinations: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], Tensor]:
        batches = self._batches("predictions")
        return count_predictions(self.model, batches, self.normalise, combinations, self.device)

    def _batches(self, what: str) -> Iterator[Any]:
        """Yield the mini-batches of the validation set, and show progress."""
        settings = self.host.settings
        loader = DataLoader(self.host.val_set, settings.batch, num_workers=settings.workers)
        return self.progress.over(loader, len(loader), f"{what}, mini-batch")


class History:
    """history.csv: a row an epoch, with learning rate, losses, the factors of balancing and metrics.

    Losses are means over the epoch's mini-batches, `val_loss` is that of the validation on complete input. A metric
    that was not measured in an epoch is as it was last.

    Args:
        file: Where the rows go; an existing file is begun anew unless `keep_epochs` is called first.
        columns: Its columns; the first is "epoch".
    """

    def __init__(self, file: Path, columns: Sequence[str]):
        self.file = file
        self.columns = list(columns)
        self._rows: list[dict[str, Any]] = []

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one more row."""
        self._rows.append({key: f"{value:.9g}" for key, value in row.items()})
        with written_whole(self.file) as new, new.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)

    def keep_epochs(self, last: int) -> None:
        """Continue the file of an interrupted run after epoch `last`."""
        header, rows = keep_epochs(self.file, last)
        self._rows = [dict(zip(header, row, strict=True)) for row in rows]


def _logits(outputs: Any) -> Tensor:
    """Return the logits among the training outputs of a host: those of the first scale."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def save_whole(content: Mapping[str, Any], file: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: If it cannot be written, as on a full disk; it names the file, and no part of it stays.
    """
    stream = io.BytesIO()
    torch.save(dict(content), stream)
    try:
        with written_whole(file) as new:
            new.write_bytes(stream.getvalue())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
