"""A recipe of another host: checked, trained, evaluated.

A recipe's keys are `task`, `model`, `pretrained`, `data`, `mwam`, `incomplete`, `balancing`, `train`, `report` and
`select`, as for detectors; `model` and `train` differ (see `MODELS` and `TrainSettings`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mwam_det.core.config import MWAMConfig, refuse_unknown_keys
from mwam_det.core.missing import modality_combinations
from mwam_det.data.inspection.sampling import evenly
from mwam_det.files.locks import Hold
from mwam_det.files.runs import new_folder, runs_folder
from mwam_det.hosts.data.layout import SPLITS, HostData, channels_of, check_section, find_samples
from mwam_det.hosts.data.looking import look_at_samples
from mwam_det.hosts.data.samples import Augmentation, MultimodalDataset, Normalise, check_files, count_labels
from mwam_det.hosts.evaluation import Evaluation, evaluate
from mwam_det.hosts.loop import Host, HostTrainer, check_recomputed
from mwam_det.hosts.models.classifiers import SFMD, ResNet18Concat
from mwam_det.hosts.models.encoders import load_encoders
from mwam_det.hosts.models.esanet import STRIDE, ESANetMD
from mwam_det.hosts.models.mmanet import MMANetGuidance, Teacher
from mwam_det.hosts.progress import Progress
from mwam_det.hosts.settings import TrainSettings
from mwam_det.hosts.tasks import Classification, HostTask, Segmentation, median_frequency_weights
from mwam_det.hosts.threads import limit_threads
from mwam_det.recipe import Recipe, RecipeError
from mwam_det.robustness.history import draw_history
from mwam_det.robustness.origin import Origin, switch_in_words
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import CombinationResult
from mwam_det.training.checkpoints import Interrupted, begun, changed_settings, checkpoint_to_resume
from mwam_det.training.config import RunConfig
from mwam_det.training.incomplete import IncompleteConfig
from mwam_det.training.sections import check_choice, in_section, refuse_former_sections, section_of

CLASSIFICATION, SEGMENTATION = "multimodal-classification", "rgbd-segmentation"

AUTHORS_SFMD = partial(SFMD, stem=3)

MMANETS: dict[str, Callable[..., Any]] = {"mmanet": SFMD, "mmanet-3x3": AUTHORS_SFMD}
"""The deployment networks of MMANet: after training, it is an SF-MD."""

MODELS: dict[str, dict[str, Callable[..., Any]]] = {
    CLASSIFICATION: {"resnet18-concat": ResNet18Concat, "sf-md": SFMD, "sf-md-3x3": AUTHORS_SFMD, **MMANETS},
    SEGMENTATION: {f"esanet-md-{encoder}": partial(ESANetMD, encoder=encoder) for encoder in ("r34", "r18", "r50")},
}
"""The hosts by task and name; the first of a task is its default. Each takes the channels by modality, and classes."""

KEYS = ("task", "model", "pretrained", "data", "mwam", "incomplete", "balancing", "train", "report", "select")
REPORT_KEYS = ("split",)


@dataclass(frozen=True)
class HostExperiment:
    """A checked recipe of another host, whose folders and files have not been looked at yet.

    Attributes:
        name: Name of the run folder.
        task: One of `MODELS`.
        model: One of `MODELS` of the task.
        data: Data section, see `mwam_det.hosts.data.layout`.
        pretrained: A file of encoder weights, files by modality, or None.
        config: What training does with the modalities.
        settings: How it is trained.
        split: The split of the report.
        content: The content of the recipe.
    """

    name: str
    task: str
    model: str
    data: dict[str, Any]
    pretrained: str | Mapping[str, str] | None = None
    config: RunConfig = field(default_factory=RunConfig)
    settings: TrainSettings = field(default_factory=TrainSettings)
    split: str = "val"
    content: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    deterministic = False  # it knows no other way
    predicts = False

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> HostExperiment:
        """Check the content of a recipe.

        Raises:
            ValueError: If a key is unknown (the nearest known one is named), or a value cannot be used.
        """
        refuse_former_sections(content)
        refuse_unknown_keys(content, KEYS)
        task: Any = content.get("task")
        check_choice("task", task, MODELS)
        check_choice("model", model := content.get("model", next(iter(MODELS[task]))), MODELS[task])
        if "data" not in content:
            raise ValueError("the section 'data' is missing")
        data = content["data"]
        in_section("data", check_section, data, task == SEGMENTATION)
        pretrained = content.get("pretrained")
        if not (pretrained is None or pretrained is False or isinstance(pretrained, str | Mapping)):
            raise ValueError(f"pretrained={pretrained!r} must be a file, or map modalities to files")
        in_section("report", refuse_unknown_keys, report := section_of(content, "report"), REPORT_KEYS)
        splits = [split for split in SPLITS if data.get(split)]
        check_choice("report.split", split := report.get("split", "val"), splits)
        config = RunConfig.read(content)
        experiment = cls(
            name,
            task,
            model,
            dict(data),
            pretrained or None,
            config,
            settings=in_section("train", TrainSettings.from_dict, section_of(content, "train")),
            split=split,
            content=dict(content),
        )
        config.check(list(data["modalities"]))
        experiment._check_together()
        return experiment

    @property
    def recipe(self) -> Recipe:
        """The content of the recipe."""
        return Recipe(self.name, **{**self.content, "model": self.model})

    def first_pair(self) -> dict[str, str]:
        """Return {}: no command shows single samples."""
        return {}

    def images(self, sample: int) -> Iterator[dict[str, Tensor]]:
        """Yield samples of the training split; see `Experiment.images`."""
        data = find_samples(self.data, self.task == SEGMENTATION)
        dataset = MultimodalDataset(data.splits["train"], data.modalities, self.settings.size)
        for index in evenly(len(dataset), sample):
            yield dataset[index][0]

    def with_training(self, train: Mapping[str, Any]) -> HostExperiment:
        """Return the same experiment with another train section."""
        return self.from_dict(self.name, {**self.content, "train": dict(train)})

    def check(self, devices: Sequence[str] = ()) -> None:
        """Check what would otherwise fail after hours: the data, its splits and the device; see `Experiment.check`.

        Raises:
            RecipeError: If one of them cannot be used.
        """
        try:
            find_samples(self.data, self.task == SEGMENTATION)
            for settings in (self.settings, *(replace(self.settings, device=device) for device in devices)):
                settings.find_device()
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def train(self) -> tuple[RobustnessReport, Path]:
        """Train in a new run folder, or resume the run that `train.resume` names; see `train_experiment`.

        Raises:
            RecipeError: If the data, weights or the checkpoint to resume from cannot be used, training diverges, or
                this is one of several processes of torchrun.
            Interrupted: On Ctrl-C.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RecipeError(f"{self.name}: the task {self.task} trains in one process: leave torchrun out")
        try:
            return train_experiment(self)
        except (ValueError, FloatingPointError) as error:
            raise RecipeError(f"{self.name}: {error}") from None

    def go_on(self, folder: Path) -> None:
        """Train in a folder, or resume its run, wherever that stopped."""
        last = folder / "weights" / "last.pt"
        start = begun(folder, load_checkpoint)
        experiment = self.with_training({**self.content.get("train", {}), "resume": str(last) if start else False})
        if start is not None and start["epoch"] >= self.settings.epochs:
            evaluate_experiment(last.with_name("best.pt"), experiment, folder)
        else:
            train_experiment(experiment, folder)

    def evaluate(self, weights: str | Path) -> tuple[RobustnessReport, Path]:
        """Evaluate a checkpoint on every combination of modalities, see `evaluate_experiment`.

        Raises:
            RecipeError: If the data or the checkpoint cannot be used.
        """
        try:
            return evaluate_experiment(Path(weights), self)
        except ValueError as error:
            raise RecipeError(f"{self.name}: {error}") from None

    def _check_together(self) -> None:
        mwam = self.config.mwam
        if mwam is not None and mwam.layout != "image":
            raise ValueError(f"mwam.layout={mwam.layout!r} must be 'image': that is what these hosts take")
        check_recomputed(self.config.incomplete)
        if self.model in MMANETS and (self.settings.teacher is None or self.config.incomplete is None):
            raise ValueError(
                f"model={self.model} learns from a teacher that sees all modalities, by inputs that lack some: set "
                "train.teacher to the best.pt of an sf-md, and incomplete to {views: 1, p: 0.86} or the like"
            )
        if self.settings.teacher and self.model not in MMANETS:
            raise ValueError(
                f"train.teacher={self.settings.teacher!r} is for model={' or '.join(MMANETS)}, not for {self.model}"
            )
        if self.settings.class_weights and self.task != SEGMENTATION:
            raise ValueError(f"train.class_weights={self.settings.class_weights!r} is for {SEGMENTATION}")
        if self.task == SEGMENTATION:
            if any(side % STRIDE for side in self.settings.size):
                raise ValueError(f"train.imgsz={self.settings.imgsz} must be multiples of {STRIDE}, like [480, 640]")
            if len(self.data["modalities"]) > 2:
                raise ValueError(f"data.modalities must be two for {self.model}, like rgb and depth, or one")
            if mwam is not None and mwam.mode in ("loss", "hybrid"):
                raise ValueError(
                    f"mwam.mode={mwam.mode!r} needs what each stream says by itself, but {self.model} fuses "
                    "inside its streams: use gradient, update or auto"
                )

    def build(self, data: HostData) -> tuple[Any, HostTask]:
        """Build the model, with weights drawn by the seed or from the files, and its task.

        Raises:
            ValueError: If a file of weights does not fit.
        """
        torch.manual_seed(self.settings.seed)
        channels, classes = {m.name: m.channels for m in data.modalities}, len(data.classes)
        model = MODELS[self.task][self.model](channels, classes)
        if self.pretrained is not None:
            load_encoders(model.encoders, self.pretrained)
        if self.task == CLASSIFICATION:
            return model, Classification(classes)
        counts = {split: count_labels(samples, classes) for split, samples in data.splits.items()}
        _check_labelled({split: counts[split] for split in ("train", "val", self.split)})
        weights = median_frequency_weights(counts["train"]) if self.settings.class_weights else None
        return model, Segmentation(classes, weights)

    def build_guidance(self, model: SFMD, data: HostData) -> MMANetGuidance | None:
        """Build the losses and the network that train MMANet beside its loss; None for other models.

        Raises:
            ValueError: If the teacher cannot be used.
        """
        if self.model not in MMANETS:
            return None
        settings, names = self.settings, [modality.name for modality in data.modalities]
        teacher = read_teacher(Path(settings.teacher or ""), names, data.classes)
        return MMANetGuidance(
            model,
            teacher,
            names,
            len(data.classes),
            settings.distillation,
            settings.regularization,
            settings.mining_epochs,
        )


