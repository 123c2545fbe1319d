import json
from pathlib import Path

import pytest
import torch
import yaml
from sections import people
from tables import read_csv
from tasks_of_workers import die
from ultralytics.nn.tasks import load_checkpoint
from untrained import TINY

from mwam_det.cli import main
from mwam_det.data.errors import DatasetError
from mwam_det.engine.experiment import UltralyticsExperiment, read_checkpoint
from mwam_det.files.locks import FolderInUse, Hold
from mwam_det.recipe import RecipeError
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import CombinationResult
from mwam_det.study import files as files_module
from mwam_det.study import grid as grid_module
from mwam_det.study.arms import arm_experiments, read_study
from mwam_det.study.grid import compare
from mwam_det.training.checkpoints import begun

RUN_LOG = "runs/tiny-compare/baseline/seed0.log"
CFG = Path(__file__).parents[2] / "cfg"
STUDIES = sorted((CFG / "studies").glob("*.yaml"))
DATA = people("set")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with a recipe night.yaml and the folders of its dataset, an empty file in each."""
    monkeypatch.chdir(tmp_path)
    write("night.yaml", model=TINY, data=DATA, train={"epochs": 2})
    for name in ("visible", "infrared", "labels"):
        for split in ("train", "val"):
            (tmp_path / "set" / name / split).mkdir(parents=True)
            (tmp_path / "set" / name / split / ("0.txt" if name == "labels" else "0.png")).touch()
    return tmp_path


class Training:
    """Stands in for a training: writes figures that depend on the recipe, or does what a test wants instead."""

    def __init__(self):
        self.calls = []
        self.instead = {}

    def __call__(self, experiment, folder):
        recipe = experiment.recipe
        cell = f"{folder.parent.name}/{folder.name}"
        self.calls.append(cell)
        if isinstance(wrong := self.instead.get(cell), BaseException):
            raise wrong
        boost = (0.05 if recipe.mwam else 0) + 0.01 * recipe.train["seed"]
        modalities = tuple(recipe.data["modalities"])
        combinations = {("rgb",): 0.01, ("ir",): 0.17, ("rgb", "ir"): 0.31}
        results = tuple(
            CombinationResult(names, {"mAP50": value + boost, "mAP50-95": (value + boost) / 2})
            for names, value in combinations.items()
            if set(names) <= set(modalities)
        )
        folder.mkdir(parents=True, exist_ok=True)
        report = RobustnessReport(modalities, results).to_dict()
        (folder / "robustness.json").write_text(json.dumps(report))


@pytest.fixture
def training(monkeypatch) -> Training:
    fake = Training()
    # Half a second a run each: the figure has tests of its own, and nothing is held that could be given back.
    monkeypatch.setattr(grid_module, "_free_memory", lambda: None)
    monkeypatch.setattr(files_module, "comparison_picture", lambda comparison: b"")
    monkeypatch.setattr(UltralyticsExperiment, "go_on", lambda *arguments: fake(*arguments))
    return fake


def write(file: str, **content) -> str:
    Path(file).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def record(cell: str) -> dict:
    return json.loads(Path(f"runs/night-compare/{cell}.json").read_text())


def arm(name: str, *overrides: str, **study_arms):
    """The recipe of an arm."""
    study = read_study(write("arms.yaml", arms={name: None, **study_arms}))
    return arm_experiments("night.yaml", overrides, study)[1][name].recipe


def refusal(arms, *overrides: str, seeds: int | None = 1) -> str:
    """Why a comparison is refused; nothing may be left behind then."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(RecipeError) as caught:
        compare("night.yaml", overrides, arms, seeds)
    assert sorted(Path().rglob("*")) == before, "a mistake left files behind"
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Arms ----------------------------------------------------------------------------------------------------------------


DROPOUT = {"views": 1, "level": "input", "p": 0.5}


