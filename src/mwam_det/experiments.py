"""The common interface of everything that can be trained and evaluated, and how a recipe becomes one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mwam_det.keys import full_names
from mwam_det.recipe import HOST_TASKS, Recipe, RecipeError, read_recipe

if TYPE_CHECKING:
    from torch import Tensor

    from mwam_det.robustness.report import RobustnessReport


class Experiment(Protocol):
    """A recipe whose keys and values are checked. The content of its folders and files is checked by `check`.

    Attributes:
        recipe: Its content.
        deterministic: Whether its train section must set `deterministic` for reproducible training.
        predicts: Whether `mwam-det predict` and degradations support its models.
    """

    deterministic: bool
    predicts: bool

    @property
    def recipe(self) -> Recipe:
        """The content of the recipe."""

    @property
    def split(self) -> str:
        """The split of the report."""

    def first_pair(self) -> dict[str, str]:
        """Return the files of one pair of the report's split by modality; {} if there is none left."""

    def images(self, sample: int) -> Iterator[dict[str, Tensor]]:
        """Yield samples of the training split by modality, as training reads them and at its size, not augmented.

        Args:
            sample: Maximum number of samples, spread evenly over the split.

        Returns:
            The images of each sample, shape (C, H, W), uint8.

        Raises:
            ValueError: If the dataset cannot be used.
        """

    def with_training(self, train: Mapping[str, Any]) -> Experiment:
        """Return the same experiment with another train section."""

    def check(self, devices: Sequence[str] = ()) -> None:
        """Check what would otherwise fail after hours: the data, its splits, its device, and others it may be given."""

    def train(self) -> tuple[RobustnessReport | None, Path]:
        """Train in a new run folder, or resume the run that `train.resume` names.

        Returns:
            The report, or None if it is already shown or not wanted; and the run folder.
        """

    def go_on(self, folder: Path) -> None:
        """Train in a folder, or resume the run in it, until its robustness.json is written."""

    def evaluate(self, weights: str | Path) -> tuple[RobustnessReport, Path]:
        """Evaluate weights on every combination of modalities; return the saved report and its folder."""


def load(file: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read a recipe, apply overrides and check it.

    Args:
        file: The YAML file.
        overrides: See `mwam_det.recipe.read_recipe`.

    Raises:
        RecipeError: If the file, a key or a value is wrong.
    """
    return experiment_of(Path(file).stem, read_recipe(file, overrides), f"{file}: ")


def experiment_of(name: str, content: Mapping[str, Any], source: str = "") -> Experiment:
    """Check the content of a recipe.

    Args:
        name: Name of the run folder.
        content: By section, as `read_recipe` returns it.
        source: Its origin; errors begin with it.

    Raises:
        RecipeError: If a key or a value is wrong.
    """
    try:
        return _kind_of(content).from_dict(name, content)
    except ValueError as error:
        text = " ".join(str(error).splitlines())
        unknown = re.match("unknown key '(.+?)'", text)
        if unknown and unknown[1] in content and (meant := full_names(unknown[1], content.get("task", "detect"))):
            text = f"{unknown[0]}: did you mean {' or '.join(map(repr, meant))}?"
        raise RecipeError(f"{source}{text}") from None


def share_threads(count: int) -> None:
    """Limit the CPU threads of everything that is trained in this process."""
    from mwam_det.engine.compat import compute_with_at_most
    from mwam_det.hosts import threads

    compute_with_at_most(count)
    threads.MOST_THREADS = min(count, threads.MOST_THREADS)


def _kind_of(content: Mapping[str, Any]) -> Any:
    """Return the class of experiments for a recipe's task."""
    task = content.get("task", "detect")
    if task in HOST_TASKS:
        from mwam_det.hosts.experiment import HostExperiment  # needs torchvision and torchmetrics

        return HostExperiment
    from mwam_det.engine.experiment import TASKS, UltralyticsExperiment  # slow to import

    if task not in TASKS:
        raise ValueError(f"task={task!r} is unknown: choose from {', '.join((*TASKS, *HOST_TASKS))}")
    return UltralyticsExperiment
