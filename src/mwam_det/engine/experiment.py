"""A recipe of a model of Ultralytics: checked, trained, evaluated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.nn.tasks import torch_safe_load

from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.errors import DatasetError
from mwam_det.data.foreign import refuse_foreign_recipe
from mwam_det.data.inspection.minibatches import still_dataset
from mwam_det.data.inspection.sampling import evenly
from mwam_det.data.listing import check_splits, first_pair
from mwam_det.data.names import check_modality_names
from mwam_det.data.paired_data import PairedData, check_labels, check_split
from mwam_det.data.section import SPLITS, check_keys, resolve_dataset
from mwam_det.data.splits import groups_of
from mwam_det.engine.arguments import (
    check_batch,
    check_coco,
    check_precision,
    check_run,
    check_shared_backbone,
    check_train_arguments,
    freeze_with,
    refuse_unsupported,
)
from mwam_det.engine.processes import check_processes
from mwam_det.engine.validator import check_modalities
from mwam_det.files.runs import runs_folder
from mwam_det.files.yaml_text import read_yaml
from mwam_det.models.two_stream import FUSIONS, takes_stretched, task_of, two_stream_cfg
from mwam_det.models.weights import load_pretrained, pretrained_files, with_streams
from mwam_det.recipe import KEYS, REPORT_KEYS, Recipe, RecipeError
from mwam_det.robustness.degradation import DEGRADATIONS, FILLS
from mwam_det.robustness.report import RobustnessReport
from mwam_det.training.checkpoints import Interrupted, begun, checkpoint_to_resume
from mwam_det.training.config import RunConfig
from mwam_det.training.sections import check_choice, in_section, refuse_former_sections, section_of

TASKS = ("detect", "obb", "segment", "pose", "semantic", "classify")

STOCK_NAMES = ("yolo", "rtdetr")
"""Prefixes of the names of Ultralytics' descriptions and weights."""