@pytest.mark.parametrize(
    ("name", "mwam", "incomplete"),
    [
        ("baseline", False, False),
        ("mwam", True, False),
        ("dropout", False, DROPOUT),
        ("dropout-mwam", {"mode": "observe"}, {**DROPOUT, "weights": "mwam"}),
        ("mwam+dropout", True, DROPOUT),
        ("dropout+mwam", True, DROPOUT),
        ("mwam+dropout-mwam", True, {**DROPOUT, "weights": "mwam"}),
        ("dropout-mwam+mwam", True, {**DROPOUT, "weights": "mwam"}),
        ("views", False, True),
        ("mwam+views", True, True),
    ],
)
def test_an_arm_that_is_built_in_has_what_its_name_says_and_nothing_else(name, mwam, incomplete):
    recipe = arm(name)
    assert (recipe.mwam, recipe.incomplete) == (mwam, incomplete)
    assert recipe.data == DATA


def test_what_the_recipe_has_is_off_where_the_arm_does_not_name_it():
    given = ("mwam.rule=ac_ratio", "incomplete.views=1", "incomplete.p=0.3")
    baseline = arm("baseline", *given)
    assert (baseline.mwam, baseline.incomplete) == (False, False)
    assert arm("mwam", *given).incomplete is False
    assert arm("dropout", *given).mwam is False


def test_arms_that_are_built_in_keep_the_parameters_of_the_recipe():
    given = ("mwam.rule=ac_ratio", "incomplete.views=1", "incomplete.p=0.3")
    assert arm("mwam", *given).mwam == {"rule": "ac_ratio"}
    assert arm("dropout", *given).incomplete == {**DROPOUT, "p": 0.3}
    both = arm("dropout-mwam", *given)
    assert both.mwam == {"rule": "ac_ratio", "mode": "observe"}
    assert both.incomplete == {**DROPOUT, "p": 0.3, "weights": "mwam"}


def test_the_arm_mwam_scales_something_also_where_the_recipe_only_observes():
    assert arm("mwam", "mwam={mode: observe, lam: 4}").mwam == {"lam": 4}
    assert arm("mwam", "mwam.mode=observe").mwam is True


@pytest.mark.parametrize("name", ["only-ir", "ir"])
def test_a_uni_modal_arm_keeps_one_modality_and_what_belongs_to_it(name):
    more = {"suffix": {"rgb": "_co", "ir": "_ir"}, "channels": {"ir": 1}, "range": {"rgb": [0, 99]}, "visible": "rgb"}
    write("night.yaml", data={**DATA, **more}, train={"epochs": 2})
    recipe = arm(name, "incomplete=true")
    assert recipe.data["modalities"] == {"ir": "infrared"}
    assert (recipe.data["suffix"], recipe.data["channels"], recipe.data["range"]) == ({"ir": "_ir"}, {"ir": 1}, {})
    assert recipe.data["visible"] is None
    assert (recipe.mwam, recipe.incomplete) == (False, False)


@pytest.mark.parametrize(("name", "wanted"), [("only-ir", {"ir": "b.pt"}), ("only-rgb", True)])
def test_a_uni_modal_arm_begins_with_the_weights_of_its_modality(monkeypatch, name, wanted):
    monkeypatch.setattr("mwam_det.engine.experiment.pretrained_files", lambda files, modalities: files)
    assert arm(name, "pretrained={ir: b.pt}").pretrained == wanted


def test_a_modality_whose_labels_are_those_of_another_frame_is_no_arm_by_itself():
    matrix = [[1, 0, 3], [0, 1, 0], [0, 0, 1]]
    write("night.yaml", data={**DATA, "align": {"ir": matrix}})
    assert "labels belong to rgb" in refusal("baseline,only-ir")


def test_a_modality_whose_files_cannot_be_told_from_the_others_is_no_arm_by_itself():
    write("night.yaml", data={**DATA, "modalities": {"rgb": "images", "ir": "images"}, "suffix": {"ir": "_ir"}})
    message = refusal("baseline,only-rgb")
    assert "only-rgb" in message and "files of ir" in message
    assert arm("only-ir").data["suffix"] == {"ir": "_ir"}


