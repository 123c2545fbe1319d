import re
from pathlib import Path

import pytest
import yaml
from ultralytics.data.utils import check_det_dataset

from mwam_det.data.errors import DatasetError
from mwam_det.data.filtering import WindowFilter
from mwam_det.data.modality import READING_KEYS, Modality, modalities_of
from mwam_det.data.paired_data import check_labels, save_dataset_yaml
from mwam_det.data.section import SECTION_KEYS, resolve_dataset
from mwam_det.engine.compat import use_bundled_font


def make_folders(root: Path, *templates: str, splits: tuple[str, ...] = ("train", "val")) -> Path:
    for template in templates or ("visible/{split}", "infrared/{split}", "labels/{split}"):
        for split in splits:
            (root / template.format(split=split)).mkdir(parents=True)
    return root


def section(root: Path, **changes) -> dict:
    content = {
        "path": str(root),
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": {0: "person", 1: "car"},
    }
    return {key: value for key, value in {**content, **changes}.items() if value != "left out"}


@pytest.fixture
def root(tmp_path) -> Path:
    return make_folders(tmp_path / "set")


def refusal(root: Path, **changes) -> str:
    with pytest.raises(DatasetError) as caught:
        resolve_dataset(section(root, **changes))
    return str(caught.value)


def test_a_section_becomes_the_dictionary_that_ultralytics_passes_around(root):
    assert resolve_dataset(section(root)).as_dict() == {
        "path": str(root),
        "train": str(root / "visible/train"),
        "val": str(root / "visible/val"),
        "names": {0: "person", 1: "car"},
        "nc": 2,
        "channels": 6,
        "modalities": {"rgb": 3, "ir": 3},
        "visible": "rgb",
        "splits": {
            split: {
                "rgb": str(root / "visible" / split),
                "ir": str(root / "infrared" / split),
                "labels": str(root / "labels" / split),
            }
            for split in ("train", "val")
        },
        "suffix": {},
        "match": {},
        "range": {},
        "align": {},
        "filter": {},
    }


def test_the_split_stands_wherever_the_template_says(tmp_path):
    root = make_folders(tmp_path / "set", "{split}/rgb", "ir_{split}/images", "{split}/labels")
    changes = {"modalities": {"rgb": "{split}/rgb", "ir": "ir_{split}/images"}, "labels": "{split}/labels"}
    splits = resolve_dataset(section(root, **changes)).splits
    assert splits["val"] == {
        "rgb": str(root / "val/rgb"),
        "ir": str(root / "ir_val/images"),
        "labels": str(root / "val/labels"),
    }


def test_a_split_may_be_called_otherwise_in_the_folders(tmp_path):
    root = make_folders(tmp_path / "set", splits=("training", "validation", "held_out"))
    data = resolve_dataset(section(root, train="training", val="validation", test="held_out")).as_dict()
    assert data["train"] == str(root / "visible/training")
    assert data["test"] == str(root / "visible/held_out")
    assert list(data["splits"]) == ["train", "val", "test"]


def test_without_a_test_split_there_is_no_such_key(root):
    data = resolve_dataset(section(root)).as_dict()
    assert "test" not in data
    assert "test" not in data["splits"]


