"""The modalities recorded in a checkpoint or an exported file, and the inputs of an exported file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn.backends.base import BaseBackend

from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import READING_KEYS, Modality, keys_of, modalities_of
from mwam_det.data.paired_data import PairedData
from mwam_det.models.two_stream import STRETCHED_HEAD

DESCRIBED = ("modalities", "reading")
"""Keys of a model's YAML that go into the metadata of exported files."""

INPUTS = ("stacked", "separate")
"""Inputs of an exported file: one stacked image, or one image per modality, with its name."""


def describe(model: Any) -> dict[str, Any]:
    """Read the description of a model's inputs.

    Args:
        model: A detector, Ultralytics' AutoBackend of one, or the path of an exported file.

    Returns:
        "modalities" (channels by name, in order), "reading" (`READING_KEYS` of the training's dataset), "inputs" (the
        names of the inputs of a file that has one per modality) and "names" of the classes, as far as known.
    """
    if isinstance(model, str | Path):
        metadata: dict[str, Any] = {} if str(model).endswith(".pt") else BaseBackend.read_metadata(model) or {}
    elif isinstance(model, nn.Module) and hasattr(model, "format"):
        backend: Any = model
        stated = getattr(backend.model, "yaml", {}) if backend.format == "pt" else backend.metadata
        metadata = {**stated, "names": backend.names}
    else:
        metadata = {**getattr(model, "yaml", {}), "names": getattr(model, "names", None) or {}}
    known = {key: metadata[key] for key in (*DESCRIBED, "inputs", "names") if key in metadata}
    known = {key: ast.literal_eval(value) if isinstance(value, str) else value for key, value in known.items()}
    if "names" in known:
        known["names"] = {int(number): name for number, name in dict(known["names"]).items()}  # JSON keys are text
    return known


def exported_as(file: str | Path) -> tuple[str | None, list[int] | None, bool]:
    """Read from the metadata of an exported file how it is used.

    Returns:
        Its task and the (height, width) of its input, each None if not recorded, and whether it takes stretched images.
        For a dynamic input, the size is that of the export, by default that of the training.
    """
    metadata = BaseBackend.read_metadata(file) or {}
    size = metadata.get("imgsz")
    size = ast.literal_eval(size) if isinstance(size, str) else size
    return metadata.get("task"), size, metadata.get("head") == STRETCHED_HEAD


def modalities_of_model(model: Any, data: PairedData | None = None) -> tuple[Modality, ...]:
    """List the modalities that a model takes, in the order in which they are stacked.

    Args:
        model: As in `describe`.
        data: A dataset whose naming and reading of files replace the training's.

    Raises:
        DatasetError: If the model has a single stream, an exported file does not record its modalities, or `data` has
            others.
    """
    description = describe(model)
    if "modalities" not in description:
        raise DatasetError(
            "the model does not say which modalities it takes: train it with mwam_det, and export it with "
            "MultimodalYOLO(...).export"
        )
    if data is not None and list(data.channels.items()) != list(description["modalities"].items()):
        raise DatasetError(f"the model takes the modalities {description['modalities']}, data gives {data.channels}")
    reading = keys_of(data.modalities) if data is not None else description.get("reading", {})
    reading = {key: reading[key] for key in READING_KEYS if key in reading}
    return modalities_of({"modalities": description["modalities"], "visible": None, **reading})


def separate_inputs(file: str | Path) -> None:
    """Replace the stacked input of an exported ONNX file by one input per modality, in place.

    The inputs have the names of the modalities and shape (B, C_m, H, W), and are stacked in the graph; B, H and W stay
    fixed or dynamic. Nodes, weights, opset and metadata are kept, and the names are added to the metadata as "inputs".

    Args:
        file: A file from `MultimodalYOLO.export`.

    Raises:
        ValueError: If a modality has the name of something else in the file.
    """
    import onnx

    model = onnx.load(file)
    graph, modalities = model.graph, describe(file)["modalities"]
    _check_names(graph, modalities)
    (stacked,) = graph.input
    for name, channels in modalities.items():
        single = graph.input.add()
        single.CopyFrom(stacked)
        single.name = name
        single.type.tensor_type.shape.dim[1].dim_value = channels
    graph.input.remove(stacked)
    graph.node.insert(0, onnx.helper.make_node("Concat", list(modalities), [stacked.name], name="stack", axis=1))
    onnx.helper.set_model_props(model, {**_metadata(model), "inputs": str(list(modalities))})
    onnx.save(model, file)


def stacked_inputs(file: str | Path, folder: str | Path) -> str | Path:
    """Undo `separate_inputs` in a copy of a file, as Ultralytics only runs files with one input.

    Args:
        file: An exported file.
        folder: Folder for the copy.

    Returns:
        The copy, or `file` itself if its input is the stacked image.
    """
    if "inputs" not in describe(file):
        return file
    import onnx

    model = onnx.load(file)
    graph = model.graph
    stacked = onnx.ValueInfoProto()
    stacked.CopyFrom(graph.input[0])
    (stack,) = [node for node in graph.node if list(node.input) == [each.name for each in graph.input]]
    stacked.name = stack.output[0]
    stacked.type.tensor_type.shape.dim[1].dim_value = sum(describe(file)["modalities"].values())
    graph.node.remove(stack)
    del graph.input[:]
    graph.input.append(stacked)
    onnx.helper.set_model_props(model, {key: value for key, value in _metadata(model).items() if key != "inputs"})
    onnx.save(model, copy := str(Path(folder) / Path(file).name))
    return copy


def _metadata(model: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _check_names(graph: Any, modalities: Mapping[str, int]) -> None:
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {each.name for each in (*graph.input, *graph.initializer)}
    if clash := sorted(taken & set(modalities)):
        raise ValueError(f"inputs=separate: '{clash[0]}' is the name of a modality and of a tensor in the ONNX graph")
