import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from pages import command_parser, parse
from sections import people
from untrained import TINY, untrained

import mwam_det
from mwam_det import experiments
from mwam_det.cli import main
from mwam_det.cli.program import COMMANDS
from mwam_det.cli.stock_words import read_stock_words
from mwam_det.data.conversion.model import ConversionError, Format
from mwam_det.data.conversion.offers import OFFERS, Offer, Option
from mwam_det.data.formats import FORMATS
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load
from mwam_det.study import grid

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
DATA = people("datasets/none")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with a recipe night.yaml in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.yaml").write_text(yaml.safe_dump({"data": DATA}, sort_keys=False))
    return tmp_path


def mistake(capsys, *argv: str) -> str:
    """Run a command that must fail, and return the one line that tells why."""
    before = sorted(Path().rglob("*"))
    status = main(argv)
    said = capsys.readouterr()
    assert status == 2
    assert "Traceback" not in said.out + said.err
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert sorted(Path().rglob("*")) == before, "a mistake left files behind"
    return line


@pytest.mark.parametrize("command", [["train"], ["robustness", "best.pt"], ["inspect"]])
def test_a_missing_recipe_is_an_error_of_one_line(capsys, command):
    assert "there is no recipe cfg/none.yaml" in mistake(capsys, *command, "cfg/none.yaml")


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_a_missing_dataset_is_an_error_of_one_line(capsys, folder, command):
    line = mistake(capsys, command, "night.yaml", "data.path=datasets/nowhere")
    assert "path=datasets/nowhere" in line
    assert str(folder / "datasets/nowhere") in line


def test_inspect_has_nothing_to_say_on_classes_of_pixels(capsys):
    line = mistake(capsys, "inspect", "night.yaml", "task=semantic", "model=yolo26n-sem.yaml")
    assert "with task=semantic the labels are of pixels" in line


def test_a_missing_split_is_an_error_of_one_line_that_tells_what_there_is(capsys, folder):
    for name in ("visible", "infrared", "labels"):
        (folder / "set" / name / "train").mkdir(parents=True)
    line = mistake(capsys, "train", "night.yaml", "data.path=set")
    assert str(folder / "set/visible/val") in line
    assert "there are: train" in line


@pytest.mark.parametrize("command", [["train"], ["robustness", "best.pt"], ["inspect"]])
@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.epoch=3", "did you mean 'epochs'?"),
        ("mwam.gama=1", "did you mean 'gamma'?"),
        ("train.epochs=abc", "epochs=abc"),
    ],
)
def test_a_wrong_override_is_an_error_of_one_line(capsys, command, override, part):
    assert part in mistake(capsys, *command, "night.yaml", override)


def test_a_comparison_without_a_recipe_says_how_to_name_one(capsys):
    assert "name a recipe, like cfg/demo.yaml" in mistake(capsys, "compare")


def test_a_word_that_is_no_override_is_an_error_of_one_line(capsys):
    assert "'epochs' is not an override" in mistake(capsys, "train", "night.yaml", "epochs")


def test_invalid_yaml_is_an_error_that_shows_the_place(capsys, folder):
    (folder / "night.yaml").write_text("data: [\n")
    assert main(["train", "night.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: night.yaml is not valid YAML")
    assert "line 2" in said


def test_missing_weights_are_an_error_of_one_line(capsys):
    assert "there are no weights runs/none.pt" in mistake(capsys, "robustness", "runs/none.pt", "night.yaml")


@pytest.mark.parametrize("override", ["split=train", "report.split=train", "data.path=elsewhere", "mwam=false"])
def test_every_override_that_the_help_names_is_understood(capsys, override):
    # the recipe is read before the weights are looked for
    assert "there are no weights" in mistake(capsys, "robustness", "runs/none.pt", "night.yaml", override)


def test_an_unknown_split_is_an_error_of_one_line(capsys):
    line = mistake(capsys, "robustness", "best.pt", "night.yaml", "split=vla")
    assert "report.split='vla'" in line
    assert "train, val" in line


def test_a_file_that_holds_no_weights_is_an_error_of_one_line(capsys, folder):
    (folder / "best.pt").write_bytes(b"no weights")
    assert "best.pt" in mistake(capsys, "robustness", "best.pt", "night.yaml")


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.99])
def test_a_checkpoint_that_is_not_whole_is_an_error_that_names_it(capsys, folder, tmp_path_factory, share):
    whole = untrained(tmp_path_factory.mktemp("model") / "best.pt").read_bytes()
    (folder / "best.pt").write_bytes(whole[: int(share * len(whole))])
    assert "best.pt" in mistake(capsys, "robustness", "best.pt", "night.yaml")