@pytest.mark.parametrize(
    ("arms", "parts"),
    [
        ("baseline,mwan", ["'mwan'", "did you mean 'mwam'?"]),
        ("baseline,nothing-like-it", ["choose from baseline, dropout, dropout-mwam, views, mwam, only-rgb, only-ir"]),
        ("baseline,only-depth", ["'only-depth'"]),
        ("baseline,only-ir+mwam", ["with one modality"]),
        ("baseline,only-ir+only-rgb", ["with one modality"]),
        ("dropout+dropout-mwam", ["choose one kind of incomplete views, dropout or dropout-mwam"]),
        ("mwam,MWAM", ["MWAM and mwam", "share a folder"]),
        ("baseline,", ["'' is not a valid name"]),
        ("baseline,../up", ["'../up' is not a valid name"]),
        ("none.yaml", ["no file of arms none.yaml"]),
    ],
)
def test_arms_that_cannot_be_are_refused(training, arms, parts):
    message = refusal(arms)
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.seed=5", "train.seed"),
        ("train.name=other", "train.name"),
        ("report.split=train", "report.split"),
        ("data.modalities={thermal: infrared}", "thermal"),
        ("train.epoch=5", "did you mean 'epochs'?"),
    ],
)
def test_an_arm_may_not_change_what_all_must_share(training, override, part):
    arms = write("arms.yaml", arms={"baseline": None, "mine": [override]})
    message = refusal(arms)
    assert "arm 'mine'" in message and part in message


@pytest.mark.parametrize(
    ("overrides", "seeds", "part"),
    [
        (("train.resume=true",), 1, "train.resume"),
        (("train.device=99",), 1, "train.device=99 is not there"),
        ((), 0, "seeds=0"),
    ],
)
def test_what_a_comparison_cannot_do_is_refused(training, overrides, seeds, part):
    assert part in refusal("baseline,mwam", *overrides, seeds=seeds)


def test_a_dataset_that_is_not_there_is_told_before_anything_is_trained(training):
    with pytest.raises(DatasetError, match="nowhere"):
        compare("night.yaml", ["data.path=nowhere"], "baseline,mwam", 1)
    assert not training.calls
    assert not Path("runs").exists()


# Files of arms -------------------------------------------------------------------------------------------------------


def test_overrides_of_a_file_may_be_a_list_or_a_mapping():
    by_list = arm("a", a=["mwam.rule=ac_ratio", "mwam.lam=4", "train.epochs=9"])
    by_mapping = arm("a", a={"mwam": {"rule": "ac_ratio", "lam": 4}, "train": {"epochs": 9}})
    assert by_list == by_mapping
    assert by_list.mwam == {"rule": "ac_ratio", "lam": 4}


def test_values_of_a_mapping_keep_their_types():
    recipe = arm("a", a={"data": {"names": {0: "yes", 1: "2"}}, "mwam": False, "train": {"lr0": 1e-3, "name": None}})
    assert recipe.data["names"] == {0: "yes", 1: "2"}
    assert (recipe.mwam, recipe.train["lr0"]) == (False, 1e-3)


def test_arms_of_a_file_can_be_joined_with_those_that_are_built_in():
    recipe = arm("mwam+measured", measured=["mwam.preference=measured"])
    assert (recipe.mwam, recipe.incomplete) == ({"preference": "measured"}, False)