def _check_labelled(counts: Mapping[str, np.ndarray]) -> None:
    """Check that splits have a labelled pixel: without one they teach nothing, and their mIoU is not a number.

    Args:
        counts: By split that is read, as `count_labels` returns them.

    Raises:
        ValueError: If one has none.
    """
    for split, counted in counts.items():
        if not counted[:, 1:].any():
            raise ValueError(f"no pixel of the split {split} has a class: every label is 0, for void")


def read_teacher(file: Path, modalities: Sequence[str], classes: Sequence[str]) -> Teacher:
    """Read the checkpoint of an SF-MD to learn from.

    Raises:
        ValueError: If it is not one, or of other modalities or classes.
    """
    try:
        model, normalise, known_classes = load_host(file)
    except ValueError as error:
        raise ValueError(f"train.teacher: {error}") from None
    known, wanted = (tuple(getattr(model, "streams", ())), tuple(known_classes)), (tuple(modalities), tuple(classes))
    if not isinstance(model, SFMD) or known != wanted:
        raise ValueError(
            f"train.teacher={file} is a {type(model).__name__} of modalities and classes {known}: it must be an SFMD "
            f"of {wanted}"
        )
    return Teacher(model, normalise)


def train_experiment(experiment: HostExperiment, folder: Path | None = None) -> tuple[RobustnessReport, Path]:
    """Train a recipe and evaluate its best checkpoint on every combination of modalities.

    Args:
        experiment: The recipe.
        folder: The run folder, instead of a new one of the recipe's name. A run that is resumed stays where it is.

    Returns:
        The report, already saved, and the run folder.

    Raises:
        ValueError: If the data, weights or the checkpoint to resume from cannot be used; before anything is written.
        FolderInUse: If another process trains in the run folder.
        Interrupted: On Ctrl-C, with what to resume from; only the epoch is lost.
    """
    with ExitStack() as held:
        return _train(experiment, folder, held)


