"""The balancing methods by name, and how a recipe asks for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mwam_det.core.balancing.agm import AGM, AGMConfig
from mwam_det.core.balancing.balancer import Balancer, BalancingConfig
from mwam_det.core.balancing.jacobian_descent import JacobianDescent, JacobianDescentConfig
from mwam_det.core.balancing.lfm import LFM, LFMConfig
from mwam_det.core.balancing.mmpareto import MMPareto, MMParetoConfig
from mwam_det.core.balancing.mses import MSES, MSESConfig
from mwam_det.core.balancing.mslr import MSLR, MSLRConfig
from mwam_det.core.balancing.ogm_ge import OGMGE, OGMGEConfig

METHODS: dict[str, tuple[type[BalancingConfig], type[Balancer]]] = {
    config.method: (config, balancer)
    for config, balancer in (
        (OGMGEConfig, OGMGE),
        (AGMConfig, AGM),
        (MSLRConfig, MSLR),
        (MSESConfig, MSES),
        (LFMConfig, LFM),
        (MMParetoConfig, MMPareto),
        (JacobianDescentConfig, JacobianDescent),
    )
}
"""Settings and class of each method, by the name that a recipe gives it."""


def balancing_config(value: Any) -> BalancingConfig | None:
    """Read the argument `balancing`.

    Args:
        value: False or None for no balancing, or a mapping with the name of a method and values of its settings, such
            as `{method: ogm_ge, alpha: 0.3}`.

    Raises:
        ValueError: If the value, the method or a key is not one of these.
    """
    if value is None or value is False:
        return None
    names = ", ".join(METHODS)
    if not isinstance(value, Mapping):
        raise ValueError(f"balancing={value!r} must be false or a mapping like {{method: ogm_ge}}; methods are {names}")
    if "method" not in value:
        raise ValueError(f"balancing={dict(value)} names no method: add one of {names}")
    method = value["method"]
    if not isinstance(method, str) or method not in METHODS:
        near = get_close_matches(str(method), METHODS, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"balancing.method={method!r} must be one of {names}{hint}")
    settings, _ = METHODS[method]
    try:
        return settings.from_dict({key: setting for key, setting in value.items() if key != "method"})
    except ValueError as error:
        raise ValueError(f"balancing (method={method}): {error}") from None


def make_balancer(config: BalancingConfig, modalities: Sequence[str]) -> Balancer:
    """Build the method that settings are of.

    Args:
        config: What `balancing_config` returned.
        modalities: Names of the modalities, two or more.

    Raises:
        ValueError: If the settings do not fit the modalities.
        ImportError: If the method needs a package that is not installed.
    """
    _, balancer = METHODS[config.method]
    return balancer(modalities, config)