def test_common_overrides_come_first_then_the_command_line_then_the_arm_and_longer_ones_train_more_epochs():
    arms = {"baseline": None, "plain": ["mwam=false"], "own": {"incomplete": {"views": 2}}, "long": ["mwam=false"]}
    common = {"incomplete": False, "train": {"lr0": 0.5, "epochs": 100}}
    study = read_study(write("arms.yaml", arms=arms, common=common, longer={"long": 1.7, "own": 0.1}))
    base, experiments, changes = arm_experiments("night.yaml", ("train.epochs=30",), study)
    recipes = {name: experiment.recipe for name, experiment in experiments.items()}
    assert base.incomplete is False
    assert [recipes[name].incomplete for name in arms] == [False, False, {"views": 2}, False]
    assert [recipes[name].train["epochs"] for name in arms] == [30, 30, 3, 51]
    assert all(recipe.train["lr0"] == 0.5 for recipe in recipes.values())
    assert changes["long"] == ["mwam=false", "train.epochs=51"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"longer": {"mwan": 2}}, "longer={'mwan': 2} must map arms to factors: choose from baseline, mwam"),
        ({"longer": {"mwam": 0}}, "longer.mwam=0 must be a factor of the recipe's epochs"),
        ({"longer": [1]}, r"longer=\[1\] must map arms to factors"),
        ({"common": 3}, "'common': 3 must be a list of overrides"),
    ],
)
def test_what_a_file_says_of_all_arms_or_of_their_length_is_checked(content, words):
    with pytest.raises(RecipeError, match=words):
        read_study(write("arms.yaml", arms=["baseline", "mwam"], **content))


def test_a_file_names_recipe_seeds_title_and_references(training):
    file = write(
        "small.yaml",
        title="A small study",
        recipe="night.yaml",
        seeds=2,
        arms=["baseline", "mwam", "mwam+dropout"],
        against={"mwam+dropout": "mwam"},
    )
    result = compare(None, (), file)
    assert result.title == "A small study"
    assert len(result.runs) == 6
    assert result.reference("mwam+dropout") == "mwam"
    assert sorted(f.name for f in Path("runs/night-compare").glob("*.*")) == [
        *(f"compare-small.{suffix}" for suffix in ("csv", "json", "md", "png")),
        "report-small.html",
    ]
    page = Path("runs/night-compare/report-small.html").read_text(encoding="utf-8")
    assert "mwam-det compare night.yaml --arms small.yaml --seeds 2" in page and "ultralytics" in page


def test_what_the_user_says_goes_before_what_the_file_says(training):
    file = write("small.yaml", recipe="none.yaml", seeds=2, arms=["baseline"])
    assert len(compare("night.yaml", (), file, 1).runs) == 1


def test_without_a_recipe_there_is_nothing_to_compare():
    with pytest.raises(RecipeError, match="name a recipe"):
        compare(None, (), "baseline,mwam")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"arms": {"mwam": ["mwam.lam=4"]}}, "arm 'mwam' is built in"),
        ({"arms": {"mine": "mwam.lam=4"}}, "must be a list of overrides"),
        ({"arms": {"mine": [1]}}, "must be a list of overrides"),
        ({"arms": "baseline"}, "arms='baseline'"),
        ({"arms": ["baseline", "baseline"]}, "share a folder"),
        ({"arms": []}, "must have the key 'arms'"),
        ({"arms": ["baseline"], "seed": 3}, "did you mean 'seeds'?"),
        ({"arms": ["baseline"], "seeds": "three"}, "seeds='three'"),
        ({"arms": ["baseline"], "against": {"baseline": "mwam"}}, "against="),
    ],
)
def test_a_file_of_arms_that_is_wrong_is_refused_by_name(content, part):
    message = refusal(write("arms.yaml", **content))
    assert message.startswith("arms.yaml")
    assert part in message


def test_a_file_of_arms_that_is_no_yaml_is_refused():
    Path("arms.yaml").write_text("arms: [\n")
    with pytest.raises(RecipeError, match=r"arms\.yaml is not valid YAML"):
        read_study("arms.yaml")


# Studies of the project ----------------------------------------------------------------------------------------------


def test_there_is_a_study_for_each_ablation_of_the_paper():
    tables = {f"table{number}" for number in (1, 5, 7, 8, 9, 10, 13)}
    assert {file.stem for file in STUDIES} == {"interventions", "robust", "spectrum", *tables}


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_arms_of_every_study_are_recipes_that_differ(file):
    study = read_study(file)
    if "upgrad" in study.arms:
        pytest.importorskip("torchjd", reason="TorchJD is an extra: pip install '.[balancing]'")
    _, recipes, _ = arm_experiments(CFG.parent / (study.recipe or "cfg/detect/llvip.yaml"), (), study)
    assert list(recipes) == list(study.arms)
    assert len({repr(recipe) for recipe in recipes.values()}) == len(recipes) > 1
    assert study.seeds >= 3
    assert file.read_text(encoding="utf-8").startswith("# Table " if file.stem.startswith("table") else "# ")


