"""A comparison: arms, which are overrides of one recipe, trained with the same seeds in a grid that can be resumed."""

from __future__ import annotations

import gc
import json
import math
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.layout import check_split, resolve_dataset
from mwam_det.files.locks import Hold
from mwam_det.files.terminal import tolerate_encodings
from mwam_det.files.values import format_value
from mwam_det.files.writing import written_whole
from mwam_det.files.yaml_text import read_yaml
from mwam_det.recipe import (
    HOST_TASKS,
    Recipe,
    RecipeError,
    check_device,
    format_override,
    load_recipe,
    read_recipe,
)
from mwam_det.training.checkpoints import changed_settings
from mwam_det.training.incomplete import DROPOUT_PROBABILITY

if TYPE_CHECKING:
    from mwam_det.hosts.experiment import Experiment
    from mwam_det.study.comparison import Comparison, Run

BUILT_IN = {
    "baseline": "neither MWAM nor incomplete views",
    "dropout": "modality dropout of the input, the recipe's p or 0.5, uniform",
    "dropout-mwam": "modality dropout of the input that follows MWAM's weights, which scale nothing",
    "views": "every combination of modalities in each step",
    "mwam": "MWAM with the recipe's parameters or the paper's",
}
"""Arms that need no file. Joined by "+", they are applied in this order; all start from a recipe without either."""

ONLY = "only-"
"""Prefix of the uni-modal arms: one stream, trained and evaluated on one modality."""

STUDY_KEYS = ("title", "recipe", "seeds", "common", "arms", "against", "longer")
SEEDS = 3
GRID_KEYS = ("seed", "resume", "project", "name", "exist_ok", "deterministic")
"""Keys of the train section that belong to the grid: an arm may not set them."""

WITHOUT_EFFECT = ("project", "name", "exist_ok", "plots", "verbose", "save_period")
"""Keys of the train section that do not change what is learnt: a finished run may have had others."""

DEFAULT_EPOCHS = 100
"""Epochs of a recipe that does not say how many, in Ultralytics and in the hosts."""


