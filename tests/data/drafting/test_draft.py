"""Recipes drafted for folders as people have them: each loads, finds its pairs and labels, and trains."""

import os
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from sources import write
from training import train_recipe
from ultralytics.cfg import get_cfg

from mwam_det.cli import main
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.drafting.draft import Draft, draft
from mwam_det.data.drafting.known import Known
from mwam_det.data.errors import DatasetError
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

HEIGHT, WIDTH = 32, 40
SPLITS = {"train": 6, "val": 3}
BOX = "0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.125\n"


def colour(number: int) -> np.ndarray:
    """A picture whose red is far from its other channels, and whose blue is its number."""
    image = np.random.default_rng(number).integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8)
    image[..., 2] = 200
    image[..., 0] = number
    return image


def grey(number: int, dtype=np.uint8, scale: int = 1) -> np.ndarray:
    """A grey picture of the same number, plus 100."""
    image = np.full((HEIGHT, WIDTH), 100 + number, dtype) * dtype(scale)
    image[0, :] = 0
    return image


def write_pairs(root: Path, rgb: str, ir: str, label: str | None, numbers, text=BOX, names="{:04}", thermal=grey):
    """Write pairs by templates of their places, in which "{}" is the name."""
    for number in numbers:
        name = names.format(number)
        write(root / rgb.format(name), colour(number))
        write(root / ir.format(name), thermal(number))
        if label is not None:
            write(root / label.format(name), text)


def by_split(root: Path, rgb: str, ir: str, label: str | None, splits=("train", "val"), **options):
    start = 0
    for split in splits:
        count = SPLITS.get(split, 3)
        places = [None if t is None else t.replace("SPLIT", split) for t in (rgb, ir, label)]
        write_pairs(root, *places, range(start, start + count), **options)
        start += count


def drafted(folders, out: Path) -> tuple[dict, Draft]:
    """Draft, write as the command does, and return the content of the recipe and the draft."""
    made = draft(folders if isinstance(folders, list) else [folders], out)
    assert isinstance(made, Draft), made
    write(out, made.recipe)
    for name, text in made.lists.items():
        write(out.with_name(name), text)
    return yaml.safe_load(made.recipe), made


def check(folders, out: Path, pairs=SPLITS, boxes: int = 2) -> tuple[dict, Draft]:
    """Check that a drafted recipe reads all pairs, each image with its own partner, and their labels."""
    content, made = drafted(folders, out)
    data = resolve_dataset(load(out).recipe.data).as_dict()
    seen = []
    for split, count in pairs.items():
        args = get_cfg(overrides={"imgsz": WIDTH, "task": content["task"]})
        dataset = build_paired_dataset(args, data[split], 2, data, "val", rect=False, stride=32)
        assert len(dataset) == count, split
        for i in range(count):
            red, _, blue = (int(dataset[i]["img"][channel, 16, 20]) for channel in range(3))
            assert red == 200
            seen.append(blue)
            if "range" not in content["data"]:
                assert dataset[i]["img"][3, 16, 20] == 100 + blue
            if boxes:
                assert len(dataset.labels[i]["cls"]) == boxes
    assert sorted(seen) == list(range(sum(pairs.values())))
    return content, made