def test_a_device_that_is_not_there_is_refused_before_any_run_begins():
    before = sorted(Path().rglob("*"))
    with pytest.raises(RecipeError, match="devices=cuda:77 is not there"):
        compare("night.yaml", (), "baseline", 1, devices=("cpu", "cuda:77"))
    assert sorted(Path().rglob("*")) == before


def test_the_study_of_the_cure_has_every_way_the_specialists_and_equal_times():
    study = read_study(CFG / "studies/robust.yaml")
    assert {*study.arms} >= {
        "baseline", "mwam", "mwam-update", "dropout", "dropout-features", "views2", "views", "views-late", "mwam+views",
        "views-by-mwam", "views-by-measured", "views-distill", "hybrid", "heads", "only-rgb", "only-ir",
    }  # fmt: skip
    assert study.longer == {"baseline-long": 1.7, "views2-long": 1.3}
    experiments = arm_experiments(CFG / "detect/llvip.yaml", (), study)[1]
    assert experiments["views2-long"].recipe.incomplete == experiments["views2"].recipe.incomplete == {"views": 2}


def test_batch_sizes_are_compared_one_by_one():
    study = read_study(CFG / "studies/table10.yaml")
    experiments = arm_experiments(CFG / "detect/llvip.yaml", (), study)[1]
    recipes = {name: experiment.recipe for name, experiment in experiments.items()}
    for name, other in study.against.items():
        assert recipes[name].train == recipes[other].train
        assert recipes[name].mwam and not recipes[other].mwam
    assert recipes["batch1-mwam"].mwam == {"gamma": 1.0, "lam": 4.0}


# The grid ------------------------------------------------------------------------------------------------------------


def test_each_arm_is_trained_with_each_seed_and_a_seed_is_finished_before_the_next(training):
    compare("night.yaml", (), "baseline,mwam,only-ir", 2)
    assert training.calls == [f"{arm}/seed{seed}" for seed in range(2) for arm in ("baseline", "mwam", "only-ir")]
    said = record("mwam/seed1")
    assert (said["state"], said["arm"], said["seed"]) == ("done", "mwam", 1)
    assert (said["recipe"]["train"]["seed"], said["recipe"]["train"]["deterministic"]) == (1, True)
    assert (said["recipe"]["mwam"], said["recipe"]["data"]["names"]) == (True, {"0": "person"})


def test_the_result_is_what_the_reports_of_the_runs_say(training, capsys):
    result = compare("night.yaml", (), "baseline,mwam,only-ir", 2)
    assert result.estimate("baseline", "rgb+ir").values == pytest.approx({0: 0.31, 1: 0.32})
    assert result.difference("mwam", "ir").values == pytest.approx({0: 0.05, 1: 0.05})
    assert result.estimate("only-ir", "ir").values == pytest.approx({0: 0.17, 1: 0.18})
    said = capsys.readouterr().out
    assert "6 of 6 runs done" in said and "compare.md" in said
    assert {row["arm"] for row in read_csv("runs/night-compare/compare.csv")} == {"baseline", "mwam", "only-ir"}


def test_the_same_call_again_trains_nothing_and_says_the_same(training):
    first = compare("night.yaml", (), "baseline,mwam", 2)
    training.calls.clear()
    assert compare("night.yaml", (), "baseline,mwam", 2) == first
    assert not training.calls


def test_more_arms_and_seeds_go_on_from_what_is_there(training):
    compare("night.yaml", (), "baseline,mwam", 1)
    training.calls.clear()
    compare("night.yaml", (), "baseline,mwam,dropout", 2)
    assert training.calls == ["dropout/seed0", "baseline/seed1", "mwam/seed1", "dropout/seed1"]


