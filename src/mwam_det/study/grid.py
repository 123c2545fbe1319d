"""A comparison: arms × seeds of one recipe, trained in a grid that can be resumed."""

from __future__ import annotations

import gc
import json
import shlex
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mwam_det.experiments import Experiment, share_threads
from mwam_det.files.locks import Hold
from mwam_det.files.runs import runs_folder
from mwam_det.files.terminal import tolerate_encodings
from mwam_det.files.writing import write_json
from mwam_det.recipe import Recipe, RecipeError
from mwam_det.robustness.origin import versions_with
from mwam_det.study.arms import GRID_KEYS, arm_experiments, check_seeds, read_study
from mwam_det.study.built_in import SEEDS
from mwam_det.study.cluster import run_on_cluster
from mwam_det.study.workers import Assignment, run_all
from mwam_det.training.checkpoints import changed_settings

if TYPE_CHECKING:
    from mwam_det.study.comparison import Comparison, Run

WITHOUT_EFFECT = ("project", "name", "exist_ok", "plots", "verbose", "save_period")
"""Keys of the train section that do not affect the result: a finished run may have had other values."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        arm: Name of the arm.
        seed: Its seed.
        experiment: What is trained, the seed included.
        folder: The run's folder.
    """

    arm: str
    seed: int
    experiment: Experiment
    folder: Path

    @property
    def record_file(self) -> Path:
        """The record of the run's state. Not in the run's folder, which Ultralytics deletes before a DDP training."""
        return self.folder.with_suffix(".json")

    @property
    def record(self) -> dict[str, Any]:
        """The content of the record; empty before the run is begun.

        Raises:
            RecipeError: If the file is damaged.
        """
        if not self.record_file.is_file():
            return {}
        try:
            return json.loads(self.record_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RecipeError(f"{self.record_file} is damaged ({error}): delete it and {self.folder}") from None

    def write_record(self, **content: Any) -> None:
        """Write the record, whole or not at all."""
        record = {"arm": self.arm, "seed": self.seed, **content, "recipe": _comparable(self.experiment.recipe)}
        record["versions"] = versions_with(["ultralytics", "torch"])
        self.record_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.record_file, record)

    def as_run(self, *, running: bool = False) -> Run:
        """Return the state and the results of the run, read from its files."""
        from mwam_det.study.comparison import Run

        record = self.record
        state = "running" if running else record.get("state", "waiting")
        report = None
        if state == "done":
            try:
                report = json.loads((self.folder / "robustness.json").read_text(encoding="utf-8"))
            except (OSError, json.JSONDecodeError):
                state = "begun"  # the report is lost: make it again
        error, resumed, versions = record.get("error", ""), record.get("resumed", 0), record.get("versions", {})
        return Run(self.arm, self.seed, state, report, error, resumed, versions)


# The grid ------------------------------------------------------------------------------------------------------------


def compare(
    recipe: str | Path | None = None,
    overrides: Iterable[str] = (),
    arms: str | Path | Sequence[str] = "baseline,mwam",
    seeds: int | None = None,
    jobs: int = 1,
    devices: Sequence[str] = (),
    cluster: str | None = None,
) -> Comparison:
    """Train arms × seeds, evaluate each best checkpoint on every combination of modalities, and compare.

    Runs go to runs/<recipe>-compare/<arm>/seed<k>/ (`train.project` and `train.name` replace "runs" and the recipe's
    name), each with a record beside its folder. Repeating the call resumes: finished runs are kept, interrupted ones
    are resumed from their last checkpoint, failed ones are tried again. All arms of a seed are trained before the next
    seed, so that the finished runs can be compared at any time. compare.json, .csv, .md and .png and report.html are
    updated after every run; with a file of arms they are called compare-<file> and report-<file>.

    Args:
        recipe: The recipe's file; by default that of the file of arms.
        overrides: As in `mwam_det.experiments.load`, for all arms.
        arms: See `read_study`. The first is the reference of the others.
        seeds: Number of seeds, which are 0, 1, …; by default that of the file of arms, or 3.
        jobs: Number of runs at a time. With more than one, each has its own process, which prints to a file beside the
            run's record, and the CPU threads are divided among them. Results are the same as one after the other, bit
            for bit with the same number of threads.
        devices: Devices that the runs share, like ("0", "1"), possibly fewer than `jobs`; by default the recipe's.
        cluster: A Ray cluster whose nodes train the runs, `jobs` at a time on each: "auto" for the one that this
            machine belongs to, or "ray://HOST:PORT". Every node must see the folder of the runs. A run on a lost node
            resumes elsewhere from its last checkpoint.

    Returns:
        The comparison, already saved, including failed runs.

    Raises:
        RecipeError: If a recipe or an arm is wrong, a run was begun with other settings, `jobs` is less than 1, or
            `devices` are named for a cluster, whose GPUs Ray assigns.
        FolderInUse: If another process trains the same grid.
        DatasetError: If the dataset of an arm cannot be used.
        KeyboardInterrupt: If interrupted; only the current epoch is lost.
        ImportError: If `cluster` is given and Ray is not installed.
        ConnectionError: If there is no such cluster.
    """
    from rich.console import Console

    if jobs < 1:
        raise RecipeError(f"jobs={jobs} must be 1 or more")
    if cluster is not None and devices:
        raise RecipeError(f"devices={','.join(devices)} and cluster={cluster}: Ray assigns the GPUs of its nodes")
    study = read_study(arms)
    if (recipe := recipe or study.recipe) is None:
        raise RecipeError("name a recipe, like cfg/demo.yaml, or with --arms a study that has the key 'recipe'")
    if seeds is None:
        seeds = SEEDS if study.seeds is None else study.seeds
    check_seeds(seeds)
    overrides = list(overrides)
    base, experiments, changes = arm_experiments(recipe, overrides, study)
    named = str(arms) if isinstance(arms, str | Path) else ",".join(arms)
    command = shlex.join(["mwam-det", "compare", str(recipe), *overrides, "--arms", named, "--seeds", str(seeds)])
    for experiment in experiments.values():
        experiment.check(devices)
    folder = runs_folder(base.train.get("project")) / f"{base.train.get('name') or base.name}-compare"
    cells = [
        Cell(arm, seed, _seeded(experiment, seed), folder / arm / f"seed{seed}")
        for seed in range(seeds)
        for arm, experiment in experiments.items()
    ]

    def snapshot(current: Sequence[Cell] = ()) -> Comparison:
        from mwam_det.study.comparison import Comparison

        runs = tuple(cell.as_run(running=cell in current) for cell in cells)
        title = study.title or f"{base.name}: {', '.join(experiments)}"
        return Comparison(title, tuple(base.data["modalities"]), changes, runs, study.against, command)

    from mwam_det.study.files import save_comparison

    tolerate_encodings()
    console = Console()
    with Hold(folder):
        _refuse_changed(cells)
        left = [cell for cell in cells if cell.as_run().state != "done"]

        def changed(running: Sequence[Cell]) -> None:
            now = snapshot(running)
            console.print(now.progress())
            save_comparison(now, folder, study.stem)

        options: Any = {"log_of": _log_of, "changed": changed, "died": _record_death}
        if cluster is not None:
            run_on_cluster(left, _run_in, cluster, jobs, folder, **options)
        elif jobs > 1 or devices:
            run_all(left, _run_in, jobs, devices, **options)
        else:
            for cell in left:
                console.print(snapshot([cell]).progress())
                _run(cell)
                save_comparison(snapshot(), folder, study.stem)
        result = snapshot()
        files = save_comparison(result, folder, study.stem)
    console.print(result.progress())
    console.print(result.table())
    print("\n".join(map(str, files)))  # not through rich, which would wrap the lines
    return result


