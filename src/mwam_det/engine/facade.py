"""MultimodalYOLO: the interface of the package for users of `ultralytics.YOLO`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg, get_save_dir
from ultralytics.models import YOLO
from ultralytics.nn.tasks import BaseModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, RANK

from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.paired_data import check_split
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.arguments import check_coco
from mwam_det.engine.combinations import OnePass, missing_conditions
from mwam_det.engine.deployment import exported_as
from mwam_det.engine.evaluation import degradation_conditions
from mwam_det.engine.exporter import MultimodalExporter
from mwam_det.engine.measures import measure, metrics_of
from mwam_det.engine.origin import trained_with
from mwam_det.engine.predictor import PairSource
from mwam_det.engine.tasks import TASK_CLASSES, task_classes
from mwam_det.engine.validator import check_modalities
from mwam_det.models.stock import StockModel
from mwam_det.models.two_stream import build_two_stream, takes_stretched, task_of, two_stream_cfg
from mwam_det.models.weights import load_pretrained
from mwam_det.robustness.origin import Origin
from mwam_det.robustness.report import RobustnessReport
from mwam_det.training.direction import explain
from mwam_det.training.selection import selection_of

VALIDATION_ARGUMENTS = (
    "imgsz", "batch", "device", "workers", "single_cls", "classes", "conf", "iou", "max_det", "agnostic_nms", "nms",
    "plots",
)  # fmt: skip
"""Arguments that the report takes from the training, so that it measures like the last validation."""

SAMPLES = 6
"""Number of images shown in a robustness report."""


class MultimodalYOLO(YOLO):
    """`ultralytics.YOLO` for models with several streams: trains with MWAM and reports what a missing modality costs.

    Example:
        >>> model = MultimodalYOLO("yolov8n.yaml")  # doctest: +SKIP (trains)
        >>> model.train(data="cfg/detect/llvip.yaml", epochs=100, optimizer="SGD")  # doctest: +SKIP
        >>> model.robustness().show()  # doctest: +SKIP

    Args:
        model: A stock description such as "yolov8n.yaml" or "yolov8n-obb.yaml", a checkpoint of a model with streams or
            a file exported from one, or a stock checkpoint, from whose weights every stream starts. Its head determines
            the task.
        modalities: Channels of each modality by name, for a new model; {"rgb": 3, "ir": 3} if left out. `train` uses
            the modalities of its dataset instead if they differ.
        fusion: How the streams are fused, for a new model (see `two_stream_cfg`).
        share_backbone: Whether all modalities share one backbone, for a new model.
        verbose: Whether to list the layers.

    Raises:
        FileNotFoundError: If there is no such description or file. Nothing is downloaded.
    """

    # Attributes that Ultralytics declares as None, or as the given argument.
    model: Any
    task: Any
    cfg: Any
    ckpt: Any
    trainer: Any
    overrides: dict[str, Any]

    def __init__(
        self,
        model: str | Path = "yolov8n.yaml",
        modalities: Mapping[str, int] | None = None,
        fusion: str = "concat",
        verbose: bool = False,
        share_backbone: bool = False,
    ):
        self._wanted = modalities, fusion, share_backbone
        self._stock: str | None = None  # the stock checkpoint of the streams, until they are trained
        self._exported_stretched = False
        super(YOLO, self).__init__(str(model), verbose=verbose)  # YOLO's __init__ changes the class for RT-DETR

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Classes for each task."""
        return {name: task_classes(name, self._is_stretched).as_map() for name in TASK_CLASSES}

    @property
    def _is_stretched(self) -> bool:
        """Whether the model takes images stretched to a square, as RT-DETR does."""
        return self._exported_stretched if isinstance(self.model, str) else takes_stretched(self.model.yaml)

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        self.cfg = self.model_name = cfg
        self._build(yaml_model_load(cfg), cfg, verbose)
        self.overrides.update(model=cfg, task=self.task, **self._fusion())

    def _build(self, cfg: Mapping[str, Any], name: str, verbose: bool = False) -> None:
        """Build the model with streams from a stock description."""
        modalities, fusion, share = self._wanted
        described = two_stream_cfg(cfg, modalities, fusion, share)
        self.task = task_of(described)
        self.model = build_two_stream(described, verbose=verbose)
        self.model.args = {**DEFAULT_CFG_DICT, "model": name, "task": self.task}
        self.model.task = self.task

    def _check_trained(self) -> None:
        """Check that a model from a stock checkpoint has been trained: its fusion is not pretrained.

        Raises:
            ValueError: If it has not.
        """
        if self._stock is not None:
            raise ValueError(f"{self._stock} has a single stream: train it on pairs first, with train(data=…)")

    def _fusion(self) -> dict[str, Any]:
        """Return the arguments of `train` for the fusion."""
        _, fusion, share = self._wanted
        return {"fusion": fusion, "share_backbone": share}

    def _load(self, weights: str, task: str | None = None) -> None:
        """Load a checkpoint, or an exported file with its task and size.

        A stock checkpoint becomes a model in which every stream starts from its weights.

        Raises:
            FileNotFoundError: If there is no such file. Nothing is downloaded.
            ValueError: If a checkpoint holds something else than a model of Ultralytics.
        """
        if not Path(weights).exists():
            raise FileNotFoundError(
                f"there is no file {weights}, and none is downloaded: give a description like yolov8n.yaml, or the "
                "path of a checkpoint or an exported file"
            )
        if not weights.endswith(".pt"):
            stated, size, self._exported_stretched = exported_as(weights)
            super()._load(weights, task or stated)
            if size is not None:
                self.overrides["imgsz"] = size if self.task == "classify" else max(size)
            return
        try:
            super()._load(weights, task)
        except AttributeError as error:  # of whatever else was pickled
            raise ValueError(f"{weights} holds no model of Ultralytics ({error})") from None
        if not isinstance(loaded := self.model, BaseModel):
            raise ValueError(f"{weights} holds no model of Ultralytics, but a {type(loaded).__name__}")
        if "streams" not in self.model.yaml:
            self._start_from(weights, self.model)

    def _start_from(self, weights: str, stock: StockModel) -> None:
        """Build a model with streams that start from a stock model's weights, here and in `train`."""
        name = stock.yaml.get("yaml_file", "")
        self._build(stock.yaml, name)
        load_pretrained(self.model, weights)
        self._stock = weights
        self.ckpt, self.ckpt_path, self.model_name = None, None, name
        self.overrides = {"model": name, "task": self.task, "pretrained": weights, **self._fusion()}

    def train(  # type: ignore[override]  # differs from nn.Module's method of this name, as Ultralytics' does
        self, trainer=None, robustness: bool | Mapping[str, Any] = True, select: Any = None, **kwargs: Any
    ):
        """Train, then evaluate the best checkpoint with every combination of modalities.

        Args:
            trainer: A subclass of the task's trainer, such as `MWAMTrainer`; None for that trainer.
            robustness: False for no evaluation at the end, or arguments of `robustness` for it, like
                {"split": "test"}. The table is printed; the report is in the run folder.
            select: Which combinations of modalities determine the best checkpoint: "full", "mean", "worst", or a
                mapping like {"by": "mean", "every": 5} (see `Selection`).
            **kwargs: Arguments of Ultralytics, with `data` a recipe's data section or a file with one, and `mwam`,
                `incomplete`, `balancing`, `fusion` and `share_backbone` (see `MWAMTrainer`). `pretrained` may name a
                stock single-stream checkpoint, or one for each modality, and `freeze` streams by modality.

        Returns:
            Ultralytics' metrics of the best checkpoint.

        Raises:
            DatasetError: If the dataset cannot be used.
            NotImplementedError: If `data` is a list: Ultralytics would train with its own trainer in a subprocess.
        """
        if isinstance(kwargs.get("data"), list | tuple):
            raise NotImplementedError("data=[…] trains without this package's trainer: call train for each dataset")
        options = dict(robustness) if isinstance(robustness, Mapping) else {}
        is_wanted = robustness is not False  # {} means the defaults, as for `mwam`
        if is_wanted and kwargs.get("data") is not None:  # checked now, needed after hours
            kwargs["data"] = data = resolve_dataset(kwargs["data"])
            check_split(data, options.get("split", "val"))
            missing_conditions(data.channels, options.get("fill", "zero"))
            degradation_conditions(data.modalities, options.get("degradations", False))
            refuse_unknown_keys(options, [*signature(self.robustness).parameters, *DEFAULT_CFG_DICT])
            check_coco(options.get("coco", False), self.task)
        if select is not None:
            kwargs["select"] = asdict(selection_of(select))
        if self._stock is not None and kwargs.get("pretrained") is True:
            kwargs["pretrained"] = self._stock
        metrics = super().train(trainer, **kwargs)
        self._stock = None
        if is_wanted and RANK != -1:
            LOGGER.info(f"The robustness report is made by one process: mwam-det robustness {self.trainer.best} RECIPE")
        elif is_wanted:
            shared = {key: getattr(self.trainer.args, key) for key in VALIDATION_ARGUMENTS}
            options = {"save_dir": self.trainer.save_dir, "shares": self.trainer.shares, **shared, **options}
            self.robustness(self.trainer.paired, **options).show()
        return metrics

    def val(self, validator=None, missing: str | Iterable[str] = (), **kwargs: Any):
        """Validate, optionally with modalities missing.

        Args:
            validator: A subclass of `MultimodalValidator`, or None for that.
            missing: One or several names of modalities whose channels are set to 0.
            **kwargs: Arguments of Ultralytics; `data` as in `train`, by default the dataset of the training.

        Returns:
            Ultralytics' metrics.

        Raises:
            DatasetError: If the dataset cannot be used or its modalities are not those of the model.
            ValueError: If a missing modality is unknown or all are missing.
        """
        missing = (missing,) if isinstance(missing, str) else tuple(missing)
        self._check_trained()
        return super().val(validator, missing=missing, **kwargs)

    def predict(
        self,
        source: Any = None,
        stream: bool = False,
        predictor=None,
        missing: str | Iterable[str] = (),
        data: Any = None,
        partners: str = "error",
        **kwargs: Any,
    ):
        """Predict on pairs.

        Images are read as in the training: suffixes, ranges and alignment are recorded in checkpoints and exported
        files. With `save=True`, every picture shows all modalities side by side.

        Args:
            source: By name of the modality, {"rgb": …, "ir": …}, or a tuple or list in the order of the model:
                - two folders or patterns ("night/*.png"), paired by stem as in a dataset
                - two image files, or two lists of files, paired by position
                - two videos, or addresses of streams ("rtsp://…"), paired frame by frame until the shorter one ends
                - two arrays (H, W, 3) in BGR or (H, W, 1), uint8 or as in a file, or lists of them
                - two Pillow images, or lists of them
                - two tensors (B, C_m, H, W), RGB in [0, 1], H and W multiples of the model's stride
                Or a list of tuples, each a pair of files, arrays or images, like list(zip(files, others)). Or all
                modalities stacked in that order: one array (H, W, ΣC_m), colour in BGR, or one tensor (B, ΣC_m, H, W).
                A modality that is left out, or None, is missing; None in a list is missing in that pair only.
            stream: Whether to return a generator, for many images and videos.
            predictor: A subclass of `MultimodalPredictor`, or None for that.
            missing: One or several names of modalities to treat as missing even if given: their channels are 0 after
                normalisation, as in `robustness`.
            data: As in `train`: a dataset whose suffixes, ranges and alignment replace those of the training.
            partners: What to do with an image of a folder without a partner: "error" refuses the source, "skip" leaves
                the image out, "missing" predicts without the partner, with a warning.
            **kwargs: Arguments of Ultralytics.

        Returns:
            Ultralytics' results of each pair, with the images of all modalities (see `PairResults`).

        Raises:
            DatasetError: If the model does not record its modalities.
            FileNotFoundError: If a file or folder does not exist.
            ValueError: If an image has no partner, the modality of the source is not known, a missing modality is
                unknown, or all are missing.
        """
        self._check_trained()
        if source is None:
            raise ValueError("predict needs a source: an image of each modality, like {'rgb': 'a.jpg', 'ir': 'b.jpg'}")
        missing = (missing,) if isinstance(missing, str) else tuple(missing)
        source = PairSource(source, missing, partners, None if data is None else resolve_dataset(data))
        return super().predict(source, stream, predictor, **kwargs)

    def export(self, **kwargs: Any) -> str:
        """Export the model to a format of Ultralytics.

        The metadata of the file records the modalities, their order and their channels, so that `predict`, `val` and
        `robustness` can run it.

        Args:
            **kwargs: Arguments of Ultralytics, with `format` "onnx", "torchscript", "openvino" and so on, and `inputs`:
                "stacked", the default, for one input, the stacked image (B, ΣC_m, H, W), RGB in [0, 1]; "separate",
                only for ONNX, for one input per modality, with its name, (B, C_m, H, W), likewise. For INT8, `data`, as
                in `train` and by default the dataset of the training, provides the pairs for calibration.

        Returns:
            The file, which is beside the checkpoint.

        Raises:
            DatasetError: If the dataset to calibrate on cannot be used, or has other modalities.
            NotImplementedError: If the format cannot have separate inputs, or cannot be calibrated on pairs.
            ValueError: If `inputs` is unknown, or there is nothing to calibrate on.
        """
        self._check_is_pytorch_model()
        self._check_trained()
        defaults = {"imgsz": self.model.args["imgsz"], "batch": 1, "data": None, "device": None, "verbose": False}
        args = {**self.overrides, **defaults, **kwargs, "mode": "export"}
        return MultimodalExporter(overrides=args, _callbacks=self.callbacks)(self.model)

    def robustness(
        self,
        data: Any = None,
        split: str = "val",
        save_dir: str | Path | None = None,
        coco: bool = False,
        fill: str = "zero",
        degradations: bool | str | Iterable[str] = False,
        plots: bool = True,
        notes: Iterable[str] = (),
        shares: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> RobustnessReport:
        """Evaluate every combination of modalities on a split, in one pass.

        Args:
            data: As in `train`; by default the dataset of the training.
            split: The split to evaluate: "val", "test" or "train".
            save_dir: Folder of the report (see `RobustnessReport.save`); by default a new one, as for `val`.
            coco: Whether to measure with pycocotools too, and save labels and predictions of every combination in
                COCO's format in the folder coco.
            fill: Replacement of a missing modality: "zero", "mean" or "noise".
            degradations: Whether to evaluate all degradations that suit each modality, in five severities (see
                `mwam_det.robustness.degradation.DEGRADATIONS`), or the names of some. The visible modality of the
                dataset counts as a camera, all others as thermal.
            plots: Whether the report has figures. Ultralytics' own are those of `val`.
            notes: Sentences to add to the report.
            shares: T of every modality (Eq. 6) at the end of the training. If it contradicts which modality the model
                depends on, a note says so.
            **kwargs: Arguments of Ultralytics' validation.

        Returns:
            The report, already saved.

        Raises:
            DatasetError: If the dataset cannot be used or its modalities are not those of the model.
            NotImplementedError: In a process of torchrun, or with `coco` and a task other than "detect".
            ValueError: If `fill` or a degradation is unknown, or suits no modality.
        """
        self._check_trained()
        check_coco(coco, self.task)
        if RANK != -1:
            raise NotImplementedError("the robustness report is made by one process: call robustness without torchrun")
        defaults = {"rect": True, "verbose": False}
        args = {**self.overrides, **defaults, **kwargs, "plots": False, "split": split, "mode": "val"}
        chosen: Any = data if data is not None else self._val_data()
        args["data"] = dataset = resolve_dataset(chosen)
        check_modalities(self.model, dataset.channels)
        check_split(dataset, split)
        conditions = missing_conditions(dataset.channels, fill)
        conditions += degradation_conditions(dataset.modalities, degradations)
        stock = {key: value for key, value in args.items() if key in DEFAULT_CFG_DICT}
        save_dir = Path(save_dir or get_save_dir(get_cfg(overrides=stock)))
        args |= {"conditions": conditions, "samples": SAMPLES if plots else 0, "coco": coco}
        validator = task_classes(self.task, self._is_stretched).reporting(None, save_dir, args, self.callbacks)
        validator(model=self.model)
        weights = str(self.overrides.get("model", ""))
        report = validator.report(weights, [*notes, *_contradictions(validator, shares)])
        report = replace(report, origin=Origin.of(trained_with(weights), ["ultralytics", "torch"]))
        report.save(save_dir, plots)
        if validator.coco is not None:
            validator.coco.write(save_dir / "coco")
        LOGGER.info(f"Robustness report saved to {save_dir / 'report.html'}")
        return report

    def tune(self, *args: Any, **kwargs: Any):
        """Refuse: Ultralytics' tuner starts its own trainer in a subprocess, without modalities and MWAM.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("tune trains without this package's trainer: call train with each set of arguments")

    def benchmark(self, *args: Any, **kwargs: Any):
        """Refuse: Ultralytics' benchmark validates on its own dataset class, which reads one modality.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("benchmark reads a single modality: export each format and compare its outputs")


def _contradictions(validator: OnePass, shares: Mapping[str, float] | None) -> list[str]:
    """Return a sentence if MWAM's preference contradicts what the model depends on."""
    if shares is None or len(shares) < 2:
        return []
    task, metrics = validator.args.task, validator.by_combination
    first = metrics_of(task)[0]
    sentence = explain(shares, {name: measure(task, metrics[(name,)])[first] for name in shares}, first)
    return [] if sentence is None else [f"{sentence}."]