def test_an_interruption_keeps_what_is_done_and_the_same_call_goes_on(training, capsys):
    training.instead["mwam/seed0"] = KeyboardInterrupt()
    assert main(["compare", "night.yaml", "--arms", "baseline,mwam", "--seeds", "2"]) == 130
    assert "Run the same command to resume" in capsys.readouterr().err
    assert record("mwam/seed0")["state"] == "begun"
    content = json.loads(Path("runs/night-compare/compare.json").read_text())
    assert content["arms"][0]["runs"][0]["state"] == "done"
    training.instead.clear()
    training.calls.clear()
    assert main(["compare", "night.yaml", "--arms", "baseline,mwam", "--seeds", "2"]) == 0
    assert training.calls == ["mwam/seed0", "baseline/seed1", "mwam/seed1"]


def test_a_failed_run_is_told_and_the_others_go_on(training, capsys):
    training.instead["mwam/seed0"] = ValueError("too\nmuch")
    assert main(["compare", "night.yaml", "--arms", "baseline,mwam", "--seeds", "2"]) == 1
    assert training.calls[-1] == "mwam/seed1"
    said = record("mwam/seed0")
    assert (said["state"], said["error"]) == ("failed", "ValueError: too much")
    assert "Traceback" in said["traceback"]
    assert "Failed: mwam, seed 0: ValueError: too much" in Path("runs/night-compare/compare.md").read_text()
    assert "mwam (1 of 2 seeds)" in capsys.readouterr().out


def test_a_failed_run_is_tried_again_by_the_same_call(training):
    training.instead["mwam/seed0"] = ValueError("too much")
    compare("night.yaml", (), "baseline,mwam", 1)
    training.instead.clear()
    training.calls.clear()
    result = compare("night.yaml", (), "baseline,mwam", 1)
    assert training.calls == ["mwam/seed0"]
    assert result.difference("mwam", "ir").values == pytest.approx({0: 0.05})


def test_where_all_runs_fail_there_are_tables_that_say_so(training):
    training.instead = {f"{arm}/seed0": ValueError("no") for arm in ("baseline", "mwam")}
    assert main(["compare", "night.yaml", "--arms", "baseline,mwam", "--seeds", "1"]) == 1
    assert "0 of 1 seeds" in Path("runs/night-compare/compare.md").read_text()


def test_a_training_that_leaves_no_report_has_failed(training, monkeypatch):
    monkeypatch.setattr(UltralyticsExperiment, "go_on", lambda *arguments: None)
    (run,) = compare("night.yaml", (), "baseline", 1).runs
    assert run.state == "failed" and "robustness.json" in run.error


def test_a_report_that_was_lost_is_made_anew(training):
    compare("night.yaml", (), "baseline,mwam", 1)
    Path("runs/night-compare/mwam/seed0/robustness.json").unlink()
    training.calls.clear()
    compare("night.yaml", (), "baseline,mwam", 1)
    assert training.calls == ["mwam/seed0"]


def test_runs_of_other_settings_are_never_mixed(training):
    compare("night.yaml", (), "baseline,mwam", 1)
    training.calls.clear()
    message = refusal("baseline,mwam", "train.epochs=3")
    assert "train.epochs was 2, is 3" in message
    assert "baseline/seed0" in message and "train.name" in message
    assert not training.calls


def test_an_arm_whose_meaning_changed_is_refused_before_anything_is_trained(training):
    compare("night.yaml", (), write("arms.yaml", arms={"baseline": None, "mine": ["mwam.lam=4"]}), 1)
    training.calls.clear()
    write("arms.yaml", arms={"dropout": None, "mine": ["mwam.lam=5"]})
    assert "mwam.lam was 4, is 5" in refusal("arms.yaml")
    assert not training.calls


