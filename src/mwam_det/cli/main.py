"""The command line: `mwam-det train`, `robustness`, `predict`, `export` and so on, each with a --help of its own."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

from mwam_det.core.config import mwam_config
from mwam_det.data.errors import DatasetError
from mwam_det.data.formats import FORMATS
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.arguments import check_values
from mwam_det.engine.experiment import REPORT_KEYS, RUNS, check_device, load_model
from mwam_det.experiments import HOST_TASKS, Experiment, load
from mwam_det.files.terminal import tolerate_encodings
from mwam_det.recipe import Recipe, RecipeError, read_arguments
from mwam_det.study.arms import BUILT_IN, SEEDS
from mwam_det.study.grid import run_compare
from mwam_det.training.checkpoints import Interrupted

PREDICT_KEYS = (
    "imgsz", "batch", "device", "quantize", "conf", "iou", "max_det", "classes", "agnostic_nms", "nms", "augment",
    "rect", "vid_stride", "missing", "partners", "data", "save", "save_txt", "save_conf", "save_crop", "save_frames",
    "show", "show_labels", "show_conf", "show_boxes", "line_width", "project", "name", "exist_ok", "verbose",
)  # fmt: skip
"""What `predict` takes, of Ultralytics' arguments and ours."""

VAL_KEYS = (
    "missing", "split", "imgsz", "batch", "device", "workers", "conf", "iou", "max_det", "classes", "agnostic_nms",
    "rect", "plots", "save_json", "save_txt", "project", "name", "exist_ok",
)  # fmt: skip
"""What `val` takes, likewise."""

EXPORT_KEYS = (
    "format", "inputs", "imgsz", "batch", "dynamic", "simplify", "opset", "quantize", "workspace", "nms", "conf", "iou",
    "max_det", "agnostic_nms", "device", "data", "split", "fraction", "name",
)  # fmt: skip
"""What `export` takes, likewise."""