def test_a_model_that_holds_no_weights_is_an_error_of_one_line(capsys, folder):
    (folder / "best.pt").write_bytes(b"no weights")
    assert "best.pt" in mistake(capsys, "train", "night.yaml", "model=best.pt")


@pytest.mark.parametrize("content", [[1, 2], torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2)}])
def test_a_file_that_holds_another_object_is_an_error_of_one_line(capsys, folder, content):
    torch.save(content, folder / "best.pt")
    words = "best.pt holds no model of Ultralytics"
    assert words in mistake(capsys, "train", "night.yaml", "model=best.pt")
    assert words in mistake(capsys, "predict", "best.pt", "--source", "rgb=a", "ir=b")


def test_nothing_to_resume_is_an_error_of_one_line(capsys, folder):
    line = mistake(capsys, "train", "night.yaml", "train.resume=true")
    assert "train.resume=true" in line
    assert str(folder / "runs/night*/weights/last.pt") in line


def test_a_missing_checkpoint_to_resume_is_an_error_of_one_line(capsys):
    assert "train.resume=runs/none/last.pt" in mistake(capsys, "train", "night.yaml", "train.resume=runs/none/last.pt")


def test_a_file_that_holds_no_checkpoint_to_resume_is_an_error_of_one_line(capsys, folder):
    for name in ("visible", "infrared", "labels"):
        for split in ("train", "val"):
            (folder / "set" / name / split).mkdir(parents=True)
    (folder / "last.pt").write_bytes(b"no checkpoint")
    assert "last.pt" in mistake(capsys, "train", "night.yaml", "data.path=set", "train.resume=last.pt")


