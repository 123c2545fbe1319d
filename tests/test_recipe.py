from pathlib import Path

import pytest
import yaml
from sections import people

from mwam_det.data.errors import DatasetError
from mwam_det.engine.arguments import NOT_FOR_RECIPES, OF_OTHER_COMMANDS
from mwam_det.experiments import load
from mwam_det.recipe import Recipe, RecipeError, format_override, read_arguments, read_recipe

CFG = Path(__file__).parents[1] / "cfg"
RECIPES = sorted(
    [*CFG.glob("*.yaml"), *(file for file in CFG.glob("*/*.yaml") if file.parent.name not in ("hosts", "studies"))]
)
DATA = people("datasets/none")


def recipe_file(folder: Path, text: str | None = None, **content) -> Path:
    """Write a recipe: this text, or the least there can be with these changes."""
    file = folder / "night.yaml"
    file.write_text(text if text is not None else yaml.safe_dump({"data": DATA, **content}, sort_keys=False))
    return file


def refusal(folder: Path, *overrides: str, text: str | None = None, **content) -> str:
    with pytest.raises(RecipeError) as caught:
        load(recipe_file(folder, text, **content), overrides)
    return str(caught.value)


# Recipes of the project ----------------------------------------------------------------------------------------------


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_of_the_project_loads(file):
    recipe = load(file).recipe
    assert recipe.name == file.stem
    assert recipe.data["modalities"]
    assert recipe.train


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_of_the_project_trains_against_a_missing_sensor_or_says_that_it_does_not(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert "incomplete" in content, "false is the default, and no choice"
    if file.stem != "casia_surf_teacher":  # MMANet's teacher sees complete input
        assert content["incomplete"]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_of_the_project_says_what_it_is_in_its_first_line(file):
    assert file.read_text(encoding="utf-8").startswith("# ")


# Values --------------------------------------------------------------------------------------------------------------


def test_what_a_recipe_leaves_out_keeps_its_default(tmp_path):
    assert load(recipe_file(tmp_path)).recipe == Recipe("night", DATA)
    assert Recipe("night", DATA) == Recipe("night", DATA, "yolov8n.yaml", "detect", "concat", True, {}, True)


def test_a_recipe_keeps_the_order_of_modalities(tmp_path):
    modalities = {"z": "visible", "a": "infrared"}
    recipe = load(recipe_file(tmp_path, data={**DATA, "modalities": modalities})).recipe
    assert list(recipe.data["modalities"]) == ["z", "a"]


@pytest.mark.parametrize(
    ("text", "number"), [("1e-3", 1e-3), ("1E-3", 1e-3), ("5e-4", 5e-4), ("1.5e-2", 0.015), ("0.001", 1e-3)]
)
def test_numbers_with_an_exponent_are_numbers_in_file_and_override(tmp_path, text, number):
    by_override = load(recipe_file(tmp_path), [f"train.lr0={text}"]).recipe
    by_file = load(recipe_file(tmp_path, f"data: {DATA}\ntrain: {{lr0: {text}}}\n")).recipe
    assert by_override.train["lr0"] == by_file.train["lr0"] == number
    assert isinstance(by_file.train["lr0"], float)


def test_numbers_inside_lists_and_sections_are_numbers_too(tmp_path):
    recipe = load(recipe_file(tmp_path), ["mwam={sigma: 1e-5}", "train.freeze=[0, 2]"]).recipe
    assert recipe.mwam == {"sigma": 1e-5}
    assert recipe.train["freeze"] == [0, 2]


@pytest.mark.parametrize("text", ["e3", "1e", "0x1e3g", "v1e3", "1e3.yaml"])
def test_a_name_that_only_looks_like_a_number_stays_a_name(tmp_path, text):
    assert load(recipe_file(tmp_path), [f"train.name={text}"]).recipe.train["name"] == text


@pytest.mark.parametrize(
    "text",
    ["2024-01-05", "2024", "no", "on", "yes", "1_000", "007", "1:30", "a # b", "&x", "*", "~", "'q'", "[a"],
)
def test_names_and_paths_on_the_command_line_are_what_was_typed(tmp_path, text):
    keys = ("data.path", "data.labels", "data.modalities.rgb", "data.train", "data.names.0", "train.name")
    if text == "[a":  # might be a list
        keys = ("data.path", "data.labels", "train.name")
    content = read_recipe(recipe_file(tmp_path), [f"{key}={text}" for key in keys])
    for key in keys:
        place = content
        for part in key.split(".")[:-1]:
            place = place[part]
        assert place[0 if key == "data.names.0" else key.split(".")[-1]] == text


@pytest.mark.parametrize("names", [{0: "person", 1: "car"}, ["person", "car"]])
def test_a_class_is_renamed_by_its_number(tmp_path, names):
    recipe = load(recipe_file(tmp_path, data={**DATA, "names": names}), ["data.names.1=van"]).recipe
    assert recipe.data["names"] == {0: "person", 1: "van"}


def test_names_in_brackets_are_what_was_typed_too(tmp_path):
    words = ["data.names=[no, 2024-01-05, 3]", "data.modalities={rgb: on, ir: 007}"]
    data = read_recipe(recipe_file(tmp_path), words)["data"]
    assert data["names"] == ["no", "2024-01-05", "3"]
    assert data["modalities"] == {"rgb": "on", "ir": "007"}
    assert read_recipe(recipe_file(tmp_path), ["data.names={0: no, 1: yes}"])["data"]["names"] == {0: "no", 1: "yes"}


@pytest.mark.parametrize("word", ["null", "None", "none"])
@pytest.mark.parametrize("key", ["pretrained", "incomplete", "mwam", "robustness", "train", "fusion", "model"])
def test_null_means_the_same_in_a_file_and_on_the_command_line(tmp_path, key, word):
    by_file = load(recipe_file(tmp_path, **{key: None})).recipe
    by_override = load(recipe_file(tmp_path), [f"{key}={word}"]).recipe
    assert by_file == by_override == Recipe("night", DATA)


def test_the_number_of_a_column_stays_a_number(tmp_path):
    content = {"task": "multimodal-classification", "data": {"format": "list", "modalities": {"rgb": 0, "ir": 2}}}
    file = tmp_path / "list.yaml"
    file.write_text(yaml.safe_dump(content))
    assert read_recipe(file, ["data.modalities.ir=1"])["data"]["modalities"] == {"rgb": 0, "ir": 1}


@pytest.mark.parametrize("key", ["pretrained", "train.resume"])
@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("2024", "2024"), ("yes", "yes")])
def test_a_path_or_a_switch_is_one_of_the_two(tmp_path, key, text, value):
    content = read_recipe(recipe_file(tmp_path), [f"{key}={text}"])
    assert (content if key == "pretrained" else content["train"])[key.split(".")[-1]] == value