def _train(experiment: HostExperiment, folder: Path | None, held: ExitStack) -> tuple[RobustnessReport, Path]:
    """Do as `train_experiment` says; the hold on the run folder goes to `held`."""
    settings = experiment.settings
    limit_threads(settings.find_device())
    checkpoint = None
    if settings.resume:
        last = checkpoint_to_resume(settings.resume, runs_folder(settings.project), settings.name or experiment.name)
        folder = last.parent.parent
        held.enter_context(Hold(folder))  # before another process can replace the checkpoint
        checkpoint = load_checkpoint(last)
        _check_resumable(checkpoint, experiment, last)
    data = find_samples(experiment.data, experiment.task == SEGMENTATION)
    model, task = experiment.build(data)
    augmentation = Augmentation(settings.flip, settings.scale, settings.degrees)
    sets = {
        split: MultimodalDataset(
            samples, data.modalities, settings.size, augmentation if split == "train" else None, settings.seed
        )
        for split, samples in data.splits.items()
    }
    with Progress() as progress:
        sizes = [check_files(samples, data.modalities, progress) for samples in data.splits.values()]
    if checkpoint is None:
        _warn_of_samples(experiment, data, [size for each in sizes for size in each])
    guidance = experiment.build_guidance(model, data)
    statistics = sets["train"].statistics() if checkpoint is None else checkpoint["statistics"]
    describe = {"recipe": _plain(experiment), "classes": list(data.classes), "statistics": statistics}
    if folder is None:
        folder = new_folder(runs_folder(settings.project), settings.name or experiment.name)
    if checkpoint is None:
        held.enter_context(Hold(folder))
    trainer = HostTrainer(
        Host(
            model,
            model.streams,
            task,
            len(data.classes),
            sets["train"],
            sets["val"],
            folder,
            settings,
            experiment.config,
            guidance,
            describe,
        )  # fmt: skip
    )
    if checkpoint is not None:
        trainer.resume(checkpoint)
    best, last = (folder / "weights" / name for name in ("best.pt", "last.pt"))
    try:
        trainer.train()
        if trainer.run.history is not None:
            draw_history(trainer.run.history.file, folder / "mwam.png")
        trainer.model.load_state_dict(load_checkpoint(best)["model"])
        found = _evaluated(experiment, data, trainer.model, task, trainer.normalise, trainer.device)
        return _report(experiment, data, task.metric, found, best, folder), folder
    except KeyboardInterrupt:
        raise Interrupted(last if last.is_file() else None) from None


