"""Ultralytics' detection trainer, for stacked modalities and with MWAM in the loop."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from mwam_det.core.missing import performance_collapse_rate
from mwam_det.core.modulation import GradientModulator, UpdateModulator, modulate
from mwam_det.core.mwam import MWAM
from mwam_det.data.dataset import PairedDataset, build_paired_dataset
from mwam_det.data.layout import as_single_class, modalities_of, resolve_dataset, save_dataset_yaml
from mwam_det.engine.arguments import (
    freeze_with,
    mwam_config,
    refuse_unsupported,
    with_own_arguments,
    without_own_arguments,
)
from mwam_det.engine.compat import half_precision_works, use_bundled_font
from mwam_det.engine.history import MWAMHistory
from mwam_det.engine.plots import plot_mwam, side_by_side
from mwam_det.engine.validator import MultimodalValidator, check_modalities
from mwam_det.models.auxiliary import AuxiliaryHeads, AuxiliaryLoss
from mwam_det.models.two_stream import SPLIT_LAYER, build_two_stream, streams_of, two_stream_cfg

MAP50 = "metrics/mAP50(B)"
OWN_FILES = ("mwam.csv", "mwam.png", "robustness.json", "robustness.csv")


class MWAMTrainer(DetectionTrainer):
    """Train a two-stream detector, its backbones' gradients scaled by MWAM.

    Takes all arguments of Ultralytics and `mwam` (True, False, or values of `MWAMConfig`) and `fusion`. `data` is a
    recipe's data section or a file that holds one; `model` a stock description such as "yolov8n.yaml", or a checkpoint
    of this trainer. MWAM measures each mini-batch as the loader gives it, uint8 and after augmentation, before
    Ultralytics normalises and resizes it, so that the metric is exact.

    Without MWAM the run is Ultralytics' own, bit for bit.

    Args:
        cfg: As in `DetectionTrainer`.
        overrides: As in `DetectionTrainer`, with the arguments above.
        _callbacks: As in `DetectionTrainer`.

    Attributes:
        mwam: The `MWAM` of this run, or None.
    """

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        requested = overrides or {}
        mwam_config(requested.get("mwam", True))  # a mistake in these should not cost a run folder
        refuse_unsupported(requested)
        if requested.get("data") is not None:
            resolve_dataset(requested["data"])
        use_bundled_font()
        super().__init__(with_own_arguments(cfg), overrides, _callbacks)
        self.modalities = modalities_of(self.data)
        names = [modality.name for modality in self.modalities]
        config = mwam_config(self.args.mwam)
        self.mwam = MWAM(names, config) if config else None
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
        if not self.ddp:  # else Ultralytics deletes the run folder before its workers come here
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
    ) -> DetectionModel:
        """Build the detector with a stream for each modality of the dataset.

        Args:
            cfg: A stock description, a file with one, or a description with streams (from a checkpoint).
            weights: A model with the same streams whose weights are taken over.
            verbose: Whether to list the layers.

        Raises:
            DatasetError: If `cfg` or `weights` are made for other modalities or for a single stream.
        """
        cfg = cfg if isinstance(cfg, dict) else yaml_model_load(cfg)
        if "streams" not in cfg:
            cfg = two_stream_cfg(cfg, self.data["modalities"], self.args.fusion)
        model = build_two_stream(cfg, self.data["nc"], verbose and RANK == -1)
        check_modalities(model, self.data)
        model = self.set_model_names_for_load(model)
        if weights is not None:
            check_modalities(weights, self.data)  # keys of a single-stream model would fit layers they do not belong to
            model.load(weights)
        return model

    def get_validator(self) -> MultimodalValidator:
        """Return the validator that knows of modalities."""
        return MultimodalValidator(
            self.test_loader, self.save_dir, without_own_arguments(self.args), _callbacks=self.callbacks
        )

    def _setup_train(self) -> None:
        self.args.freeze = freeze_with(SPLIT_LAYER, self.args.freeze)
        if self.device.type == "cuda" and self.args.amp not in {False, "fp32", "bf16"}:
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
        self.amp = half_precision_works(unwrap_model(self.model), self.data["channels"])
        if not self.amp:
            LOGGER.warning("mixed precision gives wrong outputs on this GPU: training in float32 (amp=false)")
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if self._scaler_state:
            self.scaler.load_state_dict(self._scaler_state)

    def _build_train_pipeline(self) -> None:
        if self.mwam is not None and self.mwam.config.mode in ("loss", "hybrid") and self.heads is None:
            if self.world_size > 1 or self.args.compile:
                raise NotImplementedError("mwam.mode=loss and hybrid train on one device and without compile")
            self.heads = AuxiliaryHeads(unwrap_model(self.model))
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
        """Let MWAM observe the mini-batch, then move, normalise and resize it as Ultralytics does."""
        if self._ready:
            images = batch["img"] = batch["img"].to(self.device, non_blocking=self.device.type == "cuda")
            self.mwam.observe({modality.name: images[:, modality.slice] for modality in self.modalities})
            if RANK in {-1, 0} and self.mwam.last is not None:
                self.history.append(self.epoch + 1, self.mwam.last)
        return super().preprocess_batch(batch)

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate, and again without each modality where MWAM goes by what the model is measured to depend on."""
        metrics, fitness = super().validate()
        if self.mwam is not None and self.mwam.config.preference == "measured":
            self._measure_dependence(metrics)
        return metrics, fitness

    def _measure_dependence(self, metrics: dict[str, float] | None) -> None:
        """Tell MWAM the collapse of mAP50 without each modality; a model that finds nothing yet tells nothing."""
        dependence = {}
        for modality in self.modalities:
            arguments = {**without_own_arguments(self.args), "plots": False, "missing": [modality.name]}
            validator = MultimodalValidator(self.test_loader, self.save_dir, arguments, self.callbacks)
            LOGGER.info(f"Without {modality.name}:")
            alone = validator(self)
            if RANK in {-1, 0}:
                dependence[modality.name] = performance_collapse_rate(metrics[MAP50], alone[MAP50])
        told = [dependence]
        if RANK != -1:
            dist.broadcast_object_list(told, 0)
        if all(rate is not None for rate in told[0].values()):
            self.mwam.measure(told[0])

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
            self.history.keep_epochs(ckpt["epoch"] + 1)

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw a training batch, every modality beside the others."""
        super().plot_training_samples(side_by_side(batch, self.modalities), ni)

    def plot_metrics(self) -> None:
        """Draw results.png and mwam.png."""
        super().plot_metrics()
        if self.mwam is not None and self.history.file.is_file():
            picture = Path(self.save_dir) / "mwam.png"
            plot_mwam(self.history.file, picture)
            self.on_plot(picture)