@dataclass(frozen=True)
class UltralyticsExperiment:
    """A checked recipe of a model of Ultralytics, whose folders and files have not been looked at yet.

    Attributes:
        recipe: Its `model` is a stock description such as "yolov8n.yaml" or a checkpoint, its `task` one of `TASKS`,
            which is what the model ends in; `fusion` as in `mwam_det.models.two_stream.two_stream_cfg`, `pretrained` as
            in `mwam_det.models.weights.pretrained_files`, or a bool; `train` Ultralytics' arguments; `report`
            arguments of `MultimodalYOLO.robustness`, of `REPORT_KEYS`.
    """

    recipe: Recipe

    deterministic = True
    predicts = True

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> UltralyticsExperiment:
        """Check the content of a recipe.

        Raises:
            ValueError: If a key is unknown (the nearest known one is named), or a value cannot be used.
        """
        _check(content)
        return cls(Recipe(name, **content))

    @property
    def split(self) -> str:
        """The split of the report."""
        return self._report.get("split", "val")

    @property
    def _report(self) -> Mapping[str, Any]:
        return self.recipe.report if isinstance(self.recipe.report, Mapping) else {}

    @cached_property
    def dataset(self) -> PairedData:
        """The data section, resolved when it is first asked for."""
        return resolve_dataset(self.recipe.data)

    def first_pair(self) -> dict[str, str]:
        """Return the files of one pair of the report's split by modality; {} if it is gone."""
        try:
            data = self.dataset
            return first_pair(groups_of(data.splits[self.split]), data.modalities, data.path)
        except (ValueError, OSError):  # it is for a hint, which must not fail a finished training
            return {}

    def images(self, sample: int) -> Iterator[dict[str, Tensor]]:
        """Yield samples of the training split; see `Experiment.images`."""
        dataset = still_dataset(self.dataset, self.recipe.task, self.recipe.train)
        for index in evenly(len(dataset), sample):
            stack = torch.from_numpy(np.ascontiguousarray(dataset.load_image(index)[0].transpose(2, 0, 1)))
            yield {modality.name: stack[modality.slice] for modality in dataset.modalities}

    def with_training(self, train: Mapping[str, Any]) -> UltralyticsExperiment:
        """Return the same experiment with another train section."""
        return replace(self, recipe=replace(self.recipe, train=dict(train)))

    def check(self, devices: Sequence[str] = ()) -> None:
        """Check what would otherwise fail after hours: the data, its splits and the device; see `Experiment.check`.

        Raises:
            DatasetError: If the dataset cannot be used, or a checkpoint is made for other modalities.
            RecipeError: If a device is not available, or weights to start from do not fit the model.
        """
        check_split(self.dataset, self.split)
        check_splits(self.dataset)
        self._check_devices({**self.recipe.train, "exist_ok": False})  # the grid has folders of its own
        self._check_weights()
        for device in devices:
            check_device(device, "devices")

    def _check_devices(self, arguments: Mapping[str, Any]) -> None:
        check_device(arguments.get("device"))
        if "device" in self._report:
            check_device(self._report["device"], "report.device")
        try:
            check_processes(arguments)
        except ValueError as error:
            raise RecipeError(f"train.{error}") from None

    def _check_weights(self) -> None:
        """Check that a checkpoint to train, or the weights to start from, fit the rest of the recipe."""
        recipe = self.recipe
        is_checkpoint, named = str(recipe.model).endswith(".pt"), not isinstance(recipe.pretrained, bool)
        if not (is_checkpoint or named):
            return
        if is_checkpoint:
            load_model(recipe.model)  # what is wrong with it is said before what is wrong with the data
        shape = {"fusion": recipe.fusion, "share_backbone": recipe.share_backbone}
        channels = self.dataset.channels
        model = load_model(recipe.model, modalities=channels, **shape).model
        check_modalities(model, channels)
        if (whole := with_streams(recipe.pretrained)) is not None:
            check_modalities(whole, channels)
        try:
            check_shared_backbone(model.yaml.get("share_backbone", False), RunConfig.read(vars(recipe)))
            if named and whole is None:
                load_pretrained(model, recipe.pretrained)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def train(self) -> tuple[RobustnessReport | None, Path]:
        """Train in a run folder of the recipe's name, or resume the run that `train.resume` names.

        Returns:
            The report, if the recipe wants one and this process makes it, already saved; and the run folder.

        Raises:
            RecipeError: If the device, the precision, the model or the run to resume cannot be used.
            DatasetError: If the dataset cannot be used.
            Interrupted: On Ctrl-C, with what to resume from.
        """
        from mwam_det.engine.saving import is_trained

        recipe = self.recipe
        arguments = {**recipe.train, "name": str(recipe.train.get("name") or recipe.name)}
        arguments["project"] = str(runs_folder(arguments.get("project")))
        if arguments.get("resume"):
            try:
                last = checkpoint_to_resume(arguments["resume"], arguments["project"], arguments["name"])
            except ValueError as error:
                raise RecipeError(str(error)) from None
            arguments["resume"] = str(last)
            if is_trained(self._resumable(last)):
                return self._finish(last), last.parent.parent
        else:
            self._check_weights()
        self._check_devices(arguments)
        try:
            check_precision(arguments.get("amp"), arguments.get("device"))
        except ValueError as error:
            raise RecipeError(f"train.{error}") from None
        return self._train(arguments)

    def go_on(self, folder: Path) -> None:
        """Train in a folder, or resume its run, wherever that stopped.

        Args:
            folder: The run folder.

        Raises:
            Interrupted: On Ctrl-C.
        """
        from mwam_det.engine.finishing import finish_run
        from mwam_det.engine.saving import is_trained

        last = folder / "weights" / "last.pt"
        start = begun(folder, read_checkpoint)
        if start is not None and is_trained(start):
            finish_run(last, self.dataset, self._report)
            return
        arguments = {**self.recipe.train, "save_dir": str(folder)}
        if start is not None:
            arguments["resume"] = str(last)
        self._train(arguments, self._report)

    def evaluate(self, weights: str | Path) -> tuple[RobustnessReport, Path]:
        """Evaluate weights on every combination of modalities of the recipe's data.

        Args:
            weights: A checkpoint or an exported file.

        Returns:
            The report, already saved, and its folder.

        Raises:
            RecipeError: If the weights or the device cannot be used.
            DatasetError: If the dataset cannot be used, or has other modalities than the weights.
        """
        from ultralytics.cfg import get_cfg, get_save_dir

        # Not imgsz: the weights know their training size, which may not be the recipe's.
        from mwam_det.engine.facade import VALIDATION_ARGUMENTS

        recipe = self.recipe
        shared = {key: recipe.train[key] for key in VALIDATION_ARGUMENTS if key in recipe.train and key != "imgsz"}
        if (shared.get("batch") or 0) < 1:  # Ultralytics finds a batch size for training alone
            shared.pop("batch", None)
        options = {**shared, **self._report}
        check_device(options.get("device"), "report.device" if "device" in self._report else "train.device")
        model = load_model(weights)
        place = {"project": str(runs_folder()), "name": f"{recipe.name}-robustness", "task": model.task, "mode": "val"}
        folder = Path(get_save_dir(get_cfg(overrides=place)))
        with damage_in_words():
            return model.robustness(self.dataset, save_dir=folder, **options), folder

    def _train(self, arguments: Mapping[str, Any], report: Any = None) -> tuple[RobustnessReport | None, Path]:
        recipe = self.recipe
        model = load_model(recipe.model, fusion=recipe.fusion, share_backbone=recipe.share_backbone)
        try:
            model.train(
                data=self.dataset,
                mwam=recipe.mwam,
                incomplete=recipe.incomplete,
                balancing=recipe.balancing or False,
                pretrained=recipe.pretrained,
                robustness=recipe.report if report is None else report,
                select=recipe.select,
                **arguments,
            )
        except KeyboardInterrupt:
            last = getattr(model.trainer, "last", None)
            raise Interrupted(last if last is not None and last.is_file() else None) from None
        return None, Path(model.trainer.save_dir)  # the report was printed while the process had it

    def _resumable(self, checkpoint: Path) -> dict[str, Any]:
        """Return the content of a checkpoint; refuse to resume its run on other data."""
        content = load_model(checkpoint).ckpt
        try:
            before = resolve_dataset(content["train_args"]["data"])
        except DatasetError:
            return content  # the data has moved, and the recipe has the new place
        if before != self.dataset:
            earlier = before.as_dict()
            differing = ", ".join(key for key, value in self.dataset.as_dict().items() if earlier.get(key) != value)
            raise RecipeError(
                f"train.resume={checkpoint}: that run was begun with other data ({differing} differ; its folder is "
                f"{before.path}): repeat the data section and overrides that it was begun with"
            )
        return content

    def _finish(self, last: Path) -> RobustnessReport | None:
        """Finish a run that was trained to its end; refuse one that has its report."""
        from mwam_det.engine.finishing import finish_run

        if (last.parent.parent / "robustness.json").is_file():
            raise RecipeError(f"train.resume={last}: that run is finished, there is nothing to resume")
        return finish_run(last, self.dataset, self.recipe.report)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return torch_safe_load(file)[0]
    except Exception as error:  # of a damaged archive or pickle, of many kinds
        raise ValueError(f"{file} is damaged ({' '.join(str(error).split())})") from None