@dataclass(frozen=True)
class Study:
    """What is to be compared, before it meets a recipe.

    Attributes:
        arms: Overrides by arm, or None for an arm that is built in or joined of others.
        title: What is compared; the recipe's name is used if it is empty.
        recipe: The recipe to use if the user names none.
        seeds: Number of seeds, or None.
        against: The arm that an arm is compared with, where it is not the first.
        common: Overrides of the recipe for all arms.
        longer: How many times as many epochs as the recipe says an arm trains, where a comparison is at equal time.
        stem: Name of the files with the results, without suffix.
    """

    arms: dict[str, list[str] | None]
    title: str = ""
    recipe: str | None = None
    seeds: int | None = None
    against: dict[str, str] = field(default_factory=dict)
    common: list[str] = field(default_factory=list)
    longer: dict[str, float] = field(default_factory=dict)
    stem: str = "compare"


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        arm: Name of the arm.
        seed: Its seed.
        recipe: What is trained, the seed included.
        folder: The run's folder.
    """

    arm: str
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def record_file(self) -> Path:
        """What tells how far the run is. Not in the run's folder, which Ultralytics deletes before a DDP training."""
        return self.folder.with_suffix(".json")

    @property
    def record(self) -> dict[str, Any]:
        """What the record says; nothing before the run was begun.

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
        import torch
        import ultralytics

        import mwam_det

        record = {"arm": self.arm, "seed": self.seed, **content, "recipe": _comparable(self.recipe)}
        record["versions"] = {package.__name__: package.__version__ for package in (mwam_det, ultralytics, torch)}
        self.record_file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.record_file) as new:
            new.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def as_run(self, *, running: bool = False) -> Run:
        """Return how far the run is and what it achieved, as its files tell."""
        from mwam_det.study.comparison import Run

        record = self.record
        state = "running" if running else record.get("state", "waiting")
        report = None
        if state == "done":
            try:
                report = json.loads((self.folder / "robustness.json").read_text(encoding="utf-8"))
            except (OSError, json.JSONDecodeError):
                state = "begun"  # the report was lost: it is made anew
        return Run(self.arm, self.seed, state, report, record.get("error", ""), record.get("resumed", 0))


# What is asked for ---------------------------------------------------------------------------------------------------


def read_study(arms: str | Path | Sequence[str]) -> Study:
    """Read which arms to compare.

    Args:
        arms: Names, as a list or separated by commas, or a YAML file with these keys: "arms", a list of names, or
            overrides by name (a list like [mwam.rule=ac_ratio], a mapping like {mwam: {rule: ac_ratio}}, or nothing for
            an arm that is built in); and as wanted "title", "recipe", "seeds", "common", overrides for all arms,
            "against", the arm that an arm is compared with where it is not the first, and "longer", a factor of the
            recipe's epochs by arm.

    Raises:
        RecipeError: If the file, a key or a name is wrong.
    """
    if isinstance(arms, str | Path):
        if str(arms).endswith((".yaml", ".yml")):
            return _read_study_file(Path(arms))
        arms = [name.strip() for name in str(arms).split(",")]
    return Study(_named([str(name) for name in arms], "--arms"))


def _read_study_file(file: Path) -> Study:
    try:
        content = read_yaml(file)
    except OSError as error:
        raise RecipeError(f"there is no file of arms {file} ({error.strerror})") from None
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if not isinstance(content, Mapping) or not content.get("arms"):
        raise RecipeError(f"{file} must have the key 'arms', and may have {', '.join(STUDY_KEYS)}")
    try:
        refuse_unknown_keys(content, STUDY_KEYS)
        arms, against = content["arms"], content.get("against") or {}
        if isinstance(arms, list):
            arms = _named([str(name) for name in arms], "arms")
        elif isinstance(arms, Mapping):
            arms = {**_named(list(map(str, arms)), "arms"), **{str(k): _overrides(k, v) for k, v in arms.items()}}
        else:
            raise ValueError(f"arms={arms!r} must be a list of names, or map names to overrides")
        named = isinstance(against, Mapping) and all(isinstance(arm, str) for arm in against.values())
        if not named or not {*against, *against.values()} <= arms.keys():
            raise ValueError(f"against={against!r} must map arms to arms: choose from {', '.join(arms)}")
        common = _overrides("common", content.get("common") or []) or []
        longer = content.get("longer") or {}
        if not isinstance(longer, Mapping) or not longer.keys() <= arms.keys():
            raise ValueError(f"longer={longer!r} must map arms to factors: choose from {', '.join(arms)}")
        for arm, factor in longer.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
                raise ValueError(f"longer.{arm}={factor!r} must be a factor of the recipe's epochs, like 1.7")
        seeds = content.get("seeds")
        if seeds is not None:
            _check_seeds(seeds)
    except ValueError as error:
        raise RecipeError(f"{file}: {error}") from None
    recipe = content.get("recipe")
    title = str(content.get("title") or file.stem)
    recipe = None if recipe is None else str(recipe)
    return Study(arms, title, recipe, seeds, dict(against), common, dict(longer), f"compare-{file.stem}")


def _named(names: Sequence[str], key: str) -> dict[str, list[str] | None]:
    for name in names:
        if not re.fullmatch(r"\w[\w.+-]*", name):  # names are those of folders too
            raise RecipeError(f"{key}: '{name}' is no name of an arm: use letters, digits, '.', '_', '-' and '+'")
    lowered = [name.lower() for name in names]
    if repeated := sorted({name for name in names if lowered.count(name.lower()) > 1}):
        raise RecipeError(f"{key}: {' and '.join(repeated)} would share a folder: name every arm once")
    return dict.fromkeys(names)


def _overrides(name: Any, value: Any) -> list[str] | None:
    """Bring what a study says of an arm into the form of overrides."""
    if value is None:
        return None
    if name in BUILT_IN:
        raise ValueError(f"arm '{name}' is built in: leave its overrides out, or give yours another name")
    if isinstance(value, list) and all(isinstance(override, str) for override in value):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(
            f"arm '{name}': {value!r} must be a list of overrides like [mwam.rule=ac_ratio], or a mapping like "
            "{mwam: {rule: ac_ratio}}"
        )
    overrides = []
    for key, section in value.items():
        inside = section if isinstance(section, Mapping) and section else {None: section}
        overrides += [format_override(str(key) if k is None else f"{key}.{k}", v) for k, v in inside.items()]
    return overrides


def _check_seeds(seeds: Any) -> None:
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise RecipeError(f"seeds={seeds!r} must be a number of seeds, at least 1")


# Arms ----------------------------------------------------------------------------------------------------------------


def arm_overrides(name: str, study: Study, base: Recipe) -> list[str]:
    """Tell what an arm changes in a recipe.

    Args:
        name: An arm of the study, one that is built in, a uni-modal one ("only-ir", or "ir"), or several joined by "+".
        study: Whose arms may have overrides of their own.
        base: The recipe.

    Returns:
        Overrides as for `load_recipe`.

    Raises:
        RecipeError: If the name is unknown, or the arms that it joins exclude each other.
    """
    if (own := study.arms.get(name)) is not None:
        return own
    parts = name.split("+")
    modalities = [modality for part in parts if (modality := _modality(part, base)) is not None]
    known = [*BUILT_IN, *(f"{ONLY}{modality}" for modality in base.data["modalities"])]
    known += [arm for arm, overrides in study.arms.items() if overrides is not None]
    for part in parts:
        if part not in known and _modality(part, base) is None:
            near = get_close_matches(part, known, n=1)
            raise RecipeError(
                f"there is no arm '{part}': "
                + (f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(known)}")
            )
    built_in = [part for part in BUILT_IN if part in parts]
    if modalities and len(modalities) + len(built_in) > 1:
        raise RecipeError(f"arm '{name}': with one modality there is nothing to join, to weigh or to drop")
    if len(both := [part for part in built_in if part in ("dropout", "dropout-mwam", "views")]) > 1:
        raise RecipeError(f"arm '{name}': incomplete views come in one way, {' or '.join(both)}")
    settings = {"mwam": "false", "incomplete": "false"} if modalities or built_in else {}
    for part in built_in:
        settings |= _switched_on(part, base)
    overrides = [f"{key}={value}" for key, value in settings.items()]
    for modality in modalities:
        overrides += _uni_modal(modality, base)
    for part in parts:
        overrides += study.arms.get(part) or []
    return overrides


def _switched_on(part: str, base: Recipe) -> dict[str, str]:
    """Return what an arm that is built in switches on, by section; the recipe's own parameters stay."""
    parameters = {} if isinstance(base.mwam, bool) else dict(base.mwam)
    probability = base.incomplete.get("p") if isinstance(base.incomplete, Mapping) else None
    dropout = {"views": 1, "level": "input", "p": DROPOUT_PROBABILITY if probability is None else probability}
    if part == "mwam":
        if parameters.get("mode") == "observe":
            del parameters["mode"]
        return {"mwam": format_value(parameters or True)}
    if part == "dropout":
        return {"incomplete": format_value(dropout)}
    if part == "dropout-mwam":
        observing = {**parameters, "mode": "observe"}
        return {"mwam": format_value(observing), "incomplete": format_value({**dropout, "weights": "mwam"})}
    if part == "views":
        return {"incomplete": "true"}
    return {}