@pytest.mark.parametrize("name", ["day", "nightly"])
def test_a_checkpoint_of_another_recipe_is_not_resumed(capsys, folder, name):
    other = folder / "runs" / name / "weights/last.pt"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"")
    assert "there is no" in mistake(capsys, "train", "night.yaml", "train.resume=true")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["train", "robustness", "convert", "inspect"]),
        (["train", "--help"], ["recipe", "KEY=VALUE", "train.epochs=60"]),
        (["robustness", "--help"], ["weights", "KEY=VALUE", "split="]),
        (["convert", "--help"], list(FORMATS)),
        (["inspect", "--help"], ["recipe", "KEY=VALUE", "sample=500"]),
    ],
)
def test_help_tells_the_commands_and_their_arguments(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in words)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["trian", "night.yaml"],
        ["train"],
        ["robustness", "best.pt"],
        ["convert"],
        ["convert", "lvip", "from", "to"],
        ["convert", "llvip", "from"],
        ["convert", "llvip", "from", "to", "--lables", "ir"],
        ["inspect"],
    ],
)
def test_an_incomplete_command_shows_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: mwam-det" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("train.py", ["recipe", "KEY=VALUE"]),
        ("evaluate.py", ["weights", "recipe"]),
        ("compare.py", ["--arms", "--seeds"]),
        ("convert.py", ["FORMAT", "llvip"]),
        ("inspect_data.py", ["recipe", "sample=500"]),
        ("predict.py", ["weights", "--source", "save_txt"]),
        ("export.py", ["weights", "inputs=separate"]),
        ("crops.py", ["recipe", "DST", "smallest=16"]),
    ],
)
def test_the_scripts_start(folder, script, words):
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(folder / "settings"), "YOLO_OFFLINE": "true"}
    command = [sys.executable, str(TOOLS / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words)


@pytest.mark.parametrize(
    ("words", "recipe", "overrides"),
    [
        (["a.yaml", "train.epochs=1", "--arms", "x", "--seeds", "2"], "a.yaml", ["train.epochs=1"]),
        (["a.yaml", "--arms", "x", "--seeds", "2", "train.epochs=1"], "a.yaml", ["train.epochs=1"]),
        (["--arms", "x", "--seeds", "2", "a.yaml", "mwam=false", "train.epochs=1"], "a.yaml",
         ["mwam=false", "train.epochs=1"]),
        (["--arms", "x", "train.epochs=1", "--seeds", "2"], None, ["train.epochs=1"]),
    ],
)  # fmt: skip
def test_compare_takes_its_words_in_any_order(monkeypatch, words, recipe, overrides):
    called = []
    failed = SimpleNamespace(runs=[SimpleNamespace(state="failed")])
    monkeypatch.setattr(grid, "compare", lambda *args, **kwargs: called.append((args, kwargs)) or failed)
    assert main(["compare", *words]) == 1
    assert called == [((recipe, overrides), {"arms": "x", "seeds": 2})]


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["jobs=4", "devices=0,1"], {"jobs": 4, "devices": ("0", "1")}),
        (["devices=cpu"], {"devices": ("cpu",)}),
        (["cluster=ray://head:10001"], {"cluster": "ray://head:10001"}),
    ],
)
def test_compare_says_how_many_runs_are_trained_at_a_time_and_where(monkeypatch, words, given):
    called = []
    result = SimpleNamespace(runs=[])
    monkeypatch.setattr(grid, "compare", lambda *args, **kwargs: called.append((args, kwargs)) or result)
    assert main(["compare", "a.yaml", *words, "train.epochs=1"]) == 0
    assert called == [(("a.yaml", ["train.epochs=1"]), {"arms": "baseline,mwam", "seeds": None, **given})]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs=0"], "jobs=0 must be 1 or more"),
        (["jobs=many"], "jobs='many' must be a whole number"),
        (["devices=0,1", "cluster=auto"], "devices=0,1 and cluster=auto"),
    ],
)
def test_runs_that_cannot_be_shared_out_so_are_an_error_of_one_line(capsys, words, said):
    assert said in mistake(capsys, "compare", "night.yaml", *words)


@pytest.mark.parametrize("words", [["compare", "a.yaml", "--arm", "--nonsense"], ["convert", "llvip", "a", "b", "c=1"]])
def test_a_word_that_no_command_knows_is_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and "error:" in capsys.readouterr().err


def test_every_script_is_tested_here():
    assert sorted(file.name for file in TOOLS.glob("*.py")) == [
        "compare.py",
        "convert.py",
        "crops.py",
        "evaluate.py",
        "export.py",
        "inspect_data.py",
        "predict.py",
        "train.py",
    ]


def test_no_script_takes_the_place_of_a_module_that_python_needs():
    assert not {file.stem for file in TOOLS.glob("*.py")} & set(sys.stdlib_module_names)


def test_the_installed_command_is_this_one():
    commands = [point for point in entry_points(group="console_scripts") if point.name == "mwam-det"]
    assert commands, "the package is not installed: pip install -e ."
    assert commands[0].value == "mwam_det.cli:main"
    assert commands[0].load() is main


def trained(recipe: dict, name: str) -> Path:
    """A run of one epoch of two that was stopped there, so that it can be resumed."""
    from training import SHORT

    from mwam_det import MultimodalYOLO

    class Stopped(Exception):
        pass

    def stop(trainer):
        raise Stopped

    model = MultimodalYOLO("yolov8n.yaml")
    model.add_callback("on_model_save", stop)
    arguments = {**SHORT, "project": "runs", "name": name}
    arguments["project"] = str(Path("runs").resolve())
    with pytest.raises(Stopped):
        model.train(data=recipe["data"], robustness=False, **{k: v for k, v in arguments.items() if k != "model"})
    return Path("runs") / name / "weights/last.pt"


def test_the_run_of_a_recipe_whose_name_goes_on_with_a_digit_is_not_resumed(capsys, folder):
    other = folder / "runs/night2/weights/last.pt"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"")
    assert "there is no" in mistake(capsys, "train", "night.yaml", "train.resume=true")