LAYOUTS = {
    "modality, split": ("visible/SPLIT/{}.jpg", "infrared/SPLIT/{}.jpg", "labels/SPLIT/{}.txt"),
    "modality, split, other words": ("RGB/SPLIT/{}.png", "Thermal_8bit/SPLIT/{}.bmp", "annotations/SPLIT/{}.txt"),
    "split, modality": ("SPLIT/rgb/{}.png", "SPLIT/ir/{}.png", "SPLIT/labels/{}.txt"),
    "images, modality, split": ("images/vis/SPLIT/{}.png", "images/lwir/SPLIT/{}.png", "labels/SPLIT/{}.txt"),
    "images, split, modality": ("images/SPLIT/rgb/{}.png", "images/SPLIT/ir/{}.png", "labels/SPLIT/{}.txt"),
    "modality, split, images": ("rgb/SPLIT/images/{}.png", "ir/SPLIT/images/{}.png", "rgb/SPLIT/labels/{}.txt"),
    "modality, images, split": ("rgb/images/SPLIT/{}.png", "ir/images/SPLIT/{}.png", "rgb/labels/SPLIT/{}.txt"),
    "clips below": ("visible/SPLIT/a/{}.png", "infrared/SPLIT/a/{}.png", "labels/SPLIT/a/{}.txt"),
    "suffixes in one folder": ("SPLIT/{}_rgb.png", "SPLIT/{}_ir.png", "SPLIT/{}.txt"),
    "labels beside images": ("SPLIT/{}_co.png", "SPLIT/{}_ir.png", "SPLIT/{}_co.txt"),
    "a suffix for one alone": ("images/SPLIT/{}.png", "images/SPLIT/{}-thermal.png", "labels/SPLIT/{}.txt"),
    "prefixes in one folder": ("SPLIT/RGB_{}.png", "SPLIT/T_{}.png", "SPLIT/RGB_{}.txt"),
    "prefixes in folders": ("visible/SPLIT/VIS_{}.png", "infrared/SPLIT/IR{}.png", "labels/SPLIT/VIS_{}.txt"),
    "suffixes in folders": ("rgb/SPLIT/{}_RGB.jpg", "thermal/SPLIT/{}_PreviewData.png", "labels/SPLIT/{}.txt"),
    "split in names of folders": ("rgb_SPLIT/{}.png", "ir_SPLIT/{}.png", "labels_SPLIT/{}.txt"),
    "split before": ("SPLIT-rgb/{}.png", "SPLIT-ir/{}.png", "SPLIT-labels/{}.txt"),
    "split with a year": ("images/SPLIT2017/rgb/{}.png", "images/SPLIT2017/ir/{}.png", "labels/SPLIT2017/{}.txt"),
    "split with a number": ("rgb/01_SPLIT_set/{}.png", "ir/01_SPLIT_set/{}.png", "labels/01_SPLIT_set/{}.txt"),
    "split in one word": ("SPLITimg/{}.png", "SPLITimgr/{}.png", "SPLITlabel/{}.txt"),
    "one beside the other": ("images/SPLIT/{}.png", "images/SPLIT_ir/{}.png", "labels/SPLIT/{}.txt"),
    "no separator": ("SPLIT/{}rgb.png", "SPLIT/{}Thermal.png", "SPLIT/{}.txt"),
    "a word within": ("SPLIT/{}_rgb_image.png", "SPLIT/{}_ir_8bit.png", "SPLIT/{}.txt"),
    "a prefix without separator": ("SPLIT/RGB{}.png", "SPLIT/IR{}.png", "SPLIT/RGB{}.txt"),
    "suffixes below clips": ("SPLIT/a/b/{}_rgb.png", "SPLIT/a/b/{}_ir.png", "SPLIT/a/b/{}.txt"),
    "nested in a folder": ("set 1/visible/SPLIT/{}.png", "set 1/infrared/SPLIT/{}.png", "set 1/labels/SPLIT/{}.txt"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_with_splits_is_read(tmp_path, layout):
    by_split(tmp_path / "set", *layout)
    if ".jpg" in layout[0]:  # values survive in PNG alone
        for file in [*(tmp_path / "set").rglob("*.jpg")]:
            cv2.imwrite(str(file.with_suffix(".png")), cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
            file.unlink()
        by_split(tmp_path / "set", *(place.replace(".jpg", ".png") for place in layout))
    content, made = check(tmp_path / "set", tmp_path / "out/r.yaml")
    assert list(content["data"]["modalities"])[:2] == ["rgb", "ir"]
    assert content["task"] == "detect"
    assert (content["data"]["train"], content["data"]["val"]) == ("train", "val")
    assert not made.lists and not made.doubts


WHOLE = {
    name: layout for name, layout in LAYOUTS.items() if not name.startswith(("split ", "one beside", "suffixes be"))
}


@pytest.mark.parametrize("layout", WHOLE.values(), ids=WHOLE)
def test_the_same_without_splits_gets_lists(tmp_path, layout):
    if layout[0].startswith(("SPLIT/{}", "SPLIT/RGB")):
        layout = tuple(place.replace("SPLIT/", "all/") for place in layout)
    layout = [place.replace("SPLIT/", "").replace(".jpg", ".png") for place in layout]
    write_pairs(tmp_path / "set", *layout, range(10))
    content, made = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 8, "val": 2})
    assert content["data"]["train"] == str(tmp_path / "out/r-train.txt")
    assert sorted(made.lists) == ["r-train.txt", "r-val.txt"]
    assert drafted(tmp_path / "set", tmp_path / "again/r.yaml")[1].lists == made.lists


ODD = [
    "Flug #1, Bild 001",
    "no",
    "null",
    "2024-01-05",
    "a=b",
    "it's",
    "naïve – 汉字",
    "x.v2",
    "[1]",
    "{split}",
    "~",
    "%41",
]


def test_odd_names_of_folders_and_files_are_read(tmp_path):
    root = tmp_path / "Flug #1: 'Süd' [a] & b"
    for number, name in enumerate(ODD):
        write(root / "Bilder (RGB) #1" / f"{name}.png", colour(number))
        write(root / "Wärme – IR, no" / f"{name}.png", grey(number))
        write(root / "yes: labels" / f"{name}.txt", BOX)
    (root / "yes: labels/classes.txt").write_text("no\n2024-01-05 # x\n")
    content, _ = check(root, tmp_path / "out/r.yaml", {"train": 10, "val": 2})
    assert content["data"]["names"] == {0: "no", 1: "2024-01-05 # x"}


def test_two_folders_that_lie_apart_are_two_modalities(tmp_path):
    write_pairs(tmp_path, "a/day/{}.png", "b/night/x/{}.png", "c/{}.txt", range(5))
    with pytest.raises(DatasetError, match="5 pairs were found in .*, but no labels"):
        draft([tmp_path / "a", tmp_path / "b"], tmp_path / "r.yaml")
    write_pairs(tmp_path, "a/day/{}.png", "b/night/x/{}.png", "a/day/{}.txt", range(5))
    content, _ = check([tmp_path / "a/day", tmp_path / "b/night"], tmp_path / "out/r.yaml", {"train": 4, "val": 1})
    assert content["data"]["modalities"] == {"rgb": "a/day", "night": "b/night/x"}
    assert content["data"]["labels"] == "a/day"


def test_folders_that_no_word_names_are_known_by_their_colour(tmp_path):
    by_split(tmp_path / "set", "cam0/SPLIT/{}.png", "cam1/SPLIT/{}.png", "labels/SPLIT/{}.txt")
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml")
    assert content["data"]["modalities"] == {"rgb": "cam0", "cam1": "cam1"}


def test_two_grey_modalities_have_none_that_takes_colour(tmp_path):
    write_pairs(tmp_path / "set", "nir/{}.png", "lwir/{}.png", "labels/{}.txt", range(5))
    for file in (tmp_path / "set/nir").iterdir():
        cv2.imwrite(str(file), 255 - cv2.imread(str(file), 0))
    content, _ = drafted(tmp_path / "set", tmp_path / "out/r.yaml")
    assert sorted(content["data"]["modalities"]) == ["lwir", "nir"]
    assert content["data"]["visible"] is None


def test_exports_of_roboflow_for_yolo_are_read_side_by_side(tmp_path):
    for number in range(9):
        split = "train" if number < 6 else "valid"
        for tool, image, digest in (("rgb-1", colour(number), f"a{number}"), ("thermal-1", grey(number), f"b{number}")):
            stem = f"{number:04}_jpg.rf.{digest}ff"
            write(tmp_path / tool / split / "images" / f"{stem}.png", image)
            write(tmp_path / tool / split / "labels" / f"{stem}.txt", BOX)
    write(tmp_path / "rgb-1/data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['car', 'van']\n")
    content, _ = check([tmp_path / "rgb-1", tmp_path / "thermal-1"], tmp_path / "out/r.yaml")
    assert content["data"]["labels"] == "rgb-1/{split}/labels"
    assert content["data"]["val"] == "valid"
    assert content["data"]["names"] == {0: "car", 1: "van"}


@pytest.mark.parametrize(
    ("rgb", "ir", "together"),
    [
        ("{}_jpg", "{}_png", False),
        ("RGB_{}_jpg", "IR_{}_jpg", False),
        ("{}_rgb_png", "{}_ir_png", False),
        ("RGB_{}_jpg", "IR_{}_jpg", True),
        ("{}_rgb_png", "{}_ir_png", True),
    ],
)
def test_names_below_the_hashes_of_roboflow_may_differ(tmp_path, rgb, ir, together):
    for number in range(9):
        split, name = ("train" if number < 6 else "valid"), f"{number:04}"
        places = ("all", "all") if together else ("rgb", "ir")
        for folder, template, picture, digest in zip(places, (rgb, ir), (colour, grey), "ab", strict=True):
            stem = f"{template.format(name)}.rf.{digest}{number}ff"
            write(tmp_path / "set" / folder / split / "images" / f"{stem}.png", picture(number))
            if template == rgb:
                write(tmp_path / "set" / folder / split / "labels" / f"{stem}.txt", BOX)
    check(tmp_path / "set", tmp_path / "out/r.yaml")


def test_exports_of_cvat_for_yolo_are_read_side_by_side(tmp_path):
    for number in range(5):
        for tool, image in (("rgb", colour(number)), ("ir", grey(number))):
            write(tmp_path / "set" / tool / "obj_train_data" / f"frame_{number:06}.png", image)
            write(tmp_path / "set" / tool / "obj_train_data" / f"frame_{number:06}.txt", BOX)
    write(tmp_path / "set/rgb/obj.names", "car\nvan\n")
    write(tmp_path / "set/rgb/train.txt", "data/obj_train_data/frame_000000.png\n")
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 4, "val": 1})
    assert content["data"]["names"] == {0: "car", 1: "van"}
    assert content["data"]["labels"] == "rgb/obj_{split}_data"


