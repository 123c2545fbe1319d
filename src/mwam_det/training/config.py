"""The settings of a training with modalities, as recipes and arguments give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mwam_det.core.balancing.balancer import Balancer, BalancingConfig
from mwam_det.core.balancing.methods import balancing_config
from mwam_det.core.config import MWAMConfig, mwam_config
from mwam_det.training.incomplete import IncompleteConfig, check_incomplete, incomplete_config
from mwam_det.training.run import build_balancer
from mwam_det.training.sections import in_section
from mwam_det.training.selection import Selection, selection_of


@dataclass(frozen=True)
class RunConfig:
    """Settings of a `ModalityRun`, which is built by `ModalityRun(names, **vars(config))`.

    Attributes:
        mwam: MWAM's parameters, or None.
        incomplete: What training sees of missing modalities, or None.
        balancing: Settings of a method that balances the modalities, or None.
        selection: What decides on the best checkpoint.
    """

    mwam: MWAMConfig | None = None
    incomplete: IncompleteConfig | None = None
    balancing: BalancingConfig | None = None
    selection: Selection = field(default_factory=Selection)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> RunConfig:
        """Read the keys `mwam`, `incomplete`, `balancing` and `select` of a recipe or of a trainer's arguments.

        Raises:
            ValueError: If a key in one of them is unknown or a value cannot be used; the message names both.
        """
        return cls(
            in_section("mwam", mwam_config, content.get("mwam", True)),
            in_section("incomplete", incomplete_config, content.get("incomplete")),
            balancing_config(content.get("balancing")),
            selection_of(content.get("select")),
        )

    def check(self, modalities: Sequence[str], *, classes: bool = True, validates: bool = True) -> None:
        """Check that the settings fit the modalities, each other and the host.

        Args:
            modalities: All modalities; empty where they are not known yet, which skips what depends on them.
            classes: Whether the host puts out class scores.
            validates: Whether the host validates while it trains.

        Raises:
            ValueError: If they do not, see `check_incomplete` and `build_balancer`, or a package is not installed.
        """
        balancer = None
        if modalities:
            check_incomplete(self.incomplete, modalities, self.mwam)
            try:
                balancer = build_balancer(self.balancing, modalities, self.incomplete, self.mwam, classes)
            except ImportError as error:
                raise ValueError(str(error)) from None
        if not validates and (key := self._of_validations(balancer)) is not None:
            raise ValueError(f"{key} goes by the validations, but val is false")

    def _of_validations(self, balancer: Balancer | None) -> str | None:
        """Return a setting that needs validations, as the user types it; None without one."""
        if self.mwam is not None and self.mwam.preference == "measured":
            return "mwam.preference=measured"
        if balancer is not None and balancer.needs_validation:
            return f"balancing.method={balancer.config.method}"
        return f"select={self.selection.select}" if self.selection.select != "full" else None