@pytest.mark.parametrize("value", ["a, b", "'q'", "2024", "null?", "[a]", "x"])
def test_an_override_that_is_written_is_read_back(tmp_path, value):
    for key in ("data.path", "train.optimizer"):
        section, name = key.split(".")
        assert read_recipe(recipe_file(tmp_path), [format_override(key, value)])[section][name] == value


def test_overrides_change_values_of_a_section_and_leave_the_others(tmp_path):
    file = recipe_file(tmp_path, train={"epochs": 9, "imgsz": 320})
    recipe = load(file, ["train.epochs=60", "data.path=datasets/LLVIP", "data.modalities.ir=thermal"]).recipe
    assert recipe.train == {"epochs": 60, "imgsz": 320}
    assert recipe.data == {**DATA, "path": "datasets/LLVIP", "modalities": {"rgb": "visible", "ir": "thermal"}}


def test_an_override_makes_a_section_that_the_recipe_lacks(tmp_path):
    assert load(recipe_file(tmp_path), ["train.epochs=3", "report.split=train"]).recipe == Recipe(
        "night", DATA, train={"epochs": 3}, report={"split": "train"}
    )


def test_the_last_override_of_a_key_counts(tmp_path):
    assert load(recipe_file(tmp_path), ["train.epochs=3", "train.epochs=5"]).recipe.train == {"epochs": 5}