def test_clips_are_held_back_as_a_whole(tmp_path):
    for clip in range(6):
        write_pairs(
            tmp_path / "set",
            f"visible/clip{clip}/{{}}.png",
            f"infrared/clip{clip}/{{}}.png",
            f"labels/clip{clip}/{{}}.txt",
            range(3 * clip, 3 * clip + 3),
        )
    _, made = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 15, "val": 3})
    clips = {split: {line.split("/")[1] for line in text.split()} for split, text in made.lists.items()}
    assert not clips["r-train.txt"] & clips["r-val.txt"]


def test_test_validates_where_there_is_no_val(tmp_path):
    by_split(
        tmp_path / "set", "visible/SPLIT/{}.png", "infrared/SPLIT/{}.png", "labels/SPLIT/{}.txt", ("train", "test")
    )
    content, made = check(tmp_path / "set", tmp_path / "out/r.yaml")
    assert content["data"]["val"] == "test"
    assert any("test is used to validate" in conclusion for conclusion in made.conclusions)


@pytest.mark.parametrize("layout", ["visible/train/{}.png infrared/train/{}.png labels/train/{}.txt",
                                    "train/rgb/{}.png train/ir/{}.png train/labels/{}.txt"])  # fmt: skip
def test_a_single_split_is_divided(tmp_path, layout):
    write_pairs(tmp_path / "set", *layout.split(), range(5))
    content, made = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 4, "val": 1})
    assert content["data"]["val"] == str(tmp_path / "out/r-val.txt")