def _modality(part: str, base: Recipe) -> str | None:
    """Return the modality that a uni-modal arm keeps, or None for another arm."""
    modality = part.removeprefix(ONLY)
    return modality if modality in base.data["modalities"] and part not in BUILT_IN else None


def _uni_modal(modality: str, base: Recipe) -> list[str]:
    """Return the overrides that leave one modality in a data section."""
    data, by_modality = base.data, ("suffix", "match", "channels", "range", "align")
    sections = {key: data[key] for key in by_modality if isinstance(data.get(key), Mapping)}
    if modality in sections.get("align", {}):
        raise RecipeError(
            f"arm '{ONLY}{modality}': labels belong to {next(iter(data['modalities']))}, onto which {modality} is "
            "mapped by 'align'; alone it has no labels. Write the aligned images to a set of their own"
        )
    folder, suffixes = data["modalities"][modality], sections.get("suffix", {})
    own = suffixes.get(modality, "")
    for other, its in data["modalities"].items():
        if other != modality and its == folder and suffixes.get(other, "").endswith(own):
            raise RecipeError(
                f"arm '{ONLY}{modality}': the files of {other} lie in the same folder and end in the suffix '{own}' "
                f"too, so that they would be taken for {modality}: give {modality} a suffix of its own"
            )
    overrides = [f"data.modalities={format_value({modality: folder})}"]
    for key, section in sections.items():
        overrides.append(f"data.{key}={format_value({modality: section[modality]} if modality in section else {})}")
    if data.get("visible") not in (None, modality):
        overrides.append("data.visible=null")
    return overrides