def test_the_value_of_an_override_may_hold_an_equals_sign(tmp_path):
    assert load(recipe_file(tmp_path), ["train.name=a=b"]).recipe.train == {"name": "a=b"}


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ("{gamma: 0.5}", {"gamma": 0.5})])
def test_mwam_is_switched_as_a_whole(tmp_path, text, value):
    assert load(recipe_file(tmp_path, mwam={"lam": 4}), [f"mwam={text}"]).recipe.mwam == value


@pytest.mark.parametrize("before", [True, {"lam": 4}, None], ids=["true", "a section", "left out"])
def test_a_value_of_mwam_is_set_on_top_of_what_the_recipe_says(tmp_path, before):
    content = {} if before is None else {"mwam": before}
    expected = {**(before if isinstance(before, dict) else {}), "gamma": 1}
    assert load(recipe_file(tmp_path, **content), ["mwam.gamma=1"]).recipe.mwam == expected


def test_the_report_may_be_switched_off(tmp_path):
    assert load(recipe_file(tmp_path), ["report=false"]).recipe.report is False


def test_a_model_may_be_a_file_of_the_user(tmp_path):
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"not opened yet")
    assert load(recipe_file(tmp_path), [f"model={weights}"]).recipe.model == str(weights)


@pytest.mark.parametrize("model", ["yolov8s.yaml", "yolo11n.yaml", "yolov5n.yaml"])
def test_a_model_may_be_another_stock_description(tmp_path, model):
    assert load(recipe_file(tmp_path, model=model)).recipe.model == model


def test_the_file_is_not_changed_by_overrides(tmp_path):
    file = recipe_file(tmp_path, train={"epochs": 9})
    before = file.read_bytes()
    load(file, ["train.epochs=60"])
    assert file.read_bytes() == before


# Mistakes ------------------------------------------------------------------------------------------------------------


def test_a_missing_recipe_is_refused_with_the_nearest_one_or_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cfg" / "more").mkdir(parents=True)
    (tmp_path / "cfg" / "one.yaml").touch()
    (tmp_path / "cfg" / "more" / "two.yaml").touch()
    with pytest.raises(RecipeError) as caught:
        load("cfg/on.yaml")
    assert str(caught.value) == "there is no recipe cfg/on.yaml: did you mean cfg/one.yaml?"
    with pytest.raises(RecipeError, match="there is no recipe zz.yaml; there are cfg/more/two.yaml, cfg/one.yaml$"):
        load("zz.yaml")


@pytest.mark.parametrize("name", ["night", "nigth.yaml", "cfg/night.yaml"])
def test_a_mistyped_recipe_is_looked_for_in_the_working_folder_too(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recipe_file(tmp_path)
    with pytest.raises(RecipeError, match=f"^there is no recipe {name}: did you mean night.yaml\\?$"):
        load(name)


def test_a_missing_recipe_where_there_are_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="there is no recipe none.yaml$"):
        load("none.yaml")


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="there is no recipe .*: it is a folder. `mwam-det init .* writes a recipe"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["data: [", "data: {path: a\n", "data: 'a"])
def test_invalid_yaml_is_refused_with_the_file_and_the_line(tmp_path, text):
    message = refusal(tmp_path, text=text)
    assert message.startswith(f"{tmp_path / 'night.yaml'} is not valid YAML: ")
    assert "line " in message