def test_another_name_makes_another_grid(training):
    compare("night.yaml", (), "baseline", 1)
    compare("night.yaml", ["train.epochs=3", "train.name=longer"], "baseline", 1)
    compare("night.yaml", ["train.project=elsewhere"], "baseline", 1)
    assert training.calls == ["baseline/seed0"] * 3
    assert Path("runs/longer-compare/baseline/seed0.json").is_file()
    assert Path("elsewhere/night-compare/baseline/seed0.json").is_file()


def test_what_has_no_effect_on_the_result_may_change(training):
    compare("night.yaml", (), "baseline", 1)
    compare("night.yaml", ["train.plots=false", "train.verbose=false"], "baseline", 1)
    assert training.calls == ["baseline/seed0"]


def test_a_folder_that_nobody_knows_anything_of_is_not_touched(training):
    stray = Path("runs/night-compare/baseline/seed0/weights/last.pt")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"")
    with pytest.raises(RecipeError, match="without a record"):
        compare("night.yaml", (), "baseline", 1)
    assert not training.calls


def test_a_damaged_record_is_told_by_name(training):
    compare("night.yaml", (), "baseline", 1)
    Path("runs/night-compare/baseline/seed0.json").write_text("{")
    with pytest.raises(RecipeError, match=r"seed0\.json is damaged"):
        compare("night.yaml", (), "baseline", 1)


def test_two_processes_do_not_train_the_same_grid(training):
    with Hold("runs/night-compare"), pytest.raises(FolderInUse, match="another process"):
        compare("night.yaml", (), "baseline", 1)
    compare("night.yaml", (), "baseline", 1)
    assert training.calls == ["baseline/seed0"]


# Checkpoints ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(training, monkeypatch) -> list:
    """A run that was interrupted, and what its next training is given to start from."""
    training.instead["baseline/seed0"] = KeyboardInterrupt()
    main(["compare", "night.yaml", "--arms", "baseline", "--seeds", "1"])
    training.instead.clear()
    starts = []

    def remember(experiment, folder):
        starts.append(begun(folder, read_checkpoint))
        training(experiment, folder)

    monkeypatch.setattr(UltralyticsExperiment, "go_on", remember)
    return starts


def save_checkpoint(name: str, content: bytes | dict) -> None:
    import torch

    file = Path("runs/night-compare/baseline/seed0/weights") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)


def test_an_interrupted_run_goes_on_from_its_last_checkpoint(interrupted):
    save_checkpoint("best.pt", {"epoch": 0})
    save_checkpoint("last.pt", {"epoch": 1})
    compare("night.yaml", (), "baseline", 1)
    assert interrupted == [{"epoch": 1}]
    assert record("baseline/seed0")["resumed"] == 1


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(interrupted):
    compare("night.yaml", (), "baseline", 1)
    assert interrupted == [None]
    assert record("baseline/seed0")["resumed"] == 0


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_run_that_was_killed_while_it_wrote_begins_anew(interrupted, name, capsys):
    save_checkpoint("best.pt", {"epoch": 1})
    save_checkpoint("last.pt", {"epoch": 1})
    save_checkpoint(name, b"PK half a file")
    compare("night.yaml", (), "baseline", 1)
    assert interrupted == [None]
    assert f"{name} is damaged" in capsys.readouterr().err


