import shutil

import pytest
from hosts import rooms_section, section, write_pictures

from mwam_det.hosts.data.layout import check_section, find_samples


def test_folders_give_the_classes_and_the_files_of_every_modality(pictures):
    data = find_samples(section(pictures), segmentation=False)
    assert data.classes == ("a", "b") and [m.name for m in data.modalities] == ["rgb", "ir"]
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 8, "val": 8}
    for sample in data.splits["train"]:
        assert sample.files["rgb"].name == sample.files["ir"].name
        assert sample.files["rgb"].parent.name == sample.files["ir"].parent.name == "ab"[sample.target]


def test_hidden_folders_are_no_classes_and_hidden_files_no_samples(tmp_path):
    root = write_pictures(tmp_path / "set")
    for modality in ("rgb", "ir"):
        folder = root / "train" / modality
        shutil.copytree(folder / "a", folder / ".ipynb_checkpoints")
        (folder / "b" / "._day_1.png").write_bytes(b"\0\5\x16\7")
    data = find_samples(section(root), segmentation=False)
    assert data.classes == ("a", "b") and len(data.splits["train"]) == 8 and not data.notes


def test_names_say_the_order_of_the_classes(pictures):
    data = find_samples(section(pictures, names={0: "b", 1: "a"}), segmentation=False)
    assert {s.files["rgb"].parent.name: s.target for s in data.splits["val"]} == {"b": 0, "a": 1}


def test_a_sample_without_a_partner_is_left_out_and_named(tmp_path):
    root = write_pictures(tmp_path / "set")
    (root / "train" / "ir" / "a" / "day_1.png").unlink()
    data = find_samples(section(root), segmentation=False)
    assert len(data.splits["train"]) == 7
    assert data.notes == ("train/a: 1 left out that ir lacks (day_1)",)


def test_a_sample_belongs_to_the_groups_whose_pattern_its_name_has(pictures):
    data = find_samples(section(pictures, groups={"day": "day_*", "all": "*"}), segmentation=False)
    groups = [data.group_of(sample) for sample in data.splits["val"]]
    assert sorted(groups) == [["all"]] * 4 + [["day", "all"]] * 4


def test_rooms_have_labels_for_targets(rooms):
    data = find_samples(rooms_section(rooms), segmentation=True)
    assert [sample.target.parent.name for sample in data.splits["train"]] == ["labels_40"] * 4
    assert data.modalities[1].channels == 1 and data.modalities[1].value_range == (0, 10000)
    as_stored = find_samples(rooms_section(rooms, range={"depth": None}), segmentation=True)
    assert as_stored.modalities[1].value_range is None


def surf(root, lines, **changes):
    """A set with lists as CASIA-SURF has them."""
    write_pictures(root, splits=["Training"], modalities=["color", "depth", "ir"])
    for name in ("train_list.txt", "val_list.txt"):
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "path": str(root),
        "format": "list",
        "modalities": {"rgb": 0, "depth": 1, "ir": 2},
        "train": "train_list.txt",
        "val": "val_list.txt",
        "names": ["fake", "real"],
        **changes,
    }


LINE = " ".join(f"Training/{modality}/b/day_1.png" for modality in ("color", "depth", "ir"))


def test_a_list_names_files_by_column_and_the_class_last(tmp_path):
    data = find_samples(surf(tmp_path, [f"{LINE} 1", "", f"{LINE} 0"]), segmentation=False)
    assert [sample.target for sample in data.splits["train"]] == [1, 0]
    assert data.splits["val"][0].files["depth"] == tmp_path / "Training/depth/b/day_1.png"


def test_a_list_can_be_read_for_two_of_its_modalities(tmp_path):
    data = find_samples(surf(tmp_path, [f"{LINE} 1"], modalities={"depth": 1, "ir": 2}), segmentation=False)
    assert set(data.splits["train"][0].files) == {"depth", "ir"}


def test_a_list_may_be_written_by_tools_of_windows(tmp_path):
    described = surf(tmp_path, [])
    text = "\r\n".join([f"{LINE} 1".replace("/", "\\"), f"{LINE} 0", ""])
    for split in ("train", "val"):
        (tmp_path / described[split]).write_bytes(text.encode("utf-8-sig"))
    data = find_samples(described, segmentation=False)
    assert [sample.target for sample in data.splits["train"]] == [1, 0]
    assert {sample.files["rgb"] for sample in data.splits["train"]} == {tmp_path / "Training/color/b/day_1.png"}