OVERRIDES_HELP = "section.key=value, like train.epochs=60, data.path=datasets/LLVIP or mwam=false"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Returns:
        0 done, 1 done but not to be relied on (a converted set with doubts, a comparison with a run that failed), 2 a
        mistake in what was asked for, 130 interrupted.
    """
    tolerate_encodings()  # of the help, and of what Ultralytics says
    parser = argparse.ArgumentParser(prog="mwam-det", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a recipe, then tell what a missing modality costs")
    train.add_argument("recipe", help="YAML file of the experiment")
    _add_overrides(train)
    robustness = commands.add_parser("robustness", help="evaluate weights with every combination of modalities")
    robustness.add_argument("weights", help="checkpoint, like runs/demo/weights/best.pt, or what was exported from one")
    robustness.add_argument("recipe", help="YAML file whose data section is evaluated")
    _add_overrides(robustness, "split=test, imgsz=320, fill=mean, degradations=true, or ")
    robustness.add_argument("--coco", action="store_true", help="measure by pycocotools too, and save its files")
    val = commands.add_parser("val", help="validate weights with all modalities, or with some missing")
    val.add_argument("weights", help="checkpoint, like runs/demo/weights/best.pt, or what was exported from one")
    val.add_argument("recipe", help="YAML file whose data section is validated on")
    _add_overrides(val, f"missing=ir, split=test, imgsz=320, … of {', '.join(VAL_KEYS)}, or ")
    _add_predict(commands)
    export = commands.add_parser("export", help="write weights in a format for deployment, like ONNX or OpenVINO")
    export.add_argument("weights", help="checkpoint of a two-stream model, like runs/demo/weights/best.pt")
    export.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="format=onnx, inputs=separate (one input a modality, called by its name; ONNX alone), imgsz=640, "
        f"dynamic=true, quantize=16, … of {', '.join(EXPORT_KEYS)}",
    )
    compare = commands.add_parser("compare", help="train arms × seeds of a recipe and compare them; can be resumed")
    compare.add_argument("recipe", nargs="?", help="YAML file of the experiment; a study may name one itself")
    _add_overrides(compare)
    compare.add_argument(
        "--arms",
        default="baseline,mwam",
        help=f"{', '.join(BUILT_IN)}, only-MODALITY, joined by + if you like, separated by commas; or a study, like "
        "cfg/studies/table8.yaml (default: %(default)s)",
    )
    compare.add_argument("--seeds", type=int, help=f"how many seeds (default: the study's, or {SEEDS})")
    _add_convert(commands)
    init = commands.add_parser("init", help="look at a folder of pairs and write a recipe for it; asks nothing")
    init.add_argument("folders", nargs="+", metavar="FOLDER", help="the dataset's folder, or one of each modality")
    init.add_argument(
        "--out",
        metavar="FILE",
        help="the recipe, like night.yaml (default: FOLDER's name, in the working directory); nothing is overwritten",
    )
    inspect = commands.add_parser("inspect", help="tell what is in a recipe's dataset, before a long run")
    inspect.add_argument("recipe", help="YAML file whose data section is looked at")
    _add_overrides(inspect, "sample=500, the pairs whose pixels are looked at, or ")
    crops = commands.add_parser("crops", help="cut the objects of a recipe's dataset out, for a classifier")
    crops.add_argument("recipe", help="YAML file whose data section names the dataset")
    crops.add_argument("destination", metavar="DST", help="new or empty folder")
    _add_overrides(crops, "margin=0.1, of the longer side, smallest=16, in pixels, or ")
    options, rest = parser.parse_known_args(argv)
    if rest:  # argparse does not look for overrides behind an option
        if not hasattr(options, "overrides") or any(word.startswith("-") for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides += rest
    try:
        if options.command != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RecipeError(
                f"{options.command} runs in one process, and all would write the same: leave torchrun out"
            )
        if options.command == "train":
            _train(load(options.recipe, options.overrides))
        elif options.command == "robustness":
            overrides = [f"report.{o}" if o.partition("=")[0] in REPORT_KEYS else o for o in options.overrides]
            overrides += ["report.coco=true"] * options.coco
            _robustness(options.weights, load(options.recipe, overrides))
        elif options.command == "val":
            own = [word for word in options.overrides if word.partition("=")[0] in VAL_KEYS]
            words = [word for word in options.overrides if word not in own]
            _val(options.weights, load(options.recipe, words).recipe, _arguments(own, VAL_KEYS))
        elif options.command == "predict":
            _predict(options)
        elif options.command == "export":
            _export(options.weights, _arguments(options.overrides, EXPORT_KEYS))
        elif options.command == "compare":
            words = [word for word in (options.recipe, *options.overrides) if word]
            recipe = words.pop(0) if words and "=" not in words[0] else None
            return run_compare(recipe, words, arms=options.arms, seeds=options.seeds)
        elif options.command == "convert":
            return _convert(options)
        elif options.command == "init":
            _init(options)
        elif options.command == "crops":
            _crops(options)
        else:
            samples = [o for o in options.overrides if o.partition("=")[0] == "sample"]
            overrides = [o for o in options.overrides if o not in samples]
            _inspect(_with_objects(options.recipe, overrides, "inspect counts and draws objects"), _sample(samples))
    except (RecipeError, DatasetError, NotImplementedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def _add_overrides(command: argparse.ArgumentParser, also: str = "") -> None:
    command.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=f"{also}{OVERRIDES_HELP}")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="find objects in pairs of images or videos, and draw them")
    predict.add_argument("weights", help="checkpoint, like runs/demo/weights/best.pt, or what was exported from one")
    predict.add_argument(
        "--source",
        nargs="+",
        required=True,
        metavar="MODALITY=PATH",
        help="a folder, file, pattern or video of each modality, like rgb=visible ir=infrared; what is left out is "
        "missing",
    )
    predict.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help=f"imgsz=320, conf=0.4, missing=ir, save_txt=true, … of {', '.join(PREDICT_KEYS)}; may follow the sources",
    )


def _add_convert(commands: Any) -> None:
    """Add the command "convert" with a command a format below it, whose options are the format's."""
    convert = commands.add_parser("convert", help="turn a dataset as it was published into what training reads")
    formats = convert.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for format_ in FORMATS.values():
        title = format_.title.replace("%", "%%")
        one = formats.add_parser(format_.name, help=title, description=title)
        one.add_argument("source", metavar="SRC", help="folder of the dataset as published; it is not changed")
        one.add_argument(
            "destination",
            metavar="DST",
            help="new or empty folder, or that of an interrupted conversion, which goes on",
        )
        for name, option in format_.options.items():
            flag, said = f"--{name.replace('_', '-')}", option.help.replace("%", "%%")
            if isinstance(option.default, bool):
                one.add_argument(flag, dest=f"option {name}", action="store_true", help=said)
                continue
            one.add_argument(
                flag,
                dest=f"option {name}",
                type=str if option.default is None else type(option.default),
                default=option.default,
                choices=option.choices or None,
                metavar=None if option.choices else name.upper(),
                help=said if option.default in (None, "") else f"{said} (default: {option.default})",
            )