def test_a_relative_path_is_relative_to_the_working_directory(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert resolve_dataset(section(root, path="set")) == resolve_dataset(section(root))


def test_a_tilde_is_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert resolve_dataset(section(root, path="~/set")).path == str(root)


def test_names_may_be_a_list(root):
    data = resolve_dataset(section(root, names=["person", "car", "bus"])).as_dict()
    assert data["names"] == {0: "person", 1: "car", 2: "bus"}
    assert data["nc"] == 3


def test_names_are_ordered_by_number_and_are_text(root):
    names = resolve_dataset(section(root, names={1: "car", 0: 42})).names
    assert list(names.items()) == [(0, "42"), (1, "car")]


def test_more_than_ten_numbered_names_are_accepted(root):
    names = {number: f"class {number}" for number in range(12)}
    assert resolve_dataset(section(root, names=names)).names == names


@pytest.mark.parametrize("kind", ["a recipe", "the section alone"])
def test_a_file_that_holds_the_section_gives_the_same_as_the_section(root, kind):
    content = section(root)
    file = root.parent / "experiment.yaml"
    content_of_file = {"task": "detect", "data": content} if kind == "a recipe" else content
    file.write_text(yaml.safe_dump(content_of_file, sort_keys=False))
    assert resolve_dataset(file) == resolve_dataset(str(file)) == resolve_dataset(content)


def test_the_section_is_not_changed(root):
    content = section(root)
    resolve_dataset(content)
    assert content == section(root)


def test_what_is_saved_is_read_back_the_same(root, tmp_path):
    data = resolve_dataset(section(root, names=["Fußgänger", "车"])).as_dict()
    file = save_dataset_yaml(data, tmp_path / "run" / "new")
    assert file == str(tmp_path / "run" / "new" / "data.yaml")
    assert resolve_dataset(file).as_dict() == data
    assert list(resolve_dataset(file).splits["train"]) == ["rgb", "ir", "labels"]


def test_resolving_twice_changes_nothing(root):
    data = resolve_dataset(section(root)).as_dict()
    assert resolve_dataset(data).as_dict() == data


@pytest.mark.parametrize("names", [("rgb", "ir"), ("thermal", "colour", "depth"), ("z", "a", "m")])
def test_the_order_of_modalities_survives_ultralytics_check_of_the_saved_file(tmp_path, names):
    root = make_folders(tmp_path / "set", *names, "labels", splits=("",))
    for folder in (*names, "labels"):
        for split in ("train", "val"):
            (root / folder / split).mkdir()
    data = resolve_dataset(section(root, modalities={name: name for name in names})).as_dict()
    use_bundled_font()  # the check looks for a font
    checked = check_det_dataset(save_dataset_yaml(data, tmp_path / "run"), autodownload=False)
    assert list(checked["modalities"]) == list(names)
    assert {key: str(checked[key]) for key in ("path", "train", "val")} == {
        key: data[key] for key in ("path", "train", "val")
    }
    assert {key: checked[key] for key in ("names", "nc", "channels", "modalities", "visible", "splits")} == {
        key: data[key] for key in ("names", "nc", "channels", "modalities", "visible", "splits")
    }
    assert [modality.name for modality in modalities_of(checked)] == list(names)


def test_a_saved_dataset_whose_folder_has_gone_is_refused_with_the_folder(root, tmp_path):
    file = save_dataset_yaml(resolve_dataset(section(root)).as_dict(), tmp_path / "run")
    (root / "infrared/val").rmdir()
    with pytest.raises(DatasetError, match=re.escape(str(root / "infrared/val"))) as caught:
        resolve_dataset(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_modalities_are_slices_of_the_stack_in_its_order():
    data = {"modalities": {"rgb": 3, "depth": 1, "ir": 3}, "visible": "rgb"}
    modalities = modalities_of(data)
    assert modalities == (Modality("rgb", 3, 0, True), Modality("depth", 1, 3, False), Modality("ir", 3, 4, False))
    assert [modality.slice for modality in modalities] == [slice(0, 3), slice(3, 4), slice(4, 7)]


MATRIX = [[1, 0.02, -12.5], [0, 1.1, 3], [0, 1e-5, 1]]
READING = {
    "suffix": {"rgb": "_co", "ir": "_ir"},
    "channels": {"ir": 1},
    "range": {"rgb": "percentile", "ir": [-10, 40.5]},
    "align": {"ir": MATRIX},
    "filter": {"ir": {"high": 16}},
}


def test_how_files_are_found_and_read_is_known_of_each_modality(root):
    data = resolve_dataset(section(root, **READING)).as_dict()
    assert (data["channels"], data["modalities"]) == (4, {"rgb": 3, "ir": 1})
    assert {key: data[key] for key in ("suffix", "range", "align", "filter")} == {
        key: READING[key] for key in ("suffix", "range", "align", "filter")
    }
    assert modalities_of(data) == (
        Modality("rgb", 3, 0, True, "_co", "percentile"),
        Modality("ir", 1, 3, False, "_ir", (-10, 40.5), tuple(map(tuple, MATRIX)), filter=WindowFilter("high", 16)),
    )


def test_how_files_are_read_survives_saving_and_ultralytics_check_of_the_file(root, tmp_path):
    data = resolve_dataset(section(root, **READING)).as_dict()
    file = save_dataset_yaml(data, tmp_path / "run")
    assert resolve_dataset(file).as_dict() == data
    use_bundled_font()  # the check looks for a font
    assert modalities_of(check_det_dataset(file, autodownload=False)) == modalities_of(data)


def test_a_dataset_that_was_saved_without_these_keys_is_read_with_their_defaults(root, tmp_path):
    data = resolve_dataset(section(root)).as_dict()
    older = {key: value for key, value in data.items() if key not in READING_KEYS}
    assert resolve_dataset(save_dataset_yaml(older, tmp_path)).as_dict() == data
    assert modalities_of(older) == modalities_of(data)


@pytest.mark.parametrize("key", ["suffix", "match", "channels", "range", "align", "filter"])
def test_a_key_by_modality_that_names_none_is_refused_with_the_choices(root, key):
    assert f"{key}: thermal is not a modality: choose from rgb, ir" in refusal(root, **{key: {"thermal": 1}})
    assert f"{key}=4 must map modalities to values" in refusal(root, **{key: 4})


@pytest.mark.parametrize("key", ["suffix", "match", "channels", "range", "align", "filter"])
def test_an_empty_key_by_modality_is_as_good_as_none(root, key):
    assert resolve_dataset(section(root, **{key: None})) == resolve_dataset(section(root))


def test_the_folder_of_a_user_who_is_not_there_is_refused(root):
    assert "path=~nobody-of-this-name/set is not a folder" in refusal(root, path="~nobody-of-this-name/set")


@pytest.mark.parametrize("value", [0, 2, 4, 1.0, True, "1", None, [1]])
def test_other_numbers_of_channels_are_refused_with_the_choices(root, value):
    assert f"channels: ir={value!r} is unknown: choose from 1, 3" in refusal(root, channels={"ir": value})


@pytest.mark.parametrize(
    "value",
    ["max", [5, 5], [6, 5], [1], [1, 2, 3], [0, "high"], [0, float("nan")], [0, float("inf")], [False, True], 7, None],
)
def test_a_range_that_is_none_is_refused_with_the_choices(root, value):
    message = refusal(root, range={"ir": value})
    assert f"range: ir={value!r} must be two numbers [lo, hi]" in message
    assert "percentile, minmax" in message


@pytest.mark.parametrize("value", [3, "a/b", "a\\b", None, ["_ir"]])
def test_a_suffix_that_is_no_end_of_a_name_is_refused(root, value):
    assert f"suffix: ir={value!r} must be the end of a file's stem" in refusal(root, suffix={"ir": value})


def test_how_files_are_called_may_be_said_by_an_expression_for_each_modality_or_for_all(root):
    data = resolve_dataset(section(root, match={"ir": "T_(.+)"})).as_dict()
    assert (data["match"], [modality.naming for modality in modalities_of(data)]) == (
        {"ir": "T_(.+)"},
        ["", re.compile("T_(.+)")],
    )
    assert resolve_dataset(section(root, match="._(.+)")).as_dict()["match"] == dict.fromkeys(("rgb", "ir"), "._(.+)")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"ir": "T_.+"}, "match: ir='T_.+' has 0 groups: put one pair of brackets around what partners share"),
        ({"ir": "(T)_(.+)"}, "has 2 groups"),
        ({"ir": "(T"}, "match: ir='(T' is not a regular expression"),
        ({"ir": 3}, "match: ir=3 must be a regular expression with one group"),
        ({"ir": ""}, "match: ir='' must be"),
    ],
)
def test_an_expression_that_says_not_what_partners_share_is_refused(root, value, words):
    assert words in refusal(root, match=value)