def test_a_list_that_cannot_be_decoded_is_named(tmp_path):
    described = surf(tmp_path, [f"{LINE} 1"])
    (tmp_path / "train_list.txt").write_text(f"{LINE} 1\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"train_list\.txt cannot be read"):
        find_samples(described, segmentation=False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LINE, "train_list.txt, line 2: .* has 3 words, but .* the class comes last"),
        (f"{LINE} 2", "line 2: '2' is not a class: names has 0 to 1"),
        (f"{LINE.replace('day_1', 'x', 1)} 1", "line 2: .*x.png is not a file"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, words):
    with pytest.raises(ValueError, match=words):
        find_samples(surf(tmp_path, [f"{LINE} 1", line]), segmentation=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pth": "x"}, "unknown key 'pth': did you mean 'path'"),
        ({"train": None}, "the section lacks 'train'"),
        ({"format": "list"}, "the section lacks 'names'"),
        ({"format": "zip"}, "format='zip' must be folders or list"),
        ({"modalities": {}}, r"modalities=\{\} must map names to folders, like"),
        ({"modalities": {"rgb": 0, "ir": 1}}, "must map names to folders"),
        ({"channels": {"depth": 1}}, "unknown key 'depth'"),
        ({"channels": {"ir": 2}}, "channels={ir: 2} must be 1 or 3"),
        ({"range": {"ir": [9, 3]}}, r"range: ir=\[9, 3\] must be two numbers"),
        ({"names": {1: "a", 2: "b"}}, "must number the classes 0, 1"),
        ({"names": ["a", "a"]}, "must be a list of different classes"),
        ({"groups": "day"}, "groups='day' must map names to patterns"),
        ({"modalities": {"rgb": "rgb", "../x": "ir"}}, "a modality may not be called '../x'"),
        ({"modalities": {"rgb": "rgb", "average": "ir"}}, "'average': a report has a row of that name"),
        ({"modalities": {"rgb": "rgb", "half": "ir"}}, "'half': every module of PyTorch has an attribute"),
        ({"names": ["a", "../b"]}, "the class '../b' is the name of a folder, which cannot be called so"),
        ({"names": ["a", ".."]}, r"the class '\.\.' is the name of a folder"),
        ({"range": {"ir": [0, 10**400]}}, "must be two numbers"),
        ({"range": {"ir": [0, float("inf")]}}, "must be two numbers"),
        (
            {"format": "list", "names": ["a", "b"], "modalities": {"rgb": 0, "ir": -9}},
            "must map names to columns",
        ),
        ({"format": "videos", "modalities": {"rgb": "f", "flow": ["u", "v"]}, "channels": 3}, "channels=3 must map"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(pictures, changes, words):
    with pytest.raises(ValueError, match=words):
        check_section(section(pictures, **changes), segmentation=False)


def test_a_section_for_segmentation_needs_labels_and_names(pictures):
    with pytest.raises(ValueError, match="the section lacks 'names' and 'labels'"):
        check_section(section(pictures), segmentation=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "nowhere"}, "data.path=nowhere is not a folder"),
        ({"path": "x" * 5000}, "data.path=xxx.* is not a folder"),
        ({"val": "valid"}, "the folder .*valid.rgb is missing"),
        ({"names": ["a", "c"]}, r"has folders of unknown classes \['b'\]: the classes are \['a', 'c'\]"),
    ],
)
def test_what_is_not_on_disk_is_named(pictures, changes, words):
    with pytest.raises(ValueError, match=words):
        find_samples(section(pictures, **changes), segmentation=False)


def test_a_split_without_a_complete_sample_is_refused(tmp_path):
    root = write_pictures(tmp_path / "set")
    for name in "ab":
        shutil.rmtree(root / "val" / "ir" / name)
        (root / "val" / "ir" / name).mkdir()
    with pytest.raises(ValueError, match="data.val=val has no sample with every modality"):
        find_samples(section(root), segmentation=False)