class Planted:
    """What runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_planted_checkpoint_is_not_run_where_only_safe_loading_is_allowed(interrupted, tmp_path, monkeypatch):
    monkeypatch.setattr("ultralytics.nn.tasks.SAFE_LOAD", True)
    save_checkpoint("last.pt", {"epoch": 1, "model": Planted(tmp_path / "ran")})
    compare("night.yaml", (), "baseline", 1)
    assert interrupted == [None] and not (tmp_path / "ran").exists()


# Real trainings ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(demo_section) -> str:
    """A recipe that is trained in a moment."""
    train = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "optimizer": "SGD", "plots": False}
    return write("tiny.yaml", model=TINY, data=demo_section, train=train)


@pytest.mark.slow
def test_real_arms_are_trained_and_evaluated_with_one_modality_and_with_two(tiny):
    result = compare(tiny, (), "dropout-mwam,only-ir", 1)
    assert [run.state for run in result.runs] == ["done", "done"]
    assert [run.report["modalities"] for run in result.runs] == [["rgb", "ir"], ["ir"]]
    assert result.estimate("dropout-mwam", "average") is not None
    assert result.difference("only-ir", "ir") is not None
    for arm in ("dropout-mwam", "only-ir"):
        assert Path(f"runs/tiny-compare/{arm}/seed0/weights/best.pt").is_file()
    # evaluated without training again
    report = Path("runs/tiny-compare/only-ir/seed0/robustness.json")
    before, results = json.loads(report.read_text()), report.with_name("results.csv").stat().st_mtime_ns
    report.unlink()
    compare(tiny, (), "dropout-mwam,only-ir", 1)
    after = json.loads(report.read_text())
    assert after["combinations"] == before["combinations"]
    assert report.with_name("results.csv").stat().st_mtime_ns == results


@pytest.mark.slow
@pytest.mark.parametrize(("stop_after", "epochs_then"), [(1, 2), (2, 2)], ids=["in the middle", "after the last epoch"])
def test_a_real_run_that_is_interrupted_goes_on_with_the_next_epoch(tiny, monkeypatch, stop_after, epochs_then):
    from mwam_det.engine.trainer import MWAMTrainer

    save = MWAMTrainer.save_model

    def save_and_stop(trainer):
        save(trainer)
        if trainer.epoch + 1 == stop_after:
            raise KeyboardInterrupt

    words = ["compare", str(tiny), "train.epochs=2", "--arms", "baseline", "--seeds", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(MWAMTrainer, "save_model", save_and_stop)
        assert main(words) == 130
    assert main(words) == 0
    run = Path("runs/tiny-compare/baseline/seed0")
    epochs = [row["epoch"] for row in read_csv(run / "results.csv")]
    assert epochs == [str(epoch + 1) for epoch in range(epochs_then)]
    assert json.loads(run.with_suffix(".json").read_text())["resumed"] == 1


@pytest.mark.slow
def test_runs_side_by_side_come_out_as_one_after_the_other_bit_for_bit(tiny):
    before = compare(tiny, (), "baseline,mwam", 1)
    Path("runs").rename("serial")
    after = compare(tiny, (), "baseline,mwam", 1, jobs=2)
    assert [run.state for run in after.runs] == ["done", "done"]
    for one, other in zip(before.runs, after.runs, strict=True):
        assert one.report["combinations"] == other.report["combinations"]
    for arm in ("baseline", "mwam"):
        cell = f"tiny-compare/{arm}/seed0"
        one, other = (load_checkpoint(f"{root}/{cell}/weights/best.pt")[0].state_dict() for root in ("serial", "runs"))
        assert all(torch.equal(one[key], other[key]) for key in one | other)
        assert "epochs completed" in Path(f"runs/{cell}.log").read_text()
        told = [json.loads(Path(f"{root}/{cell}.json").read_text()) for root in ("serial", "runs")]
        assert told[0]["recipe"] == told[1]["recipe"]


def test_a_run_that_is_done_stays_so_though_its_process_dies_as_it_exits(training, monkeypatch):
    def run_all(tasks, work, jobs, devices, *, log_of, changed, died):
        for task in tasks:
            grid_module._run(task)
            died(task, "its process was ended by SIGSEGV")

    monkeypatch.setattr(grid_module, "run_all", run_all)
    (run,) = compare("night.yaml", (), "baseline", 1, jobs=2).runs
    assert (run.state, run.error) == ("done", "") and run.report is not None


@pytest.mark.slow
def test_a_run_whose_process_dies_has_failed(tiny, monkeypatch):
    monkeypatch.setattr(grid_module, "_run_in", die)
    (run,) = compare(tiny, (), "baseline", 1, jobs=2).runs
    assert (run.state, run.error) == ("failed", f"its process ended with exit status 7; see {Path.cwd()}/{RUN_LOG}")
    assert json.loads(Path("runs/tiny-compare/baseline/seed0.json").read_text())["state"] == "failed"