def test_a_key_that_is_given_twice_is_refused_with_the_lines(tmp_path):
    message = refusal(tmp_path, text=f"data: {DATA}\ntrain:\n  epochs: 3\n  epochs: 7\n")
    assert message.endswith("night.yaml is not valid YAML: the key 'epochs' is given twice, in lines 3 and 4")
    assert "the key 'a' is given twice" in refusal(tmp_path, "train={a: 1, a: 2}")


def test_an_override_without_a_value_is_refused_with_the_way_to_say_none(tmp_path):
    assert "'train.name=' has no value: write train.name=null for none" in refusal(tmp_path, "train.name=")


def test_null_is_the_default_of_a_command_without_a_recipe():
    assert read_arguments(["missing=null", "imgsz=64", "name=2024"], ["missing", "imgsz", "name"]) == {
        "imgsz": 64,
        "name": "2024",
    }


@pytest.mark.parametrize("text", ["&x [*x]", "{a: &x {b: *x}}", "[" * 500 + "]" * 500])
def test_a_value_that_never_ends_is_refused_in_a_file_and_in_an_override(tmp_path, text):
    assert "is not valid YAML: " in refusal(tmp_path, text=f"data: {DATA}\nzz: {text}")
    assert f"the value of 'mwam=[{text}]' is not valid YAML: " in refusal(tmp_path, f"mwam=[{text}]")


def test_a_modality_whose_name_leads_away_is_refused(tmp_path):
    message = refusal(tmp_path, data={**DATA, "modalities": {"rgb": "visible", "../up": "infrared"}})
    assert message.startswith(f"{tmp_path / 'night.yaml'}: a modality may not be called '../up'")


@pytest.mark.parametrize(
    "text",
    ["nc: 1\nnc: 2", "&x {backbone: *x}", "backbone: 5\nhead: 5", "backbone: {a: 1}\nhead: {b: 2}", "backbone: ["]
    + [f"nc: 1\n{more}head: [[[0], 1, Detect, [nc]]]" for more in (
        "backbone: [[99, 1, Conv, [64, 3, 2]]]\n", "backbone: [[-1, 1, Conv, [a]]]\n", "backbone: [[-1, 1, Conv]]\n",
        "scales: 5\nbackbone: [[-1, 1, Conv, [64, 3, 2]]]\n",
    )],
)  # fmt: skip
def test_a_description_of_a_model_that_cannot_be_built_is_refused_in_a_line(tmp_path, text):
    file = tmp_path / "model.yaml"
    file.write_text(text)
    message = refusal(tmp_path, model=str(file))
    assert "\n" not in message and str(file) in message


def test_a_damaged_checkpoint_to_start_from_is_refused(tmp_path):
    (tmp_path / "noise.pt").write_bytes(b"\x93noise" * 900)
    assert "noise.pt is not a checkpoint of an Ultralytics model" in refusal(
        tmp_path, pretrained=str(tmp_path / "noise.pt")
    )


def test_bytes_that_are_no_text_are_refused_with_the_file(tmp_path):
    file = tmp_path / "night.yaml"
    file.write_bytes(b"\xff\xfe\xba\xad")
    with pytest.raises(RecipeError, match="night.yaml is not valid YAML"):
        load(file)