CLIPS = {
    "clips above": ("V{}/visible/", "V{}/lwir/", "V{}/labels/"),
    "clips above, labels apart": ("images/set/V{}/visible/", "images/set/V{}/lwir/", "labels/V{}/"),
    "clips of clips": ("day{}/V{}/rgb/a/", "day{}/V{}/ir/b/", "day{}/V{}/labels/"),
}


@pytest.mark.parametrize("places", CLIPS.values(), ids=CLIPS)
def test_clips_above_modalities_are_held_back_as_a_whole(tmp_path, places):
    for clip in range(3):
        numbers = range(3 * clip, 3 * clip + 3)
        rgb, ir, label = (f"{place.replace('{}', str(clip))}{{}}" for place in places)
        write_pairs(tmp_path / "set", f"{rgb}.png", f"{ir}.png", f"{label}.txt", numbers)
    content, made = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 6, "val": 3})
    assert len(content["data"]["train"]) == 2
    assert not made.doubts and not made.lists
    assert any("of 3 clips 1 were drawn for val" in conclusion for conclusion in made.conclusions)


def test_clips_below_splits_belong_to_them(tmp_path):
    for clip, split in enumerate(("train", "train", "val")):
        place = f"{split}/seq{clip}"
        numbers = range(3 * clip, 3 * clip + 3)
        write_pairs(
            tmp_path / "set", f"{place}/rgb/{{}}.png", f"{place}/ir/{{}}.png", f"{place}/labels/{{}}.txt", numbers
        )
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml")
    assert content["data"]["train"] == ["train/seq0", "train/seq1"]
    assert content["data"]["val"] == "val/seq2"


def test_lists_that_are_there_are_the_split(tmp_path):
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "labels/{}.txt", range(9))
    write(tmp_path / "set/labels/classes.txt", "a\nb\n")
    write(tmp_path / "set/ImageSets/train.txt", "".join(f"{number:04}\n" for number in range(6)))
    write(tmp_path / "set/ImageSets/test.txt", "".join(f"/home/ann/visible/{number:04}.png\n" for number in (6, 7, 8)))
    write(tmp_path / "set/val.txt", "0000\n")  # alone in its folder
    content, made = check(tmp_path / "set", tmp_path / "out/r.yaml")
    assert content["data"]["val"] == content["data"]["test"] == "ImageSets/test.txt"
    assert "split: 6 images in ImageSets/train.txt, 3 images in ImageSets/test.txt" in made.conclusions
    assert not made.lists


def test_three_splits_are_named_all(tmp_path):
    by_split(
        tmp_path / "set",
        "visible/SPLIT/{}.png",
        "infrared/SPLIT/{}.png",
        "labels/SPLIT/{}.txt",
        ("train", "valid", "test"),
    )
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 6, "val": 3, "test": 3})
    assert [content["data"][split] for split in ("train", "val", "test")] == ["train", "valid", "test"]


def test_images_of_more_than_8_bits_get_the_range_of_their_values(tmp_path):
    by_split(
        tmp_path / "set",
        "visible/SPLIT/{}.png",
        "infrared/SPLIT/{}.tiff",
        "labels/SPLIT/{}.txt",
        thermal=lambda number: np.random.default_rng(number).integers(29_000, 31_000, (HEIGHT, WIDTH), np.uint16),
    )
    by_split(
        tmp_path / "set",
        "visible/SPLIT/{}.png",
        "depth/SPLIT/{}.tiff",
        None,
        thermal=lambda number: np.random.default_rng(number).integers(0, 2, (HEIGHT, WIDTH)).astype(np.float32) * 8.5,
    )
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml")
    assert list(content["data"]["modalities"]) == ["rgb", "ir", "depth"]
    (low, high), far = content["data"]["range"]["ir"], content["data"]["range"].get("depth")
    assert 28_990 < low < 29_100 and 30_900 < high < 31_010
    assert far is None or far == [0.0, 8.5]


LINES = {
    "obb": "0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n",
    "segment": "0 0.1 0.1 0.3 0.1 0.2 0.3\n0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.4 0.1 0.2\n",
    "detect": BOX,
}