@pytest.mark.slow
def test_a_run_is_not_resumed_on_other_data_than_it_was_begun_with(capsys, folder, demo_section):
    last = trained({"data": demo_section}, "night")
    other = {**demo_section, "modalities": {"rgb": "infrared", "ir": "visible"}}
    (folder / "night.yaml").write_text(yaml.safe_dump({"data": other}, sort_keys=False))
    line = mistake(capsys, "train", "night.yaml", f"train.resume={last}")
    assert "begun with other data (train, val, splits differ" in line


@pytest.mark.slow
def test_a_run_that_died_before_its_report_is_finished_and_a_finished_one_is_not_resumed(capsys, folder, demo_section):
    import torch

    last = trained({"data": demo_section}, "night")
    content = torch.load(last, weights_only=False)
    torch.save({**content, "epoch": content["train_args"]["epochs"] - 1}, last)
    (folder / "night.yaml").write_text(yaml.safe_dump({"data": demo_section}, sort_keys=False))
    assert main(["train", "night.yaml", "train.resume=true"]) == 0
    shown = capsys.readouterr().out
    assert "Missing modalities" in shown
    report, following, *commands = shown.splitlines()[-4:]
    assert report == "Report: runs/night/report.html" and Path("runs/night/report.html").is_file()
    assert following == "Next:" and [command.split()[1] for command in commands] == ["predict", "robustness"]
    assert (last.parent.parent / "robustness.json").is_file()
    assert all(torch.load(last.with_name(f), weights_only=False)["epoch"] == -1 for f in ("last.pt", "best.pt"))
    assert "finished" in mistake(capsys, "train", "night.yaml", "train.resume=true")


def test_a_device_that_is_not_there_is_an_error_of_one_line(capsys, folder):
    (folder / "best.pt").write_bytes(b"")
    for command in (["train", "night.yaml"], ["robustness", "best.pt", "night.yaml"]):
        assert "train.device=99 is not there" in mistake(capsys, *command, "train.device=99")
        assert "report.device=99 is not there" in mistake(capsys, *command, "report.device=99")


def test_a_report_that_would_fail_after_the_training_is_an_error_of_one_line_before_it(capsys):
    assert "section 'report': batch=0 must be a whole number" in mistake(
        capsys, "train", "night.yaml", "report.batch=0"
    )


def test_a_key_that_looks_like_one_of_the_command_is_taken_for_it(capsys):
    for words in (["inspect", "night.yaml", "samples=5"], ["spectrum", "night.yaml", "sampel=5"]):
        assert "did you mean 'sample'?" in mistake(capsys, *words)


@pytest.mark.parametrize("name", ["out", "out/spectrum.csv"])
def test_a_spectrum_takes_no_file_of_the_user(capsys, folder, name):
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("my notes")
    assert f"{name} exists and is not overwritten" in mistake(capsys, "spectrum", "night.yaml", "out")
    assert file.read_text() == "my notes"


def test_a_choice_by_validations_without_any_is_an_error_of_one_line(capsys):
    line = mistake(capsys, "train", "night.yaml", "select=mean", "train.val=false")
    assert "select=mean goes by the validations, but val is false" in line


def test_a_precision_that_the_device_does_not_have_is_an_error_of_one_line(capsys, folder):
    line = mistake(capsys, "train", "night.yaml", "train.amp=bf16", "train.device=cpu")
    assert "train.amp=bf16 needs a GPU" in line


@pytest.mark.parametrize("override", ["train.name=2024", "train.name=null"])
def test_a_name_that_is_a_number_or_nothing_is_understood(capsys, override):
    assert "there is no" in mistake(capsys, "train", "night.yaml", override, "train.resume=true")


def test_weights_that_are_a_recipe_are_an_error_of_one_line(capsys):
    assert "must be a checkpoint like best.pt" in mistake(capsys, "robustness", "night.yaml", "night.yaml")


