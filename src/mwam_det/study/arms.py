"""What a study compares: its arms, which are overrides of one recipe, built in or from a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mwam_det.core.checks import is_finite_number
from mwam_det.core.config import refuse_unknown_keys, suggestion
from mwam_det.experiments import Experiment, load
from mwam_det.files.values import format_value
from mwam_det.files.yaml_text import read_yaml
from mwam_det.recipe import Recipe, RecipeError, format_override
from mwam_det.study.built_in import BUILT_IN
from mwam_det.training.incomplete import DROPOUT_PROBABILITY

ONLY = "only-"
"""Prefix of the uni-modal arms: one stream, trained and evaluated on one modality."""

STUDY_KEYS = ("title", "recipe", "seeds", "common", "arms", "against", "longer")
GRID_KEYS = ("seed", "resume", "project", "name", "exist_ok", "deterministic")
"""Keys of the train section that belong to the grid: an arm may not set them."""

DEFAULT_EPOCHS = 100
"""Default number of epochs, in Ultralytics and in the hosts."""


@dataclass(frozen=True)
class Study:
    """The arms to compare, before a recipe is applied.

    Attributes:
        arms: Overrides by arm, or None for a built-in arm or one joined from others.
        title: Title of the comparison; if empty, the recipe's name is used.
        recipe: The recipe to use if the user names none.
        seeds: Number of seeds, or None.
        against: Reference of an arm, if it is not the first arm.
        common: Overrides of the recipe for all arms.
        longer: Factor of the recipe's epochs by arm, for comparisons at equal time.
        stem: Name of the result files, without suffix.
    """

    arms: dict[str, list[str] | None]
    title: str = ""
    recipe: str | None = None
    seeds: int | None = None
    against: dict[str, str] = field(default_factory=dict)
    common: list[str] = field(default_factory=list)
    longer: dict[str, float] = field(default_factory=dict)
    stem: str = "compare"


# Reading a study -----------------------------------------------------------------------------------------------------


def read_study(arms: str | Path | Sequence[str]) -> Study:
    """Read which arms to compare.

    Args:
        arms: Names, as a list or separated by commas, or a YAML file with these keys: "arms", a list of names, or
            overrides by name (a list like [mwam.rule=ac_ratio], a mapping like {mwam: {rule: ac_ratio}}, or nothing for
            a built-in arm); and optionally "title", "recipe", "seeds", "common" (overrides for all arms), "against"
            (the reference of an arm, if it is not the first arm), and "longer" (a factor of the recipe's epochs by
            arm).

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
            if not is_finite_number(factor) or factor <= 0:
                raise ValueError(f"longer.{arm}={factor!r} must be a factor of the recipe's epochs, like 1.7")
        seeds = content.get("seeds")
        if seeds is not None:
            check_seeds(seeds)
    except ValueError as error:
        raise RecipeError(f"{file}: {error}") from None
    recipe = content.get("recipe")
    title = str(content.get("title") or file.stem)
    recipe = None if recipe is None else str(recipe)
    return Study(arms, title, recipe, seeds, dict(against), common, dict(longer), f"compare-{file.stem}")


def _named(names: Sequence[str], key: str) -> dict[str, list[str] | None]:
    for name in names:
        if not re.fullmatch(r"\w[\w.+-]*", name):  # also the name of a folder
            raise RecipeError(f"{key}: '{name}' is not a valid name: use letters, digits, '.', '_', '-' and '+'")
    lowered = [name.lower() for name in names]
    if repeated := sorted({name for name in names if lowered.count(name.lower()) > 1}):
        raise RecipeError(f"{key}: {' and '.join(repeated)} would share a folder: name every arm once")
    return dict.fromkeys(names)


def _overrides(name: Any, value: Any) -> list[str] | None:
    """Convert a study's entry for an arm to overrides."""
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