@pytest.mark.parametrize("task", LINES)
def test_the_columns_of_labels_tell_the_task(tmp_path, task):
    layout = ("visible/SPLIT/{}.png", "infrared/SPLIT/{}.png", "labels/SPLIT/{}.txt")
    by_split(tmp_path / "set", *layout, text=LINES[task])
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml", boxes=len(LINES[task].splitlines()))
    assert content["task"] == task
    assert {"obb": "-obb", "segment": "-seg", "detect": ".yaml"}[task] in content["model"]


def test_of_several_sets_of_labels_that_of_the_first_modality_is_taken_and_the_others_named(tmp_path):
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "ir_labels/{}.txt", range(6))
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "rgb_obb/{}.txt", range(6), LINES["obb"])
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "rgb_labels/{}.txt", range(5))
    content, made = drafted(tmp_path / "set", tmp_path / "out/r.yaml")
    assert content["data"]["labels"] == "rgb_labels"
    assert "# or ir_labels (boxes), rgb_obb (rotated boxes)" in made.recipe
    assert made.doubts == ["1 of 6 pairs have no label file"]


def test_images_of_class_numbers_are_labels_of_pixels(tmp_path):
    by_split(tmp_path / "set", "visible/SPLIT/{}.png", "infrared/SPLIT/{}.png", None)
    by_split(tmp_path / "set", "visible/SPLIT/{}.png", "masks/SPLIT/{}.png", None, thermal=lambda number: grey(0) % 4)
    content, _ = drafted(tmp_path / "set", tmp_path / "out/r.yaml")
    assert (content["task"], content["model"]) == ("semantic", "yolo26n-sem.yaml")
    assert content["data"]["labels"] == "masks"
    check(tmp_path / "set", tmp_path / "again/r.yaml", boxes=0)


def test_folders_that_are_called_alike_in_all_modalities_are_classes(tmp_path):
    start = 0
    for split in SPLITS:
        for name in ("car", "no"):
            places = (f"{split}/rgb/{name}/{{}}.png", f"{split}/ir/{name}/{{}}.png", None)
            write_pairs(tmp_path / "set", *places, range(start, start + 2))
            start += 2
    content, _ = check(tmp_path / "set", tmp_path / "out/r.yaml", {"train": 4, "val": 4}, boxes=1)
    assert content["task"] == "classify"
    assert content["data"]["names"] == {0: "car", 1: "no"}


def test_what_looks_wrong_is_told(tmp_path):
    by_split(tmp_path / "set", "visible/SPLIT/{}.png", "infrared/SPLIT/{}.png", "labels/SPLIT/{}.txt")
    (tmp_path / "set/infrared/train/0000.png").unlink()
    write(tmp_path / "set/labels/train/0001.txt", "0 12 13 5 5\n")
    write(tmp_path / "set/labels/train/0002.txt", "car 1 2\n")
    write(tmp_path / "set/fused/train/0000.png", colour(0))
    for file in (tmp_path / "set/visible").rglob("*.png"):
        cv2.imwrite(str(file), np.dstack([cv2.imread(str(file)), np.full((HEIGHT, WIDTH), 200, np.uint8)]))
        cv2.imwrite(str(file), np.hstack([cv2.imread(str(file), cv2.IMREAD_UNCHANGED)] * 2))
    doubts = "\n".join(drafted(tmp_path / "set", tmp_path / "out/r.yaml")[1].doubts)
    for words in (
        "1 of 9 images of rgb have no partner: left out",
        "images of rgb have a fourth channel, which is not used",
        "ir has another aspect ratio than rgb",
        "folders that are no modality: fused",
        "some label files have coordinates that are not fractions of the image, like labels/train/0001.txt",
        "some label files cannot be read as numbers, like labels/train/0002.txt",
    ):
        assert words in doubts


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_a_fourth_channel_is_told_whatever_the_format(tmp_path, suffix):
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "labels/{}.txt", range(4))
    alpha = np.full((HEIGHT, WIDTH), 200, np.uint8)
    for file in [*(tmp_path / "set/visible").iterdir()]:
        image = cv2.imread(str(file))
        file.unlink()
        write(file.with_suffix(suffix), np.dstack([image, alpha]))
    _, made = drafted(tmp_path / "set", tmp_path / "out/r.yaml")
    assert made.doubts == ["images of rgb have a fourth channel, which is not used"]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["a.txt"], "there is no image in"),
        (["rgb/1.png", "rgb/2.png"], r"no pairs were found in .* Folders with images: rgb \(2\)"),
        (["rgb/1.png", "ir/2.png"], "no pairs were found in"),
        (["rgb/1.png", "ir/1.png"], r"1 pairs were found in .*, but no labels: .*\(1.txt for rgb/1.png\)"),
        (
            ["rgb/1.png", "ir/1.png", "labels/1.txt"],
            "there is only one pair in .*: training and validation need one each",
        ),
    ],
)
def test_what_cannot_be_drafted_is_refused_with_what_is_there(tmp_path, places, words):
    for number, place in enumerate(places):
        write(tmp_path / "set" / place, BOX if place.endswith(".txt") else colour(number))
    with pytest.raises(DatasetError, match=words):
        draft([tmp_path / "set"], tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "{}.txt", "text files of that name in labels, but they are all empty"),
        (BOX, "{}.TXT", "but they end in .TXT: rename them to .txt"),
        ("0 0.5 0.5 0.2 0.2 0.9\n", "{}.txt", "have 6 columns, .* with a confidence"),
        ("0 .5 .5 .2 .2 .4 .4 2 .5 .5 1\n", "{}.txt", "hold keypoints: for the task pose"),
        ("0 10 10 5 5\n", "{}.txt", "have coordinates that are not fractions of the image"),
    ],
)
def test_text_files_that_are_no_labels_are_told_with_the_reason(tmp_path, text, name, words):
    write_pairs(tmp_path / "set", "rgb/{}.png", "ir/{}.png", f"labels/{name}", range(4), text)
    with pytest.raises(DatasetError, match=words):
        draft([tmp_path / "set"], tmp_path / "r.yaml")


