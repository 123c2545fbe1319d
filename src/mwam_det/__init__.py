"""Multimodal detectors that keep working when a sensor is missing, as a plugin for stock Ultralytics.

Names are loaded on first use, so that `from mwam_det import MWAM` needs torch alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mwam_det.core.allocation import allocate_weights
    from mwam_det.core.bank import FRMBank
    from mwam_det.core.config import MWAMConfig
    from mwam_det.core.frequency import frequency_ratio_metric
    from mwam_det.core.missing import performance_collapse_rate
    from mwam_det.core.modulation import GradientModulator, UpdateModulator
    from mwam_det.core.mwam import MWAM
    from mwam_det.engine.facade import MultimodalYOLO
    from mwam_det.engine.trainer import MWAMTrainer
    from mwam_det.models.two_stream import two_stream_cfg
    from mwam_det.robustness.report import RobustnessReport

__version__ = "0.2.0"

_HOME = {
    "FRMBank": "core.bank",
    "GradientModulator": "core.modulation",
    "MWAM": "core.mwam",
    "MWAMConfig": "core.config",
    "MWAMTrainer": "engine.trainer",
    "MultimodalYOLO": "engine.facade",
    "RobustnessReport": "robustness.report",
    "UpdateModulator": "core.modulation",
    "allocate_weights": "core.allocation",
    "frequency_ratio_metric": "core.frequency",
    "performance_collapse_rate": "core.missing",
    "two_stream_cfg": "models.two_stream",
}

__all__ = [
    "MWAM",
    "FRMBank",
    "GradientModulator",
    "MWAMConfig",
    "MWAMTrainer",
    "MultimodalYOLO",
    "RobustnessReport",
    "UpdateModulator",
    "allocate_weights",
    "frequency_ratio_metric",
    "performance_collapse_rate",
    "two_stream_cfg",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'mwam_det' has no attribute '{name}'")
    return getattr(import_module(f"mwam_det.{_HOME[name]}"), name)


def __dir__():
    return [*globals(), *__all__]
