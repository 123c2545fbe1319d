"""What a model says of its modalities, as a checkpoint and as an exported file, and what may be exported."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn.backends.base import BaseBackend

from mwam_det.data.layout import READING_KEYS, DatasetError, Modality, modalities_of

DESCRIBED = ("modalities", "reading")
"""Keys of a model's YAML that go into the metadata of exported files."""

CALIBRATED = ("8", "int8", "w8a16")
"""Precisions for which images are needed to find the range of activations."""

NO_CALIBRATION = (
    "INT8 is calibrated by Ultralytics on a dataset of single images, which would give a two-stream model wrong "
    "ranges: export in FP32 (quantize=32) or FP16 (quantize=16)"
)


def describe(model: Any) -> dict[str, Any]:
    """Read what a model says of its inputs.

    Args:
        model: A detector, Ultralytics' AutoBackend of one, or the path of an exported file.

    Returns:
        "modalities" (channels by name, in order), "reading" (`READING_KEYS` of the training's dataset) and "names" of
        the classes, as far as they are known.
    """
    if isinstance(model, str | Path):
        told = {} if str(model).endswith(".pt") else BaseBackend.read_metadata(model)
    elif isinstance(model, nn.Module) and hasattr(model, "format"):
        told = getattr(model.model, "yaml", {}) if model.format == "pt" else model.metadata
        told = {**told, "names": model.names}
    else:
        told = {**getattr(model, "yaml", {}), "names": getattr(model, "names", None) or {}}
    known = {key: told[key] for key in (*DESCRIBED, "names") if key in told}
    known = {key: ast.literal_eval(value) if isinstance(value, str) else value for key, value in known.items()}
    if "names" in known:
        known["names"] = {int(number): name for number, name in dict(known["names"]).items()}  # JSON has text for keys
    return known


def modalities_of_model(model: Any, data: dict[str, Any] | None = None) -> tuple[Modality, ...]:
    """List the modalities that a model takes, in the order in which they are stacked.

    Args:
        model: As in `describe`.
        data: A resolved dataset whose files are named and read as those to predict on, in place of the training's.

    Raises:
        DatasetError: If the model has a single stream, an exported file does not say its modalities, or those of `data`
            are others.
    """
    own = describe(model)
    if "modalities" not in own:
        raise DatasetError(
            "the model does not say which modalities it takes: train it with mwam_det, and export it by "
            "MultimodalYOLO(...).export"
        )
    if data is not None and list(data["modalities"].items()) != list(own["modalities"].items()):
        raise DatasetError(f"the model takes the modalities {own['modalities']}, data gives {data['modalities']}")
    reading = data if data is not None else own.get("reading", {})
    reading = {key: reading[key] for key in READING_KEYS if key in reading}
    return modalities_of({"modalities": own["modalities"], "visible": None, **reading})


def refuse_calibration(quantize: Any) -> None:
    """Refuse precisions that need a calibration.

    Args:
        quantize: The precision, as Ultralytics takes it.

    Raises:
        NotImplementedError: If images would be needed.
    """
    if str(quantize).lower() in CALIBRATED:
        raise NotImplementedError(NO_CALIBRATION)


def write_description(exporter: Any) -> None:
    """Add the modalities to the metadata that an exporter is about to write; Ultralytics' on_export_start.

    Raises:
        NotImplementedError: If the format makes Ultralytics calibrate.
    """
    refuse_calibration(exporter.args.quantize)
    told = describe(exporter.model)
    exporter.metadata.update({key: told[key] for key in DESCRIBED if key in told})