def _warn_of_samples(experiment: HostExperiment, data: HostData, sizes: Sequence[Sequence[tuple[int, int]]]) -> None:
    """Print what in the files costs accuracy."""
    samples = [sample for split in data.splits.values() for sample in split]
    imgsz, views = max(experiment.settings.size), experiment.task == SEGMENTATION
    for sentence in look_at_samples(samples, sizes, data.modalities, imgsz, views):
        Console().print(f"[bold]Note:[/bold] {escape(sentence)}", soft_wrap=True)


def evaluate_experiment(
    weights: Path, experiment: HostExperiment, folder: Path | None = None
) -> tuple[RobustnessReport, Path]:
    """Evaluate a checkpoint on every combination of modalities of a recipe's split.

    Args:
        weights: A checkpoint of `train_experiment`.
        experiment: Whose data is evaluated, at its `imgsz`; modalities and classes must be the checkpoint's.
        folder: Where the report goes, instead of a new folder.

    Returns:
        The report, already saved, and its folder.

    Raises:
        ValueError: If the data or the checkpoint cannot be used, or they do not belong together.
    """
    settings = experiment.settings
    limit_threads(device := settings.find_device())
    content = load_checkpoint(weights)
    model, normalise, classes = _host_of(content)
    data = find_samples(experiment.data, experiment.task == SEGMENTATION)
    known = _channels(content["recipe"]["data"]), tuple(classes)
    given = _channels(experiment.data), data.classes
    if (list(known[0].items()), known[1]) != (list(given[0].items()), given[1]):
        raise ValueError(f"{weights} takes the modalities and classes {known}, but the recipe has {given}")
    samples = data.splits[experiment.split]
    with Progress() as progress:
        check_files(samples, data.modalities, progress)
    if experiment.task == SEGMENTATION:
        _check_labelled({experiment.split: count_labels(samples, len(classes))})
    task = Classification(len(classes)) if experiment.task == CLASSIFICATION else Segmentation(len(classes))
    found = _evaluated(experiment, data, model.to(device), task, normalise, device)
    folder = folder or new_folder(runs_folder(settings.project), f"{settings.name or experiment.name}-robustness")
    return _report(experiment, data, task.metric, found, weights, folder), folder


def _evaluated(
    experiment: HostExperiment,
    data: HostData,
    model: nn.Module,
    task: HostTask,
    normalise: Normalise,
    device: torch.device,
) -> Evaluation:
    """Evaluate a model on every combination of modalities of the report's split."""
    settings, samples = experiment.settings, data.splits[experiment.split]
    dataset = MultimodalDataset(samples, data.modalities, settings.size)
    loader = DataLoader(dataset, settings.batch, num_workers=settings.workers)
    combinations = modality_combinations([modality.name for modality in data.modalities])
    groups = [data.group_of(sample) for sample in samples]
    with Progress() as progress:
        batches = progress.over(loader, len(loader), "evaluation, mini-batch")
        return evaluate(model, task, batches, normalise, combinations, device, groups)


