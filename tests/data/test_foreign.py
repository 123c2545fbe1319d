import os

import pytest

from mwam_det.data.errors import DatasetError
from mwam_det.data.foreign import refuse_foreign_keys, refuse_foreign_recipe
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load
from mwam_det.files.values import parse_value
from mwam_det.recipe import RecipeError


def shown_for(content, check=refuse_foreign_keys) -> dict:
    """The section that a refusal shows."""
    with pytest.raises(ValueError) as caught:
        check(content)
    return parse_value(str(caught.value).partition("data: ")[2])


def keys(layout, order="{split}_{name}", splits=("train", "val")) -> dict:
    return {
        order.format(split=split, name=name): layout.format(split=split, folder=folder)
        for split in splits
        for name, folder in (("rgb", "visible"), ("ir", "infrared"))
    }


@pytest.mark.parametrize("order", ["{split}_{name}", "{name}_{split}", "{name}-{split}"])
@pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test")])
def test_folders_of_splits_below_those_of_modalities_become_both(order, splits):
    section = shown_for({**keys("/d/{folder}/{split}", order, splits), "nc": 1, "names": ["thing"]})
    assert section == {
        "path": "/d",
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "folder of the label files",
        **dict(zip(splits, splits, strict=True)),
        "names": ["thing"],
    }


def test_folders_of_modalities_below_those_of_splits_hold_the_split():
    section = shown_for({**keys("images/{split}/{folder}"), "path": "set", "names": {0: "a"}})
    assert section["path"] == os.path.join("set", "images")
    assert section["modalities"] == {"rgb": "{split}/visible", "ir": "{split}/infrared"}
    assert section["names"] == {0: "a"}


def test_splits_without_a_modality_beside_those_with_one_are_those_of_rgb():
    content = {"train": "/d/visible/train", "val": "/d/visible/val", "train_ir": "/d/infrared/train"}
    section = shown_for({**content, "val_ir": "/d/infrared/val", "train_labels": "/d/labels/train"})
    assert section["path"] == "/d" and section["modalities"] == {"rgb": "visible", "ir": "infrared"}


def test_lists_of_images_are_those_of_the_first_modality():
    section = shown_for(keys("{split}_{folder}.txt"))
    assert (section["train"], section["val"]) == ("train_visible.txt", "val_visible.txt")


@pytest.mark.parametrize(
    "content",
    [
        {"train_rgb": ["a", "b"], "val_rgb": "c", "train_ir": "d", "val_ir": "e"},
        {"rgb_train": "a", "ir_train": "b"},
        {"train_rgb": "a/b/c", "val_rgb": "d/e/f", "train_ir": "a", "val_ir": "b"},
        {"train_rgb": 3},
    ],
)
def test_of_what_is_laid_out_otherwise_an_example_is_shown(content):
    section = shown_for(content)
    assert section["path"] == "folder of the dataset"
    assert section["modalities"]["rgb"] == "folder of rgb"


def test_a_description_of_single_images_is_told_from_a_recipe():
    content = {"train": "images/train", "val": "images/val", "names": ["a"]}
    assert shown_for(content, refuse_foreign_recipe)["modalities"] == {"rgb": "folder of rgb", "ir": "folder of ir"}
    refuse_foreign_recipe({"train": {"epochs": 3}, "data": {"names": ["a"]}})
    refuse_foreign_recipe({"names": 1})


def test_the_section_is_shown_wherever_a_dataset_is_named(tmp_path):
    file = tmp_path / "flir.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in keys("/d/{folder}/{split}").items()))
    for error, read in ((RecipeError, load), (DatasetError, resolve_dataset)):
        with pytest.raises(error, match=r"data: \{path: /d, modalities: \{rgb: visible, ir: infrared\}"):
            read(file)