def arm_recipes(
    recipe: str | Path, overrides: Iterable[str], study: Study
) -> tuple[Recipe, dict[str, Recipe], dict[str, list[str]]]:
    """Read the recipe and that of each arm.

    Returns:
        The recipe, and by arm its recipe and its overrides.

    Raises:
        RecipeError: If one cannot be used, or an arm changes what the arms must share.
    """
    overrides = [*overrides, *study.common]
    base = _load(recipe, overrides)
    if base.train.get("resume"):
        raise RecipeError("train.resume has no place in a comparison: the same command goes on where it was")
    recipes, changes = {}, {}
    for arm in study.arms:
        changes[arm] = arm_overrides(arm, study, base)
        if arm in study.longer:
            epochs = base.train.get("epochs", DEFAULT_EPOCHS)
            changes[arm] = [*changes[arm], f"train.epochs={max(round(epochs * study.longer[arm]), 1)}"]
        try:
            recipes[arm] = _load(recipe, [*overrides, *changes[arm]])
        except RecipeError as error:
            raise RecipeError(f"arm '{arm}': {error}") from None
        for key in GRID_KEYS:
            if recipes[arm].train.get(key) != base.train.get(key):
                raise RecipeError(f"arm '{arm}' sets train.{key}, which belongs to the comparison as a whole")
        if _split(recipes[arm]) != _split(base):
            raise RecipeError(f"arm '{arm}' sets robustness.split: arms are compared on one split")
        if other := recipes[arm].data["modalities"].keys() - base.data["modalities"].keys():
            raise RecipeError(f"arm '{arm}' has modalities that the recipe lacks: {', '.join(sorted(other))}")
    return base, recipes, changes


def _load(file: str | Path, overrides: Iterable[str]) -> Recipe:
    """Read a recipe of a detector or of another host; both have the same sections."""
    content = read_recipe(file, overrides)
    if content.get("task") not in HOST_TASKS:
        return load_recipe(file, overrides)
    from mwam_det.hosts.experiment import Experiment

    try:
        experiment = Experiment.from_dict(Path(file).stem, content)
    except ValueError as error:
        raise RecipeError(f"{file}: {error}") from None
    return Recipe(experiment.name, **{**content, "model": experiment.model})


def _experiment(recipe: Recipe, **train: Any) -> Experiment:
    """Return what the hosts make of a recipe of theirs."""
    from mwam_det.hosts.experiment import KEYS, Experiment

    content = {key: value for key, value in vars(recipe).items() if key in KEYS}
    for key in ("robustness", "pretrained"):  # True is what detectors have by default
        if content[key] is True:
            del content[key]
    return Experiment.from_dict(recipe.name, {**content, "train": {**recipe.train, **train}})


