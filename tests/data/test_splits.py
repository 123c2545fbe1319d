"""What train, val and test may say: folders, lists of images, images."""

import cv2
import numpy as np
import pytest
from ultralytics.cfg import get_cfg

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.crops import cut_objects
from mwam_det.data.errors import DatasetError
from mwam_det.data.paired_data import PairedData, check_labels, save_dataset_yaml
from mwam_det.data.section import resolve_dataset

NUMBERS = {"train": (0, 1, 2), "val": (3, 4)}


def write_pair(root, place: str, number: int, folders=("visible", "infrared"), labels="labels", ending=("", "")):
    """Write a pair whose images have the values `number` and 100 + `number`, and a box as high as that in percent."""
    for folder, value, end in zip(folders, (number, 100 + number), ending, strict=True):
        file = root / folder / f"{place}{end}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((48, 64, 3), value, np.uint8))
    file = root / labels / f"{place}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"0 0.5 0.5 0.5 {(10 + number) / 100}\n")


@pytest.fixture
def root(tmp_path):
    """A set with folders of splits."""
    for split, numbers in NUMBERS.items():
        for number in numbers:
            write_pair(tmp_path / "set", f"{split}/{number:04}", number)
    return tmp_path / "set"


def resolved(root, **changes) -> dict:
    section = {"path": str(root), "modalities": {"rgb": "visible", "ir": "infrared"}, "labels": "labels"}
    return resolve_dataset({**section, "train": "train", "val": "val", "names": ["person"], **changes}).as_dict()


def build(data, split="train", mode="val"):
    args = get_cfg(overrides={"imgsz": 64})
    return build_paired_dataset(args, data[split], 4, data, mode, rect=False, stride=32)


def check(data, expected, split="train") -> None:
    """Check which pairs a split has, each with its partner and its own label."""
    dataset = build(data, split)
    numbers = []
    for i in range(len(dataset)):
        pixels = dataset[i]["img"][:, 32, 32].tolist()
        assert pixels[3:] == [100 + pixels[0]] * 3
        assert dataset.labels[i]["bboxes"][0, 3] == pytest.approx((10 + pixels[0]) / 100)
        numbers.append(pixels[0])
    assert sorted(numbers) == sorted(expected)


def write_list(file, lines) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