# convert --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(folder) -> Path:
    """A folder as LLVIP is published, with two pairs to train with and one to test with."""
    for part, names in (("train", ("010001", "010002")), ("test", ("190001",))):
        for name in names:
            pixels = np.random.default_rng(int(name)).integers(0, 256, (64, 80, 3), np.uint8)
            for kind, image in (("visible", pixels), ("infrared", 255 - pixels)):
                file = folder / "LLVIP raw" / kind / part / f"{name}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), image)
            annotation = folder / "LLVIP raw" / "Annotations" / f"{name}.xml"
            annotation.parent.mkdir(exist_ok=True)
            annotation.write_text(
                "<annotation><object><name>person</name><bndbox><xmin>10</xmin><ymin>8</ymin><xmax>30</xmax>"
                "<ymax>50</ymax></bndbox></object></annotation>"
            )
    return folder / "LLVIP raw"


def test_a_conversion_sums_up_and_ends_with_the_line_to_train_with(capsys, published):
    assert main(["convert", "llvip", str(published), "LLVIP set"]) == 0
    said = capsys.readouterr().out
    assert "person" in said
    assert "the complete set has" in said
    command, train, recipe, override = shlex.split(said.splitlines()[-1])
    assert (command, train, recipe) == ("mwam-det", "train", "cfg/detect/llvip.yaml")
    section = load(ROOT / recipe, [override]).recipe.data
    assert resolve_dataset(section).path == str(Path("LLVIP set").resolve())


def test_a_conversion_with_doubts_says_so_and_not_to_train(capsys, published):
    for file in published.glob("infrared/*/*.jpg"):
        file.write_bytes(Path(str(file).replace("infrared", "visible")).read_bytes())
    assert main(["convert", "llvip", str(published), "set"]) == 0
    said = capsys.readouterr().out
    assert "Doubt: ir is the same file as rgb in 3 of 3 pairs" in " ".join(said.split())
    assert "mwam-det train" not in said
    assert said.splitlines()[-1] == "mwam-det inspect cfg/detect/llvip.yaml data.path=set"
    assert json.loads(Path("set/conversion.json").read_text())["doubts"]


def test_a_conversion_is_ready_to_be_inspected(capsys, published):
    assert main(["convert", "llvip", str(published), "set"]) == 0
    assert main(["inspect", str(ROOT / "cfg/detect/llvip.yaml"), "data.path=set", "train.imgsz=64"]) == 0
    assert json.loads(Path("runs/llvip-inspect/inspection.json").read_text())["splits"]["train"]["pairs"] == 2


def test_a_source_of_another_kind_is_an_error_of_one_line(capsys, folder):
    (folder / "elsewhere").mkdir()
    assert "is not LLVIP" in mistake(capsys, "convert", "llvip", "elsewhere", "set")
    assert "nowhere" in mistake(capsys, "convert", "llvip", "nowhere", "set")


def test_a_destination_in_use_is_an_error_of_one_line(capsys, published, folder):
    (folder / "set").mkdir()
    (folder / "set" / "precious.txt").write_text("")
    assert "not empty" in mistake(capsys, "convert", "llvip", str(published), "set")


def test_an_interrupted_conversion_says_how_it_goes_on_and_does(capsys, published, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mwam_det.data.conversion.write._write", interrupt)
        assert main(["convert", "llvip", str(published), "set"]) == 130
    assert "same command to resume" in capsys.readouterr().err
    assert main(["convert", "llvip", str(published), "set"]) == 0


OPTIONS = {
    "labels": Option("ir", "whose labels, 100 % of them", ("ir", "rgb")),
    "keep_frame": Option(False, "keep the frame"),
    "seed": Option(7, "seed of the split"),
    "share": Option(0.2, "share of the split"),
    "only": Option("", "one part alone"),
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"labels": "ir", "keep_frame": False, "seed": 7, "share": 0.2, "only": ""}),
        (
            ["--labels", "rgb", "--keep-frame", "--seed", "3", "--share", "0.5", "--only", "x"],
            {"labels": "rgb", "keep_frame": True, "seed": 3, "share": 0.5, "only": "x"},
        ),
    ],
)
def test_the_options_of_a_format_are_those_of_its_command(capsys, folder, monkeypatch, arguments, expected):
    received = []

    def read(source, options, report):
        received.append(options)
        raise ConversionError("that is all")

    format_ = Format("fake", "Fake", {"rgb": "rgb", "ir": "ir"}, read, ["thing"], options=OPTIONS)
    monkeypatch.setitem(FORMATS, "fake", format_)
    monkeypatch.setitem(OFFERS, "fake", Offer("Fake", OPTIONS))
    (folder / "from").mkdir()
    assert "that is all" in mistake(capsys, "convert", "fake", "from", "to", *arguments)
    assert received == [expected]
    for wrong in (["--labels", "both"], ["--seed", "x"], ["--keep-frame", "yes"]):
        with pytest.raises(SystemExit) as caught:
            main(["convert", "fake", "from", "to", *wrong])
        assert caught.value.code == 2