def test_a_suffix_and_an_expression_for_one_modality_are_refused(root):
    changes = {"suffix": {"rgb": "_co", "ir": "_ir"}, "match": {"ir": "(.+)_ir"}}
    assert "match and suffix both define the names of ir" in refusal(root, **changes)


@pytest.mark.parametrize(
    "value", [3, [], [[1, 0], [0, 1]], MATRIX[:2], [*MATRIX[:2], [0, 0]], [*MATRIX[:2], [0, 0, "1"]], [1] * 9]
)
def test_a_matrix_that_is_not_three_by_three_numbers_is_refused(root, value):
    assert f"align: ir={value!r} must be a matrix of three rows" in refusal(root, align={"ir": value})


@pytest.mark.parametrize("value", [[[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[0] * 3] * 3, [[1, 0, 0], [0, 1, 0], [0, 0, 0]]])
def test_a_singular_matrix_is_refused(root, value):
    assert "is singular" in refusal(root, align={"ir": value})


def test_the_first_modality_cannot_be_aligned(root):
    assert "align: rgb is the first modality" in refusal(root, align={"rgb": MATRIX})


def test_modalities_that_would_read_the_same_files_are_refused(tmp_path):
    root = make_folders(tmp_path / "set", "images/{split}", "labels/{split}")
    changes = {"modalities": {"rgb": "images", "ir": "images"}}
    message = refusal(root, **changes)
    assert "rgb and ir would both be read from the same files" in message
    assert str(root / "images/train") in message
    assert "'suffix'" in message
    assert resolve_dataset(section(root, **changes, suffix={"ir": "_ir"})).as_dict()["suffix"] == {"ir": "_ir"}


@pytest.mark.parametrize("name", ["rgb", "RGB", "visible", "Vis", "color", "colour"])
def test_the_visible_modality_is_known_by_its_name(root, name):
    data = resolve_dataset(section(root, modalities={"ir": "infrared", name: "visible"})).as_dict()
    assert data["visible"] == name
    assert [modality.visible for modality in modalities_of(data)] == [False, True]


def test_the_visible_modality_may_be_named_by_a_key(root):
    data = resolve_dataset(section(root, modalities={"day": "visible", "night": "infrared"}, visible="night")).as_dict()
    assert data["visible"] == "night"
    assert [modality.visible for modality in modalities_of(data)] == [False, True]


def test_the_key_overrules_the_name_of_the_visible_modality(root):
    assert resolve_dataset(section(root, visible="ir")).as_dict()["visible"] == "ir"


@pytest.mark.parametrize("changes", [{"visible": None}, {"modalities": {"a": "visible", "b": "infrared"}}])
def test_there_may_be_no_visible_modality(root, changes):
    data = resolve_dataset(section(root, **changes)).as_dict()
    assert data["visible"] is None
    assert not any(modality.visible for modality in modalities_of(data))


def test_a_class_name_that_yaml_took_for_a_switch_is_refused(root):
    assert "names: 1 is False: YAML reads yes, no, on and off as booleans" in refusal(root, names=["car", False])
    assert resolve_dataset(section(root, names=["car", 2])).names == {0: "car", 1: "2"}


def test_every_key_of_the_section_is_described(root):
    described = resolve_dataset.__doc__.split("- path:")[1].split("Args:")[0]
    assert all(re.search(rf"\b{key}\b", f"path {described}") for key in SECTION_KEYS)


def test_an_unknown_key_is_refused_with_the_nearest_one(root):
    assert "unknown key 'modalitys': did you mean 'modalities'?" in refusal(root, modalitys={})


def test_an_unknown_key_that_is_like_none_is_refused_with_all_of_them(root):
    message = refusal(root, zzz=1)
    assert "unknown key 'zzz'" in message
    assert all(key in message for key in ("path", "modalities", "labels", "train", "val", "test", "names", "visible"))


@pytest.mark.parametrize("key", ["path", "modalities", "train", "val", "names"])
@pytest.mark.parametrize("value", ["left out", None, ""])
def test_a_missing_or_empty_key_is_named(root, key, value):
    assert f"the key '{key}' is missing or empty" in refusal(root, **{key: value})


def test_without_labels_the_folders_of_the_first_modality_are_the_classes(root):
    assert "the key 'labels' is missing or empty; without it, classes are" in refusal(root, labels=None, names=None)
    for name in ("van", "car"):
        (root / "visible/train" / name).mkdir()
    data = resolve_dataset(section(root, labels=None, names=None)).as_dict()
    assert data["names"] == {0: "car", 1: "van"} and list(data["splits"]["val"]) == ["rgb", "ir"]
    check_labels(data, "classify")
    with pytest.raises(DatasetError, match="task=detect needs data.labels"):
        check_labels(data, "detect")
    with pytest.raises(DatasetError, match="leave out data.labels"):
        check_labels(resolve_dataset(section(root)), "classify")


def test_a_hidden_folder_is_not_a_class(root):
    for name in ("van", ".ipynb_checkpoints", "car"):
        (root / "visible/train" / name).mkdir()
    assert resolve_dataset(section(root, labels=None, names=None)).names == {0: "car", 1: "van"}


def test_a_missing_root_is_named_as_given_and_as_looked_for(root, monkeypatch):
    monkeypatch.chdir(root)
    message = refusal(root, path="datasets/none")
    assert "path=datasets/none" in message
    assert str(root / "datasets/none") in message


@pytest.mark.parametrize(
    ("changes", "what", "folder", "there"),
    [
        ({"val": "valid"}, "rgb (val)", "visible/valid", "train, val"),
        ({"test": "test"}, "rgb (test)", "visible/test", "train, val"),
        ({"modalities": {"rgb": "visible", "ir": "thermal"}}, "ir (train)", "thermal/train", "infrared, labels"),
        ({"labels": "label"}, "labels (train)", "label/train", "infrared, labels, visible"),
    ],
)
def test_a_missing_folder_of_a_split_tells_what_folders_there_are(root, changes, what, folder, there):
    message = refusal(root, **changes)
    assert f"the folder of {what} is missing: {root / folder}" in message
    assert there in message


def test_a_missing_folder_beside_no_folders_says_so(root):
    (root / "visible/train").rmdir()
    (root / "visible/val").rmdir()
    assert "no folders" in refusal(root)


@pytest.mark.parametrize("names", [{1: "a", 2: "b"}, {0: "a", 2: "b"}, {"0": "a", "1": "b"}])
def test_names_numbered_with_gaps_or_from_one_are_refused_with_the_numbers(root, names):
    message = refusal(root, names=names)
    assert str(list(names)) in message
    assert "from 0 to 1" in message


def test_names_that_are_a_text_are_refused(root):
    assert "names='person'" in refusal(root, names="person")


@pytest.mark.parametrize("name", ["labels", "average", "../x", "/abs", "..", "", "a\0"])
def test_a_modality_may_not_have_a_name_that_means_something_elsewhere_or_leads_away(root, name):
    message = refusal(root, modalities={"rgb": "visible", name: "infrared"})
    assert message.startswith(f"data: modalities: a modality may not be called {name!r}")


def test_names_are_checked_before_a_set_is_generated(tmp_path):
    with pytest.raises(DatasetError, match="a modality may not be called '../x'"):
        resolve_dataset(section(tmp_path / "set", modalities={"../x": "visible"}, synthetic={"train": 4, "val": 2}))
    assert not list(tmp_path.iterdir())


def test_a_saved_dataset_with_such_a_name_is_refused_too(root, tmp_path):
    data = resolve_dataset(section(root)).as_dict()
    file = save_dataset_yaml({**data, "modalities": {"rgb": 3, "../x": 3}}, tmp_path / "run")
    with pytest.raises(DatasetError, match="a modality may not be called '../x'"):
        resolve_dataset(file)


@pytest.mark.parametrize("text", ["path: a\npath: b", "data: &x {path: *x}", "[" * 500, "path: 2024-99-99"])
def test_a_file_that_is_no_sound_yaml_is_refused_in_a_line(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DatasetError, match="data.yaml is not valid YAML: ") as caught:
        resolve_dataset(tmp_path / "data.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"path": "x" * 5000}, {"labels": "x" * 5000}, {"train": "a\nb"}])
def test_a_name_that_no_folder_has_is_refused_in_a_line(root, changes):
    assert "\n" not in refusal(root, **changes)


def test_a_number_beyond_all_images_is_refused(root):
    assert "must be two numbers" in refusal(root, range={"ir": [0, 10**400]})
    assert "must be a matrix" in refusal(root, align={"ir": [[10**400, 0, 0], [0, 1, 0], [0, 0, 1]]})


def test_a_visible_modality_that_does_not_exist_is_refused_with_the_choices(root):
    message = refusal(root, visible="depth")
    assert "visible=depth" in message
    assert "rgb, ir" in message


@pytest.mark.parametrize(
    "modalities",
    [["visible", "infrared"], "visible", {"rgb": None}, {"rgb": ["a", "b"]}, {0: "visible", 1: "infrared"}],
)
def test_modalities_that_do_not_map_names_to_folders_are_refused(root, modalities):
    assert f"modalities={modalities!r}" in refusal(root, modalities=modalities)


@pytest.mark.parametrize("data", [None, 3, ["path"]])
def test_data_that_is_no_mapping_is_refused_with_the_keys_it_needs(data):
    with pytest.raises(DatasetError, match="must be a mapping with the keys path, modalities"):
        resolve_dataset(data)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=re.escape(f"{tmp_path / 'none.yaml'} is not a file")):
        resolve_dataset(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", ["data: [", "data: {\n"])
def test_a_file_that_is_no_yaml_is_named(tmp_path, content):
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    with pytest.raises(DatasetError, match=re.escape(f"{file} is not valid YAML")):
        resolve_dataset(file)


def test_an_empty_file_is_named(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("")
    with pytest.raises(DatasetError, match=re.escape(str(file))):
        resolve_dataset(file)


def test_a_mistake_in_a_file_is_reported_with_the_file(root, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"data": section(root, visible="depth")}))
    with pytest.raises(DatasetError, match=re.escape(f"{file}: visible=depth")):
        resolve_dataset(file)


def test_two_classes_of_one_name_are_refused(demo_section):
    with pytest.raises(DatasetError, match="names holds car more than once"):
        resolve_dataset({**demo_section, "names": ["car", "bus", "car"]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["labels"]}, r"labels=\['labels'\] must be a folder"),
        ({"path": ["pairs"]}, r"path=\['pairs'\] must be a folder"),
        ({"names": {0: ["a"]}}, r"names: 0 is \['a'\]: the name of a class must be text"),
    ],
)
def test_a_list_in_place_of_a_text_is_refused(root, changes, words):
    with pytest.raises(DatasetError, match=words):
        resolve_dataset(section(root, **changes))


def test_keypoints_and_the_meaning_of_numbers_pass_on_to_ultralytics(root):
    data = resolve_dataset(section(root, kpt_shape=[3, 2], flip_idx=[2, 1, 0], label_mapping={0: 255, 1: 0})).as_dict()
    assert (data["kpt_shape"], data["flip_idx"], data["label_mapping"]) == ([3, 2], [2, 1, 0], {0: 255, 1: 0})
    assert {"kpt_shape", "flip_idx", "label_mapping"}.isdisjoint(resolve_dataset(section(root)).as_dict())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kpt_shape": [17]}, r"kpt_shape=[17] must be [number of keypoints, 2 or 3]"),
        ({"kpt_shape": [0, 3]}, r"kpt_shape=[0, 3] must be"),
        ({"kpt_shape": [17, 4]}, r"kpt_shape=[17, 4] must be"),
        ({"flip_idx": [0, 1]}, "flip_idx=[0, 1] needs kpt_shape, which is missing"),
        ({"kpt_shape": [3, 2], "flip_idx": [0, 1]}, "flip_idx=[0, 1] must hold each of the numbers 0 to 2 once"),
        ({"kpt_shape": [3, 2], "flip_idx": [0, 0, 1]}, "flip_idx=[0, 0, 1] must hold each of the numbers 0 to 2 once"),
        ({"label_mapping": [255, 0]}, "label_mapping=[255, 0] must map numbers from 0 to 255"),
        ({"label_mapping": {0: 300}}, "label_mapping={0: 300} must map numbers from 0 to 255"),
        ({"label_mapping": {0: 9}}, "label_mapping leads to 9: choose from 0 to"),
    ],
)
def test_what_is_wrong_with_keypoints_and_numbers_is_named(root, keys, said):
    assert said in refusal(root, **keys)