def load_model(model: str | Path, **options: Any) -> Any:
    """Build or load a `MultimodalYOLO`.

    Raises:
        RecipeError: If a file holds no weights, or cannot be read.
    """
    from mwam_det.engine.facade import MultimodalYOLO  # slow to import: not before the recipe is checked

    try:
        with damage_in_words():
            return MultimodalYOLO(str(model), **options)
    except FileNotFoundError:
        raise
    except OSError as error:  # torch raises it for some truncated files, without their name
        raise RecipeError(f"{model} cannot be read as weights, it may not be whole: {error}") from None
    except ValueError as error:
        raise RecipeError(str(error)) from None


@contextmanager
def damage_in_words() -> Iterator[None]:
    """Say in one sentence what Ultralytics finds wrong with a file: an exported one is opened only by its validation.

    Raises:
        RecipeError: If a file holds no weights.
    """
    try:
        yield
    except TypeError as error:
        mark, text = "ERROR ❌️ ", str(error)
        if not text.startswith(mark):
            raise
        raise RecipeError(text.splitlines()[0].removeprefix(mark)) from None


def check_device(device: Any, key: str = "train.device") -> None:
    """Check that a device, as Ultralytics names it, is available; `key` is the user's name of the setting.

    Raises:
        RecipeError: If it is not.
    """
    from ultralytics.utils.torch_utils import select_device

    try:
        select_device(device, verbose=False)
    except ValueError as error:
        raise RecipeError(f"{key}={device} is not there: {' '.join(str(error).split())}") from None


