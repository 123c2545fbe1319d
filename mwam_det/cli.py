"""The command line: `mwam-det train RECIPE`, `mwam-det robustness WEIGHTS RECIPE`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mwam_det.data.layout import DatasetError, resolve_dataset
from mwam_det.recipe import ROBUSTNESS_KEYS, Recipe, RecipeError, load_recipe

RUNS = Path("runs")
"""Results go to a folder below this one, in the working directory, named after the recipe."""

OVERRIDES_HELP = "section.key=value, like train.epochs=60, data.path=datasets/LLVIP or mwam=false"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 2 a mistake in what was asked for, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="mwam-det", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a recipe, then tell what a missing modality costs")
    train.add_argument("recipe", help="YAML file of the experiment")
    train.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=OVERRIDES_HELP)
    robustness = commands.add_parser("robustness", help="evaluate weights with every combination of modalities")
    robustness.add_argument("weights", help="checkpoint of a two-stream model, like runs/demo/weights/best.pt")
    robustness.add_argument("recipe", help="YAML file whose data section is evaluated")
    robustness.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help=f"split=test, imgsz=320, batch=8, or {OVERRIDES_HELP}",
    )
    options = parser.parse_args(argv)
    try:
        if options.command == "train":
            _train(load_recipe(options.recipe, options.overrides))
        else:
            overrides = [f"robustness.{o}" if o.partition("=")[0] in ROBUSTNESS_KEYS else o for o in options.overrides]
            _robustness(options.weights, load_recipe(options.recipe, overrides))
    except (RecipeError, DatasetError, NotImplementedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _train(recipe: Recipe) -> None:
    arguments = {**recipe.train, "name": str(recipe.train.get("name") or recipe.name)}
    arguments["project"] = str(Path(arguments.get("project") or RUNS).resolve())
    if arguments.get("resume"):
        arguments["resume"] = str(_checkpoint_to_resume(arguments))
        _check_resumable(arguments["resume"], recipe)
    _check_device(arguments.get("device"))
    model = _load(recipe.model, fusion=recipe.fusion)
    try:
        model.train(data=recipe.data, mwam=recipe.mwam, robustness=recipe.robustness, **arguments)
    except KeyboardInterrupt:
        last = getattr(model.trainer, "last", None)
        if last is not None and last.is_file():
            print(f"\nStopped. Continue with the same command and train.resume={last}", file=sys.stderr)
        raise SystemExit(130) from None


def _robustness(weights: str, recipe: Recipe) -> None:
    if not Path(weights).is_file():
        raise RecipeError(f"there are no weights {weights}")
    if not weights.endswith(".pt"):
        raise RecipeError(f"weights={weights} must be a checkpoint like best.pt")
    # Not imgsz: the weights know the size that they were trained at, and it may not be the recipe's.
    shared = {key: recipe.train[key] for key in ("batch", "device", "workers") if key in recipe.train}
    if shared.get("batch", 1) < 1:  # Ultralytics finds a batch size for training alone
        del shared["batch"]
    options = recipe.robustness if isinstance(recipe.robustness, dict) else {}
    arguments = {"project": str(RUNS.resolve()), "name": f"{recipe.name}-robustness", **shared, **options}
    _check_device(arguments.get("device"))
    _load(weights).robustness(recipe.data, **arguments).show()


def _check_device(device) -> None:
    from ultralytics.utils.torch_utils import select_device

    try:
        select_device(device, verbose=False)
    except ValueError as error:
        raise RecipeError(f"train.device={device} is not there: {' '.join(str(error).split())}") from None


def _load(model: str, **options):
    from mwam_det.engine.facade import MultimodalYOLO  # slow to import: not before the recipe is checked

    try:
        return MultimodalYOLO(model, **options)
    except TypeError as error:  # Ultralytics' word for a file that holds no weights
        raise RecipeError(str(error).splitlines()[0].removeprefix("ERROR ❌️ ")) from None


def _checkpoint_to_resume(arguments: dict) -> Path:
    """Return the checkpoint that `train.resume` names, or the newest one of the recipe's runs if it is true."""
    if arguments["resume"] is not True:
        file = Path(str(arguments["resume"]))
        if not file.is_file() or file.suffix != ".pt":
            raise RecipeError(f"train.resume={file} is not a file of weights: give a last.pt, or true for the newest")
        return file
    project, name = Path(arguments["project"]), arguments["name"]
    runs = re.compile(rf"{re.escape(name)}(-\d+)?")  # Ultralytics numbers the runs of one name
    found = [file for file in project.glob("*/weights/last.pt") if runs.fullmatch(file.parts[-3])]
    if not found:
        raise RecipeError(f"train.resume=true, but there is no {project}/{name}*/weights/last.pt")
    return max(found, key=lambda file: file.stat().st_mtime)


def _check_resumable(checkpoint: str, recipe: Recipe) -> None:
    """Refuse to go on with a finished run, or with a run on other data than it was begun with."""
    begun = _load(checkpoint).ckpt
    if begun.get("epoch", -1) < 0:
        raise RecipeError(f"train.resume={checkpoint}: that run is finished, there is nothing to resume")
    try:
        before = resolve_dataset(begun["train_args"]["data"])
    except DatasetError:
        return  # the data has moved since, and the recipe says where to
    now = resolve_dataset(recipe.data)
    if before != now:
        differing = ", ".join(key for key in now if before.get(key) != now[key])
        raise RecipeError(
            f"train.resume={checkpoint}: that run was begun with other data ({differing} differ; its folder is "
            f"{before['path']}): repeat the data section and overrides that it was begun with"
        )
