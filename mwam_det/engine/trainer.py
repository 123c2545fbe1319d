"""Ultralytics' trainers, for stacked modalities and with MWAM in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import BaseModel, load_checkpoint, yaml_model_load
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, RANK, WORLD_SIZE
from ultralytics.utils.torch_utils import strip_optimizer, torch_distributed_zero_first, unwrap_model

from mwam_det.core.config import MWAMConfig, mwam_config
from mwam_det.core.direction import DirectionCheck
from mwam_det.core.distributed import from_first_rank, of_all_ranks
from mwam_det.core.history import MWAMHistory
from mwam_det.core.missing import DropoutConfig, collapse_without_each, draw_missing, dropout_config
from mwam_det.core.modulation import GradientModulator, UpdateModulator, modulate
from mwam_det.core.mwam import MWAM
from mwam_det.core.selection import Selection
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.layout import (
    READING_KEYS,
    as_single_class,
    check_labels,
    modalities_of,
    resolve_dataset,
    save_dataset_yaml,
)
from mwam_det.engine.arguments import (
    check_auxiliary,
    check_shared_backbone,
    freeze_with,
    refuse_unsupported,
    with_own_arguments,
    without_own_arguments,
)
from mwam_det.engine.combinations import OnePass, OnePassValidator, missing_conditions
from mwam_det.engine.compat import half_precision_works, spread_on_cpu, use_bundled_font
from mwam_det.engine.measures import measure, metrics_of
from mwam_det.engine.plots import side_by_side
from mwam_det.engine.processes import check_processes, device_of_worker, refuse_to_delete
from mwam_det.engine.validator import MultimodalValidator, PairValidator, check_modalities
from mwam_det.models.auxiliary import LACKING, AuxiliaryHeads, AuxiliaryLoss
from mwam_det.models.two_stream import (
    SPLIT_LAYER,
    build_two_stream,
    check_trainable,
    streams_of,
    task_of,
    two_stream_cfg,
)
from mwam_det.models.weights import load_pretrained, pretrained_files
from mwam_det.report.files import FILES
from mwam_det.report.history import draw_history

OWN_FILES = ("mwam.csv", "mwam.png", *FILES)


class PairTrainer(BaseTrainer):
    """Train a model on pairs, its backbones' gradients scaled by MWAM, whatever the task.

    Goes before a trainer of Ultralytics in the list of base classes.

    Takes all arguments of Ultralytics and `mwam` (True, False, or values of `MWAMConfig`), `fusion` and
    `share_backbone` (see `two_stream_cfg`), `missing` (None, or values of `DropoutConfig`: samples lack modalities in
    training) and `robustness` (values of `Selection`: which combinations of modalities decide on the best checkpoint).
    `pretrained` may name a checkpoint of a stock single-stream model, or one for each modality (see `load_pretrained`),
    and `freeze` streams by modality beside layers. `data` is a recipe's data section or a file that holds
    one; `model` a stock description such as "yolov8n.yaml", or a checkpoint of this trainer. MWAM measures each
    mini-batch as the loader gives it, uint8, after augmentation and complete, before Ultralytics normalises and resizes
    it, so that the metric is exact.

    Without MWAM the run is Ultralytics' own, bit for bit.

    Args:
        cfg: As in `BaseTrainer`.
        overrides: As in `BaseTrainer`, with the arguments above.
        _callbacks: As in `BaseTrainer`.

    Attributes:
        plain: The validator of the task.
        one_pass: The same for several conditions at once.
        mwam: The `MWAM` of this run, or None.
    """

    plain: type[PairValidator]
    one_pass: type[OnePass]

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        requested = overrides or {}
        config = mwam_config(requested.get("mwam", True))  # a mistake in these should not cost a run folder
        check_validation(Selection.from_dict(requested.get("robustness") or {}), config, requested.get("val", True))
        refuse_unsupported(requested)
        check_shared_backbone(requested.get("share_backbone", False), config)
        check_auxiliary(config, requested.get("task", "detect"))
        check_processes(requested, config)
        if requested.get("data") is not None:
            data = resolve_dataset(requested["data"])
            check_labels(data, requested.get("task", "detect"), requested.get("single_cls") or False)
            check_dropout(dropout_config(requested.get("missing")), config, data)
            freeze_with(SPLIT_LAYER, requested.get("freeze"), tuple(data["modalities"]))
            if _names_files(requested.get("pretrained")) and not requested.get("resume"):
                pretrained_files(requested["pretrained"], data["modalities"])
        use_bundled_font()
        if RANK != -1:
            overrides = {**requested, "device": device_of_worker(requested.get("device"))}
        super().__init__(with_own_arguments(cfg), overrides, _callbacks)
        if self.ddp and self.args.exist_ok and not self.resume:
            refuse_to_delete(self.save_dir)
        if RANK != -1:
            self.world_size = WORLD_SIZE  # Ultralytics counts the devices of this machine, and 0 for the CPU
        self.modalities = modalities_of(self.data)
        names = [modality.name for modality in self.modalities]
        config = mwam_config(self.args.mwam)
        self.mwam = MWAM(names, config) if config else None
        self.dropout = dropout_config(self.args.missing)
        self.selection = Selection.from_dict(self.args.robustness or {})
        self._draw = torch.Generator().manual_seed(self.args.seed + 1 + RANK)  # ranks draw for other samples
        self._direction = DirectionCheck()
        self._combinations_known = False
        self.modulator: GradientModulator | UpdateModulator | None = None
        self.heads: AuxiliaryHeads | None = None
        self._auxiliary_loss: AuxiliaryLoss | None = None
        self._ready = False
        self.history = MWAMHistory(self.save_dir / "mwam.csv", names)
        if not self.resume and not self.ddp and RANK in {-1, 0}:
            for name in OWN_FILES:  # of an earlier run under the same name, as Ultralytics does with results.csv
                (self.save_dir / name).unlink(missing_ok=True)

    def get_dataset(self) -> dict[str, Any]:
        """Check the dataset and return it in Ultralytics' form.

        Raises:
            DatasetError: If it cannot be used.
        """
        data = resolve_dataset(self.args.data)
        # A parent's run folder is deleted by Ultralytics before its workers come here. A worker does not know it yet.
        if not self.ddp and RANK in {-1, 0}:
            self.args.data = save_dataset_yaml(data, self.save_dir)
        return as_single_class(data) if self.args.single_cls else data

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> PairedDataset:
        """Build the dataset of pairs; arguments as in `DetectionTrainer.build_dataset`."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_paired_dataset(
            self.args, img_path, batch, self.data, mode, rect=self.args.rect or mode == "val", stride=stride
        )

    def get_model(
        self, cfg: str | dict | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> BaseModel:
        """Build the model with a stream for each modality of the dataset.

        Args:
            cfg: A stock description, a file with one, or a description with streams (from a checkpoint).
            weights: A model with the same streams whose weights are taken over, unless the argument `pretrained` names
                checkpoints of single-stream models.
            verbose: Whether to list the layers.

        Raises:
            DatasetError: If `cfg` or `weights` are made for other modalities or for a single stream.
            ValueError: If `cfg` is made for another task.
        """
        cfg = cfg if isinstance(cfg, dict) else yaml_model_load(cfg)
        if "streams" not in cfg:
            cfg = two_stream_cfg(cfg, self.data["modalities"], self.args.fusion, self.args.share_backbone)
        check_trainable(cfg)
        if (task := task_of(cfg)) != self.args.task:
            raise ValueError(
                f"{cfg.get('yaml_file', 'the model')} is made for the task '{task}', not '{self.args.task}'"
            )
        if "kpt_shape" in self.data:
            cfg = {**cfg, "kpt_shape": self.data["kpt_shape"]}
        check_shared_backbone(cfg.get("share_backbone", False), mwam_config(self.args.mwam))
        model = build_two_stream(cfg, self.data["nc"], verbose and RANK == -1)
        model.yaml["reading"] = {key: self.data[key] for key in READING_KEYS if self.data.get(key)}  # to predict by
        check_modalities(model, self.data)
        model = self.set_model_names_for_load(model)
        pretrained = self.args.pretrained
        whole = isinstance(pretrained, str | Path) and "streams" in getattr(weights, "yaml", {})
        if _names_files(pretrained) and not self.resume and not whole:
            LOGGER.info(load_pretrained(model, pretrained))
        elif weights is not None:
            check_modalities(weights, self.data)  # keys of a single-stream model would fit layers they do not belong to
            model.load(weights)
        return model

    def get_validator(self) -> PairValidator:
        """Return the validator that knows of modalities, and of their combinations where they are asked for."""
        arguments = without_own_arguments(self.args)
        if not self._validates_combinations:
            return self.plain(self.test_loader, self.save_dir, arguments, _callbacks=self.callbacks)
        arguments["select"] = self.selection.select
        return self.one_pass(self.test_loader, self.save_dir, arguments, _callbacks=self.callbacks)

    @property
    def _validates_combinations(self) -> bool:
        measures = self.mwam is not None and self.mwam.config.preference == "measured"
        return self.args.val and len(self.modalities) > 1 and (measures or self.selection.select != "full")

    def setup_model(self) -> dict[str, Any] | None:
        """Build or load the model as Ultralytics does, and freeze its split and the streams that are named."""
        checkpoint = super().setup_model()
        streams = unwrap_model(self.model).yaml["streams"]
        self.args.freeze = freeze_with(SPLIT_LAYER, self.args.freeze, streams)
        return checkpoint

    def _setup_ddp(self) -> None:
        """Join the other processes, with gloo on the CPU, and agree on the run folder of rank 0.

        Raises:
            FileNotFoundError: If a process does not see that folder.
        """
        if self.device.type == "cpu":
            dist.init_process_group("gloo", rank=RANK, world_size=self.world_size)
        else:
            super()._setup_ddp()
        folder = Path(from_first_rank(str(self.save_dir)))
        blind = [rank for rank, sees in enumerate(of_all_ranks((folder / "weights").is_dir())) if not sees]
        if blind:
            raise FileNotFoundError(
                f"rank 0 writes to {folder}, which rank {', '.join(map(str, blind))} does not see: several machines "
                "need a folder that they share, see the argument project"
            )
        self.save_dir, self.args.save_dir, self.wdir = folder, str(folder), folder / "weights"
        self.last, self.best, self.csv = self.wdir / "last.pt", self.wdir / "best.pt", folder / "results.csv"
        self.history.file = folder / "mwam.csv"

    def _setup_train(self) -> None:
        if RANK != -1 and self.device.type == "cpu":
            self.world_size = 0  # until the model is wrapped: Ultralytics would name GPUs to do it with
        if self.args.amp not in {False, "fp32", "bf16"} and (self.device.type == "cuda" or RANK != -1):
            self._setup_train_in_half_precision()
        else:
            super()._setup_train()
        if self.mwam is not None:
            self.modulator = modulate(self.mwam, streams_of(self.model), self.optimizer)
            self._attach_auxiliary_loss()
            self._ready = True

    def _attach_auxiliary_loss(self) -> None:
        if self.heads is not None:
            self._auxiliary_loss = AuxiliaryLoss(unwrap_model(self.model), self.heads, self.mwam)

    def _detach_auxiliary_loss(self) -> None:
        if self._auxiliary_loss is not None:
            self._auxiliary_loss.remove()
            self._auxiliary_loss = None

    def _setup_train_in_half_precision(self) -> None:
        """Set up float16 training without the check for which Ultralytics downloads a model.

        AutoBatch, if asked for, measures in float32 and so stays below what would fit.
        """
        requested, self.args.amp = self.args.amp, False
        self._scaler_state: dict[str, Any] | None = None
        super()._setup_train()
        self.args.amp = requested
        on_gpu = self.device.type == "cuda"
        works = on_gpu and half_precision_works(unwrap_model(self.model), self.data["channels"])
        self.amp = all(of_all_ranks(works))
        if on_gpu and not self.amp:
            LOGGER.warning("mixed precision gives wrong outputs on this GPU: training in float32 (amp=false)")
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if self._scaler_state:
            self.scaler.load_state_dict(self._scaler_state)

    def _build_train_pipeline(self) -> None:
        if self.mwam is not None and self.mwam.config.mode in ("loss", "hybrid") and self.heads is None:
            if self.world_size > 1 or self.args.compile:
                raise NotImplementedError("mwam.mode=loss and hybrid train on one device and without compile")
            self.heads = AuxiliaryHeads(unwrap_model(self.model))
        if RANK != -1 and self.device.type == "cpu":
            self.world_size = WORLD_SIZE
            self.model = spread_on_cpu(self.model, bool(self.args.compile))
        super()._build_train_pipeline()
        self.history.discard_pending()  # Ultralytics comes back here to begin an epoch again with a smaller batch

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build Ultralytics' optimizer, with the parameters of auxiliary heads among those of their kind."""
        optimizer = super().build_optimizer(model, *args, **kwargs)
        if self.heads is not None:
            groups = {group["param_group"]: group["params"] for group in optimizer.param_groups}
            for module in self.heads.modules():
                for name, parameter in module.named_parameters(recurse=False):
                    kind = "bias" if name == "bias" else "bn" if isinstance(module, nn.BatchNorm2d) else "weight"
                    groups[kind].append(parameter)
        return optimizer

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Find the checkpoint to resume from; MWAM's state is read from it later, not from its arguments."""
        super().check_resume(overrides)
        self.args.mwam_state = None

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Let MWAM observe the mini-batch, move, normalise and resize it as Ultralytics does, and drop modalities."""
        if self._ready:
            images = batch["img"] = batch["img"].to(self.device, non_blocking=self.device.type == "cuda")
            self.mwam.observe({modality.name: images[:, modality.slice] for modality in self.modalities})
            if RANK in {-1, 0} and self.mwam.last is not None:
                self.history.append(self.epoch + 1, self.mwam.last)
        batch = super().preprocess_batch(batch)
        if self.dropout is not None:
            batch[LACKING] = self._drop_modalities(batch["img"])
        return batch

    @property
    def shares(self) -> dict[str, float] | None:
        """T of every modality as last measured in the frequencies, or None without such a measurement."""
        if self.mwam is None or self.mwam.last is None or self.mwam.config.preference != "frequency":
            return None
        return self.mwam.last.share

    def _drop_modalities(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Set the channels of the modalities that samples lack to 0, in place, shape (B, C, H, W); say which lack."""
        names = [modality.name for modality in self.modalities]
        weights = self.mwam.weights if self.dropout.allocation == "mwam" else None
        lacking = draw_missing(len(images), names, self.dropout.p, weights, self._draw)
        for modality in self.modalities:
            images[lacking[modality.name].to(images.device), modality.slice] = 0
        return lacking

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate, on every combination of modalities where something depends on that."""
        if self._validates_combinations:
            due = self.epoch % self.selection.every == 0 or self.epoch + 1 == self.epochs
            due = from_first_rank(due or not self._combinations_known)  # each rank estimates the end of a timed run
            self._combinations_known = True
            names = [modality.name for modality in self.modalities]
            self.validator.conditions = missing_conditions(names) if due else ()
        metrics, fitness = super().validate()
        if self._validates_combinations and due:
            self._take_in_combinations()
        elif self._validates_combinations and self.selection.select != "full":
            fitness = None  # to Ultralytics: not validated, so neither the best nor an epoch without progress
        return metrics, fitness

    def _take_in_combinations(self) -> None:
        """Tell MWAM what the model depends on, if it asks, or compare that with what MWAM takes for preferred."""
        names = [modality.name for modality in self.modalities]
        found, first = self.validator.by_combination if RANK in {-1, 0} else {}, metrics_of(self.args.task)[0]
        measured = from_first_rank({a: measure(self.args.task, metrics)[first] for a, metrics in found.items()})
        if self.mwam is None:
            return
        if self.mwam.config.preference == "measured":
            if (dependence := collapse_without_each(measured, names)) is not None:
                self.mwam.measure(dependence)
        elif self.shares is not None:
            warning = self._direction.update(self.shares, {name: measured[(name,)] for name in names}, first)
            if warning and RANK in {-1, 0}:
                LOGGER.warning(warning)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write results.csv and mwam.csv of the epoch."""
        super().save_metrics(metrics)
        if self.mwam is not None and self.mwam.last is not None:
            self.history.flush()
            weights = ", ".join(f"{name} {weight:.3f}" for name, weight in self.mwam.last.weight.items())
            LOGGER.info(f"MWAM weights: {weights}")

    def save_model(self) -> bool:
        """Save the checkpoints, with MWAM's state in the training arguments that Ultralytics drops when a run ends."""
        if self.mwam is None:
            return super().save_model()
        state = {**self.mwam.state_dict(), "heads": self.heads and self.heads.state_dict()}
        own_args, averaged = self.args, self.ema.ema
        self.args = copy(own_args)
        self.args.mwam_state, averaged.args = state, own_args  # the model's own arguments stay in finished checkpoints
        try:
            return super().save_model()
        finally:
            self.args = own_args

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        # Comes here on resume and on recovery from NaN: both run the epochs after the checkpoint's again. Ultralytics
        # copies the model, which must carry no hooks then.
        attached = self._auxiliary_loss is not None
        self._detach_auxiliary_loss()
        super()._load_checkpoint_state(ckpt)
        if attached:
            self._attach_auxiliary_loss()
        self._scaler_state = ckpt.get("scaler")
        state = ckpt.get("train_args", {}).get("mwam_state")
        if self.mwam is not None and state:
            self.mwam.load_state_dict(state)
            if self.heads is not None:
                self.heads.load_state_dict(state["heads"])
            if RANK in {-1, 0}:
                self.history.keep_epochs(ckpt["epoch"] + 1)

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event; at the end of an epoch, loggers find MWAM's means among the metrics.

        results.csv and checkpoints are written before, and hold Ultralytics' metrics alone.
        """
        if event != "on_fit_epoch_end" or RANK not in {-1, 0}:
            super().run_callbacks(event)
            return
        own = self.metrics
        self.metrics = shown = {**own, **self.history.means(self.epoch + 1)}
        try:
            super().run_callbacks(event)
        finally:
            if self.metrics is shown:
                self.metrics = own

    def final_eval(self) -> None:
        """Validate the best checkpoint."""
        if RANK == -1 or self.device.type != "cpu":
            super().final_eval()
            return
        # Workers of Ultralytics validate a checkpoint on a GPU alone: here its weights are validated as an epoch's.
        weights = load_checkpoint(self.best)[0].float().state_dict() if self.best.exists() else None
        with torch_distributed_zero_first(LOCAL_RANK):
            if RANK == 0:
                results = strip_optimizer(self.last).get("train_results") if self.last.exists() else None
                if weights:
                    strip_optimizer(self.best, updates={"train_results": results})
        if weights:
            self.ema.ema.load_state_dict(weights)
            self.validator.args.plots = self.args.plots
            metrics = self.validator(self) or {}
            metrics.pop("fitness", None)
            self.metrics = metrics
            self.epoch += 1
            self.run_callbacks("on_fit_epoch_end")
            self.epoch -= 1

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw a training batch, every modality beside the others."""
        super().plot_training_samples(side_by_side(batch, self.modalities), ni)

    def plot_metrics(self) -> None:
        """Draw results.png and mwam.png."""
        super().plot_metrics()
        if self.mwam is not None and self.history.file.is_file():
            picture = Path(self.save_dir) / "mwam.png"
            draw_history(self.history.file, picture)
            self.on_plot(picture)


class MWAMTrainer(PairTrainer, DetectionTrainer):
    """Train a detector with a stream for each modality."""

    plain = MultimodalValidator
    one_pass = OnePassValidator


def _names_files(pretrained: Any) -> bool:
    """Whether the argument `pretrained` names checkpoints, rather than saying whether to keep the model's weights."""
    return pretrained is not None and not isinstance(pretrained, bool)


def check_validation(selection: Selection, mwam: MWAMConfig | None, val: bool) -> None:
    """Check that what goes by validations has them.

    Raises:
        ValueError: If it has not.
    """
    measured = mwam is not None and mwam.preference == "measured"
    if not val and (measured or selection.select != "full"):
        needs = "mwam.preference=measured" if measured else f"robustness.select={selection.select}"
        raise ValueError(f"{needs} goes by the validations, but val is false")


def check_dropout(dropout: DropoutConfig | None, mwam: MWAMConfig | None, data: Mapping[str, Any]) -> None:
    """Check that modality dropout is possible in a run.

    Args:
        dropout: What was asked for.
        mwam: MWAM's parameters, None without it.
        data: A resolved dataset.

    Raises:
        ValueError: If there is but one modality, or allocation is "mwam" and MWAM does not measure.
    """
    if dropout is None:
        return
    if len(data["modalities"]) < 2:
        raise ValueError(f"missing.p={dropout.p}: with {', '.join(data['modalities'])} alone nothing can be missing")
    if dropout.allocation == "mwam" and mwam is None:
        raise ValueError(
            "missing.allocation=mwam goes by MWAM's weights, but mwam is false: mwam.mode=observe measures them and "
            "scales nothing"
        )