def test_a_format_without_a_recipe_ends_with_the_recipe_that_it_wrote(capsys, published, monkeypatch):
    from dataclasses import replace

    monkeypatch.setitem(FORMATS, "llvip", replace(FORMATS["llvip"], recipe=None))
    assert main(["convert", "llvip", str(published), "my set"]) == 0
    command, train, recipe = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert (command, train, recipe) == ("mwam-det", "train", "my set/recipe.yaml")
    resolve_dataset(load(recipe).recipe.data)


def test_every_format_is_offered_in_order_as_it_is():
    assert list(OFFERS) == list(FORMATS)
    assert {name: Offer(of.title, of.options) for name, of in FORMATS.items()} == OFFERS


@pytest.mark.parametrize("name", FORMATS)
def test_the_help_of_a_format_names_its_options_and_their_choices(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main(["convert", name, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for option, values in FORMATS[name].options.items():
        assert f"--{option.replace('_', '-')}" in said
        assert all(str(choice) in said for choice in values.choices)


# inspect --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo_recipe(folder, demo_section) -> str:
    """A recipe of the demo set."""
    recipe = {"data": demo_section, "train": {"imgsz": 128, "batch": 4}}
    (folder / "demo.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return "demo.yaml"


@pytest.mark.slow
def test_an_inspection_prints_tables_and_writes_figures_and_pictures(capsys, demo_recipe):
    assert main(["inspect", demo_recipe]) == 0
    said = capsys.readouterr().out
    assert "usable pairs" in said
    assert "weight K" in said
    content = json.loads(Path("runs/demo-inspect/inspection.json").read_text())
    assert content["imgsz"] == 128
    assert content["preference"]["batch"] == 4
    assert cv2.imread("runs/demo-inspect/pairs.png") is not None


@pytest.mark.slow
def test_a_second_inspection_overwrites_nothing(demo_recipe):
    assert main(["inspect", demo_recipe, "sample=2"]) == 0
    before = Path("runs/demo-inspect/inspection.json").read_bytes()
    assert main(["inspect", demo_recipe, "sample=4"]) == 0
    assert Path("runs/demo-inspect/inspection.json").read_bytes() == before
    assert json.loads(Path("runs/demo-inspect-2/inspection.json").read_text())["sampled"] == 4


@pytest.mark.slow
def test_an_inspection_with_findings_succeeds_and_prints_them(capsys, demo_recipe):
    assert main(["inspect", demo_recipe, "data.modalities.rgb=infrared", "data.modalities.ir=visible"]) == 0
    assert "seem swapped" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_methods_settings_of_the_recipe_are_inspected(demo_recipe):
    assert main(["inspect", demo_recipe, "mwam.rule=ac_ratio", "train.batch=-1", "train.single_cls=true"]) == 0
    content = json.loads(Path("runs/demo-inspect/inspection.json").read_text())
    assert content["preference"]["rule"] == "ac_ratio"
    assert list(content["splits"]["train"]["boxes"]) == ["item"]


@pytest.mark.parametrize("value", ["0", "-3", "half", "1.5", ""])
def test_a_sample_that_is_no_number_of_pairs_is_an_error_of_one_line(capsys, demo_recipe, value):
    assert f"sample={value}" in mistake(capsys, "inspect", demo_recipe, f"sample={value}")


def test_an_interrupted_inspection_writes_nothing(capsys, demo_recipe, folder, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mwam_det.data.inspection.gather.inspect_dataset", interrupt)
    assert main(["inspect", demo_recipe]) == 130
    assert "Nothing was written" in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_the_path_of_a_converted_set_is_printed_so_that_it_is_read_as_it_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("mwam_det.data.conversion.write.convert", lambda *args: {"doubts": []})
    monkeypatch.setattr("mwam_det.data.conversion.record.summary", lambda record: "")
    for folder in ("D #2", "007", "plain"):
        assert main(["convert", "llvip", "src", folder]) == 0
        words = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])
        assert load(ROOT / words[2], words[3:]).recipe.data["path"] == folder


def test_ctrl_c_ends_any_command_with_a_word_and_130(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "read_recipe", interrupted)
    for words in (["train", "a.yaml"], ["robustness", "a.pt", "a.yaml"], ["inspect", "a.yaml"]):
        assert main(words) == 130
        assert capsys.readouterr().err.startswith("\nStopped.")


WITHOUT_TORCH = """
import sys
from mwam_det.cli import main
statuses = set()
for words in " ".join(sys.argv[1:]).split(" ; "):
    try:
        statuses.add(main(words.split()))
    except SystemExit as exit_:
        statuses.add(exit_.code)
    if slow := {"torch", "ultralytics", "cv2", "numpy"} & set(sys.modules):
        sys.exit(f"{words}: {slow} imported")
sys.exit(statuses.pop() if len(statuses) == 1 else f"different statuses: {statuses}")
"""
NAMES = [module.__name__.rpartition(".")[2] for module in COMMANDS]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (" ; ".join(f"{name} --help" for name in NAMES).split(), 0),
        (" ; ".join(f"convert {name} --help" for name in FORMATS).split(), 0),
        (["convert", "llvip"], 2),
        (["trian"], 2),
        (["train", "none.yaml"], 2),
        (["val", "night.yaml", "best.pt"], 2),
        (["predict", "none.pt", "--source", "rgb=a"], 2),
    ],
)
def test_help_and_cheap_mistakes_import_nothing_slow(folder, words, status):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_help_ends_in_two_examples_that_are_understood(name):
    command = command_parser()[name]
    examples = [line.strip() for line in command.epilog.splitlines()[1:]]
    assert len(examples) == 2
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "mwam-det" and words[0] == name
        if words[-1] != "--help":
            parse(words)


def test_the_versions_are_told():
    code = WITHOUT_TORCH
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for package in ("ultralytics", "torch"):
        assert f"{package} {version(package)}" in done.stdout
    assert done.stdout.startswith(f"mwam-det {mwam_det.__version__}, ")


@pytest.mark.parametrize("command", ["val", "robustness"])
def test_weights_and_recipe_that_are_swapped_are_put_in_order(capsys, command):
    line = mistake(capsys, command, "night.yaml", "best.pt")
    assert line == f"error: the weights come before the recipe: mwam-det {command} best.pt night.yaml"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ([], "train.close_mosaic=10"),
        (["night.yaml"], "data.labels="),
        (["task=rgbd-segmentation"], "train.schedule=one-cycle"),
        ([str(ROOT / "cfg/hosts/nyuv2_esanet.yaml"), "train.epochs=3"], "data.groups="),
    ],
)
def test_the_keys_of_a_task_are_shown(capsys, words, key):
    assert main(["train", *words, "--keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"  {key} ") for line in lines)
    assert any(line.startswith("  mwam.gamma=0.7 ") for line in lines)


# train in Ultralytics' own words --------------------------------------------------------------------------------------


def test_words_without_a_recipe_are_the_content_of_one(folder):
    words = ["data=night.yaml", "model=yolo11n.yaml", "epochs=3", "mwam=false", "incomplete.views=2", "data.val=test"]
    assert read_stock_words(words) == (
        {
            "data": {**DATA, "val": "test"},
            "task": "detect",
            "model": "yolo11n.yaml",
            "train": {"epochs": 3},
            "mwam": False,
            "incomplete": {"views": 2},
        },
        [],
    )


def test_data_may_be_the_section_itself_and_the_task_that_of_the_model(folder):
    (folder / "section.yaml").write_text(yaml.safe_dump(DATA))
    content, _ = read_stock_words(["data=section.yaml", "model=yolov8n-obb.yaml"])
    assert content["data"] == DATA and content["task"] == "obb"


def test_numbers_in_a_section_are_read_as_those_of_a_recipe(folder):
    (folder / "section.yaml").write_text(yaml.safe_dump(DATA) + "range: {ir: [0, 1e4]}\n")
    assert read_stock_words(["data=section.yaml"])[0]["data"]["range"] == {"ir": [0, 10000.0]}


def test_data_may_be_the_recipe_of_another_host():
    recipe = ROOT / "cfg/hosts/nyuv2_esanet.yaml"
    content, _ = read_stock_words([f"data={recipe}", "schedule=constant"])
    written = yaml.safe_load(recipe.read_text())
    assert content == {key: written[key] for key in ("task", "model", "data")} | {"train": {"schedule": "constant"}}


def test_a_folder_is_what_init_concludes_about_it_and_nothing_is_written(folder):
    from mwam_det.data.synthetic import write_demo

    write_demo(folder / "pairs", train=8, val=4, size=(64, 96))
    for kind in ("visible", "infrared", "labels"):
        (folder / "flat" / kind).mkdir(parents=True)
        for file in (folder / "pairs" / kind / "train").iterdir():
            (folder / "flat" / kind / file.name).write_bytes(file.read_bytes())
    before = sorted(folder.rglob("*"))
    content, sentences = read_stock_words(["data=pairs"])
    assert content["task"] == "detect" and (content["data"]["train"], content["data"]["val"]) == ("train", "val")
    assert any("4 pairs in val" in sentence for sentence in sentences)
    assert list(content) == ["task", "model", "data"]  # what is not said of data has a recipe's defaults
    content, _ = read_stock_words(["data=flat"])
    drawn = content["data"]["train"] + content["data"]["val"]
    assert sorted(drawn) == sorted(f"visible/{file.name}" for file in (folder / "flat/visible").iterdir())
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=yolo11n.yaml", "epochs=3"], "no data to train on"),
        (["data=nowhere"], "data=nowhere is neither a folder of pairs nor a YAML file"),
        (["data=night.yaml", "epoch=3"], "did you mean 'train.epochs'?"),
        (["data=night.yaml", "epochs=x"], "in section 'train': 'epochs=x'"),
        (["data=night.yaml", "epochs"], "'epochs' is not an override"),
        (["data=night.yaml", "task=obb"], "model=yolov8n.yaml is made for the task 'detect'"),
        (["data=night.yaml", "model=yolov8n.pt"], "write model: yolov8n.yaml with pretrained: yolov8n.pt"),
    ],
)
def test_a_mistake_in_own_words_is_an_error_of_one_line(capsys, words, said):
    assert said in mistake(capsys, "train", *words)