@pytest.mark.parametrize("text", ["", "- data", "detect", "42"])
def test_a_file_that_maps_no_keys_is_refused_with_the_keys(tmp_path, text):
    message = refusal(tmp_path, text=text)
    assert all(key in message for key in ("task", "model", "fusion", "data", "mwam", "train", "report", "select"))


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("modell=yolov8n.yaml", ["unknown key 'modell'", "did you mean 'model'?"]),
        ("qqqq=1", ["unknown key 'qqqq'", "choose from task, model, fusion, share_backbone, pretrained, data"]),
        ("names=1", ["unknown key 'names': did you mean 'data.names'?"]),
        ("epochs=3", ["unknown key 'epochs': did you mean 'train.epochs'?"]),
        ("batch=3", ["unknown key 'batch': did you mean 'train.batch' or 'report.batch'?"]),
        ("train.epoch=3", ["in section 'train'", "unknown key 'epoch'", "did you mean 'epochs'?"]),
        ("train.learning_rate=3", ["in section 'train'", "unknown key 'learning_rate'"]),
        ("mwam.gama=1", ["in section 'mwam'", "unknown key 'gama'", "did you mean 'gamma'?"]),
        ("data.lables=x", ["in section 'data'", "unknown key 'lables'", "did you mean 'labels'?"]),
        ("report.splits=val", ["in section 'report'", "unknown key 'splits'", "did you mean 'split'?"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path, override, parts):
    message = refusal(tmp_path, override)
    assert message.startswith(str(tmp_path / "night.yaml"))
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.epochs=abc", ["in section 'train'", "epochs=abc", "int"]),
        ("train.epochs=2.5", ["in section 'train'", "epochs=2.5", "int"]),
        ("train.lr0=2", ["in section 'train'", "lr0=2", "0.0 and 1.0"]),
        ("train.mosaic=-1", ["in section 'train'", "mosaic=-1"]),
        ("train.amp=maybe", ["in section 'train'", "amp=maybe"]),
        ("train=5", ["train=5"]),
        ("mwam=5", ["mwam=5"]),
        ("mwam=off_please", ["mwam='off_please'"]),
        ("mwam.gamma=high", ["in section 'mwam'", "gamma='high'", "number"]),
        ("mwam.patch=2.5", ["in section 'mwam'", "patch=2.5", "whole number"]),
        ("mwam.omega=1", ["in section 'mwam'", "omega=1", "[0, 1)"]),
        ("mwam.gamma=null", ["in section 'mwam'", "gamma=None"]),
        ("report=5", ["report=5"]),
        ("robustness.split=val", ["'robustness' is two now", "select: mean"]),
        ("select=best", ["select='best' must be one of full, mean, worst"]),
        ("select={by: mean, evry: 2}", ["unknown key 'evry'", "did you mean 'every'?"]),
        ("data=datasets/none", ["data='datasets/none'"]),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_key_and_value(tmp_path, override, parts):
    message = refusal(tmp_path, override)
    assert all(part in message for part in parts)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("fusion=sum", ["fusion='sum'", "concat"]),
        ("task=depth", ["task='depth'", "detect"]),
        ("report.split=vla", ["report.split='vla'", "train, val"]),
    ],
)
def test_an_unknown_choice_is_refused_with_the_choices(tmp_path, override, parts):
    assert all(part in refusal(tmp_path, override) for part in parts)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("yolov99n.yaml", ["yolov99n.yaml", "yolov8n.yaml"]),
        ("yolov8n", ["yolov8n", "yolov8n.yaml", ".pt"]),
        ("runs/none/best.pt", ["runs/none/best.pt is not a file"]),
        ("yolov8n.pt", ["is not a file", "write model: yolov8n.yaml with pretrained: yolov8n.pt"]),
        ("resnet50.onnx", ["resnet50.onnx"]),
    ],
)
def test_an_unknown_model_is_refused_with_what_it_could_be(tmp_path, model, parts):
    message = refusal(tmp_path, model=model)
    assert f"model={model}" in message
    assert all(part in message for part in parts)


@pytest.mark.parametrize("model", ["yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-cls.yaml"])
def test_a_model_for_another_task_is_refused_by_name(tmp_path, model):
    assert model in refusal(tmp_path, model=model)


def test_a_model_without_backbone_is_refused(tmp_path):
    file = tmp_path / "model.yaml"
    file.write_text("nc: 1\nhead: []\n")
    assert "backbone" in refusal(tmp_path, model=str(file))


def test_a_recipe_without_data_is_refused(tmp_path):
    assert "'data' is missing" in refusal(tmp_path, text="train: {epochs: 3}\n")


