"""Transfer of weights from stock single-stream checkpoints to the streams, neck and head of a model with several.

Layers of both models correspond by their position (`layers_of_stock`): the layers of each stream, and those after the
fusions, are the stock model's in its order. Nothing is matched by coincidence of name or shape.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint
from ultralytics.nn.tasks import BaseModel, load_checkpoint

from mwam_det.models.stock import StockModel
from mwam_det.models.two_stream import SPLIT_LAYER, start_as_mean

SPLIT = "part of the split, which is the identity"
FUSION = "part of the fusions, which start as the mean over streams (`start_as_mean`)"
CLASSES_DIFFER = "made for another number of classes"
NOT_NAMED = "no checkpoint was named for this modality"
SHOWN = 6
"""Number of tensor names listed per reason in a report."""


@dataclass(frozen=True)
class Transfer:
    """What a model takes from checkpoints, and what it does not.

    Attributes:
        tensors: New values by name in the model's state dict.
        sources: The modality whose checkpoint they are from, by the same names.
        summed: Names of first convolutions whose three input channels were summed into one.
        fresh: Why a tensor of the model keeps its value, by name.
        unused: Names of tensors that no stream, neck or head uses, by modality.
    """

    tensors: dict[str, Tensor]
    sources: dict[str, str]
    summed: tuple[str, ...]
    fresh: dict[str, str]
    unused: dict[str, tuple[str, ...]]

    def report(self, files: Mapping[str, Any]) -> str:
        """Summarise in a few lines which tensors came from where, which did not, and why.

        Args:
            files: The checkpoint of each modality.
        """
        lines = [f"Pretrained weights: {len(self.tensors)} of {len(self.tensors) + len(self.fresh)} tensors"]
        for modality, count in Counter(self.sources.values()).items():
            lines.append(f"  {count} from {files[modality]} ({modality})")
        if self.summed:
            lines.append(f"  summed over their input channels: {_some(self.summed)}")
        for reason in dict.fromkeys(self.fresh.values()):
            names = [name for name, why in self.fresh.items() if why == reason]
            lines.append(f"  {len(names)} not taken, {reason}: {_some(names)}")
        for modality, left_over in self.unused.items():
            if left_over:
                lines.append(f"  {len(left_over)} of {files[modality]} ({modality}) left over: {_some(left_over)}")
        return "\n".join(lines)


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f", … ({len(names) - SHOWN} more)" if len(names) > SHOWN else "")


def layers_of_stock(cfg: Mapping[str, Any]) -> dict[int, tuple[str | None, int]]:
    """Return the layer of the stock model that each layer of a model with streams corresponds to.

    Args:
        cfg: The result of `two_stream_cfg`.

    Returns:
        (modality, index in the stock model) by index, the modality None for layers after the fusions. A shared backbone
        counts as that of the first modality. Split, selection of a modality and fusions have no stock layer.
    """
    origins: dict[int, tuple[str | None, int]] = {}
    for name, (first, end) in reversed(cfg["streams"].items()):
        origins.update({index: (name, index - first - 1) for index in range(first + 1, end)})
    first, end = next(iter(cfg["streams"].values()))
    shift = cfg["fusions"][1] - (end - first - 1)
    for index in range(cfg["fusions"][1], len(cfg["backbone"]) + len(cfg["head"])):
        origins[index] = (None, index - shift)
    return origins


def map_weights(
    cfg: Mapping[str, Any], target: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]]
) -> Transfer:
    """Find a value for each tensor of a model with streams in the state dicts of stock models.

    Each stream takes the tensors of its modality's state, the layers after the fusions those of the first state. A
    first convolution on a single channel takes the sum over the input channels, so that it responds to a grey image as
    the stock one does to three equal channels. Only tensors of the head may differ in shape, by the number of classes,
    and first convolutions, by other numbers of channels; these are left unchanged.

    Args:
        cfg: The result of `two_stream_cfg`.
        target: The state dict of the model; only names and shapes are read.
        states: State dicts of stock models by modality; the same one for all if there is only one checkpoint.

    Raises:
        ValueError: If a modality is unknown, a shared backbone gets several states, or a state is of another model.
    """
    _check_states(cfg, states)
    origins = layers_of_stock(cfg)
    last = max(origins)
    tensors: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    fresh: dict[str, str] = {}
    summed: list[str] = []
    taken: dict[str, set[str]] = {name: set() for name in states}
    for key, tensor in target.items():
        source = _source_of(key, origins, cfg, states)
        if isinstance(source, str):
            fresh[key] = source
            continue
        modality, name = source
        value, in_head = states[modality].get(name), key.startswith(f"model.{last}.")
        if value is None and in_head:
            fresh[key] = "in no checkpoint"
            continue
        if value is None:
            raise ValueError(
                f"the checkpoint for {modality} has no tensor {name}: it is fused for inference, or from another model "
                f"than {cfg.get('yaml_file', 'this one')}"
            )
        taken[modality].add(name)
        fitted = _fit(value, tensor, modality, cfg["modalities"][modality], in_head)
        if fitted is None:
            raise ValueError(
                f"the checkpoint for {modality} is from another model than {cfg.get('yaml_file', 'this one')}: its "
                f"{name} is {tuple(value.shape)}, here it is {tuple(tensor.shape)}"
            )
        if isinstance(fitted, str):
            fresh[key] = fitted
            continue
        tensors[key], sources[key] = fitted, modality
        if fitted is not value:
            summed.append(key)
    return Transfer(tensors, sources, tuple(summed), fresh, _left_over(states, taken, origins))


def _check_states(cfg: Mapping[str, Any], states: Mapping[str, Mapping[str, Tensor]]) -> None:
    if unknown := [name for name in states if name not in cfg["streams"]] or not states:
        raise ValueError(f"pretrained names {unknown or 'nothing'}: choose from {', '.join(cfg['streams'])}")
    if cfg.get("share_backbone") and len({id(state) for state in states.values()}) > 1:
        raise ValueError("with share_backbone there is one backbone: name one checkpoint, not one per modality")


def _source_of(
    key: str,
    origins: Mapping[int, tuple[str | None, int]],
    cfg: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Tensor]],
) -> tuple[str, str] | str:
    """Return the modality whose state has the value of a tensor, and its name there; or why there is none."""
    index, _, rest = key.removeprefix("model.").partition(".")
    if int(index) not in origins:
        return SPLIT if int(index) == SPLIT_LAYER else FUSION
    modality, stock_index = origins[int(index)]
    if cfg.get("share_backbone") or modality is None:
        modality = next(iter(states))
    return (modality, f"model.{stock_index}.{rest}") if modality in states else f"{modality}: {NOT_NAMED}"


def _fit(value: Tensor, tensor: Tensor, modality: str, channels: int, in_head: bool) -> Tensor | str | None:
    """Return the new value of a tensor, or why it is unchanged; None if they are from different models."""
    if value.shape == tensor.shape:
        return value
    if in_head:
        return CLASSES_DIFFER
    if not _reads_the_image(value, tensor, channels):
        return None
    if channels == 1:
        return value.sum(1, keepdim=True)
    return f"as {modality} has {channels} channels and the checkpoint {value.shape[1]}"


def _reads_the_image(value: Tensor, tensor: Tensor, channels: int) -> bool:
    """Return whether two convolutions differ only in the number of image channels."""
    if value.ndim != 4 or tensor.ndim != 4 or tensor.shape[1] != channels:
        return False
    return value.shape[0] == tensor.shape[0] and value.shape[2:] == tensor.shape[2:]


def _left_over(
    states: Mapping[str, Mapping[str, Tensor]],
    taken: Mapping[str, set[str]],
    origins: Mapping[int, tuple[str | None, int]],
) -> dict[str, tuple[str, ...]]:
    """List the unused tensors of each state."""
    first = next(iter(states))
    left = {name: tuple(key for key in state if key not in taken[name]) for name, state in states.items()}
    if len({id(state) for state in states.values()}) == 1:  # one checkpoint: another modality may use the tensor
        everywhere = set.intersection(*map(set, left.values()))
        return {first: tuple(key for key in left[first] if key in everywhere)}
    after_fusions = {f"model.{index}" for modality, index in origins.values() if modality is None}
    return {
        name: tuple(key for key in keys if name == first or ".".join(key.split(".")[:2]) not in after_fusions)
        for name, keys in left.items()
    }


def load_stock(file: str | Path) -> BaseModel:
    """Load the model of a checkpoint as Ultralytics does, with its restricted loader if ULTRALYTICS_SAFE_LOAD is set.

    Nothing is downloaded or installed, and the file is not changed.

    Args:
        file: The checkpoint, which exists.

    Returns:
        The model, float32, on the CPU.

    Raises:
        ValueError: If the file does not hold a model of Ultralytics, or its weights are not finite.
    """
    _check_packages(file)
    try:
        # given a bare name, Ultralytics would delete a damaged file and download it again
        model = load_checkpoint(Path(file).absolute())[0]
    except Exception as error:  # unpickling damaged bytes may raise anything
        cause = error.__cause__ or error
        raise ValueError(
            f"pretrained={file} is not a checkpoint of an Ultralytics model, or is damaged "
            f"({type(cause).__name__}: {' '.join(str(cause).split()):.200})"
        ) from None
    if not isinstance(model, BaseModel):
        raise ValueError(f"pretrained={file} holds a {type(model).__name__}, which is not a model of Ultralytics")
    if wrong := [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
        raise ValueError(f"pretrained={file} has weights that are not finite: {_some(wrong)}")
    return model


def _check_packages(file: str | Path) -> None:
    """Check that the packages that a checkpoint needs can be imported: Ultralytics would install missing ones."""
    try:
        names = get_unsafe_globals_in_checkpoint(file)
    except Exception:  # not a PyTorch archive: the error comes when it is loaded
        return
    packages = sorted({name.partition(".")[0] for name in names} - sys.modules.keys())
    if missing := [package for package in packages if not find_spec(package)]:
        raise ValueError(
            f"pretrained={file} needs {', '.join(missing)}, which is not installed: it is not a checkpoint of an "
            "Ultralytics model"
        )


def pretrained_files(value: Any, modalities: Collection[str]) -> dict[str, Path]:
    """Read the argument `pretrained` if it names files, and check that each can be loaded.

    Args:
        value: A checkpoint for all modalities, or a mapping with one for some or all of them.
        modalities: The model's modalities, in order.

    Returns:
        The file of each modality that has one, in the order of the mapping.

    Raises:
        ValueError: If a modality is unknown, the value is neither of these, `load_stock` refuses a file, or a file
            named for a single modality has streams itself.
        FileNotFoundError: If a file does not exist. Nothing is downloaded.
    """
    files = _named_files(value, modalities)
    for file in dict.fromkeys(files.values()):
        model = load_stock(file)
        if isinstance(value, Mapping):
            _refuse_streams(file, model)
    return files


def with_streams(value: Any) -> BaseModel | None:
    """Return the model of the checkpoint that the argument `pretrained` names, if it has streams itself, or None.

    Raises:
        ValueError: As in `load_stock`.
    """
    model = load_stock(value) if isinstance(value, str | Path) else None
    return model if "streams" in getattr(model, "yaml", {}) else None


def _refuse_streams(file: Path, model: BaseModel) -> None:
    if "streams" in getattr(model, "yaml", {}):
        raise ValueError(f"pretrained={file} has streams itself: name it alone, for all modalities")


def _named_files(value: Any, modalities: Collection[str]) -> dict[str, Path]:
    if isinstance(value, str | Path):
        value = dict.fromkeys(modalities, value)
    if not isinstance(value, Mapping) or not value or not all(isinstance(f, str | Path) for f in value.values()):
        raise ValueError(f"pretrained={value!r} must be a checkpoint like yolov8n.pt, or one for each modality")
    if unknown := [str(name) for name in value if name not in modalities]:
        raise ValueError(f"pretrained names {', '.join(unknown)}: choose from {', '.join(modalities)}")
    for file in value.values():
        if not os.path.isfile(file):  # unlike Path.is_file, no error if the name is too long
            raise FileNotFoundError(f"pretrained={file} is not a file; nothing is downloaded, so fetch it first")
    return {name: Path(file) for name, file in value.items()}


def load_pretrained(model: StockModel, value: Any) -> str:
    """Load stock single-stream checkpoints into a model, and initialise its fusions to the mean.

    Args:
        model: A model from `build_two_stream`.
        value: As in `pretrained_files`.

    Returns:
        A report of what was transferred and what was not.

    Raises:
        ValueError: If a checkpoint has streams or is from another model, or as in `pretrained_files`.
        FileNotFoundError: As in `pretrained_files`.
    """
    files = _named_files(value, model.yaml["modalities"])
    loaded = {file: load_stock(file) for file in dict.fromkeys(files.values())}
    for file, other in loaded.items():
        _refuse_streams(file, other)
    states = {file: {k: v.float() for k, v in other.state_dict().items()} for file, other in loaded.items()}
    transfer = map_weights(model.yaml, model.state_dict(), {name: states[file] for name, file in files.items()})
    start_as_mean(model)
    model.load_state_dict(transfer.tensors, strict=False)
    return transfer.report(files)
