"""What can be trained and evaluated, whatever it is: one interface, and how a recipe becomes one of its kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mwam_det.recipe import Recipe, RecipeError, read_recipe

if TYPE_CHECKING:
    from mwam_det.robustness.report import RobustnessReport

HOST_TASKS = ("multimodal-classification", "rgbd-segmentation")
"""Tasks of other models than Ultralytics'."""


class Experiment(Protocol):
    """A recipe that is checked. What its folders and files hold is not looked at before `check`.

    Attributes:
        recipe: Its content.
        deterministic: Whether its train section has to say that training is to be deterministic.
    """

    deterministic: bool

    @property
    def recipe(self) -> Recipe:
        """The content of the recipe."""

    @property
    def split(self) -> str:
        """The split of the report."""

    def with_training(self, train: Mapping[str, Any]) -> Experiment:
        """Return the same experiment with another train section."""

    def check(self) -> None:
        """Look at what would else be missed after hours: the data, its splits and the device."""

    def train(self) -> tuple[RobustnessReport | None, Path]:
        """Train in a new run folder, or go on with the run that `train.resume` names.

        Returns:
            The report, unless it was shown already or none is wanted; and the run folder.
        """

    def go_on(self, folder: Path) -> None:
        """Train in a folder, or go on with the run that is there, until its robustness.json is written."""

    def evaluate(self, weights: str | Path) -> tuple[RobustnessReport, Path]:
        """Evaluate weights on every combination of modalities; return the report, already saved, and its folder."""


def load(file: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read a recipe, apply overrides and check it.

    Args:
        file: The YAML file.
        overrides: See `mwam_det.recipe.read_recipe`.

    Raises:
        RecipeError: If the file, a key or a value is wrong.
    """
    content = read_recipe(file, overrides)
    try:
        return _kind_of(content).from_dict(Path(file).stem, content)
    except ValueError as error:
        raise RecipeError(f"{file}: {' '.join(str(error).splitlines())}") from None


def _kind_of(content: Mapping[str, Any]) -> Any:
    """Return the class of experiments that a recipe's task belongs to."""
    task = content.get("task", "detect")
    if task in HOST_TASKS:
        from mwam_det.hosts.experiment import HostExperiment  # needs torchvision and torchmetrics

        return HostExperiment
    from mwam_det.engine.experiment import TASKS, UltralyticsExperiment  # slow to import

    if task not in TASKS:
        raise ValueError(f"task={task!r} is unknown: choose from {', '.join((*TASKS, *HOST_TASKS))}")
    return UltralyticsExperiment
