"""Arms × seeds of other hosts."""

import csv
import json
from datetime import datetime
from types import SimpleNamespace

import pytest
import yaml
from hosts import Toy, section, write_pictures

from mwam_det.hosts.experiment import CLASSIFICATION, MODELS
from mwam_det.hosts.loop import HostTrainer
from mwam_det.recipe import RecipeError
from mwam_det.study.grid import compare

ARMS = ["baseline", "mwam", "mwam+dropout"]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe of a toy host; runs go to the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    content = {
        "task": CLASSIFICATION,
        "data": section(write_pictures(tmp_path / "set"), groups={"day": "day_*"}),
        "train": {"epochs": 2, "imgsz": 16, "batch": 4, "device": "cpu"},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return "toy.yaml"


@pytest.mark.slow
def test_arms_and_seeds_of_a_host_become_one_table(recipe, tmp_path, capsys):
    result = compare(recipe, arms=ARMS, seeds=2)
    assert (result.metrics, [run.state for run in result.runs]) == (("accuracy",), ["done"] * 6)
    folder = tmp_path / "runs/toy-compare"
    assert not (folder / "baseline/seed0/mwam.csv").exists() and (folder / "mwam/seed1/mwam.csv").is_file()
    for run in result.runs:
        own = json.loads((folder / run.arm / f"seed{run.seed}/robustness.json").read_text())
        assert run.measure("accuracy", ("rgb", "ir")) == own["combinations"][-1]["accuracy"]
        assert own["groups"]["day"]["images"] == 4
    with (folder / "compare.csv").open(newline="") as stream:
        assert {(row["arm"], row["metric"]) for row in csv.DictReader(stream)} == {(arm, "accuracy") for arm in ARMS}
    assert "accuracy, mean ± standard deviation" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18-concat", "sf-md"])
def test_every_arm_of_a_host_is_compared_with_the_specialist_of_a_modality(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    content = {
        "task": CLASSIFICATION,
        "model": model,
        "data": section(write_pictures(tmp_path / "set"), groups={"day": "day_*"}),
        "mwam": True,
        "incomplete": True,
        "train": {"epochs": 1, "imgsz": 32, "batch": 4, "device": "cpu"},
    }
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    result = compare("alone.yaml", arms=["baseline", "only-ir"], seeds=1)
    file = tmp_path / "runs/alone-compare/only-ir/seed0/robustness.json"
    assert [row["available"] for row in json.loads(file.read_text())["combinations"]] == [["ir"]]
    difference = result.runs[0].measure("accuracy", ("ir",)) - result.runs[1].measure("accuracy", ("ir",))
    assert result.to_specialist("baseline", "ir").mean == pytest.approx(difference)


@pytest.mark.slow
def test_a_grid_goes_on_where_it_was_interrupted_and_ends_alike(recipe, tmp_path, monkeypatch):
    whole = compare(recipe, ["train.name=whole"], arms=ARMS[:2], seeds=1)
    validate = HostTrainer._validate

    def interrupt(self):
        if self.mwam is not None and self.epoch == 2:
            raise KeyboardInterrupt
        return validate(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(HostTrainer, "_validate", interrupt)
        compare(recipe, [], arms=ARMS[:2], seeds=1)
    again = compare(recipe, arms=ARMS[:2], seeds=1)
    assert [(run.state, run.resumed) for run in again.runs] == [("done", 0), ("done", 1)]
    assert [run.report["combinations"] for run in again.runs] == [run.report["combinations"] for run in whole.runs]


@pytest.mark.slow
def test_a_run_that_was_stopped_before_its_report_is_only_evaluated(recipe, tmp_path, monkeypatch):
    then = datetime(2026, 1, 1)  # a minute may end between the two reports, which bear it
    monkeypatch.setattr("mwam_det.robustness.origin.datetime", SimpleNamespace(now=lambda: then))
    first = compare(recipe, arms=["baseline"], seeds=1)
    (tmp_path / "runs/toy-compare/baseline/seed0/robustness.json").unlink()
    monkeypatch.setattr(HostTrainer, "train", lambda self: pytest.fail("it was trained already"))
    assert compare(recipe, arms=["baseline"], seeds=1).runs[0].report == first.runs[0].report


@pytest.mark.parametrize(
    ("overrides", "arms", "words"),
    [
        (["mwam.mode=all"], "baseline", "mode"),
        (["fusion=concat"], "baseline", "fusion"),
        (["data.path=nowhere"], "baseline", "nowhere"),
        (["train.device=cuda:77"], "baseline", "cuda:77"),
        ([], "only-depth", "there is no arm 'only-depth'"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_trained(recipe, tmp_path, overrides, arms, words):
    with pytest.raises(RecipeError, match=words):
        compare(recipe, overrides, arms=arms, seeds=1)
    assert not list(tmp_path.glob("runs/*/*/seed0"))


def test_a_device_that_is_not_there_is_refused_before_any_run_begins(recipe, tmp_path):
    with pytest.raises(RecipeError, match="cuda:77 is not there"):
        compare(recipe, arms="baseline", seeds=1, devices=("cpu", "cuda:77"))
    assert not list(tmp_path.glob("runs/*"))