def _check(content: Mapping[str, Any]) -> None:
    refuse_former_sections(content)
    refuse_foreign_recipe(content)
    refuse_unknown_keys(content, KEYS)
    check_choice("task", content.get("task", "detect"), TASKS)
    check_choice("fusion", content.get("fusion", "concat"), FUSIONS)
    _check_section(content, "data", check_keys)
    _check_section(content, "train", check_train_arguments)
    config = RunConfig.read(content)
    if "data" not in content:
        raise ValueError("the section 'data' is missing")
    _check_section(content, "report", _check_report)
    report = content.get("report")
    if isinstance(report, Mapping):
        check_choice("report.split", report.get("split", "val"), [s for s in SPLITS if s in content["data"]])
    modalities = content["data"].get("modalities") or {}
    if not isinstance(modalities, Mapping):
        raise ValueError(
            f"data.modalities={modalities!r} must map names to folders, like {{rgb: visible, ir: infrared}}"
        )
    check_modality_names(modalities)
    modalities = list(modalities)
    task, train = content.get("task", "detect"), content.get("train", {})
    check_labels(content["data"], task, train.get("single_cls", False))
    described = _check_model(content.get("model", "yolov8n.yaml"), content.get("fusion", "concat"), task)
    stretched = described is not None and takes_stretched(described)
    beside = ("incomplete", "balancing", "share_backbone")
    arguments = {**train, **{key: content[key] for key in beside if key in content}}
    names = content["data"].get("names")
    classes = len(names) if isinstance(names, list | Mapping) else 0  # checked with the data
    try:
        check_run(config, arguments, task, stretched, modalities, classes)
        refuse_unsupported(arguments)
        check_coco(isinstance(report, Mapping) and report.get("coco", False), task)
    except NotImplementedError as error:
        raise ValueError(str(error)) from None
    if not isinstance(pretrained := content.get("pretrained", True), bool) and modalities:
        try:
            pretrained_files(pretrained, modalities)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
    if modalities:
        freeze_with(0, train.get("freeze"), modalities)


def _check_report(section: Mapping[str, Any]) -> None:
    refuse_unknown_keys(section, REPORT_KEYS)
    ours = ("split", "fill", "degradations", "coco")
    check_train_arguments({key: section[key] for key in REPORT_KEYS if key not in ours and key in section})
    check_batch(section)
    check_choice("fill", section.get("fill", "zero"), FILLS)
    if not isinstance(section.get("coco", False), bool):
        raise ValueError(f"coco={section['coco']!r} must be true or false")
    degradations = section.get("degradations", False)
    if not isinstance(degradations, bool):
        for name in degradations if isinstance(degradations, list) else [degradations]:
            check_choice("degradations", name, DEGRADATIONS)


def _check_section(content: Mapping[str, Any], name: str, check: Callable[[Mapping[str, Any]], None]) -> None:
    switchable = name == "report"
    if switchable and isinstance(content.get(name), bool):
        return
    in_section(name, check, section_of(content, name, ", or true or false" if switchable else ""))


def _check_model(model: Any, fusion: str, task: str) -> dict[str, Any] | None:
    """Check the model of a recipe; return its description with streams, or None for a checkpoint."""
    text = str(model)
    if text.endswith(".pt"):
        if not os.path.isfile(text):
            stock = Path(text).with_suffix(".yaml").name
            hint = f": write model: {stock} with pretrained: {text}, once you have those weights; nothing is downloaded"
            raise ValueError(f"model={text} is not a file" + (hint if stock.startswith(STOCK_NAMES) else ""))
    elif not text.endswith((".yaml", ".yml")):
        raise ValueError(f"model={text} must be a stock description like yolov8n.yaml or a checkpoint like best.pt")
    else:
        try:
            if os.path.isfile(text):
                read_yaml(text)  # Ultralytics' reading would end in a traceback
            described = two_stream_cfg(text, fusion=fusion)
        except ValueError as error:
            raise ValueError(f"model={text}: {error}") from None
        except FileNotFoundError:
            raise ValueError(
                f"model={text}: Ultralytics has no such description, nor is it a file; try yolov8n.yaml (n, s, m, l, x)"
            ) from None
        except (TypeError, LookupError, AttributeError, RuntimeError, OSError) as error:  # layers that cannot be built
            reason = " ".join(str(error).split())
            raise ValueError(f"model={text} cannot be built ({type(error).__name__}: {reason:.200})") from None
        if (made_for := task_of(described)) != task:
            raise ValueError(f"task={task}, but model={text} is made for the task '{made_for}'")
        return described
    return None
