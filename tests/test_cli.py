import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from mwam_det.cli import main

TOOLS = Path(__file__).parents[1] / "tools"
DATA = {
    "path": "datasets/none",
    "modalities": {"rgb": "visible", "ir": "infrared"},
    "labels": "labels",
    "train": "train",
    "val": "val",
    "names": {0: "person"},
}


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


@pytest.mark.parametrize("command", [["train"], ["robustness", "best.pt"]])
def test_a_missing_recipe_is_an_error_of_one_line(capsys, command):
    assert "there is no recipe cfg/none.yaml" in mistake(capsys, *command, "cfg/none.yaml")


def test_a_missing_dataset_is_an_error_of_one_line(capsys, folder):
    line = mistake(capsys, "train", "night.yaml", "data.path=datasets/nowhere")
    assert "path=datasets/nowhere" in line
    assert str(folder / "datasets/nowhere") in line


def test_a_missing_split_is_an_error_of_one_line_that_tells_what_there_is(capsys, folder):
    for name in ("visible", "infrared", "labels"):
        (folder / "set" / name / "train").mkdir(parents=True)
    line = mistake(capsys, "train", "night.yaml", "data.path=set")
    assert str(folder / "set/visible/val") in line
    assert "there are: train" in line


@pytest.mark.parametrize("command", [["train"], ["robustness", "best.pt"]])
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


def test_a_word_that_is_no_override_is_an_error_of_one_line(capsys):
    assert "'epochs' is no override" in mistake(capsys, "train", "night.yaml", "epochs")


def test_invalid_yaml_is_an_error_that_shows_the_place(capsys, folder):
    (folder / "night.yaml").write_text("data: [\n")
    assert main(["train", "night.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: night.yaml is not valid YAML")
    assert "line 2" in said


def test_missing_weights_are_an_error_of_one_line(capsys):
    assert "there are no weights runs/none.pt" in mistake(capsys, "robustness", "runs/none.pt", "night.yaml")


@pytest.mark.parametrize("override", ["split=train", "robustness.split=train", "data.path=elsewhere", "mwam=false"])
def test_every_override_that_the_help_names_is_understood(capsys, override):
    # the recipe is read before the weights are looked for
    assert "there are no weights" in mistake(capsys, "robustness", "runs/none.pt", "night.yaml", override)


def test_an_unknown_split_is_an_error_of_one_line(capsys):
    line = mistake(capsys, "robustness", "best.pt", "night.yaml", "split=vla")
    assert "robustness.split='vla'" in line
    assert "train, val" in line


def test_a_file_that_holds_no_weights_is_an_error_of_one_line(capsys, folder):
    (folder / "best.pt").write_bytes(b"no weights")
    assert "best.pt" in mistake(capsys, "robustness", "best.pt", "night.yaml")


def test_a_model_that_holds_no_weights_is_an_error_of_one_line(capsys, folder):
    (folder / "best.pt").write_bytes(b"no weights")
    assert "best.pt" in mistake(capsys, "train", "night.yaml", "model=best.pt")


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
        (["--help"], ["train", "robustness"]),
        (["train", "--help"], ["recipe", "KEY=VALUE", "train.epochs=60"]),
        (["robustness", "--help"], ["weights", "KEY=VALUE", "split="]),
    ],
)
def test_help_tells_the_commands_and_their_arguments(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in words)


@pytest.mark.parametrize("arguments", [[], ["trian", "night.yaml"], ["train"], ["robustness", "best.pt"]])
def test_an_incomplete_command_shows_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: mwam-det" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "words"), [("train.py", ["recipe", "KEY=VALUE"]), ("evaluate.py", ["weights", "recipe"])]
)
def test_the_scripts_start(folder, script, words):
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(folder / "settings"), "YOLO_OFFLINE": "true"}
    command = [sys.executable, str(TOOLS / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words)


def test_every_script_is_tested_here():
    assert sorted(file.name for file in TOOLS.glob("*.py")) == ["evaluate.py", "train.py"]


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


def test_a_run_is_not_resumed_on_other_data_than_it_was_begun_with(capsys, folder, demo_section):
    last = trained({"data": demo_section}, "night")
    other = {**demo_section, "modalities": {"rgb": "infrared", "ir": "infrared"}}
    (folder / "night.yaml").write_text(yaml.safe_dump({"data": other}, sort_keys=False))
    line = mistake(capsys, "train", "night.yaml", f"train.resume={last}")
    assert "begun with other data (train, val, splits differ" in line


def test_a_finished_run_is_not_resumed(capsys, folder, demo_section):
    import torch

    last = trained({"data": demo_section}, "night")
    torch.save({**torch.load(last, weights_only=False), "epoch": -1}, last)
    (folder / "night.yaml").write_text(yaml.safe_dump({"data": demo_section}, sort_keys=False))
    assert "finished" in mistake(capsys, "train", "night.yaml", "train.resume=true")


def test_a_device_that_is_not_there_is_an_error_of_one_line(capsys, folder):
    (folder / "best.pt").write_bytes(b"")
    for command in (["train", "night.yaml"], ["robustness", "best.pt", "night.yaml"]):
        assert "train.device=99 is not there" in mistake(capsys, *command, "train.device=99")


@pytest.mark.parametrize("override", ["train.name=2024", "train.name=null"])
def test_a_name_that_is_a_number_or_nothing_is_understood(capsys, override):
    assert "there is no" in mistake(capsys, "train", "night.yaml", override, "train.resume=true")


def test_weights_that_are_a_recipe_are_an_error_of_one_line(capsys):
    assert "must be a checkpoint like best.pt" in mistake(capsys, "robustness", "night.yaml", "night.yaml")
