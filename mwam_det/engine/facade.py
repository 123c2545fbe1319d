"""MultimodalYOLO: the face of the package for those who know `ultralytics.YOLO`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg, get_save_dir
from ultralytics.models import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from mwam_det.data.layout import check_split, resolve_dataset
from mwam_det.engine.combinations import OnePassValidator, missing_conditions
from mwam_det.engine.robustness import CombinationResult, RobustnessReport
from mwam_det.engine.trainer import MWAMTrainer
from mwam_det.engine.validator import MultimodalValidator, check_modalities
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg

VALIDATION_ARGUMENTS = (
    "imgsz", "batch", "device", "workers", "single_cls", "classes", "conf", "iou", "max_det", "agnostic_nms"
)  # fmt: skip
"""What the report at the end of a training takes over from it, so that it measures as the last validation did."""


class MultimodalYOLO(YOLO):
    """`ultralytics.YOLO` for two-stream detectors: trains with MWAM and tells what a missing modality costs.

    Example:
        >>> model = MultimodalYOLO("yolov8n.yaml")  # doctest: +SKIP (trains)
        >>> model.train(data="cfg/llvip.yaml", epochs=100, optimizer="SGD")  # doctest: +SKIP
        >>> model.robustness().show()  # doctest: +SKIP

    Args:
        model: A stock description such as "yolov8n.yaml", or a checkpoint of a two-stream model.
        modalities: Channels of each modality by name, for a model from a description; {"rgb": 3, "ir": 3} if left out.
            `train` takes the modalities of its dataset instead, if they differ.
        fusion: How the streams are fused, for a model from a description.
        verbose: Whether to list the layers.

    Raises:
        FileNotFoundError: If there is no such description or checkpoint.
    """

    def __init__(
        self,
        model: str | Path = "yolov8n.yaml",
        modalities: Mapping[str, int] | None = None,
        fusion: str = "concat",
        verbose: bool = False,
    ):
        self._wanted = modalities, fusion
        super().__init__(str(model), task="detect", verbose=verbose)

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Classes for each task; detection alone for now."""
        return {"detect": {"model": DetectionModel, "trainer": MWAMTrainer, "validator": MultimodalValidator}}

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False) -> None:
        modalities, fusion = self._wanted
        self.cfg = self.model_name = cfg
        self.task = task
        self.model = build_two_stream(two_stream_cfg(yaml_model_load(cfg), modalities, fusion), verbose=verbose)
        self.overrides.update(model=cfg, task=task, fusion=fusion)
        self.model.args = {**DEFAULT_CFG_DICT, "model": cfg, "task": task}
        self.model.task = task

    def train(self, trainer=None, robustness: bool | Mapping[str, Any] = True, **kwargs: Any):
        """Train, then evaluate the best checkpoint with every combination of modalities.

        Args:
            trainer: A subclass of `MWAMTrainer`, or None for that.
            robustness: Whether to evaluate at the end, or the arguments of `robustness` to do it with (`split`). The
                table is printed; robustness.json and robustness.csv lie in the run folder.
            **kwargs: Arguments of Ultralytics, with `data` a recipe's data section or a file that holds one, and
                `mwam` and `fusion` (see `MWAMTrainer`).

        Returns:
            Ultralytics' metrics of the best checkpoint.

        Raises:
            DatasetError: If the dataset cannot be used.
            NotImplementedError: If `data` is a list: Ultralytics would train with its own trainer in a subprocess.
        """
        if isinstance(kwargs.get("data"), list | tuple):
            raise NotImplementedError("data=[…] trains without this package's trainer: call train once a dataset")
        options = dict(robustness) if isinstance(robustness, Mapping) else {}
        if robustness and kwargs.get("data") is not None:  # known now, needed after hours
            check_split(resolve_dataset(kwargs["data"]), options.get("split", "val"))
        metrics = super().train(trainer, **kwargs)
        if robustness:
            shared = {key: getattr(self.trainer.args, key) for key in VALIDATION_ARGUMENTS}
            options = {"save_dir": self.trainer.save_dir, **shared, **options}
            self.robustness(self.trainer.args.data, **options).show()
        return metrics

    def val(self, validator=None, missing: str | Iterable[str] = (), **kwargs: Any):
        """Validate, optionally with modalities missing.

        Args:
            validator: A subclass of `MultimodalValidator`, or None for that.
            missing: Names of the modalities whose channels are 0, or one name.
            **kwargs: Arguments of Ultralytics; `data` as in `train`, by default the dataset of the training.

        Returns:
            Ultralytics' metrics.

        Raises:
            DatasetError: If the dataset cannot be used or its modalities are not those of the model.
            ValueError: If a missing modality is unknown or all are missing.
        """
        missing = (missing,) if isinstance(missing, str) else tuple(missing)
        return super().val(validator, missing=missing, **kwargs)

    def robustness(
        self, data: Any = None, split: str = "val", save_dir: str | Path | None = None, **kwargs: Any
    ) -> RobustnessReport:
        """Evaluate every combination of modalities on a split.

        Args:
            data: As in `train`; by default the dataset of the training.
            split: The split to evaluate: "val", "test" or "train".
            save_dir: Where robustness.json and robustness.csv go; a new folder as for `val` if left out.
            **kwargs: Arguments of Ultralytics' validation.

        Returns:
            The report, already saved.

        Raises:
            DatasetError: If the dataset cannot be used or its modalities are not those of the model.
        """
        defaults = {"rect": True, "plots": False, "verbose": False}
        args = {**self.overrides, **defaults, **kwargs, "split": split, "mode": "val"}
        args["data"] = resolve_dataset(data if data is not None else self._val_data())
        check_modalities(self.model, args["data"])
        check_split(args["data"], split)
        stock = {key: value for key, value in args.items() if key in DEFAULT_CFG_DICT}
        save_dir = Path(save_dir or get_save_dir(get_cfg(overrides=stock)))
        modalities = tuple(args["data"]["modalities"])
        conditions = missing_conditions(modalities)
        validator = OnePassValidator(None, save_dir, {**args, "conditions": conditions}, self.callbacks)
        validator(model=self.model)
        results = [
            CombinationResult(
                tuple(name for name in modalities if name not in missing),
                {"mAP50": float(metrics.box.map50), "mAP50-95": float(metrics.box.map)},
            )
            for missing, metrics in [
                *((c.missing, other.metrics) for c, other in zip(conditions, validator.others, strict=True)),
                ((), validator.metrics),
            ]
        ]
        report = RobustnessReport(modalities, tuple(results), split, str(self.overrides.get("model", "")))
        report.save(save_dir)
        LOGGER.info(f"Robustness report saved to {save_dir}")
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
        raise NotImplementedError("benchmark reads one modality alone: export each format and compare its outputs")