def test_folders_that_are_none_or_lie_in_each_other_are_refused(tmp_path):
    write(tmp_path / "set/rgb/1.png", colour(1))
    with pytest.raises(DatasetError, match="nowhere is not a folder"):
        draft([tmp_path / "nowhere"], tmp_path / "r.yaml")
    with pytest.raises(DatasetError, match="lies in"):
        draft([tmp_path / "set", tmp_path / "set/rgb"], tmp_path / "r.yaml")


def with_names(root: Path, files: dict[str, str | bytes]) -> tuple[dict[int, str], str]:
    """Write pairs and files of class names, and return the drafted names and doubts."""
    write_pairs(root / "set", "visible/{}.png", "infrared/{}.png", "labels/{}.txt", range(4))
    for name, content in files.items():
        write(root / "set" / name, content)
    content, made = drafted(root / "set", root / "out/r.yaml")
    return content["data"]["names"], "\n".join(made.doubts)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data.yaml", "names: [a, b]\nnames: [c, d]\n", "the key 'names' is given twice, in lines 1 and 2"),
        ("data.yaml", "names: [yes, no]\n", "names: 0 is True: YAML reads yes, no"),
        ("data.yaml", "names: [car, null]\n", "YAML reads null"),
        ("data.yaml", "names: car\n", "names='car' must be a list"),
        ("data.yaml", "names: 2\n", "names=2 must be a list"),
        ("data.yaml", "names: {1: person, 2: car}\n", r"names has the numbers \[1, 2\]: they must run from 0 to 1"),
        ("data.yaml", "names: [a, b]\n".encode("utf-16"), "data.yaml is not valid YAML: 'utf-8' codec"),
        ("data.yaml", "names: [a]\n", "only 1 for 2 classes"),
        ("classes.txt", "car\ncar\n", "names holds car more than once"),
        ("classes.txt", "0 car\n1 car\n", "names holds car more than once"),
        ("classes.txt", "человек\nмашина\n".encode("cp1251"), r"classes.txt cannot be read \('utf-8' codec"),
        ("classes.txt", "car\nvan\n".encode("utf-16"), r"classes.txt cannot be read \('utf-8' codec"),
        ("classes.txt", "car\nvan\n".encode("utf-16-le"), "they are not UTF-8 text"),
    ],
)
def test_a_file_of_class_names_that_is_not_used_is_told_with_the_reason(tmp_path, name, content, reason):
    names, doubts = with_names(tmp_path, {name: content})
    assert names == {0: "class_0", 1: "class_1"}
    assert re.search(f"class names in {name} are not used: .*{reason}", doubts)


def test_the_next_file_of_class_names_is_used_and_files_about_other_things_are_not_told(tmp_path):
    files = {"calibration.yaml": "%YAML:1.0\n---\nK: !!opencv-matrix\n", "data.yaml": "names: [yes, no]\n"}
    names, doubts = with_names(tmp_path, {**files, "empty.yaml": "names: []\n", "labels/classes.txt": "car\nvan\n"})
    assert names == {0: "car", 1: "van"}
    assert "data.yaml" in doubts and "calibration.yaml" not in doubts and "empty.yaml" not in doubts


def test_of_many_unused_files_of_class_names_some_are_told(tmp_path):
    _, doubts = with_names(tmp_path, {f"clip{number}/labels.txt": "x\nx\n" for number in range(9)})
    assert "clip2/labels.txt" in doubts and "clip3/labels.txt" not in doubts
    assert "class names in 6 more files are not used either" in doubts


@pytest.mark.parametrize("quote", ["", "'"])
def test_class_names_are_in_the_order_of_their_numbers(tmp_path, quote):
    numbers = [0, 1, 10, 11, *range(2, 10)]
    text = "".join(f"  {quote}{number}{quote}: name {number}\n" for number in numbers[::-1])
    names, doubts = with_names(tmp_path, {"data.yaml": f"names:\n{text}"})
    assert names == {number: f"name {number}" for number in range(12)} and not doubts