def _check_data(recipe: Recipe) -> None:
    """Look at what would else be missed after hours: the data, its splits and the device."""
    if recipe.task not in HOST_TASKS:
        check_split(resolve_dataset(recipe.data), _split(recipe))
        check_device(recipe.train.get("device"))
        return
    from mwam_det.hosts.data.layout import find_samples
    from mwam_det.hosts.experiment import SEGMENTATION

    try:
        find_samples(recipe.data, recipe.task == SEGMENTATION)
        _experiment(recipe).train.find_device()
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _split(recipe: Recipe) -> str:
    return recipe.robustness.get("split", "val") if isinstance(recipe.robustness, Mapping) else "val"


# The grid ------------------------------------------------------------------------------------------------------------


def compare(
    recipe: str | Path | None = None,
    overrides: Iterable[str] = (),
    arms: str | Path | Sequence[str] = "baseline,mwam",
    seeds: int | None = None,
) -> Comparison:
    """Train arms × seeds, evaluate each best checkpoint on every combination of modalities, and compare.

    Runs go to runs/<recipe>-compare/<arm>/seed<k>/ (`train.project` and `train.name` stand for "runs" and the recipe's
    name), with a record each beside its folder. The same call again goes on: finished runs stay, interrupted ones are
    resumed from their last checkpoint, failed ones are tried again. All arms of a seed are trained before the next
    seed, so that what is there can be compared at any time. compare.json, .csv, .md and .png are renewed after every
    run; with a file of arms they are called compare-<file>.

    Args:
        recipe: The recipe's file; that of the file of arms if left out.
        overrides: As in `load_recipe`, for all arms.
        arms: See `read_study`. The first is what the others are compared with.
        seeds: Number of seeds, which are 0, 1, …; by default that of the file of arms, or 3.

    Returns:
        The comparison, already saved. Runs that failed are in it as such.

    Raises:
        RecipeError: If a recipe or an arm is wrong, or a run was begun with other settings.
        FolderInUse: If another process trains the same grid.
        DatasetError: If the dataset of an arm cannot be used.
        KeyboardInterrupt: As it comes; nothing is lost but the epoch.
    """
    from rich.console import Console

    study = read_study(arms)
    if (recipe := recipe or study.recipe) is None:
        raise RecipeError(f"name a recipe: {arms} has no key 'recipe'")
    if seeds is None:
        seeds = SEEDS if study.seeds is None else study.seeds
    _check_seeds(seeds)
    base, recipes, changes = arm_recipes(recipe, overrides, study)
    for its in recipes.values():  # known now, missed after hours
        _check_data(its)
    folder = Path(str(base.train.get("project") or "runs")) / f"{base.train.get('name') or base.name}-compare"
    folder = folder.expanduser().resolve()
    cells = [
        Cell(arm, seed, _seeded(its, seed), folder / arm / f"seed{seed}")
        for seed in range(seeds)
        for arm, its in recipes.items()
    ]

    def standing(current: Cell | None = None) -> Comparison:
        from mwam_det.study.comparison import Comparison

        runs = tuple(cell.as_run(running=cell is current) for cell in cells)
        title = study.title or f"{base.name}: {', '.join(recipes)}"
        return Comparison(title, tuple(base.data["modalities"]), changes, runs, study.against)

    tolerate_encodings()
    console = Console()
    with Hold(folder):
        _refuse_changed(cells)
        for cell in cells:
            if cell.as_run().state == "done":
                continue
            console.print(standing(cell).progress())
            _run(cell)
            standing().save(folder, study.stem)
        result = standing()
        files = result.save(folder, study.stem)
    console.print(result.progress())
    console.print(result.table())
    print("\n".join(map(str, files)))  # not through rich, which would break the lines
    return result


def run_compare(*args: Any, **kwargs: Any) -> int:
    """Call `compare` for the command line and return the exit status: 0 done, 1 a run failed, 130 interrupted."""
    try:
        result = compare(*args, **kwargs)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        return 130
    return int(any(run.state == "failed" for run in result.runs))


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    train = {key: value for key, value in recipe.train.items() if key not in GRID_KEYS}
    if recipe.task not in HOST_TASKS:  # these know no other way
        train["deterministic"] = True
    return replace(recipe, train={**train, "seed": seed})


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """Return what decides on the result of a run, as JSON gives it back."""
    content = {key: value for key, value in asdict(recipe).items() if key != "name"}
    content["train"] = {key: value for key, value in recipe.train.items() if key not in WITHOUT_EFFECT}
    return json.loads(json.dumps(content, default=str))