def check_seeds(seeds: Any) -> None:
    """Check a number of seeds.

    Raises:
        RecipeError: If it is not a whole number, at least 1.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise RecipeError(f"seeds={seeds!r} must be a number of seeds, at least 1")


# Arms ----------------------------------------------------------------------------------------------------------------


def arm_overrides(name: str, study: Study, base: Recipe) -> list[str]:
    """Return what an arm changes in a recipe.

    Args:
        name: An arm of the study, a built-in one, a uni-modal one ("only-ir", or "ir"), or several joined by "+".
        study: The study, whose arms may have overrides.
        base: The recipe.

    Returns:
        Overrides as for `mwam_det.experiments.load`.

    Raises:
        RecipeError: If the name is unknown, or the joined arms exclude each other.
    """
    if (given := study.arms.get(name)) is not None:
        return given
    parts = name.split("+")
    modalities = [modality for part in parts if (modality := _modality(part, base)) is not None]
    known = [*BUILT_IN, *(f"{ONLY}{modality}" for modality in base.data["modalities"])]
    known += [arm for arm, overrides in study.arms.items() if overrides is not None]
    for part in parts:
        if part not in known and _modality(part, base) is None:
            raise RecipeError(f"there is no arm '{part}': {suggestion(part, known)}")
    built_in = [part for part in BUILT_IN if part in parts]
    if modalities and len(modalities) + len(built_in) > 1:
        raise RecipeError(f"arm '{name}': with one modality there is nothing to join, weigh or drop")
    if len(both := [part for part in built_in if part in ("dropout", "dropout-mwam", "views")]) > 1:
        raise RecipeError(f"arm '{name}': choose one kind of incomplete views, {' or '.join(both)}")
    settings = {"mwam": "false", "incomplete": "false"} if modalities or built_in else {}
    if settings and base.balancing:
        settings["balancing"] = "false"
    for part in built_in:
        settings |= _switched_on(part, base)
    overrides = [f"{key}={value}" for key, value in settings.items()]
    for modality in modalities:
        overrides += _uni_modal(modality, base)
    for part in parts:
        overrides += study.arms.get(part) or []
    return overrides


def _switched_on(part: str, base: Recipe) -> dict[str, str]:
    """Return the settings of a built-in arm by section; the recipe's parameters are kept."""
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
    data, by_modality = base.data, ("suffix", "match", "channels", "range", "align", "filter")
    sections = {key: data[key] for key in by_modality if isinstance(data.get(key), Mapping)}
    if modality in sections.get("align", {}):
        raise RecipeError(
            f"arm '{ONLY}{modality}': labels belong to {next(iter(data['modalities']))}, onto which {modality} is "
            "mapped by 'align'; alone it has no labels. Write the aligned images to a separate dataset"
        )
    folder, suffixes = data["modalities"][modality], sections.get("suffix", {})
    suffix = suffixes.get(modality, "")
    for other, other_folder in data["modalities"].items():
        if other != modality and other_folder == folder and suffixes.get(other, "").endswith(suffix):
            raise RecipeError(
                f"arm '{ONLY}{modality}': the files of {other} are in the same folder and also end in '{suffix}', so "
                f"they would be taken for {modality}: give {modality} a suffix of its own"
            )
    overrides = [f"data.modalities={format_value({modality: folder})}"]
    for key, section in sections.items():
        overrides.append(f"data.{key}={format_value({modality: section[modality]} if modality in section else {})}")
    if data.get("visible") not in (None, modality):
        overrides.append("data.visible=null")
    if isinstance(base.pretrained, Mapping):
        file = base.pretrained.get(modality)
        overrides.append(f"pretrained={format_value(None if file is None else {modality: file})}")
    return overrides


def arm_experiments(
    recipe: str | Path, overrides: Iterable[str], study: Study
) -> tuple[Recipe, dict[str, Experiment], dict[str, list[str]]]:
    """Read the recipe and apply to it what all arms have in common, the overrides and each arm, in this order.

    Returns:
        The recipe, and the experiments and overrides by arm.

    Raises:
        RecipeError: If one cannot be used, or an arm changes what the arms must share.
    """
    overrides = [*study.common, *overrides]
    common = load(recipe, overrides)
    base = common.recipe
    if base.train.get("resume"):
        raise RecipeError("train.resume does not apply to a comparison: the same command resumes it")
    experiments, changes = {}, {}
    for arm in study.arms:
        changes[arm] = arm_overrides(arm, study, base)
        if arm in study.longer:
            epochs = base.train.get("epochs", DEFAULT_EPOCHS)
            changes[arm] = [*changes[arm], f"train.epochs={max(round(epochs * study.longer[arm]), 1)}"]
        try:
            experiments[arm] = load(recipe, [*overrides, *changes[arm]])
        except RecipeError as error:
            raise RecipeError(f"arm '{arm}': {error}") from None
        for key in GRID_KEYS:
            if experiments[arm].recipe.train.get(key) != base.train.get(key):
                raise RecipeError(f"arm '{arm}' sets train.{key}, which belongs to the comparison as a whole")
        if experiments[arm].split != common.split:
            raise RecipeError(f"arm '{arm}' sets report.split: arms are compared on one split")
        if other := experiments[arm].recipe.data["modalities"].keys() - base.data["modalities"].keys():
            raise RecipeError(f"arm '{arm}' has modalities that the recipe lacks: {', '.join(sorted(other))}")
    return base, experiments, changes
