import shlex
from pathlib import Path

import pytest
from hosts import rooms_section
from pages import parse

from mwam_det.cli.next_steps import next_commands, shown
from mwam_det.experiments import experiment_of

WORDS = ["night.yaml", "train.epochs=1", "data.path=a b", "mwam=false"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder below the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "night"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").touch()
    return folder


def test_the_commands_are_understood_and_name_files_that_are_there(run, demo_section):
    predict, robustness = map(shlex.split, next_commands(run, experiment_of("night", {"data": demo_section}), WORDS))
    options, _ = parse(predict[1:])
    assert options.weights == "runs/night/weights/best.pt"
    files = dict(word.split("=") for word in options.source)
    assert list(files) == ["rgb", "ir"] and all(Path(file).is_file() for file in files.values())
    assert len({Path(file).stem for file in files.values()}) == 1
    options, overrides = parse(robustness[1:])
    assert (options.recipe, overrides) == ("night.yaml", ["data.path=a b", "degradations=true"])


def test_what_was_degraded_already_is_not_proposed(run, demo_section):
    recipe = experiment_of("night", {"data": demo_section, "report": {"degradations": True}})
    assert [command.split()[1] for command in next_commands(run, recipe, WORDS)] == ["predict"]


def test_data_that_is_gone_costs_the_prediction_alone(run, demo_section):
    recipe = experiment_of("night", {"data": {**demo_section, "path": "gone"}})
    assert [command.split()[1] for command in next_commands(run, recipe, WORDS)] == ["robustness"]


def test_there_is_nothing_to_do_without_weights_or_with_another_host(run, demo_section):
    rooms = {"task": "rgbd-segmentation", "data": rooms_section(run)}
    assert next_commands(run, experiment_of("rooms", rooms), WORDS) == []
    (run / "weights" / "best.pt").unlink()
    assert next_commands(run, experiment_of("night", {"data": demo_section}), WORDS) == []


def test_paths_are_short_where_they_lie_below_the_working_directory(run, tmp_path):
    assert shown(run) == "runs/night"
    assert shown(tmp_path.parent) == str(tmp_path.parent)