def _refuse_changed(cells: Iterable[Cell]) -> None:
    """Refuse to mix runs of different settings in a grid."""
    for cell in cells:
        record = cell.record
        if not record:
            if cell.folder.is_dir() and any(cell.folder.iterdir()):
                raise RecipeError(f"{cell.folder} holds a run without a record: delete it, or choose a train.name")
            continue
        if what := changed_settings(record["recipe"], _comparable(cell.recipe)):
            raise RecipeError(
                f"{cell.folder} was begun with other settings ({what}): name the new comparison by train.name, or "
                f"delete {cell.folder.parent}"
            )


# One run -------------------------------------------------------------------------------------------------------------


def _run(cell: Cell) -> None:
    """Train and evaluate one run, or go on with it; a failure is recorded, an interruption passes through."""
    resumed = cell.record.get("resumed", 0)
    start = _checkpoint(cell.folder)
    if start is not None:
        resumed += 1
    cell.write_record(state="begun", resumed=resumed)
    try:
        train_run(cell.recipe, cell.folder, start)
        if not (cell.folder / "robustness.json").is_file():
            raise FileNotFoundError(f"the training left no {cell.folder / 'robustness.json'}")
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        cell.write_record(state="failed", resumed=resumed, error=said, traceback=traceback.format_exc())
    else:
        cell.write_record(state="done", resumed=resumed)
    finally:
        _free_memory()


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's last checkpoint; None if there is none that can be gone on with.

    A run whose checkpoints cannot be read begins anew.
    """
    from ultralytics.nn.tasks import torch_safe_load

    content = None
    for name in ("best.pt", "last.pt"):
        file = folder / "weights" / name
        try:
            content = torch_safe_load(file)[0] if file.is_file() else None
        except Exception as error:  # of a damaged archive or pickle, of many kinds
            print(f"{file} is damaged ({' '.join(str(error).split())}): the run begins anew", file=sys.stderr)
            return None
    return content


def train_run(recipe: Recipe, folder: Path, start: Mapping[str, Any] | None) -> None:
    """Train a recipe and write robustness.json of its best checkpoint.

    Args:
        recipe: What to train.
        folder: The run's folder.
        start: Content of its last checkpoint, to go on from; None to begin.
    """
    last, best = (folder / "weights" / name for name in ("last.pt", "best.pt"))
    if recipe.task in HOST_TASKS:
        _train_host(recipe, folder, start, last, best)
        return
    from mwam_det.engine.facade import MultimodalYOLO
    from mwam_det.engine.finishing import finish_run
    from mwam_det.engine.saving import is_trained

    if start is not None and is_trained(start):
        finish_run(last, recipe.data, recipe.robustness or True)
        return
    arguments = {**recipe.train, "save_dir": str(folder)}
    if start is not None:
        arguments["resume"] = str(last)
    model = MultimodalYOLO(recipe.model, fusion=recipe.fusion, share_backbone=recipe.share_backbone)
    model.train(
        data=recipe.data,
        mwam=recipe.mwam,
        incomplete=recipe.incomplete,
        pretrained=recipe.pretrained,
        robustness=recipe.robustness or True,
        **arguments,
    )


def _train_host(recipe: Recipe, folder: Path, start: Mapping[str, Any] | None, last: Path, best: Path) -> None:
    """Do the same for a recipe of another host."""
    from mwam_det.hosts.experiment import evaluate_experiment, train_experiment

    experiment = _experiment(recipe, resume=str(last) if start is not None else False)
    if start is not None and start["epoch"] >= experiment.train.epochs:
        evaluate_experiment(best, experiment, folder)
    else:
        train_experiment(experiment, folder)


def _free_memory() -> None:
    """Give back what a run held, for the next one."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