def _report(
    experiment: HostExperiment, data: HostData, metric: str, found: Evaluation, weights: Path, folder: Path
) -> RobustnessReport:
    def of(samples: int, scores: Mapping[tuple[str, ...], float]) -> RobustnessReport:
        return RobustnessReport(
            modalities=tuple(modality.name for modality in data.modalities),
            results=tuple(CombinationResult(available, {metric: score}) for available, score in scores.items()),
            split=experiment.split,
            weights=str(weights),
            images=samples,
            task=experiment.task,
            metrics=(metric,),
        )

    groups = {name: of(*counted) for name, counted in found.groups.items()}
    origin = Origin.of(_trained_with(load_checkpoint(weights), weights), ["torch", "torchvision"])
    report = replace(of(found.samples, found.scores), notes=data.notes, groups=groups, origin=origin)
    report.save(folder)
    return report


def _trained_with(checkpoint: Mapping[str, Any], file: Path) -> dict[str, str]:
    """Describe the training of a checkpoint, see `Origin`."""
    recipe = checkpoint["recipe"]
    train = recipe["train"]
    sides = train["imgsz"] if isinstance(train["imgsz"], list) else [train["imgsz"]]
    epochs = f"{train['epochs']} epochs, the best after {checkpoint['epoch']}"
    words = [epochs, f"{'×'.join(map(str, sides))} px", f"batch {train['batch']}", train["optimizer"]]
    return {
        "model": recipe["model"],
        "run": file.parent.parent.name if file.parent.name == "weights" else file.stem,
        "training": ", ".join([*words, f"seed {train['seed']}"]),
        "MWAM": switch_in_words(_unlike(recipe["mwam"], MWAMConfig())),
        "incomplete": switch_in_words(_unlike(recipe["incomplete"], IncompleteConfig())),
    }


def _unlike(values: Mapping[str, Any] | None, default: Any) -> dict[str, Any] | None:
    """Return the values that differ from a dataclass of defaults; None stays None."""
    usual = asdict(default)
    return None if values is None else {key: value for key, value in values.items() if value != usual.get(key)}


def load_host(file: Path) -> tuple[Any, Normalise, list[str]]:
    """Load a trained host.

    Args:
        file: A checkpoint of `train_experiment`.

    Returns:
        The model, in evaluation mode; what its inputs must go through, which takes uint8 images of shape (B, C_m, H, W)
        by modality; and the names of its classes.

    Raises:
        ValueError: If the file is not such a checkpoint.
    """
    return _host_of(load_checkpoint(file))


def _host_of(content: Mapping[str, Any]) -> tuple[Any, Normalise, list[str]]:
    recipe, classes = content["recipe"], content["classes"]
    model = MODELS[recipe["task"]][recipe["model"]](_channels(recipe["data"]), len(classes))
    model.load_state_dict(content["model"])
    return model.eval(), Normalise(content["statistics"]), classes


def _channels(section: Mapping[str, Any]) -> dict[str, int]:
    """Return the channels of each modality of a data section."""
    return {name: channels_of(section, name) for name in section["modalities"]}


def load_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of `HostTrainer`.

    Raises:
        ValueError: If the file is not one.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged archive or pickle, of many kinds
        raise ValueError(f"{file} cannot be read as a checkpoint: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping) or "recipe" not in content or "model" not in content:
        raise ValueError(f"{file} is not a checkpoint written by the training of a host")
    return dict(content)


def _check_resumable(checkpoint: Mapping[str, Any], experiment: HostExperiment, file: Path) -> None:
    """Check that a run is unfinished and was begun with the same settings."""
    if "optimizer" not in checkpoint:
        raise ValueError(f"train.resume={file} holds a model alone: give the last.pt of a run")
    if what := changed_settings(checkpoint["recipe"], _plain(experiment)):
        raise ValueError(f"train.resume={file}: that run was begun with other settings ({what})")
    if checkpoint["epoch"] >= experiment.settings.epochs and (file.parent.parent / "robustness.json").is_file():
        raise ValueError(f"train.resume={file}: that run is finished, there is nothing to resume")


def _plain(experiment: HostExperiment) -> dict[str, Any]:
    """Return the settings that decide on the results of a run, without folders and devices."""
    content = {key: value for key, value in asdict(experiment).items() if key not in ("name", "split", "content")}
    content |= {**content.pop("config"), "train": content.pop("settings")}
    if (balancing := experiment.config.balancing) is not None:
        content["balancing"]["method"] = balancing.method
    for key in ("device", "workers", "project", "name", "resume"):
        del content["train"][key]
    return content