def _seeded(experiment: Experiment, seed: int) -> Experiment:
    train = {key: value for key, value in experiment.recipe.train.items() if key not in GRID_KEYS}
    if experiment.deterministic:
        train["deterministic"] = True
    return experiment.with_training({**train, "seed": seed})


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that affect the result of a run, as JSON returns them."""
    content = {key: value for key, value in asdict(recipe).items() if key != "name"}
    content["train"] = {key: value for key, value in recipe.train.items() if key not in WITHOUT_EFFECT}
    return json.loads(json.dumps(content, default=str))


def _refuse_changed(cells: Iterable[Cell]) -> None:
    """Refuse to mix runs of different settings in a grid."""
    for cell in cells:
        record = cell.record
        if not record:
            if cell.folder.is_dir() and any(cell.folder.iterdir()):
                raise RecipeError(
                    f"{cell.folder} holds a run without a record: delete it, or choose another train.name"
                )
            continue
        if what := changed_settings(record["recipe"], _comparable(cell.experiment.recipe)):
            raise RecipeError(
                f"{cell.folder} was begun with other settings ({what}): give the new comparison a train.name, or "
                f"delete {cell.folder.parent}"
            )


# In processes --------------------------------------------------------------------------------------------------------


def _log_of(cell: Cell) -> Path:
    return cell.folder.with_suffix(".log")


def _run_in(assignment: Assignment[Cell]) -> None:
    """Train a run in a process that shares the machine with others."""
    share_threads(assignment.threads)
    _run(assignment.task, assignment.device)


def _record_death(cell: Cell, how: str) -> None:
    """Record the failure of a run whose process could not do so; one that was done may still die as it exits."""
    if (record := cell.record).get("state") not in ("failed", "done"):
        cell.write_record(state="failed", resumed=record.get("resumed", 0), error=f"{how}; see {_log_of(cell)}")


# One run -------------------------------------------------------------------------------------------------------------


def _run(cell: Cell, device: str | None = None) -> None:
    """Train and evaluate one run, or resume it; a failure is recorded, an interruption is passed on.

    Args:
        cell: The run.
        device: The device in place of the recipe's; it is not part of the recorded settings.
    """
    resumed = cell.record.get("resumed", 0) + (cell.folder / "weights" / "last.pt").is_file()
    cell.write_record(state="begun", resumed=resumed)
    try:
        experiment = cell.experiment
        if device is not None:
            experiment = experiment.with_training({**experiment.recipe.train, "device": device})
        experiment.go_on(cell.folder)
        if not (cell.folder / "robustness.json").is_file():
            raise FileNotFoundError(f"the training left no {cell.folder / 'robustness.json'}")
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        cell.write_record(state="failed", resumed=resumed, error=reason, traceback=traceback.format_exc())
    else:
        cell.write_record(state="done", resumed=resumed)
    finally:
        _free_memory()


def _free_memory() -> None:
    """Free the memory of a run for the next one."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
