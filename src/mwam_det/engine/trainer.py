"""Ultralytics' trainers for stacked modalities, with MWAM in the loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import load_checkpoint, yaml_model_load
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, RANK, WORLD_SIZE
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from mwam_det.core.distributed import average_gradients, from_first_rank, of_all_ranks, take_from_first_rank
from mwam_det.core.mwam import MWAM
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection.checks import look_before_training
from mwam_det.data.listing import check_splits
from mwam_det.data.modality import READING_KEYS, modalities_of
from mwam_det.data.paired_data import PairedData, check_labels, save_dataset_yaml
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.arguments import (
    OWN_ARGUMENTS,
    check_precision,
    check_run,
    check_shared_backbone,
    freeze_with,
    refuse_unsupported,
    with_own_arguments,
    without_own_arguments,
)
from mwam_det.engine.combinations import OnePass, OnePassValidator, missing_conditions
from mwam_det.engine.compat import (
    half_precision_works,
    spread_on_cpu,
    use_bundled_font,
    warn_of_untested_release,
    without_chatter,
    without_gpu_names,
    without_precision_check,
)
from mwam_det.engine.measures import metrics_of
from mwam_det.engine.plots import wide_batch
from mwam_det.engine.processes import (
    check_processes,
    device_of_worker,
    failures_in_words,
    number_of_processes,
    refuse_to_delete,
    shared_folder,
)
from mwam_det.engine.resuming import capture, capture_rank, restore_epoch, restore_weights
from mwam_det.engine.saving import CheckpointPath, finish_checkpoints, read_record, repair_best
from mwam_det.engine.validator import MultimodalValidator, PairValidator, check_modalities
from mwam_det.files.locks import Hold
from mwam_det.models.auxiliary import AuxiliaryHeads, AuxiliaryLoss
from mwam_det.models.stock import stock_model
from mwam_det.models.two_stream import (
    SPLIT_LAYER,
    build_two_stream,
    streams_of,
    takes_stretched,
    task_of,
    two_stream_cfg,
)
from mwam_det.models.views import VIEWS, IncompleteViews
from mwam_det.models.weights import load_pretrained, pretrained_files
from mwam_det.robustness.results import FILES
from mwam_det.training.config import RunConfig
from mwam_det.training.history import keep_epochs
from mwam_det.training.incomplete import Views
from mwam_det.training.run import ModalityRun

OWN_FILES = ("mwam.csv", "mwam.png", *FILES)


class PairTrainer(BaseTrainer):
    """Train a model on pairs, its backbones' gradients scaled by MWAM, whatever the task.

    Precedes a trainer of Ultralytics in the list of base classes.

    Takes all arguments of Ultralytics and `mwam` (True, False, or values of `MWAMConfig`), `fusion` and
    `share_backbone` (see `two_stream_cfg`), `incomplete` (True, False, or values of `IncompleteConfig`), `balancing` (a
    mapping with a method and its settings, see `mwam_det.core.balancing.methods.balancing_config`) and `select` (which
    combinations of modalities decide on the best checkpoint, see `mwam_det.training.selection.selection_of`).
    `pretrained` may name a checkpoint of a stock single-stream model, or one for each modality (see `load_pretrained`),
    and `freeze` streams by modality beside layers. `data` is a recipe's data section or a file that holds
    one; `model` a stock description such as "yolov8n.yaml", or a checkpoint of this trainer. MWAM measures each
    mini-batch as it leaves the loader, uint8, augmented and complete, before Ultralytics normalises and resizes it, so
    that the metric is exact.

    Without MWAM, incomplete views and balancing, the run is that of Ultralytics, bit for bit.

    Args:
        cfg: As in `BaseTrainer`.
        overrides: As in `BaseTrainer`, with the arguments above.
        _callbacks: As in `BaseTrainer`.

    Attributes:
        plain: The validator of the task.
        one_pass: The validator of the task for several conditions at once.
        paired: The dataset.
        config: The settings of the run.
        run: The `ModalityRun` of this training.
        waiting: Number of mini-batches since the optimizer's last step.
    """

    plain: type[PairValidator]
    one_pass: type[OnePass]
    paired: PairedData | None = None

    # Attributes of Ultralytics' trainers in training, which it declares as None, with another type, or by task.
    model: Any
    ema: Any
    optimizer: Any
    validator: Any
    metrics: Any
    loss: Any
    set_model_names_for_load: Any
    last: CheckpointPath
    best: CheckpointPath

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        requested = dict(overrides or {})
        config = RunConfig.read(requested)  # before there is a run folder
        task = requested.get("task", "detect")
        check_run(config, requested, task, self.plain.stretch)
        refuse_unsupported(requested)
        check_precision(requested.get("amp"), device_of_worker(requested.get("device")))
        check_processes(requested)
        if requested.get("data") is not None:
            self.paired = paired = resolve_dataset(requested["data"])
            requested["data"] = paired.as_dict()  # Ultralytics writes it to args.yaml
            check_splits(paired)
            check_labels(paired, task, requested.get("single_cls") or False)
            check_run(config, requested, task, self.plain.stretch, list(paired.channels), len(paired.names))
            freeze_with(SPLIT_LAYER, requested.get("freeze"), tuple(paired.channels))
            if _names_files(requested.get("pretrained")) and not requested.get("resume"):
                pretrained_files(requested["pretrained"], paired.channels)
        use_bundled_font()
        warn_of_untested_release()
        writes = RANK == 0 or number_of_processes(device_of_worker(requested.get("device"))) == 1
        folder = shared_folder(requested) if writes else None
        self._hold = Hold(folder) if folder is not None and folder.is_dir() else None  # before files are replaced
        if RANK != -1:
            requested["device"] = device_of_worker(requested.get("device"))
        with without_chatter():
            super().__init__(with_own_arguments(cfg), requested, _callbacks)
        if self.ddp and self.args.exist_ok and not self.resume:  # as `cfg` may have it, which is merged only here
            refuse_to_delete(self.save_dir)
        if RANK != -1:
            self.world_size = WORLD_SIZE  # Ultralytics counts the devices of this machine, and 0 for the CPU
        if writes and self._hold is None:
            self._hold = Hold(self.save_dir)
        self._save_below(self.save_dir)
        self.waiting, self._ahead = 0, 0
        self._record: dict[str, Any] | None = None  # the record of a resumed run, until its first mini-batch
        self._ranks: list[dict[str, Any]] = []  # the state of each process, at the end of an epoch
        self._resumed, self._looked = False, False
        self.modalities = modalities_of(self.data)
        given = {key: requested.get(key, OWN_ARGUMENTS[key]) for key in ("mwam", "incomplete", "balancing", "select")}
        resumed = any(getattr(self.args, key) != value for key, value in given.items())
        self.config = RunConfig.read(vars(self.args)) if resumed else config
        self.run = ModalityRun(
            [modality.name for modality in self.modalities],
            **vars(self.config),
            file=self.save_dir / "mwam.csv",
            seed=self.args.seed,
            rank=RANK,
        )
        self.heads: AuxiliaryHeads | None = None
        self._attached: list[IncompleteViews | AuxiliaryLoss] = []
        self._ready = False
        if not self.resume and not self.ddp and RANK in {-1, 0}:
            for name in OWN_FILES:  # those of an earlier run of this name, as Ultralytics does with results.csv
                (self.save_dir / name).unlink(missing_ok=True)

    def train(self) -> None:
        """Train, and release the run folder.

        Raises:
            ChildProcessError, ConnectionError: If a process of several fails, see `failures_in_words`.
        """
        try:
            with failures_in_words(self.save_dir):
                super().train()
        finally:
            if self._hold is not None:
                self._hold.release()

    def _save_below(self, folder: Path) -> None:
        """Let checkpoints be written to a run folder, each completely or not at all."""
        self.wdir = CheckpointPath(folder) / "weights"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"

    @property
    def mwam(self) -> MWAM | None:
        """The `MWAM` of this run, or None."""
        return self.run.mwam

    def get_dataset(self) -> dict[str, Any]:
        """Check the dataset and return it in Ultralytics' form.

        Raises:
            DatasetError: If it cannot be used.
        """
        if self.paired is None or self.args.data != self.paired.as_dict():  # a resumed checkpoint has its own
            self.paired = resolve_dataset(self.args.data)
        # A parent's run folder is deleted by Ultralytics before its workers come here. A worker does not know it yet.
        if not self.ddp and RANK in {-1, 0}:
            self.args.data = save_dataset_yaml(self.paired.as_dict(), self.save_dir)
        return (self.paired.as_single_class() if self.args.single_cls else self.paired).as_dict()

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> PairedDataset:
        """Build the dataset of pairs; arguments as in `DetectionTrainer.build_dataset`."""
        stride = max(int(stock_model(self.model).stride.max()), 32)
        return build_paired_dataset(
            self.args,
            img_path,
            batch,
            self.data,
            mode,
            rect=self.args.rect or mode == "val",
            stride=stride,
            stretch=self.plain.stretch,
        )

    def get_model(
        self, cfg: str | Path | dict | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> Any:
        """Build the model with a stream for each modality of the dataset.

        Args:
            cfg: A stock description, a file with one, or a description with streams (from a checkpoint).
            weights: A model with the same streams, whose weights are copied. Checkpoints of single-stream models that
                the argument `pretrained` names come on top.
            verbose: Whether to log the size of the model; `model.info(detailed=True)` lists its layers.

        Returns:
            The model, of Ultralytics' class for the task.

        Raises:
            DatasetError: If `cfg` or `weights` are made for other modalities or for a single stream.
            ValueError: If `cfg` is made for another task.
        """
        cfg = cfg if isinstance(cfg, dict) else yaml_model_load(cfg)
        if "streams" not in cfg:
            cfg = two_stream_cfg(cfg, self.data["modalities"], self.args.fusion, self.args.share_backbone)
        if takes_stretched(cfg) != self.plain.stretch:
            raise TypeError(
                f"{cfg.get('yaml_file', 'the model')} is RT-DETR: train it with MultimodalYOLO or MWAMRTDETRTrainer"
                if takes_stretched(cfg)
                else f"MWAMRTDETRTrainer trains RT-DETR alone, and not {cfg.get('yaml_file', 'this model')}"
            )
        if (task := task_of(cfg)) != self.args.task:
            raise ValueError(
                f"{cfg.get('yaml_file', 'the model')} is made for the task '{task}', not '{self.args.task}'"
            )
        if "kpt_shape" in self.data:
            cfg = {**cfg, "kpt_shape": self.data["kpt_shape"]}
        check_shared_backbone(cfg.get("share_backbone", False), self.config)
        with without_chatter():
            model = build_two_stream(cfg, self.data["nc"])
        if verbose and RANK == -1:
            model.info()
        model.yaml["reading"] = {key: self.data[key] for key in READING_KEYS if self.data.get(key)}  # to predict by
        check_modalities(model, self.data["modalities"])
        model = self.set_model_names_for_load(model)
        pretrained = self.args.pretrained
        has_streams = "streams" in getattr(weights, "yaml", {})
        named = _names_files(pretrained) and not self.resume
        if weights is not None and (has_streams or not named):
            # keys of a single-stream model would match layers that they do not belong to
            check_modalities(weights, self.data["modalities"])
            model.load(weights)
        if named and not (has_streams and isinstance(pretrained, str | Path)):
            LOGGER.info(load_pretrained(model, pretrained))  # over those of a checkpoint, for the streams that it names
        return model

    def get_validator(self) -> PairValidator:
        """Return the validator of the task, or of all combinations where something depends on them."""
        arguments = {**without_own_arguments(self.args), "data": self.paired}
        if not self._validates_combinations:
            return self.plain(self.test_loader, self.save_dir, arguments, _callbacks=self.callbacks)
        validator = self.one_pass(self.test_loader, self.save_dir, arguments, _callbacks=self.callbacks)
        validator.run = self.run
        return validator

    @property
    def _validates_combinations(self) -> bool:
        return self.args.val and self.run.validates_combinations

    def setup_model(self) -> dict[str, Any] | None:
        """Build or load the model as Ultralytics does, and freeze its split and the streams that are named."""
        checkpoint = super().setup_model()
        streams = stock_model(self.model).yaml["streams"]
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
        self.save_dir, self.args.save_dir, self.csv = folder, str(folder), folder / "results.csv"
        self._save_below(folder)
        if self.run.history is not None:
            self.run.history.file = folder / "mwam.csv"

    def _setup_train(self) -> None:
        half = self.args.amp not in {False, "fp32", "bf16"} and (self.device.type == "cuda" or RANK != -1)
        names = without_gpu_names(self) if RANK != -1 and self.device.type == "cpu" else nullcontext()
        with names, without_chatter():
            if half:
                self._setup_train_in_half_precision()
            else:
                super()._setup_train()
        self.run.attach(streams_of(self.model), self.optimizer)
        if self._validates_combinations and self.run.selection.select != "full":
            self.stopper.patience *= self.run.selection.every  # it counts epochs, also those that are not due
        self._attach()
        if self._record is not None:
            restore_weights(self, self._record)
        self._ready = True

    def _attach(self) -> None:
        """Attach the hooks that train the model on views and add the losses of auxiliary heads."""
        model = stock_model(self.model)
        balancer = self.run.balancer
        if self.run.incomplete_config is not None or (balancer is not None and balancer.needs_views):
            recompute = self.run.incomplete_config is not None and self.run.incomplete_config.checkpoint
            self._attached.append(IncompleteViews(model, self._balance if balancer else None, recompute))
        if self.heads is not None and self.mwam is not None:
            self._attached.append(AuxiliaryLoss(model, self.heads, self.mwam))

    def _balance(self, views: Views, losses: Sequence[Tensor], multiple: int, **evidence: Any) -> Tensor:
        """Let balancing combine the losses of the views; the loop multiplies the result."""
        processes = self.world_size if RANK != -1 else 1
        scale = self.scaler.scale(torch.ones((), device=self.device)) * processes
        return self.run.balance(views, losses, scale=scale, multiple=multiple, **evidence)

    def _detach(self) -> None:
        for hooks in self._attached:
            hooks.remove()
        self._attached.clear()

    def auto_batch(self, *args: Any, **kwargs: Any) -> int:
        """Find the largest batch as Ultralytics does for one view, and divide it by the number of views."""
        config, balancer = self.run.incomplete_config, self.run.balancer
        views = config.count(self.run.modalities) if config else 1
        if balancer is not None and balancer.needs_views:
            views = max(views, 1 + len(self.run.modalities))
        return max(super().auto_batch(*args, **kwargs) // views, 1)

    def _setup_train_in_half_precision(self) -> None:
        """Set up float16 training without the check for which Ultralytics downloads a model.

        AutoBatch measures in float32, and so finds a smaller batch than would fit.
        """
        self._scaler_state: dict[str, Any] | None = None
        with without_precision_check(self.args):
            super()._setup_train()
        on_gpu = self.device.type == "cuda"
        works = on_gpu and half_precision_works(stock_model(self.model), self.data["channels"])
        self.amp = all(of_all_ranks(works))
        if on_gpu and not self.amp:
            LOGGER.warning("mixed precision gives wrong outputs on this GPU: training in float32 (amp=false)")
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        if self._scaler_state:
            self.scaler.load_state_dict(self._scaler_state)

    def _build_train_pipeline(self) -> None:
        if self.mwam is not None and self.mwam.config.mode in ("loss", "hybrid") and self.heads is None:
            self.heads = AuxiliaryHeads(stock_model(self.model))
            take_from_first_rank(self.heads)
        if RANK != -1 and self.device.type == "cpu":
            self.world_size = WORLD_SIZE  # from here on they are counted as they are
            self.model = spread_on_cpu(self.model, bool(self.args.compile))
        super()._build_train_pipeline()
        self._look_at_pairs()

    def _look_at_pairs(self) -> None:
        """Warn of what in the files costs accuracy: once, not after a resume or with a smaller batch."""
        if RANK not in {-1, 0} or self.resume or self._looked:
            return
        self._looked = True
        datasets = [loader.dataset for loader in (self.train_loader, self.test_loader)]
        for sentence in look_before_training(datasets, self.args.imgsz, views=self.args.task != "classify"):
            LOGGER.warning(sentence)

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build Ultralytics' optimizer, and add the parameters of auxiliary heads to its groups."""
        optimizer = super().build_optimizer(model, *args, **kwargs)
        if self.heads is not None:
            groups = {group["param_group"]: group["params"] for group in optimizer.param_groups}
            for module in self.heads.modules():
                for name, parameter in module.named_parameters(recurse=False):
                    kind = "bias" if name == "bias" else "bn" if isinstance(module, nn.BatchNorm2d) else "weight"
                    groups[kind].append(parameter)
        return optimizer

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Find the checkpoint to resume from; the run's state is read later, and not from its arguments."""
        super().check_resume(overrides)
        self.args.run_state = None

    def _model_train(self) -> None:
        """Begin an epoch; Ultralytics also calls this for an epoch that it repeats."""
        super()._model_train()
        self.run.begin_epoch(self.epoch, self.epochs)
        if self._record is not None:
            restore_epoch(self, self._record)
            self.waiting, self._resumed, self._record = self._record["waiting"], True, None

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Let MWAM observe the mini-batch, prepare it as Ultralytics does, and draw its views."""
        if self._ready and (self.mwam is not None or self.run.balancer is not None):
            images = batch["img"] = batch["img"].to(self.device, non_blocking=self.device.type == "cuda")
            self.run.observe({modality.name: images[:, modality.slice] for modality in self.modalities})
        batch = super().preprocess_batch(batch)
        self.waiting += self._ready
        if self._ready and (views := self.run.incomplete(len(batch["img"]))) is not None:
            batch[VIEWS] = views
        return batch

    @property
    def accumulate(self) -> int:
        """Number of mini-batches from one step of the optimizer to the next, as Ultralytics' loop counts them."""
        return max(self._accumulate - self._ahead, 1)

    @accumulate.setter
    def accumulate(self, count: int) -> None:
        self._accumulate = count

    def optimizer_step(self) -> None:
        """Step the optimizer as Ultralytics does; the norm that it clips includes auxiliary heads.

        Its loop steps at the first mini-batch of a resumed run. Where the interrupted run would have waited for more,
        nothing is done, and the next step comes earlier by the number of mini-batches that are waiting.
        """
        resumed, self._resumed = self._resumed, False
        if resumed and self.waiting < self._accumulate:
            self._ahead = self.waiting
            return
        self.waiting, self._ahead = 0, 0
        if self.heads is None:
            super().optimizer_step()
            return
        average_gradients(self.heads.parameters())
        model, ema = self.model, self.ema
        self.model, self.ema = nn.ModuleList([model, self.heads]), None
        try:
            super().optimizer_step()
        finally:
            self.model, self.ema = model, ema
        if ema:
            ema.update(model)

    @property
    def shares(self) -> dict[str, float] | None:
        """T of every modality as last measured in the frequencies, or None without such a measurement."""
        if self.mwam is None or self.mwam.last is None or self.mwam.config.preference != "frequency":
            return None
        return self.mwam.last.share

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate, on every combination of modalities where the run needs them.

        Epochs before incomplete views begin are no rivals of those after, and patience counts from there.
        """
        if self.run.begins_views:
            self.best_fitness = None
        if self.run.begins_views or self.run.views_since is None:
            self.stopper.best_fitness = 0.0  # which it takes for no best yet
        if not self._validates_combinations:
            return super().validate()
        due = self.run.due(self.epoch, self.epoch + 1 == self.epochs)
        self.validator.conditions = missing_conditions(self.run.modalities) if due else ()
        metrics, fitness = super().validate()
        scores = self.validator.scores if RANK in {-1, 0} else {}
        warning = self.run.take_in(scores, metrics_of(self.args.task)[0])
        if warning and RANK in {-1, 0}:
            LOGGER.warning(warning)
        if not due and self.run.selection.select != "full":
            fitness = None  # which Ultralytics takes for an epoch without validation
        return metrics, fitness

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write results.csv and mwam.csv of the epoch."""
        super().save_metrics(metrics)
        self.run.end_epoch()
        if self.mwam is not None and self.mwam.last is not None:
            weights = ", ".join(f"{name} {weight:.3f}" for name, weight in self.mwam.last.weight.items())
            LOGGER.info(f"MWAM weights: {weights}")

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Recover from a loss that is not finite on any rank, as Ultralytics does for rank 0.

        All ranks call this at the end of an epoch, before rank 0 saves: it collects the states of all for that.
        """
        if not all(of_all_ranks(self.loss is None or bool(self.loss.isfinite()))):
            self.loss = torch.full((), float("nan"), device=self.device)
        if super()._handle_nan_recovery(epoch):
            return True
        if self.heads is not None and self.waiting:
            average_gradients(self.heads.parameters())
        self._ranks = of_all_ranks(capture_rank(self))
        return False

    def save_model(self) -> bool:
        """Save the checkpoints, with the run's state in their training arguments, which finished ones lose."""
        state = {**self.run.state_dict(), "heads": self.heads and self.heads.state_dict(), "stopped": bool(self.stop)}
        arguments, averaged = self.args, self.ema.ema
        self.args = copy(arguments)
        self.args.run_state, averaged.args = state, arguments  # those of the model stay in finished checkpoints
        self.last.record = capture(self, self._ranks)
        try:
            return super().save_model()
        finally:
            self.args, self.last.record = arguments, None

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Resume from a checkpoint, and repair the files that a dying process left in the run folder."""
        super().resume_training(ckpt)
        if ckpt is None or not self.resume:
            return
        self._record = read_record(Path(self.args.resume))
        if RANK in {-1, 0}:
            keep_epochs(self.csv, self.start_epoch)
            if Path(self.args.resume) == self.last:
                repair_best(self.last, self.best, ckpt)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        # Called on resume and on recovery from NaN, which repeat the epochs after the checkpoint's. Ultralytics copies
        # the model, which must not have hooks then.
        attached = bool(self._attached)
        self._detach()
        super()._load_checkpoint_state(ckpt)
        if attached:
            self._attach()
        self._scaler_state = ckpt.get("scaler")
        if state := ckpt.get("train_args", {}).get("run_state"):
            self.run.load_state_dict(state, ckpt["epoch"] + 1)
            if self.heads is not None:
                self.heads.load_state_dict(state["heads"])

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event; at the end of an epoch, the metrics include the run's means for loggers.

        results.csv and checkpoints are written before, with Ultralytics' metrics alone.
        """
        if event != "on_fit_epoch_end" or RANK not in {-1, 0}:
            super().run_callbacks(event)
            return
        metrics = self.metrics
        self.metrics = shown = {**metrics, **self.run.means(self.epoch + 1)}
        try:
            super().run_callbacks(event)
        finally:
            if self.metrics is shown:
                self.metrics = metrics

    def final_eval(self) -> None:
        """Finish the checkpoints and validate the best one."""
        with torch_distributed_zero_first(LOCAL_RANK), without_chatter():  # the others wait
            if RANK in {-1, 0}:
                finish_checkpoints(self.last, self.best)
        if not self.best.exists():
            return
        LOGGER.info(f"\nValidating {self.best}...")
        self.validator.args.plots = self.args.plots
        self.validator.args.compile = False
        if RANK == -1 or self.device.type != "cpu":
            metrics = self.validator(model=self.best)
        else:  # workers of Ultralytics validate a checkpoint on a GPU alone: here, its weights as those of an epoch
            self.ema.ema.load_state_dict(load_checkpoint(self.best)[0].float().state_dict())
            metrics = self.validator(self) or {}
        metrics.pop("fitness", None)
        self.metrics = metrics
        self.epoch += 1
        self.run_callbacks("on_fit_epoch_end")
        self.epoch -= 1

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw a training batch, the modalities side by side."""
        super().plot_training_samples(wide_batch(batch, self.modalities), ni)

    def plot_metrics(self) -> None:
        """Draw results.png and mwam.png."""
        super().plot_metrics()
        if self.run.history is not None:
            from mwam_det.robustness.history import draw_history

            picture = Path(self.save_dir) / "mwam.png"
            if draw_history(self.run.history.file, picture):
                self.on_plot(picture)


class MWAMTrainer(PairTrainer, DetectionTrainer):
    """Train a detector with a stream for each modality."""

    plain = MultimodalValidator
    one_pass = OnePassValidator


def _names_files(pretrained: Any) -> bool:
    """Whether the argument `pretrained` names checkpoints, rather than saying whether to keep the model's weights."""
    return pretrained is not None and not isinstance(pretrained, bool)