@pytest.mark.slow
def test_a_folder_is_trained_on_in_own_words(capsys, folder):
    from mwam_det.data.synthetic import write_demo

    write_demo(folder / "pairs", train=8, val=4, size=(64, 96))
    for kind in ("visible", "infrared", "labels"):  # no split: one is drawn
        (folder / "flat" / kind).mkdir(parents=True)
        for file in (folder / "pairs" / kind / "train").iterdir():
            (folder / "flat" / kind / file.name).write_bytes(file.read_bytes())
    small = ["epochs=1", "imgsz=64", "batch=4", "workers=0", "plots=false", "device=cpu"]
    assert main(["train", f"model={TINY}", "data=flat", *small]) == 0
    said = capsys.readouterr().out
    assert "6 pairs were drawn for train and 2 for val" in said and "Missing modalities" in said
    assert json.loads(Path("runs/train/robustness.json").read_text())["images"] == 2


def test_the_package_is_a_program(folder):
    done = subprocess.run([sys.executable, "-m", "mwam_det", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("usage: mwam-det ")


@pytest.mark.parametrize(
    "words", [["robustness", "best.pt", "night.yaml"], ["compare", "night.yaml"], ["inspect", "night.yaml"]]
)
def test_a_command_that_does_not_train_is_refused_in_several_processes(capsys, monkeypatch, words):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert f"{words[0]} runs in one process" in mistake(capsys, *words)