@pytest.mark.parametrize("key", sorted(NOT_FOR_RECIPES))
def test_an_argument_that_the_recipe_says_elsewhere_is_refused_in_train(tmp_path, key):
    assert f"'{key}' does not belong in the train section" in refusal(tmp_path, train={key: "x"})


@pytest.mark.parametrize("key", sorted(OF_OTHER_COMMANDS))
def test_an_argument_that_a_training_does_not_read_is_refused_in_train(tmp_path, key):
    assert f"'{key}' does nothing in a training" in refusal(tmp_path, train={key: "x"})


@pytest.mark.parametrize("override", ["train.epochs", "=3", "", "train.epochs 3"])
def test_what_is_no_override_is_refused_with_an_example(tmp_path, override):
    message = refusal(tmp_path, override)
    assert f"'{override}' is not an override" in message
    assert "train.epochs=60" in message


def test_an_override_whose_value_is_no_yaml_is_refused_by_name(tmp_path):
    assert "'train.classes=[0'" in refusal(tmp_path, "train.classes=[0")


def test_a_recipe_is_checked_without_a_look_at_the_folders_of_its_data(tmp_path):
    assert load(recipe_file(tmp_path), ["data.path=nowhere"]).recipe.data["path"] == "nowhere"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.imgsz=abc", "imgsz='abc' must be a number of pixels"),
        ("train.imgsz=0", "imgsz=0"),
        ("train.classes=[]", "classes=[] selects no class: choose from 0 to 0, or leave it out"),
        ("train.classes=[0, 7]", "classes=[0, 7] selects class 7: choose from 0 to 0"),
        ("train.cache=xyz", "cache='xyz' must be true, false, ram or disk"),
        ("data.modalities=5", "data.modalities='5' must map names to folders"),
        ("report.degradations=5", "degradations=5"),
        ("report.degradations=[[1]]", "degradations=[1]"),
        ("mwam.gamma=1" + "0" * 400, "gamma=1000"),
    ],
)
def test_a_value_that_no_one_can_use_is_refused_before_anything_starts(tmp_path, override, words):
    assert words in refusal(tmp_path, override)


def test_class_names_that_are_none_are_refused_with_the_data(tmp_path):
    experiment = load(recipe_file(tmp_path, data={**DATA, "path": str(tmp_path), "names": 5}))
    with pytest.raises(DatasetError, match="names=5 must be a list"):
        _ = experiment.dataset


# Tasks ---------------------------------------------------------------------------------------------------------------


def test_weights_in_the_place_of_a_recipe_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(RecipeError, match=r"best.pt holds weights, but a recipe .* set model=best.pt"):
        load("best.pt")


def test_a_model_of_another_task_is_refused_and_the_task_that_it_is_for_is_named(tmp_path):
    assert "task=obb, but model=yolov8n.yaml is made for the task 'detect'" in refusal(tmp_path, task="obb")
    assert "task='depth' is unknown: choose from detect, obb" in refusal(tmp_path, task="depth")
    assert load(recipe_file(tmp_path, task="obb", model="yolov8n-obb.yaml")).recipe.task == "obb"


def test_what_a_task_cannot_do_is_refused_before_anything_is_read(tmp_path):
    pose, obb, semantic = (
        {"task": task, "model": model}
        for task, model in (
            ("pose", "yolov8n-pose.yaml"),
            ("obb", "yolov8n-obb.yaml"),
            ("semantic", "yolo26n-sem.yaml"),
        )
    )
    assert "task=pose needs data.kpt_shape" in refusal(tmp_path, **pose)
    assert "mwam.mode=loss puts a detection head" in refusal(tmp_path, "mwam.mode=loss", **obb)
    assert "coco=true measures upright boxes" in refusal(tmp_path, "report.coco=true", **obb)
    assert "single_cls=true would leave" in refusal(tmp_path, "train.single_cls=true", **semantic)