# What is to be converted ---------------------------------------------------------------------------------------------

PUBLISHED = {
    "dronevehicle": ["train/trainimg/1.jpg", "train/trainimgr/1.jpg", "train/trainlabel/1.xml"],
    "llvip": ["visible/train/1.jpg", "infrared/train/1.jpg", "visible/test/2.jpg", "Annotations/1.xml"],
    "flir": ["align/JPEGImages/FLIR_1_RGB.jpg", "align/Annotations/FLIR_1_PreviewData.xml", "align/align_train.txt"],
    "kaist": ["set00/V000/visible/I00001.jpg", "set00/V000/lwir/I00001.jpg", "annotations/set00/V000/I00001.txt"],
    "m3fd": ["Vis/1.png", "Ir/1.png", "Annotation/1.xml"],
    "vedai": ["Vehicules512/1_co.png", "Vehicules512/1_ir.png", "Annotations512/1.txt"],
}


@pytest.mark.parametrize("below", ["", "archive/inner"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_set_as_published_is_to_be_converted(tmp_path, name, below):
    root = tmp_path / "my set"
    for place in PUBLISHED[name]:
        content = "person 1 2 3 4 0\n" if place.endswith((".txt", ".xml")) else colour(1)
        write(root / below / place, content)
    made = draft([root], tmp_path / "r.yaml")
    assert isinstance(made, Known) and made.title.endswith("as published")
    *words, source, target = shlex.split(made.command)
    assert words == ["mwam-det", "convert", name] and target == "datasets/my-set"
    assert Path(source) == root / below


def test_a_published_set_whose_labels_were_converted_gets_a_recipe(tmp_path):
    by_split(tmp_path / "set", "visible/SPLIT/{}.png", "infrared/SPLIT/{}.png", "labels/SPLIT/{}.txt")
    write(tmp_path / "set/Annotations/0001.xml", "<annotation/>")
    check(tmp_path / "set", tmp_path / "out/r.yaml")


def convert_command(folders) -> list[str]:
    made = draft(folders, Path("r.yaml"))
    assert isinstance(made, Known) and "COCO" in made.title
    return shlex.split(made.command)


def coco_json(names) -> str:
    import json

    images = [{"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in enumerate(names)]
    things = [{"image_id": n, "category_id": 1, "bbox": [5, 5, 10, 10]} for n in range(len(names))]
    return json.dumps({"images": images, "annotations": things, "categories": [{"id": 1, "name": "car"}]})


def test_an_export_of_roboflow_in_coco_is_converted_by_the_command_that_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, numbers in (("train", range(4)), ("valid", range(4, 6))):
        for tool, picture, digest in (("rgb.v1", colour, "a"), ("thermal.v1", grey, "b")):
            names = [f"{number:04}_jpg.rf.{digest}{number}.png" for number in numbers]
            for number, name in zip(numbers, names, strict=True):
                write(tmp_path / tool / split / name, picture(number))
            write(tmp_path / tool / split / "_annotations.coco.json", coco_json(names))
    words = convert_command([tmp_path / "rgb.v1", tmp_path / "thermal.v1"])
    assert main(words[1:]) == 0
    folder = Path(words[4])
    assert folder == tmp_path.with_name(f"{tmp_path.name}-converted")
    assert len(list((folder / "infrared/train").iterdir())) == 4
    assert len(list((folder / "infrared/val").iterdir())) == 2


@pytest.mark.parametrize("name", ["instances_default.json", "all of them.json"])
def test_an_export_of_cvat_in_coco_is_converted_by_the_command_that_is_shown(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "set", "rgb/{}.png", "ir/{}.png", None, range(6))
    names = [f"{number:04}.png" for number in range(6)]
    write(tmp_path / "set/annotations" / name, coco_json(names))
    words = convert_command([tmp_path / "set"])
    assert main(words[1:]) == 0
    assert len(list((Path(words[4]) / "visible/train").iterdir())) == 5


def test_annotations_that_nothing_here_reads_are_named_with_what_to_do(tmp_path):
    for name, place, title in (
        ("a", "annotations.xml", "CVAT for images"),
        ("b", "labels/0001.xml", "PASCAL VOC"),
        ("b2", "xml/0002.xml", "PASCAL VOC"),
        ("c", "visible/0001.json", "labelme"),
    ):
        write_pairs(tmp_path / name, "visible/{}.png", "infrared/{}.png", None, range(3))
        write(tmp_path / name / place, "<annotations/>")
        made = draft([tmp_path / name], tmp_path / "r.yaml")
        assert isinstance(made, Known) and title in made.title and not made.command and made.advice


# The documentation ----------------------------------------------------------------------------------------------------


def documented() -> list[tuple[list[str], str]]:
    """The places and the outcome of every example in the table of what is recognised."""
    text = (Path(__file__).parents[3] / "docs/own-data.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and line.count("|") == 4
    ]
    rows = [row for row in rows if row[2].startswith(("a recipe", "`convert", "a word on"))]
    assert len(rows) > 20
    return [(re.findall("`(.+?)`", example), row[2]) for row in rows for example in row[1].split(", ")]


@pytest.mark.parametrize(("places", "outcome"), documented())
def test_what_the_documentation_says_is_recognised(tmp_path, places, outcome):
    label = BOX if outcome.startswith("a recipe") else "person 1 2 3 4 0\n"
    for number in range(1, 7):  # the example is of one pair; a set has more, other splits, clips and classes too
        changes = {"train": "val", "V000": "V001"} if number > 4 else {}
        changes |= {"/car/": "/van/"} if number % 2 else {}
        for place in places:
            if place in ("train.txt", "val.txt"):
                write(tmp_path / "set" / place, "5\n6\n" if place == "val.txt" else "1\n2\n3\n4\n")
                continue
            place = re.sub(r"(?<![0-9a-zA-Z])(I0000)?1(?=[._])", rf"\g<1>{number}", place)
            for word, other in changes.items():
                place = place.replace(word, other)
            is_second = re.search(r"(?i)ir\b|ir_|infrared|thermal|lwir|imgr|cam1|depth", place)
            picture = grey(number) % 4 if "masks" in place else grey(number) if is_second else colour(number)
            others = {".txt": label, ".xml": "<annotation/>", ".json": coco_json([])}
            write(tmp_path / "set" / place, others.get(Path(place).suffix, picture))
    made = draft([tmp_path / "set"], tmp_path / "out/r.yaml")
    if not outcome.startswith("a recipe"):
        assert isinstance(made, Known), made
        assert shlex.split(made.command)[1:3] == (outcome.strip("`").split() if outcome.startswith("`") else [])
        return
    content, made = drafted(tmp_path / "set", tmp_path / "out/r.yaml")
    tasks = {"classification": "classify", "segmentation": "semantic"}
    assert content["task"] == next((task for word, task in tasks.items() if word in outcome), "detect")
    data = resolve_dataset(load(tmp_path / "out/r.yaml").recipe.data).as_dict()
    args = get_cfg(overrides={"imgsz": WIDTH, "task": content["task"]})
    sets = [build_paired_dataset(args, data[s], 2, data, "val", rect=False, stride=32) for s in ("train", "val")]
    assert sum(map(len, sets)) == 6 and min(map(len, sets)) >= 1
    assert bool(made.lists) or "drawn" not in outcome


# The command ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_a_recipe_that_trains_and_nothing_else(tmp_path, monkeypatch, capsys):
    root = tmp_path / "data/night #1"
    write_pairs(root, "visible/{}.png", "infrared/{}.png", "labels/{}.txt", range(8))
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert main(["init", str(root)]) == 0
    said = capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before
    assert sorted(file.name for file in Path().iterdir()) == ["night-1-train.txt", "night-1-val.txt", "night-1.yaml"]
    assert shlex.split(said.splitlines()[-1]) == ["mwam-det", "train", "night-1.yaml"]
    trainer = train_recipe(Path("night-1.yaml"), tmp_path / "runs")
    assert (len(trainer.train_loader.dataset), len(trainer.test_loader.dataset)) == (6, 2)


def test_the_command_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "labels/{}.txt", range(4))
    write(tmp_path / "set-val.txt", "mine")
    assert main(["init", "set"]) == 2
    assert "set-val.txt exists, and nothing is overwritten" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set", "set-val.txt"]
    assert main(["init", "set", "--out", "recipes/new.yaml"]) == 0
    assert sorted(file.name for file in (tmp_path / "recipes").iterdir()) == [
        *("new-train.txt", "new-val.txt", "new.yaml"),
    ]
    assert main(["init", "set", "--out", "new.txt"]) == 2


@pytest.mark.parametrize("name", ["set-train.txt", "set-val.txt", "set.yaml"])
def test_a_command_that_is_killed_leaves_no_recipe_without_its_lists_and_can_be_repeated(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "set", "visible/{}.png", "infrared/{}.png", "labels/{}.txt", range(4))
    replace = os.replace

    def kill(source, target):
        if Path(target).name == name:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        assert main(["init", "set"]) == 130
    assert not Path("set.yaml").exists()
    assert main(["init", "set"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set", "set-train.txt", "set-val.txt", "set.yaml"]


def test_the_command_points_to_convert(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place in PUBLISHED["m3fd"]:
        write(tmp_path / "set" / place, "<annotation/>" if place.endswith(".xml") else colour(1))
    assert main(["init", "set"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "This is M3FD as published. Convert it:"
    assert said[1].startswith("mwam-det convert m3fd ")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set"]


def test_names_that_no_recipe_can_hold_are_refused_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        write_pairs(tmp_path / "set", "rgb/{}.png", "ir/{}.png", "labels/{}.txt", range(3), names="\udcff{}")
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system takes no such names")
    assert main(["init", "set"]) == 2
    assert "a name is in no encoding" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["set"]
