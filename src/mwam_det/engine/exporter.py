"""Ultralytics' exporter, for models that take several modalities."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable
from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import nn
from ultralytics.data import build_dataloader
from ultralytics.engine.exporter import Exporter
from ultralytics.utils import DEFAULT_CFG, LOGGER

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.paired_data import check_split
from mwam_det.data.section import resolve_dataset
from mwam_det.data.splits import groups_of
from mwam_det.engine.arguments import without_own_arguments
from mwam_det.engine.deployment import DESCRIBED, INPUTS, describe, separate_inputs
from mwam_det.engine.validator import check_modalities
from mwam_det.models.stock import StockModel, stock_model
from mwam_det.models.two_stream import drop_split_convolution

CALIBRATED = ("8", "int8", "w8a16")
"""Precisions that need images to determine the range of activations."""

CALIBRATED_FORMATS = ("onnx", "openvino")
"""Formats that can be calibrated on pairs."""


class Commands(logging.Filter):
    """Replace the commands that Ultralytics logs after an export, which take single images, by ours for pairs.

    Args:
        commands: Returns the lines for an exported file.
    """

    stock = re.compile(r"\nPredict: .*? model=(?P<file>.*?) imgsz=\S+ .*?\nValidate: [^\n]*", re.DOTALL)

    def __init__(self, commands: Callable[[str], list[str]]):
        super().__init__()
        self.commands = commands

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the commands in a message; no message is dropped."""
        if isinstance(record.msg, str) and (found := self.stock.search(record.msg)):
            record.msg = record.msg.replace(found[0], "".join(f"\n{line}" for line in self.commands(found["file"])))
        return True


def commands_for(model: StockModel, file: str) -> list[str]:
    """Return commands to predict with an exported file and to evaluate it, on the model's dataset if available.

    Args:
        model: The exported model.
        file: The exported file.
    """
    data = str(model.args.get("data") or "")
    try:
        folders = groups_of(resolve_dataset(data).splits["val"])[0].folders[0]
    except DatasetError:
        folders, data = {}, "DATA.yaml"
    names = describe(model).get("modalities", {})
    source = shlex.join(f"{name}={folders.get(name, 'FOLDER')}" for name in names)
    code = f"import mwam_det; mwam_det.MultimodalYOLO({file!r}).robustness({data!r}).show()"
    return [
        f"Predict:         mwam-det predict {shlex.quote(file)} --source {source}",
        f"Evaluate:        python -c {shlex.quote(code)}",
    ]