ENTRIES = {
    "absolute paths": "{root}/visible/train/{number:04}.png",
    "paths below the dataset": "visible/train/{number:04}.png",
    "paths beside the list": "./train/{number:04}.png",
    "paths below the folder of the modality": "train/{number:04}.png",
    "paths of another machine": "/home/ann/LLVIP/visible/train/{number:04}.jpg",
    "paths of Windows": "C:\\sets\\visible\\train\\{number:04}.png",
    "paths of the other modality": "infrared/train/{number:04}.png",
    "stems": "train/{number:04}",
    "bare stems": "{number:04}",
    "bare names": "{number:04}.png",
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("place", ["set/train.txt", "set/visible/train.txt", "lists/train.txt"])
def test_a_list_names_the_pairs_of_a_split(root, place, entry):
    if "./" in entry and "visible" not in place:
        entry = "visible/" + entry.removeprefix("./")
    file = write_list(root.parent / place, [entry.format(root=root, number=number) for number in (0, 2)])
    check(resolved(root, train=file if "lists" in place else "train.txt"), [0, 2])


def test_lists_of_train_and_val_in_the_same_folders_are_apart(root):
    write_list(root / "a.txt", ["train/0000", "val/0004"])
    write_list(root / "b.txt", ["train/0001"])
    data = resolved(root, train="a.txt", val="b.txt")
    for _ in range(2):  # scanned, and from the cache
        check(data, [0, 4])
        check(data, [1], "val")
    assert data["train"] == str(root / "a.txt")


def test_a_list_has_a_byte_order_mark_empty_lines_and_repetitions(root):
    (root / "a.txt").write_bytes("\ufefftrain/0000\r\n\r\n  train/0001  \r\ntrain/0000.png\r\n".encode())
    check(resolved(root, train="a.txt"), [0, 1])


def test_a_list_in_the_working_directory_is_found(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    write_list(root.parent / "mine.txt", ["train/0001"])
    check(resolved(root, train="mine.txt"), [1])


def test_several_folders_are_one_split(root):
    check(resolved(root, train=["train", "val"]), range(5))
    write_list(root / "a.txt", ["val/0003"])
    check(resolved(root, train=["train", "a.txt", "val/0004.png"]), range(5))
    check(resolved(root, train=["train", "train"]), [0, 1, 2])


def test_images_may_be_listed_in_the_section(root):
    check(resolved(root, train=["train/0001.png", "train/0002.png"]), [1, 2])
    check(resolved(root, train="train/0001.png"), [1])
    five = [f"{split}/{number:04}.png" for split, numbers in NUMBERS.items() for number in numbers]
    assert resolved(root, train=five)["train"] != resolved(root, train=five[:4])["train"]


def test_a_folder_without_splits_is_train_and_val_and_that_is_told(tmp_path, caplog):
    for number in range(3):
        write_pair(tmp_path / "flat", f"{number:04}", number)
    data = resolved(tmp_path / "flat", train=".", val=".")
    check(data, range(3))
    assert not [record for record in caplog.records if "also in train" in record.message]
    build(data, mode="train")
    assert [record.levelname for record in caplog.records if "3 of 3 pairs of val are also in train" in record.message]


def test_pairs_of_val_that_are_in_train_too_are_counted(root, caplog):
    build(resolved(root, train=["train", "val/0004.png"]), mode="train")
    assert [record.message for record in caplog.records if "1 of 2 pairs of val are also in train" in record.message]


def test_a_folder_without_splits_is_divided_by_lists(tmp_path):
    for number in range(3):
        write_pair(tmp_path / "flat", f"{number:04}", number)
    write_list(tmp_path / "train.txt", ["0000", "0002"])
    write_list(tmp_path / "val.txt", ["0001"])
    data = resolved(tmp_path / "flat", train=str(tmp_path / "train.txt"), val=str(tmp_path / "val.txt"))
    check(data, [0, 2])
    check(data, [1], "val")


def test_a_list_finds_images_below_folders_of_splits(tmp_path):
    folders = {"modalities": {"rgb": "{split}/rgb", "ir": "{split}/ir"}, "labels": "{split}/labels"}
    for split, numbers in NUMBERS.items():
        for number in numbers:
            write_pair(tmp_path / "set" / split, f"{number:04}", number, ("rgb", "ir"))
    write_list(tmp_path / "set/a.txt", ["train/rgb/0001.png", str(tmp_path / "set/val/rgb/0003.png"), "0004"])
    check(resolved(tmp_path / "set", **folders, train="a.txt"), [1, 3, 4])


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_name_that_each_split_has_is_that_of_neither_unless_its_path_tells(tmp_path, split):
    folders = {"modalities": {"rgb": "{split}/rgb", "ir": "{split}/ir"}, "labels": "{split}/labels"}
    for place in ("train", "val"):
        for number in range(2):
            write_pair(tmp_path / "set" / place, f"{number:04}", number, ("rgb", "ir"))
    for names in (["0000", "0001"], ["0000.png", "0001.png"]):
        write_list(tmp_path / "set/a.txt", names)
        with pytest.raises(DatasetError, match="2 of 2 entries of .*a.txt name no image, or several, of rgb"):
            build(resolved(tmp_path / "set", **folders, train="a.txt"))
    write_list(tmp_path / "set/a.txt", [f"/data/set/{split}/rgb/0000.png", f"D:\\x\\{split}\\rgb\\0001.png"])
    files = build(resolved(tmp_path / "set", **folders, train="a.txt")).im_files
    assert files == [str(tmp_path / f"set/{split}/rgb/{number:04}.png") for number in range(2)]


def test_a_path_of_another_machine_names_no_image_of_another_split_in_whatever_case(root):
    write_list(root / "a.txt", [f"D:\\set\\Train\\{number:04}.png" for number in range(5)])
    check(resolved(root, train="a.txt"), [0, 1, 2])


def test_of_several_splits_in_a_path_the_innermost_counts(root):
    write_list(
        root / "a.txt", ["/exp/val/set/train/0003.png", "/exp/val/set/train/0001.png", "/exp/train/set/val/0004"]
    )
    check(resolved(root, train="a.txt"), [1, 4])


def test_a_list_may_end_in_capitals(root):
    write_list(root / "A.TXT", ["train/0001"])
    check(resolved(root, train="A.TXT"), [1])


def test_a_list_names_images_with_suffixes_by_their_stems_or_by_what_they_share(tmp_path):
    for number in range(4):
        write_pair(tmp_path, f"{number:04}", number, ("images", "images"), ending=("_co", "_ir"))
    write_list(tmp_path / "a.txt", ["0000", "0001_co", "images/0003_co.png"])
    changes = {"modalities": {"rgb": "images", "ir": "images"}, "suffix": {"rgb": "_co", "ir": "_ir"}}
    check(resolved(tmp_path, **changes, train="a.txt", val="."), [0, 1, 3])


def test_entries_that_name_no_image_are_counted_and_one_is_shown(root, caplog):
    write_list(root / "a.txt", ["train/0000", "train/0009", "nothing.png"])
    check(resolved(root, train="a.txt"), [0])
    (message,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert (
        f"2 of 3 entries of {root / 'a.txt'} name no image, or several, of rgb in {root / 'visible'}, like 'train/0009'"
        in message
    )


def test_a_name_that_several_images_have_is_no_entry(root):
    write_pair(root, "val/0000", 9)
    write_list(root / "a.txt", ["0000", "train/0001"])
    check(resolved(root, train="a.txt"), [1])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ["x/0009.png"],
            "1 of 1 entries of .* name no image, or several, of rgb in .*, like 'x/0009.png'; there is .*0000.png",
        ),
        (b"", "a.txt is empty: it must name images of rgb, one per line"),
        (b" \r\n\r\n", "a.txt is empty"),
        (b"\xff\xfe\x00", "a.txt cannot be read as a list of images"),
    ],
)
def test_a_list_that_names_nothing_is_refused(root, lines, words):
    (root / "a.txt").write_bytes(lines) if isinstance(lines, bytes) else write_list(root / "a.txt", lines)
    with pytest.raises(DatasetError, match=words):
        build(resolved(root, train="a.txt"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere.txt", "train: there is no list of images nowhere.txt: looked for .*/set/nowhere.txt, .*/visible/now"),
        (["train", None], "train: None must name a folder, a text file that lists images, or an image"),
        ([True], "train: True must name a folder"),
        ({"a": 1}, "train: {'a': 1} must name a folder"),
        (["train", "trian"], "the folder of rgb \\(train\\) is missing: .*visible/trian"),
        ([], "the key 'train' is missing or empty: name a folder, or . if there are no folders of splits"),
    ],
)
def test_a_split_that_is_none_is_refused_with_what_was_looked_for(root, value, words):
    with pytest.raises(DatasetError, match=words):
        resolved(root, train=value)