def _convert(options: argparse.Namespace) -> int:
    """Convert a dataset and return the exit status: 0 to train on, 1 to be looked at first."""
    from rich.console import Console

    from mwam_det.data.conversion.record import summary
    from mwam_det.data.conversion.write import convert

    format_ = FORMATS[options.format]
    chosen = {name: getattr(options, f"option {name}") for name in format_.options}
    try:
        record = convert(format_, options.source, options.destination, chosen)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        raise SystemExit(130) from None
    Console().print(summary(record))
    destination = Path(options.destination)
    if format_.recipe is None:
        recipe = [str(destination / "recipe.yaml")]
    else:
        recipe = [f"cfg/{format_.recipe}", f"data.path={destination}"]
    if record["doubts"]:
        print(
            "This set is not to be trained on before the doubts are settled. Look at it, if there is something to see:"
        )
    command = "inspect" if record["doubts"] else "train"
    print(shlex.join(["mwam-det", command, *recipe]))  # not through rich, which would break the line
    return int(bool(record["doubts"]))


def _init(options: argparse.Namespace) -> None:
    from mwam_det.data.drafting.draft import draft
    from mwam_det.data.drafting.known import Known

    name = re.sub(r"[^\w.-]+", "-", Path(options.folders[0]).resolve().name).strip("-.") or "dataset"
    out = Path(options.out or f"{name}.yaml").expanduser().resolve()
    if out.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"--out {options.out} must be the file of a recipe, like {name}.yaml")
    made = draft(options.folders, out)
    if isinstance(made, Known):
        print(f"This is {made.title}. {made.advice}")
        if made.command:
            print(made.command)
        return
    files = {out: made.recipe, **{out.with_name(name): text for name, text in made.lists.items()}}
    if there := [file for file in files if file.exists()]:
        raise RecipeError(f"{there[0]} is there already, and nothing is overwritten: name another file with --out")
    for line in "".join(files.values()).splitlines():
        if (shown := line.encode(errors="replace").decode()) != line:
            raise RecipeError(f"a name is in no encoding, so that no recipe can hold it: rename {shown.strip()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(text)
    for sentence in made.said:
        print(sentence)
    for doubt in made.doubts:
        print(f"Doubt: {doubt}")
    try:
        resolve_dataset(load(out).recipe.data)
    except (RecipeError, DatasetError) as error:
        raise RecipeError(f"the recipe {out} was written, but needs a hand: {error}") from None
    shown = options.out or out.name
    print(f"Wrote {' and '.join(map(str, files))}. Look through the recipe, then:")
    print(shlex.join(["mwam-det", "train", str(shown)]))


def _with_objects(file: str, overrides: Sequence[str], what: str) -> Recipe:
    """Read a recipe whose labels are of objects."""
    recipe = load(file, overrides).recipe
    if recipe.task in HOST_TASKS:
        raise RecipeError(f"{file}: task={recipe.task} is for `mwam-det train`, `robustness` and `compare` alone")
    if labels := {"semantic": "are pixels", "classify": "are of whole images"}.get(recipe.task):
        raise RecipeError(f"{what}, and the labels of task={recipe.task} {labels}: there are none")
    return recipe


def _crops(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from mwam_det.data.crops import MARGIN, SMALLEST, cut_objects
    from mwam_det.hosts.drafting import classifier_recipe

    own = [word for word in options.overrides if word.partition("=")[0] in ("margin", "smallest")]
    words = [word for word in options.overrides if word not in own]
    recipe = _with_objects(options.recipe, words, "crops cuts out objects")
    given = {"margin": MARGIN, "smallest": SMALLEST, **_arguments(own, ("margin", "smallest"))}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise RecipeError(f"{key}={value} must be a number, at least 0")
    try:
        counts = cut_objects(resolve_dataset(recipe.data), options.destination, **given, recipe_for=classifier_recipe)
    except KeyboardInterrupt:
        print("\nStopped. The same command begins anew.", file=sys.stderr)
        raise SystemExit(130) from None
    table = Table("class", *counts, title="Objects")
    classes = list(dict.fromkeys(name for count in counts.values() for name in count))
    for name in classes:
        table.add_row(name, *(str(count[name]) for count in counts.values()))
    Console().print(table)
    if sum(any(count[name] for count in counts.values()) for name in classes) < 2:
        print("A classifier has nothing to tell apart here: it needs two classes at least.")
        return
    print(f"Train on them: mwam-det train {shlex.quote(str(Path(options.destination) / 'recipe.yaml'))}")


def _sample(overrides: Sequence[str]) -> int:
    """Return how many pairs to look at, as the last "sample=…" says."""
    from mwam_det.data.inspection.sampling import DEFAULT_SAMPLE

    if not overrides:
        return DEFAULT_SAMPLE
    text = overrides[-1].partition("=")[2]
    if not text.isdecimal() or int(text) < 1:
        raise RecipeError(f"sample={text} must be a whole number of pairs, at least 1")
    return int(text)


def _inspect(recipe: Recipe, sample: int) -> None:
    data = resolve_dataset(recipe.data)
    from rich.console import Console
    from ultralytics.utils.files import increment_path

    from mwam_det.data.inspection.contact_sheet import draw_contact_sheet
    from mwam_det.data.inspection.gather import inspect_dataset
    from mwam_det.data.inspection.tables import tables

    imgsz, batch = recipe.train.get("imgsz", 640), recipe.train.get("batch", 16)
    single_cls = bool(recipe.train.get("single_cls"))
    try:
        inspection, pictures = inspect_dataset(
            data.as_single_class() if single_cls else data,
            mwam_config(recipe.mwam),
            imgsz=max(imgsz) if isinstance(imgsz, list) else imgsz,
            batch=batch if isinstance(batch, int) and batch > 0 else 16,  # Ultralytics finds a size for training alone
            sample=sample,
            single_cls=single_cls,
            task=recipe.task,
            arguments=recipe.train,
        )
    except KeyboardInterrupt:
        print("\nStopped. Nothing was written.", file=sys.stderr)
        raise SystemExit(130) from None
    folder = increment_path(RUNS / f"{recipe.name}-inspect", mkdir=True)
    text = json.dumps(inspection.to_dict(), indent=2, ensure_ascii=False)
    (folder / "inspection.json").write_text(f"{text}\n", encoding="utf-8")
    draw_contact_sheet(pictures, folder / "pairs.png")
    Console().print(tables(inspection))
    print(f"Figures: {folder / 'inspection.json'}\nPairs with their boxes: {folder / 'pairs.png'}")


def _train(experiment: Experiment) -> None:
    try:
        report, folder = experiment.train()
    except Interrupted as interruption:
        if interruption.resume is not None:
            print(f"\nStopped. Continue with the same command and train.resume={interruption.resume}", file=sys.stderr)
        raise SystemExit(130) from None
    if report is not None:
        report.show()
        print(f"Results: {folder}")


def _robustness(weights: str, experiment: Experiment) -> None:
    _check_weights(weights)
    report, folder = experiment.evaluate(weights)
    report.show()
    print(f"Results: {folder}")


def _val(weights: str, recipe: Recipe, arguments: dict[str, Any]) -> None:
    if recipe.task in HOST_TASKS:
        raise RecipeError(f"val is for models of Ultralytics, not for task={recipe.task}: use `mwam-det robustness`")
    _check_weights(weights)
    check_device(arguments.get("device"), "device")
    arguments = {"project": str(RUNS.resolve()), "name": f"{recipe.name}-val", **arguments}
    try:
        load_model(weights).val(data=recipe.data, **arguments)
    except ValueError as error:  # a modality that is unknown, or nothing is left
        raise RecipeError(str(error)) from None


def _predict(options: argparse.Namespace) -> None:
    _check_weights(options.weights)
    arguments = _arguments(options.overrides, PREDICT_KEYS)  # as much as can be checked before the weights are read
    model = load_model(options.weights)
    from mwam_det.engine.deployment import modalities_of_model
    from mwam_det.engine.measures import PARTS

    names = [modality.name for modality in modalities_of_model(model.model)]
    source, rest = {}, []
    for word in options.source:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise RecipeError(f"--source {word} must be MODALITY=PATH: the model takes {', '.join(names)}")
        if name in source:
            raise RecipeError(f"--source names {name} twice: give a folder or a pattern for several images")
        if name in names:
            source[name] = path
        else:
            rest.append(word)
    arguments |= _arguments(rest, [*PREDICT_KEYS, *names])
    if not isinstance(arguments.get("missing", []), str | list):
        raise RecipeError(f"missing={arguments['missing']!r} must name modalities: choose from {', '.join(names)}")
    check_device(arguments.get("device"), "device")
    arguments = {"project": str(RUNS.resolve()), "name": "predict", "save": True, **arguments}
    pairs = objects = 0
    try:
        for result in model.predict(source, stream=True, **arguments):
            pairs, objects = pairs + 1, objects + len(result)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    saved = any(arguments.get(key) for key in ("save", "save_txt", "save_crop", "save_frames"))
    found = f"{objects} objects in" if model.task in PARTS else "Predicted on"
    print(f"{found} {pairs} pairs" + (f": {model.predictor.save_dir}" if saved else ""))


def _export(weights: str, arguments: dict[str, Any]) -> None:
    _check_weights(weights)
    if not weights.endswith(".pt"):
        raise RecipeError(f"weights={weights} was exported already: give the checkpoint, like best.pt")
    from ultralytics.engine.exporter import export_formats

    formats = export_formats()["Argument"][1:]
    if "format" in arguments and arguments["format"] not in formats:
        raise RecipeError(f"format={arguments['format']} is unknown: choose from {', '.join(formats)}")
    check_device(arguments.get("device"), "device")
    try:
        file = load_model(weights).export(**arguments)
    except (AssertionError, ValueError) as error:  # the former are Ultralytics' checks of what a format takes
        raise RecipeError(_said(error)) from None
    print(file)


def _check_weights(weights: str) -> None:
    """Check that there are weights, and that their name says of what kind they are."""
    if not Path(weights).exists():
        raise RecipeError(f"there are no weights {weights}")
    from ultralytics.engine.exporter import export_formats

    if not weights.rstrip("/").endswith(tuple(export_formats()["Suffix"])):
        raise RecipeError(
            f"weights={weights} must be a checkpoint like best.pt, or what was exported from one, like best.onnx"
        )


def _said(error: Exception) -> str:
    """Return Ultralytics' word for a mistake, in one line."""
    return str(error).splitlines()[0].removeprefix("ERROR ❌️ ")


def _arguments(words: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Read the arguments of a command that takes no recipe, and check those that are Ultralytics'."""
    arguments = read_arguments(words, known)
    try:
        check_values({key: value for key, value in arguments.items() if key in DEFAULT_CFG_DICT})
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return arguments
