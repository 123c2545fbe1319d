"""The training recorded in a checkpoint, for the header of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.cfg import cfg2dict
from ultralytics.nn.tasks import torch_safe_load

from mwam_det.robustness.origin import switch_in_words


def trained_with(weights: str | Path) -> dict[str, str]:
    """Describe the training of a checkpoint.

    Args:
        weights: A checkpoint of this package, or any other file, which gives an empty description.

    Returns:
        What was trained and how, by name; see `mwam_det.robustness.origin.Origin`.
    """
    if not str(weights).endswith(".pt") or not Path(weights).is_file():
        return {}
    content = torch_safe_load(weights)[0]
    model = content.get("ema") or content.get("model")
    arguments = cfg2dict(getattr(model, "args", None) or {})
    if "mwam" not in arguments:
        return {}
    return {
        "model": _model(arguments, str(getattr(model, "yaml", {}).get("yaml_file", ""))),
        "run": str(arguments["name"]),
        "training": _training(arguments, content.get("train_results") or {}),
        "MWAM": switch_in_words(arguments["mwam"]),
        "incomplete": switch_in_words(arguments["incomplete"]),
    }


def _model(arguments: Mapping[str, Any], described: str) -> str:
    given, pretrained = str(arguments["model"]), arguments["pretrained"]
    words = [described or given, f"fusion {arguments['fusion']}"]
    if arguments["share_backbone"]:
        words.append("one backbone for all")
    is_resumed = Path(given).parent == Path(str(arguments.get("save_dir"))) / "weights"
    if given.endswith(".pt") and not is_resumed:
        words.append(f"from {given}")
    if isinstance(pretrained, Mapping):
        words.append(f"from {switch_in_words(pretrained)}")
    elif not isinstance(pretrained, bool) and pretrained:
        words.append(f"from {pretrained}")
    return ", ".join(words)


def _training(arguments: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    wanted, trained = arguments["epochs"], len(results.get("epoch", ()))
    epochs = f"{trained} of {wanted}" if 0 < trained < wanted else str(wanted)
    words = [f"{epochs} epochs", f"{arguments['imgsz']} px", f"batch {arguments['batch']}", str(arguments["optimizer"])]
    return ", ".join([*words, f"seed {arguments['seed']}"])