class MultimodalExporter(Exporter):
    """Export a model of several modalities; the file records them, their order and how their images are read.

    The identity convolution that splits the stacked image is left out of the file. INT8 is calibrated on pairs.

    The arguments are those of `Exporter`; `overrides` may also have `inputs`: "stacked" for one input, the stacked
    image (B, ΣC_m, H, W), RGB in [0, 1]; "separate" for one per modality, with its name, (B, C_m, H, W), likewise.

    Raises:
        NotImplementedError: If the format cannot have separate inputs, or cannot be calibrated on pairs.
        ValueError: If `inputs` is unknown, or there is nothing to calibrate on.
    """

    model: Any  # set in `__call__` to a copy of the model

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        overrides = dict(overrides or {})
        self.inputs = overrides.pop("inputs", "stacked")
        super().__init__(cfg, without_own_arguments(overrides), _callbacks)
        if self.inputs not in INPUTS:
            raise ValueError(f"inputs={self.inputs!r} is unknown: choose from {', '.join(INPUTS)}")
        if self.inputs == "separate" and self.args.format.lower() != "onnx":
            raise NotImplementedError(
                f"inputs=separate works with format=onnx, not {self.args.format}: export to ONNX, and convert the file "
                "with the other format's tool, like OpenVINO's convert_model, which keeps the inputs"
            )
        self._check_calibration()

    def __call__(self, model: nn.Module) -> str:
        """Export a model; see `Exporter.__call__`.

        Returns:
            The file.

        Raises:
            NotImplementedError: If the format needs packages that are not installed.
            DatasetError: If the pairs to calibrate on cannot be used, or have other modalities than the model.
        """
        stock = stock_model(model)
        if str(self.args.quantize) in CALIBRATED:
            self.args.data = self._pairs(stock)
        commands = Commands(partial(commands_for, stock))
        LOGGER.addFilter(commands)
        try:
            file = super().__call__(model)
        finally:
            LOGGER.removeFilter(commands)
        if self.inputs == "separate":
            separate_inputs(file)
        return file

    def export_onnx(self, *args: Any, **options: Any) -> str:
        """Write an ONNX file, also as a step to another format; see `Exporter.export_onnx`."""
        self._need("onnx")
        return super().export_onnx(*args, **options)

    def export_openvino(self, *args: Any, **options: Any) -> str:
        """Write an OpenVINO model; see `Exporter.export_openvino`."""
        self._need("onnx", "openvino")
        return super().export_openvino(*args, **options)

    def _need(self, *packages: str) -> None:
        """Check that packages of the extra "export" are installed; Ultralytics would install missing ones."""
        if lacking := [name for name in packages if find_spec(name) is None]:
            raise NotImplementedError(
                f'format={self.args.format} needs {", ".join(lacking)}: pip install "mwam-det[export]"'
            )

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event, and prepare the model before Ultralytics writes the file."""
        if event == "on_export_start":
            self._check_calibration()  # Ultralytics turns calibration on for some formats
            drop_split_convolution(self.model)  # a copy that is fused and exported, never saved
            description = describe(self.model)
            self.metadata.update({key: description[key] for key in DESCRIBED if key in description})
            self.metadata["args"].pop("data", None)  # folders of the machine that calibrated
        super().run_callbacks(event)

    def get_int8_calibration_dataloader(self, prefix: str = ""):
        """Build the loader of the pairs to calibrate on, letterboxed to the size of the export.

        Args:
            prefix: Beginning of messages.

        Returns:
            A loader of batches with "img", the stacked images, (B, ΣC_m, H, W), uint8, RGB.
        """
        data, split = self.args.data, self.args.split or "val"
        arguments = copy(self.args)
        arguments.imgsz, arguments.split = max(self.imgsz), split
        dataset = build_paired_dataset(
            arguments, data[split], self.args.batch, data, "val", rect=False, stride=int(max(self.model.stride))
        )
        letterbox = dataset.transforms.transforms[0]
        getattr(letterbox, "letterbox", letterbox).new_shape = self.imgsz  # need not be square
        if len(dataset) < 300:
            LOGGER.warning(f"{prefix} calibrating on {len(dataset)} pairs: Ultralytics recommends at least 300")
        batch = min(self.args.batch, len(dataset))
        return build_dataloader(dataset, batch, workers=0, shuffle=False, drop_last=True)  # batches of one size

    def _check_calibration(self) -> None:
        if str(self.args.quantize) in CALIBRATED and self.args.format.lower() not in CALIBRATED_FORMATS:
            raise NotImplementedError(
                f"format={self.args.format} cannot be calibrated on pairs, which quantize={self.args.quantize} needs: "
                f"choose from {', '.join(CALIBRATED_FORMATS)}, or FP16 (quantize=16)"
            )

    def _pairs(self, model: StockModel) -> dict[str, Any]:
        """Return the dataset to calibrate on, by default that of the training, resolved and checked."""
        data = self.args.data or model.args.get("data")
        if not data:
            raise ValueError(
                f"quantize={self.args.quantize} is calibrated on pairs: give data, a recipe or its data section"
            )
        dataset = resolve_dataset(data)
        check_modalities(model, dataset.channels)
        check_split(dataset, self.args.split or "val")
        return dataset.as_dict()
