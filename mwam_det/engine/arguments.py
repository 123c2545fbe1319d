"""Our arguments beside Ultralytics': in with ours, out with theirs. The only file that knows `get_cfg`'s rules."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg import cfg2dict, get_cfg
from ultralytics.utils import DEFAULT_CFG_DICT

from mwam_det.core.config import MWAMConfig, refuse_unknown_keys

OWN_ARGUMENTS: dict[str, Any] = {
    "mwam": True,  # True: the paper's MWAM; False: none; a mapping: values of MWAMConfig
    "fusion": "concat",  # see models.two_stream.FUSIONS
    "mwam_state": None,  # MWAM's state on its way through a checkpoint; never set by hand
}
"""What the trainer takes beyond Ultralytics' arguments, with the defaults."""

NOT_FOR_RECIPES = {"task", "mode", "model", "data", "cfg", "split", "pretrained"}
"""Ultralytics arguments that a recipe's train section may not hold: other keys of the recipe say them."""


def with_own_arguments(cfg: Any) -> dict[str, Any]:
    """Return Ultralytics' base configuration with ours in it, so that `get_cfg` accepts overrides of both."""
    return {**OWN_ARGUMENTS, **cfg2dict(cfg)}


def without_own_arguments(args: SimpleNamespace | Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that Ultralytics' own classes accept."""
    return {key: value for key, value in cfg2dict(args).items() if key not in OWN_ARGUMENTS}


def mwam_config(value: Any) -> MWAMConfig | None:
    """Read the argument `mwam`.

    Args:
        value: True or {} for the paper's MWAM, False for none, or a mapping with values of `MWAMConfig`.

    Returns:
        The configuration, or None for a training without MWAM.

    Raises:
        ValueError: If the value or a key in it is not one of these.
    """
    if value is False:
        return None
    if value is True:
        return MWAMConfig()
    if isinstance(value, Mapping):
        return MWAMConfig.from_dict(value)
    raise ValueError(f"mwam={value!r} must be true, false or a mapping of MWAM's parameters")


def refuse_unsupported(arguments: Mapping[str, Any]) -> None:
    """Refuse what Ultralytics would do with one modality alone, or without the streams.

    Raises:
        NotImplementedError: With the reason and what to do instead.
    """
    if str(arguments.get("cache")).lower() == "disk":
        raise NotImplementedError("cache=disk would store the first modality alone: use cache=ram or cache=false")
    if arguments.get("distill_model"):
        raise NotImplementedError("distill_model wraps the model, and its streams are not found there: leave it out")


def check_train_arguments(arguments: Mapping[str, Any]) -> None:
    """Check names, types and ranges of the Ultralytics arguments in a recipe's train section.

    Raises:
        ValueError: If a key is unknown (the nearest known one is named) or has no place here, or a value is refused.
    """
    known = [key for key in DEFAULT_CFG_DICT if key not in NOT_FOR_RECIPES]
    for key in arguments:
        if key in NOT_FOR_RECIPES:
            raise ValueError(f"'{key}' has no place in the train section: see the recipe's other keys")
    refuse_unknown_keys(arguments, known)
    freeze_with(0, arguments.get("freeze"))
    try:
        refuse_unsupported(arguments)
        get_cfg(overrides=dict(arguments))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def freeze_with(layer: int, freeze: Any) -> list[int | str]:
    """Add a layer to Ultralytics' argument `freeze`.

    Args:
        layer: Index of the layer that must stay frozen. The trainer would make it trainable if it were not named.
        freeze: None, a number n (the first n layers), or a list of indices and names.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(freeze, bool) or not (freeze is None or isinstance(freeze, int | list | tuple)):
        raise ValueError(f"freeze={freeze!r} must be a number of layers or a list of layer indices and names")
    layers = list(range(freeze)) if isinstance(freeze, int) else list(freeze or [])
    return layers if layer in layers else [layer, *layers]