def test_images_without_a_folder_of_their_split_are_told_with_the_way_to_name_them(tmp_path):
    write_pair(tmp_path / "flat", "0000", 0)
    with pytest.raises(
        DatasetError, match=r"images like 0000.png: for a folder without splits, write \. for the split"
    ):
        resolved(tmp_path / "flat")


def test_what_a_list_says_survives_saving(root, tmp_path):
    write_list(root / "a.txt", ["train/0000"])
    data = resolved(root, train=["val", "a.txt"])
    saved = resolve_dataset(save_dataset_yaml(data, tmp_path / "run"))
    assert saved.as_dict() == data
    check_labels(saved, "detect")
    check(saved.as_dict(), [0, 3, 4])


def test_stems_of_several_folders_are_apart(root, tmp_path):
    write_pair(root, "val/0000", 9)
    data = resolved(root, train=["train", "val"])
    dataset = build(data)
    assert sorted(dataset.stem(file) for file in dataset.im_files) == [
        *("train/0000", "train/0001", "train/0002"),
        *("val/0000", "val/0003", "val/0004"),
    ]
    counts = cut_objects(PairedData.from_dict(data), tmp_path / "crops", smallest=1)
    assert counts["train"].total() == 6


def test_classes_of_listed_images_are_the_folders_that_are_called_like_them(tmp_path):
    for split in ("train", "val"):
        for place, number in ((f"{split}/car/1", 1), (f"{split}/van/2", 2)):
            write_pair(tmp_path, place, number)
    write_list(tmp_path / "a.txt", ["train/car/1", "val/van/2"])
    section = {"path": str(tmp_path), "modalities": {"rgb": "visible", "ir": "infrared"}, "val": "val"}
    data = resolve_dataset({**section, "train": "a.txt", "names": ["car", "van"]}).as_dict()
    args = get_cfg(overrides={"imgsz": 64, "task": "classify"})
    dataset = build_paired_dataset(args, data["train"], 2, data, "val", rect=False, stride=32)
    assert [label["cls"].item() for label in dataset.labels] == [0, 1]
    with pytest.raises(DatasetError, match="the key 'names' is missing or empty: it is required"):
        resolve_dataset({**section, "train": "a.txt"})
    both = resolve_dataset({**section, "train": ["train", "val"]}).as_dict()
    assert both["names"] == {0: "car", 1: "van"}
