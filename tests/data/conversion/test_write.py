import errno
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from ultralytics.utils.patches import imread

from mwam_det.data.conversion import write as writing
from mwam_det.data.conversion.labels import fit_labels
from mwam_det.data.conversion.model import ConversionError, Format, Label, Report, SourcePair
from mwam_det.data.conversion.offers import Option
from mwam_det.data.conversion.record import RECORD, UNFINISHED, Claim, summary
from mwam_det.data.conversion.untrusted import files_by_stem, inside, number
from mwam_det.data.conversion.write import convert
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load
from mwam_det.files.locks import LOCK, FolderInUse, Hold

SIZE = (24, 40)
COLOUR = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
EXIF_ORIENTATION, TURNED_RIGHT = 274, 6
BOX = Label(0, ((4, 6), (24, 18)))
CLASSES = ("person", "car")


def write(file: Path, image: np.ndarray = COLOUR) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(cv2.imencode(file.suffix.lower(), image)[1].tobytes())
    return file


def huge_png(side: int = 100_000) -> bytes:
    """A few bytes that claim to be a square image."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def state(folder: Path) -> dict:
    """Content and time of change of all files below a folder; the names of folders, too."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def toy(labels=(BOX,), split=lambda stem: "val" if stem.endswith("v") else "train", **changes) -> Format:
    """A format whose source has the folders rgb and ir."""

    def read(source, options, report):
        if not (source / "rgb").is_dir():
            raise ConversionError(f"{source} is no toy: there is no folder rgb in it")
        for file in sorted((source / "rgb").iterdir()):
            yield SourcePair(split(file.stem), file.stem, {"rgb": file, "ir": source / "ir" / file.name}, labels)

    fixed = {"name": "toy", "title": "toys", "modalities": {"rgb": "visible", "ir": "infrared"}, "read": read}
    return Format(**{**fixed, "classes": CLASSES, **changes})


@pytest.fixture
def source(tmp_path) -> Path:
    """Three pairs to train with and one to validate with."""
    for i, stem in enumerate(("a", "b", "c", "dv")):
        for folder, image in (("rgb", COLOUR), ("ir", 255 - COLOUR)):
            write(tmp_path / "source" / folder / f"{stem}.png", np.roll(image, i, 0))
    return tmp_path / "source"


@pytest.fixture
def destination(tmp_path) -> Path:
    return tmp_path / "converted"


# The result ----------------------------------------------------------------------------------------------------------


def test_a_finished_conversion_has_pairs_labels_and_a_record_and_leaves_the_source_as_it_was(source, destination):
    before = state(source)
    record = convert(toy(), source, destination)
    assert state(source) == before
    stems = ("train/a", "train/b", "train/c", "val/dv")
    expected = [f"{folder}/{stem}.png" for folder in ("visible", "infrared") for stem in stems]
    expected += [f"labels/{stem}.txt" for stem in stems]
    assert files(destination) == sorted([*expected, RECORD, "recipe.yaml"])
    assert (destination / "labels/val/dv.txt").read_text() == "0 0.3500000 0.5000000 0.5000000 0.5000000\n"
    assert record["splits"] == {
        "train": {"pairs": 3, "boxes": {"person": 3, "car": 0}},
        "val": {"pairs": 1, "boxes": {"person": 1, "car": 0}},
    }
    assert (record["left_out"], record["notes"]) == ({}, [])
    assert json.loads((destination / RECORD).read_text(encoding="utf-8")) == record
    assert (record["format"], record["source"], record["options"]) == ("toy", str(source), {})


def test_labels_come_back_to_half_a_pixel(source, destination):
    rng = np.random.default_rng(3)
    corners = np.sort(rng.uniform(0, [40, 24], (50, 2, 2)), 1)
    corners[:, 1] = np.minimum(corners[:, 1] + 1.5, [40, 24])
    convert(toy([Label(1, tuple(map(tuple, box))) for box in corners]), source, destination)
    read = np.loadtxt(destination / "labels/train/a.txt")
    centre, sides = read[:, 1:3] * [40, 24], read[:, 3:] * [40, 24]
    assert np.abs(np.stack([centre - sides / 2, centre + sides / 2], 1) - corners).max() < 0.001
    assert (read[:, 0] == 1).all()


def test_outlines_go_to_a_folder_of_their_own_and_boxes_are_written_with_four_corners(source, destination):
    diamond = Label(1, ((20, 4), (30, 12), (20, 20), (10, 12)))
    convert(toy([BOX, diamond], outlines="labels_obb"), source, destination)
    outlines = np.loadtxt(destination / "labels_obb/train/a.txt")
    assert np.allclose(outlines[0, 1:].reshape(4, 2) * [40, 24], [(4, 6), (24, 6), (24, 18), (4, 18)], atol=1e-4)
    assert np.allclose(outlines[1, 1:].reshape(4, 2) * [40, 24], diamond.points, atol=1e-4)
    boxes = np.loadtxt(destination / "labels/train/a.txt")
    assert np.allclose(boxes[1, 1:] * [40, 24, 40, 24], [20, 12, 20, 16], atol=1e-4)


def test_a_pair_without_objects_has_an_empty_label_file(source, destination):
    assert convert(toy([]), source, destination)["splits"]["train"]["pairs"] == 3
    assert (destination / "labels/train/a.txt").read_bytes() == b""


def test_images_are_hard_links(source, destination):
    convert(toy(), source, destination)
    assert (destination / "visible/train/a.png").stat().st_ino == (source / "rgb/a.png").stat().st_ino


def test_images_are_copied_where_links_are_not_possible(source, destination, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    convert(toy(), source, destination)
    copy, original = destination / "visible/train/a.png", source / "rgb/a.png"
    assert copy.stat().st_ino != original.stat().st_ino
    assert copy.read_bytes() == original.read_bytes()


def test_of_a_cropped_set_a_part_of_every_image_is_written_and_labels_move_with_it(source, destination):
    before = state(source)
    convert(toy(crop=(2, 22, 4, 36)), source, destination)
    assert state(source) == before
    for folder, part in (("visible", "rgb"), ("infrared", "ir")):
        whole = cv2.imread(str(source / part / "b.png"))
        assert np.array_equal(cv2.imread(str(destination / folder / "train/b.png")), whole[2:22, 4:36])
    box = np.loadtxt(destination / "labels/train/a.txt")[1:] * [32, 20, 32, 20]
    assert np.allclose(box, [14 - 4, 12 - 2, 20, 12], atol=1e-4)


def test_cropping_keeps_16_bits_and_one_channel(source, destination):
    deep = np.random.default_rng(1).integers(0, 65536, SIZE, np.uint16)
    write(source / "ir" / "a.png", deep)
    convert(toy(crop=(2, 22, 4, 36)), source, destination)
    read = cv2.imread(str(destination / "infrared/train/a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    assert np.array_equal(read, deep[2:22, 4:36])


@pytest.mark.parametrize("crop", [None, (2, 22, 4, 36)])
def test_float_images_are_taken_over_and_the_user_is_told_what_training_needs(source, destination, crop):
    kelvin = np.random.default_rng(1).uniform(270, 310, SIZE).astype(np.float32)
    (source / "ir" / "a.png").unlink()
    images = {"rgb": source / "rgb" / "a.png", "ir": write(source / "ir" / "a.tif", kelvin)}
    samples = [SourcePair(split, "a", images, [BOX]) for split in ("train", "val")]
    record = convert(toy(read=lambda *_: samples, crop=crop), source, destination)
    read = cv2.imread(str(destination / "infrared/train/a.tif"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, kelvin if crop is None else kelvin[2:22, 4:36])
    assert record["doubts"] == [
        "2 ir images hold values that have no 8-bit reading: training needs the key 'range' for ir"
    ]


def test_a_truncated_float_image_is_left_out(source, destination):
    file = write(source / "ir" / "a.tif", np.random.default_rng(1).uniform(270, 310, SIZE).astype(np.float32))
    file.write_bytes(file.read_bytes()[:600])
    samples = [SourcePair("train", "a", {"rgb": source / "rgb" / "a.png", "ir": file})]
    with pytest.raises(ConversionError, match="no usable pair .* ir image unreadable"):
        convert(toy(read=lambda *_: samples), source, destination)


def test_what_is_cropped_is_the_image_as_training_reads_it_turned_by_exif(source, destination):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_RIGHT
    Image.fromarray(COLOUR).save(source / "rgb" / "a.png", exif=exif)
    convert(toy(crop=(0, 20, 0, 20)), source, destination)
    turned = imread(str(source / "rgb" / "a.png"))
    assert turned.shape[:2] == SIZE[::-1]
    assert np.array_equal(imread(str(destination / "visible/train/a.png")), turned[:20, :20])


def test_an_image_smaller_than_the_part_to_keep_is_left_out(source, destination):
    write(source / "rgb" / "a.png", COLOUR[:15])
    record = convert(toy(crop=(2, 22, 4, 36)), source, destination)
    reason = record["left_out"]["pair: rgb image smaller than the part to keep"]
    assert reason["count"] == 1
    assert "a.png (40×15)" in reason["examples"][0]


def test_the_crop_may_depend_on_the_options(source, destination):
    format_ = toy(
        options={"whole": Option(False, "keep all")}, crop=lambda options: None if options["whole"] else (0, 20, 0, 20)
    )
    convert(format_, source, destination / "part")
    convert(format_, source, destination / "whole", {"whole": True})
    assert cv2.imread(str(destination / "part/visible/train/a.png")).shape[:2] == (20, 20)
    assert cv2.imread(str(destination / "whole/visible/train/a.png")).shape[:2] == SIZE


def test_extras_are_taken_over_and_suffixes_become_lower_case(tmp_path, destination):
    image, mask = write(tmp_path / "s" / "1.PNG"), write(tmp_path / "s" / "mask.Png", COLOUR[..., 0])
    sample = SourcePair("train", "night/1", {"rgb": image, "ir": image}, [BOX], {"masks": mask})
    convert(toy(read=lambda *_: [sample]), tmp_path / "s", destination)
    assert (destination / "masks/train/night/1.png").read_bytes() == mask.read_bytes()
    assert (destination / "visible/train/night/1.png").read_bytes() == image.read_bytes()
    assert (destination / "labels/train/night/1.txt").is_file()


def test_files_that_a_format_hands_over_are_written_beside_the_record(source, destination):
    def read(folder, options, report):
        report.files["split.json"] = '{"seed": 3}\n'
        return toy().read(folder, options, report)

    convert(toy(read=read), source, destination)
    assert (destination / "split.json").read_text() == '{"seed": 3}\n'


def test_the_recipe_of_a_set_without_one_loads_and_its_folders_are_found(source, destination):
    convert(toy(classes=lambda folder, options: [folder.name, "größe: 1"]), source, destination)
    recipe = load(destination / "recipe.yaml").recipe
    assert recipe.data["names"] == {0: "source", 1: "größe: 1"}
    resolved = resolve_dataset(recipe.data).as_dict()
    assert list(resolved["splits"]) == ["train", "val"]


def test_a_set_with_a_recipe_of_its_own_gets_none(source, destination):
    convert(toy(recipe="toy.yaml"), source, destination)
    assert not (destination / "recipe.yaml").exists()


def test_the_recipe_names_no_split_without_pairs_and_the_user_is_told(source, destination):
    write(source / "rgb" / "dv.png", COLOUR[:5])
    record = convert(toy(), source, destination)
    assert record["splits"]["val"]["pairs"] == 0
    assert "val" not in load(destination / "recipe.yaml").recipe.data
    assert record["doubts"] == ["there is no pair for val: training needs both train and val"]


@pytest.mark.parametrize("expected", [{"train": 3, "val": 2}, lambda options: {"train": 3, "val": 2}])
def test_another_number_of_pairs_than_the_complete_set_has_is_told(source, destination, expected):
    record = convert(toy(expected=expected), source, destination)
    assert record["notes"] == ["val: 1 pairs, the complete set has 2"]


# What is left out ----------------------------------------------------------------------------------------------------


def broken(source: Path, damage: str) -> None:
    file = source / "ir" / "b.png"
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-200])
    elif damage == "huge":
        file.write_bytes(huge_png())
    elif damage == "text":
        file.write_bytes(b"this is no image " * 20)
    elif damage == "dangling link":
        file.unlink()
        file.symlink_to(source / "nowhere.png")
    elif damage == "folder":
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason", "example"),
    [
        ("missing", "pair: no ir image", "train/b"),
        ("dangling link", "pair: no ir image", "train/b"),
        ("folder", "pair: no ir image", "train/b"),
        ("truncated", "pair: ir image unreadable", "b.png"),
        ("huge", "pair: ir image unreadable", "100000×100000 pixels are more than"),
        ("text", "pair: ir image unreadable", "b.png"),
    ],
)
def test_a_pair_with_a_bad_image_is_left_out_with_its_reason_and_no_part_of_it_is_written(
    source, destination, damage, reason, example
):
    broken(source, damage)
    record = convert(toy(), source, destination)
    assert list(record["left_out"]) == [reason]
    assert record["left_out"][reason]["count"] == 1
    assert example in record["left_out"][reason]["examples"][0]
    assert record["splits"]["train"] == {"pairs": 2, "boxes": {"person": 2, "car": 0}}
    assert not [name for name in files(destination) if "/b." in name]


def test_an_image_that_training_would_not_find_is_left_out(source, destination):
    for folder in ("rgb", "ir"):
        (source / folder / "a.png").rename(source / folder / "a.ppm")
        (source / folder / "b.png").rename(source / folder / ".b.png")
    record = convert(toy(), source, destination)
    assert {reason: entry["examples"] for reason, entry in record["left_out"].items()} == {
        "pair: rgb image of a type that training does not read": [str(source / "rgb" / "a.ppm")],
        "pair: hidden by its name, training would not find it": ["train/.b"],
    }


def test_a_mask_that_is_no_image_leaves_its_pair_out(tmp_path, destination):
    image, secret = write(tmp_path / "s" / "1.png"), tmp_path / "secret"
    secret.write_text("a password")
    (tmp_path / "s" / "mask.png").symlink_to(secret)
    pairs = {"rgb": image, "ir": image}
    samples = [
        SourcePair("train", "1", pairs, (), {"masks": tmp_path / "s" / "mask.png"}),
        SourcePair("train", "2", pairs),
    ]
    record = convert(toy(read=lambda *_: samples), tmp_path / "s", destination)
    assert list(record["left_out"]) == ["pair: masks image unreadable"]
    assert not (destination / "masks").exists()


def test_a_link_in_the_source_to_an_image_elsewhere_is_followed(source, destination, tmp_path):
    elsewhere = write(tmp_path / "disk2" / "x.png")
    (source / "ir" / "a.png").unlink()
    (source / "ir" / "a.png").symlink_to(elsewhere)
    assert convert(toy(), source, destination)["splits"]["train"]["pairs"] == 3
    written = destination / "infrared/train/a.png"
    assert not written.is_symlink()
    assert written.read_bytes() == elsewhere.read_bytes()


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        (((4, 6), (24, 18)), ((4, 6), (24, 18))),
        (((24, 18), (4, 6)), ((24, 18), (4, 6))),  # in any order
        (((-5, -2), (15, 8)), ((0, 0), (15, 8))),
        (((30, 20), (49, 27)), ((30, 20), (40, 24))),
        (((-1e6, -1e6), (1e6, 1e6)), ((0, 0), (40, 24))),
        (((0, 0), (1, 1)), ((0, 0), (1, 1))),
        (((38, 10), (44, 16), (38, 22), (32, 16)), ((38, 10), (40, 16), (38, 22), (32, 16))),
    ],
)
def test_labels_are_clipped_to_the_image(points, kept):
    assert fit_labels([Label(1, points)], SIZE) == ([Label(1, kept)], [])


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (((-15, 2), (14, 8)), "box: centre outside of the image"),
        (((38, 2), (42, 8)), "box: centre outside of the image"),  # the border itself is outside
        (((2, 22), (8, 27)), "box: centre outside of the image"),
        (((100, 100), (110, 110)), "box: centre outside of the image"),
        (((4, 6), (4, 18)), "box: less than a pixel wide or high"),
        (((4, 6), (24, 6.9)), "box: less than a pixel wide or high"),
        (((-0.9, 6), (1.9, 18)), None),
        (((float("nan"), 6), (24, 18)), "box: no usable coordinates"),
        (((4, 6), (float("inf"), 18)), "box: no usable coordinates"),
        (((-1e9, -1e9), (1e9, 1e9)), "box: no usable coordinates"),
        (((4, 6),), "box: no usable coordinates"),
        ((), "box: no usable coordinates"),
    ],
)
def test_labels_that_are_no_box_in_the_image_are_dropped_with_a_reason(points, reason):
    kept, dropped = fit_labels([Label(0, points)], SIZE)
    assert dropped == ([] if reason is None else [reason])
    assert len(kept) == (reason is None)


def test_labels_are_shifted_by_the_corner_of_the_crop_before_they_are_judged():
    labels = [Label(0, ((100, 100), (110, 110))), Label(0, ((0, 0), (50, 50)))]
    kept, dropped = fit_labels(labels, SIZE, (95, 98))
    assert kept == [Label(0, ((5, 2), (15, 12)))]
    assert dropped == ["box: centre outside of the image"]


def test_dropped_labels_are_counted_in_the_record(source, destination):
    outside = Label(1, ((50, 50), (60, 60)))
    record = convert(toy([BOX, outside, outside]), source, destination)
    assert record["left_out"] == {
        "box: centre outside of the image": {"count": 8, "examples": ["train/a", "train/b", "train/c", "val/dv"]}
    }
    assert record["splits"]["train"]["boxes"] == {"person": 3, "car": 0}


def with_size(source: Path, size: tuple[int, int] | None, ir: np.ndarray = 255 - COLOUR, box: Label = BOX) -> Format:
    images = {"rgb": source / "rgb" / "a.png", "ir": write(source / "ir" / "a.png", ir)}
    samples = [SourcePair("train", "a", images, [box], size=size), SourcePair("val", "b", images, [BOX])]
    return toy(read=lambda *_: samples)


def test_labels_for_the_other_image_of_the_pair_are_normalised_by_its_size(source, destination):
    convert(with_size(source, (48, 80), np.zeros((48, 80), np.uint8)), source, destination)
    assert np.allclose(np.loadtxt(destination / "labels/train/a.txt")[1:] * [80, 48, 80, 48], [14, 12, 20, 12])
    assert np.allclose(np.loadtxt(destination / "labels/val/b.txt")[1:] * [40, 24, 40, 24], [14, 12, 20, 12])


def test_labels_for_an_image_before_it_was_turned_leave_the_pair_out(source, destination):
    record = convert(with_size(source, SIZE[::-1]), source, destination)
    reason = "pair: labelled before its image was rotated by 90°"
    assert record["left_out"] == {reason: {"count": 1, "examples": ["train/a (24×40 instead of 40×24)"]}}


LOW_BOX = Label(0, ((44, 26), (64, 38)))
"""A box that needs the room of an image twice as large."""


def test_labels_for_a_larger_copy_of_the_image_are_resized_with_it_and_this_is_told(source, destination):
    record = convert(with_size(source, (48, 80), box=LOW_BOX), source, destination)
    assert np.allclose(np.loadtxt(destination / "labels/train/a.txt")[1:] * [80, 48, 80, 48], [54, 32, 20, 12])
    assert record["notes"][0].startswith(
        "1 annotations state a size that none of their images has, for example train/a (80×48 instead of 40×24)"
    )
    assert not record["doubts"]


@pytest.mark.parametrize(
    ("size", "box", "doubt"),
    [
        ((48, 80), BOX, "but would fit the images as they are"),
        ((36, 60), LOW_BOX, "and labels reach beyond it"),
        ((12, 20), BOX, "and labels reach beyond it"),
        ((12, 20), Label(0, ((2, 3), (12, 9))), None),
    ],
)
def test_a_stated_size_that_labels_do_not_confirm_is_a_doubt(source, destination, size, box, doubt):
    doubts = convert(with_size(source, size, box=box), source, destination)["doubts"]
    assert [doubt in " ".join(doubts)] == [True] if doubt else doubts == []


def test_labels_that_may_be_for_either_of_two_sizes_are_a_doubt(source, destination):
    write(source / "ir" / "b.png", np.zeros((48, 80), np.uint8))
    record = convert(with_size(source, None, np.zeros((48, 80), np.uint8)), source, destination)
    assert record["doubts"] == [
        "the images of 2 of 2 pairs differ in size, and their annotations do not state which one the labels are for: "
        "the first modality was assumed"
    ]


def test_labels_for_an_image_of_another_shape_leave_the_pair_out(source, destination):
    record = convert(with_size(source, (512, 640)), source, destination)
    reason = "pair: labelled on an image of another shape"
    assert record["left_out"] == {reason: {"count": 1, "examples": ["train/a (640×512 instead of 40×24)"]}}


def test_an_image_that_an_older_one_has_replaced_is_written_again(source, destination, monkeypatch):
    monkeypatch.setattr(writing, "_compare", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(toy(), source, destination)
    monkeypatch.undo()
    old = next(source.rglob("a.png"))
    old.unlink()
    write(old, np.full((24, 40, 3), 77, np.uint8))
    os.utime(old, (1e9, 1e9))
    convert(toy(), source, destination)
    kept = {file.read_bytes() for file in destination.rglob("train/a.*")}
    assert old.read_bytes() in kept


def test_what_a_user_put_beside_an_unfinished_conversion_stays(source, destination, monkeypatch):
    monkeypatch.setattr(writing, "_compare", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(toy(), source, destination)
    monkeypatch.undo()
    (destination / "notes.txt").write_text("mine")
    convert(toy(), source, destination)
    assert (destination / "notes.txt").read_text() == "mine"


# Names and numbers of strangers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:\\x",
        "c:x",
        "\\x",
        "..\\x",
        "a\\..\\..\\x",
        "\\\\host\\x",
        "",
        ".",
        "a\0b",
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ConversionError, match="lies outside of it") as caught:
        inside(tmp_path, name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("x.jpg", "x.jpg"),
        ("a/b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("./a", "a"),
        ("a..b", "a..b"),
        ("12:30", "12:30"),
    ],
)
def test_a_name_in_the_folder_is_taken(tmp_path, name, path):
    assert inside(tmp_path, name) == tmp_path / path


@pytest.mark.parametrize("stem", ["../../x", "/x", "C:\\x", ""])
def test_a_stem_that_leaves_the_destination_is_refused_and_nothing_is_written(source, destination, stem):
    sample = SourcePair("train", stem, {"rgb": source / "rgb" / "a.png", "ir": source / "ir" / "a.png"})
    with pytest.raises(ConversionError, match="lies outside of it"):
        convert(toy(read=lambda *_: [sample]), source, destination)
    assert not destination.exists()


@pytest.mark.parametrize("other", ["a", "A"])
def test_two_samples_of_one_stem_are_refused_with_both_files(source, destination, other):
    files_ = [{"rgb": source / "rgb" / name, "ir": source / "ir" / name} for name in ("a.png", "b.png")]
    samples = [
        SourcePair("train", "a", files_[0]),
        SourcePair("val", other, files_[1]),
        SourcePair("train", other, files_[1]),
    ]
    with pytest.raises(ConversionError, match="would both be written to train") as caught:
        convert(toy(read=lambda *_: samples), source, destination)
    assert all(str(source / "rgb" / name) in str(caught.value) for name in ("a.png", "b.png"))
    assert not destination.exists()


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e9", "-1e7", "1e999", "", "ten", None, "1,5", "__import__('os')"]
)
def test_a_text_that_is_no_place_in_an_image_is_refused(text):
    with pytest.raises(ValueError, match="xmin is"):
        number(text, "xmin")


@pytest.mark.parametrize(("text", "value"), [("12", 12), (" 12.5\n", 12.5), ("-3", -3), (7, 7), ("1e3", 1000)])
def test_a_number_is_read(text, value):
    assert number(text, "xmin") == value


def test_texts_of_strangers_cannot_steer_the_terminal_or_break_the_record(source, destination):
    def read(folder, options, report):
        report.leave_out("box: class '\x1b[2J" + "x" * 5000 + "'", "caf\udce9\n.xml")
        report.notes.append("odd \x1b]0;title\x07")
        return toy().read(folder, options, report)

    record = convert(toy(read=read), source, destination)
    ((reason, entry),) = record["left_out"].items()
    assert reason.startswith("box: class '�[2Jxxx") and len(reason) == 300
    assert entry["examples"] == ["caf��.xml"]
    assert record["notes"] == ["odd �]0;title�"]


def test_the_report_counts_all_and_keeps_a_few_different_examples():
    report = Report()
    for i in range(20):
        report.leave_out("rare" if i == 3 else "often", f"file{i // 2}")
    report.leave_out("rare", "file1", 2)
    assert list(report.left_out) == ["often", "rare"]
    assert report.left_out["often"] == {"count": 19, "examples": [f"file{i}" for i in range(5)]}
    assert report.left_out["rare"] == {"count": 3, "examples": ["file1"]}


def test_files_are_listed_by_stem_without_hidden_ones_and_ambiguous_ones_are_reported(tmp_path):
    names = ("b.JPG", "a.b.jpg", "c.png", "c.jpg", ".hidden.jpg", "._b.jpg", "d.txt")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    report = Report()
    assert files_by_stem(tmp_path, {"jpg", "png"}, "rgb image", report) == {
        "a.b": tmp_path / "a.b.jpg",
        "b": tmp_path / "b.JPG",
    }
    assert report.left_out == {
        "rgb image: several of one name": {"count": 2, "examples": [f"{tmp_path / 'c.jpg'}, {tmp_path / 'c.png'}"]}
    }


# Places and options --------------------------------------------------------------------------------------------------


def test_an_empty_destination_is_taken(source, destination):
    destination.mkdir()
    assert convert(toy(), source, destination)["splits"]["train"]["pairs"] == 3


def test_a_finished_destination_is_refused_and_stays_as_it_is(source, destination):
    convert(toy(), source, destination)
    before = state(destination)
    with pytest.raises(ConversionError, match="holds a finished conversion: name a new folder"):
        convert(toy(), source, destination)
    assert state(destination) == before


def test_a_folder_of_somebody_else_is_refused_and_stays_as_it_is(source, destination):
    destination.mkdir()
    (destination / "thesis.txt").write_text("years of work")
    with pytest.raises(ConversionError, match="is not empty: name a new folder"):
        convert(toy(), source, destination)
    assert files(destination) == ["thesis.txt"]


@pytest.mark.parametrize("where", [".", "inner", "inner/deeper", ".."])
def test_source_and_destination_may_not_lie_in_each_other(source, where):
    before = state(source.parent)
    with pytest.raises(ConversionError, match="must not lie in each other"):
        convert(toy(), source, source / where)
    assert state(source.parent) == before


def test_a_destination_reached_by_a_link_into_the_source_is_refused(source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(ConversionError, match="must not lie in each other"):
        convert(toy(), source, tmp_path / "link" / "new")


def test_a_destination_that_is_a_file_is_refused(source, destination):
    destination.write_text("a file")
    with pytest.raises(ConversionError, match="is a file: name a new folder"):
        convert(toy(), source, destination)


def test_a_source_that_is_no_folder_is_refused(tmp_path, destination):
    with pytest.raises(ConversionError, match="is not a folder: give the folder of toys"):
        convert(toy(), tmp_path / "none", destination)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sed": 1}, "toy has no option sed: it has seed, labels"),
        ({"labels": "x"}, "labels='x' is unknown: choose from ir, rgb"),
    ],
)
def test_an_unknown_option_or_value_is_refused_with_the_choices(source, destination, options, message):
    format_ = toy(options={"seed": Option(0, "seed"), "labels": Option("ir", "labels", ("ir", "rgb"))})
    with pytest.raises(ConversionError, match=message):
        convert(format_, source, destination, options)


# Interruptions -------------------------------------------------------------------------------------------------------


def interrupted(format_: Format, source: Path, destination: Path, monkeypatch, after: int = 4, options=None) -> None:
    """Begin a conversion that stops when it has written `after` images."""
    written, write_image = [], writing.write_image

    def stop(*arguments):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(arguments)
        return write_image(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_image", stop)
        patch.setattr(os, "cpu_count", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            convert(format_, source, destination, options)


def test_an_interrupted_conversion_looks_unfinished_and_goes_on_where_it_was(source, destination, monkeypatch):
    format_ = toy(crop=(0, 20, 0, 32))
    interrupted(format_, source, destination, monkeypatch)
    assert (destination / UNFINISHED).is_file()
    assert not (destination / RECORD).exists()
    images = {f"{folder}/train/{stem}.png" for folder in ("visible", "infrared") for stem in "ab"}
    assert set(files(destination)) == {UNFINISHED, "labels/train/a.txt", "labels/train/b.txt", *images}
    before = {name: (destination / name).stat() for name in images}
    (destination / "labels/train/a.txt").write_text("9 damaged")

    record = convert(format_, source, destination)
    assert record["splits"]["train"]["pairs"] == 3
    for name, old in before.items():
        new = (destination / name).stat()
        assert (new.st_ino, new.st_mtime_ns) == (old.st_ino, old.st_mtime_ns)
    assert not (destination / UNFINISHED).exists()
    other = destination.with_name("at once")
    convert(format_, source, other)
    assert files(other) == files(destination)
    for name in files(other):
        if name not in (RECORD, "recipe.yaml"):
            assert (destination / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("left", [".conversion.unfinished.json.unfinished", LOCK])
def test_what_a_process_that_died_at_once_left_is_in_nobodys_way(source, destination, left):
    destination.mkdir()
    (destination / left).write_text('{"half')
    assert convert(toy(), source, destination)["splits"]["train"]["pairs"] == 3
    assert not [name for name in files(destination) if "unfinished" in name or name == LOCK]


def test_two_processes_do_not_write_to_one_destination(source, destination):
    with Hold(destination), pytest.raises(FolderInUse, match="another process works in"):
        convert(toy(), source, destination)
    convert(toy(), source, destination)


def test_a_conversion_that_another_process_finished_meanwhile_is_not_written_over(source, destination, monkeypatch):
    check = writing._check_stems

    def finish_meanwhile(samples):
        monkeypatch.setattr(writing, "_check_stems", check)
        convert(toy(), source, destination)

    monkeypatch.setattr(writing, "_check_stems", finish_meanwhile)
    with pytest.raises(ConversionError, match="holds a finished conversion"):
        convert(toy(), source, destination)


def test_nothing_is_written_any_more_when_an_interruption_has_arrived(tmp_path, destination, monkeypatch):
    image = write(tmp_path / "s" / "1.png")
    samples = [SourcePair("train", str(i), {"rgb": image, "ir": image}) for i in range(300)]
    counted = []

    def stop(self, kept):
        counted.append(kept)
        if len(counted) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Claim, "add", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        convert(toy(read=lambda *_: samples), tmp_path / "s", destination)
    before = files(destination)
    time.sleep(0.1)
    assert files(destination) == before
    assert len(before) < 3 * 300, "all was written after the interruption"
    assert caught.value is not None  # its frames keep the threads' generator alive until here


@pytest.mark.slow
def test_a_killed_conversion_goes_on(tmp_path, destination):
    source = tmp_path / "llvip"
    for i in range(40):
        for part in ("train", "test"):
            for folder in ("visible", "infrared"):
                write(source / folder / part / f"{i + 100 * (part == 'test')}.jpg")
    (source / "Annotations").mkdir()
    for i in range(200):
        (source / "Annotations" / f"{i}.xml").write_text("<annotation/>")
    script = textwrap.dedent(
        f"""
        import os, signal
        from mwam_det.data.conversion import write
        from mwam_det.data.formats.llvip import LLVIP
        replace, count = os.replace, []
        def stop(old, new):
            count.append(new)
            if len(count) == 60:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(old, new)
        os.replace = stop
        write.convert(LLVIP, {str(source)!r}, {str(destination)!r})
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (destination / UNFINISHED).is_file()
    assert not (destination / RECORD).exists()
    assert any(name.endswith(".unfinished") for name in files(destination))

    from mwam_det.data.formats.llvip import LLVIP

    record = convert(LLVIP, source, destination)
    assert [record["splits"][split]["pairs"] for split in ("train", "val")] == [40, 40]
    names = files(destination)
    assert len(names) == 2 * 40 * 3 + 1
    assert not any("unfinished" in name for name in names)


def test_what_is_no_longer_in_the_source_is_removed_when_a_conversion_goes_on(source, destination, monkeypatch):
    interrupted(toy(), source, destination, monkeypatch)
    for folder in ("rgb", "ir"):
        (source / folder / "a.png").unlink()
        (source / folder / "b.png").unlink()
        write(source / folder / "b.jpg")
    convert(toy(), source, destination)
    names = [name for name in files(destination) if name.startswith(("visible/train", "labels/train"))]
    assert names == ["labels/train/b.txt", "labels/train/c.txt", "visible/train/b.jpg", "visible/train/c.png"]


def test_an_image_that_was_mended_in_the_source_is_written_again(source, destination, monkeypatch):
    interrupted(toy(), source, destination, monkeypatch)
    mended = source / "rgb" / "new.png"
    write(mended, COLOUR // 2)
    os.utime(mended, (time.time() + 5, time.time() + 5))
    mended.replace(source / "rgb" / "a.png")
    convert(toy(), source, destination)
    assert (destination / "visible/train/a.png").read_bytes() == (source / "rgb" / "a.png").read_bytes()


def test_an_unfinished_conversion_of_another_request_is_refused_and_stays(source, destination, monkeypatch):
    format_ = toy(options={"seed": Option(0, "seed")})
    interrupted(format_, source, destination, monkeypatch, options={"seed": 3})
    before = state(destination)
    with pytest.raises(ConversionError, match="holds an unfinished conversion of .*source as toy with seed=3: finish"):
        convert(format_, source, destination)
    other = shutil.copytree(source, source.with_name("other"))
    with pytest.raises(ConversionError, match="holds an unfinished conversion"):
        convert(format_, other, destination, {"seed": 3})
    assert state(destination) == before


def test_options_that_json_writes_otherwise_are_recognised(source, destination, monkeypatch):
    format_ = toy(options={"folds": Option((1, 2), "folds")})
    interrupted(format_, source, destination, monkeypatch)
    assert convert(format_, source, destination)["splits"]["train"]["pairs"] == 3


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_damaged_mark_is_refused_where_files_lie_beside_it(source, destination, content):
    (destination / "visible").mkdir(parents=True)
    (destination / UNFINISHED).write_text(content, encoding="latin-1")
    (destination / "visible" / "1.png").touch()
    with pytest.raises(ConversionError, match=f"{UNFINISHED} is damaged"):
        convert(toy(), source, destination)


def test_a_mark_with_nothing_beside_it_blocks_nobody(source, destination):
    (destination / "visible" / "train").mkdir(parents=True)
    (destination / UNFINISHED).write_text('{"format": "other"}')
    assert convert(toy(), source, destination)["splits"]["train"]["pairs"] == 3


@pytest.mark.parametrize("existed", [False, True])
def test_a_source_without_a_usable_pair_is_refused_and_the_place_is_free_for_another_try(source, destination, existed):
    if existed:
        destination.mkdir()
    for file in (source / "ir").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(ConversionError, match=r"no usable pair in .*source: pair: ir image unreadable \(4\)"):
        convert(toy(), source, destination)
    assert destination.exists() == existed
    assert not existed or not list(destination.iterdir())
    for file in (source / "ir").iterdir():
        write(file)
    assert convert(toy(), source, destination)["splits"]["train"]["pairs"] == 3


@pytest.mark.parametrize("empty", ["no samples", "another format"])
def test_a_source_that_holds_nothing_is_refused_before_anything_is_written(tmp_path, source, destination, empty):
    if empty == "no samples":
        shutil.rmtree(source / "rgb")
        (source / "rgb").mkdir()
    else:
        shutil.rmtree(source / "rgb")
    with pytest.raises(ConversionError, match="no usable pair|there is no folder rgb"):
        convert(toy(), source, destination)
    assert not destination.exists()


def test_a_full_disk_leaves_no_half_written_file(source, destination, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def half(file, target):
        target.write_bytes(b"half")
        full()

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="No space left"):
        convert(toy(), source, destination)
    assert files(destination) == [UNFINISHED]
    monkeypatch.undo()
    assert convert(toy(), source, destination)["splits"]["train"]["pairs"] == 3


# Doubts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_link", [True, False])
def test_modalities_that_are_the_same_files_are_a_doubt(source, destination, as_link):
    for file in (source / "rgb").iterdir():
        (source / "ir" / file.name).unlink()
        if as_link:
            (source / "ir" / file.name).hardlink_to(file)
        else:
            (source / "ir" / file.name).write_bytes(file.read_bytes())
    assert convert(toy(), source, destination)["doubts"] == [
        "ir is the same file as rgb in 4 of 4 pairs, byte for byte: check the folders"
    ]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], None),
        ([Label(0, ((0.1, 0.2), (0.3, 0.4)))], "box: less than a pixel wide or high"),
        ([Label(0, ((90, 90), (99, 99)))], "box: centre outside of the image"),
    ],
    ids=["no labels", "shares of the image", "of a larger image"],
)
def test_a_set_without_an_object_is_a_doubt(source, destination, labels, reason):
    doubts = convert(toy(labels), source, destination)["doubts"]
    assert doubts[:2] == [
        f"no pair for {s} has an object: there is nothing to learn or to measure" for s in ("train", "val")
    ]
    assert doubts[2:] == ([] if reason is None else [
        f"4 of 4 objects were left out, most of them for this reason: {reason}",
        "4 of 4 pairs with objects lost them all",
    ])  # fmt: skip


def test_a_set_of_which_half_is_gone_is_a_doubt(source, destination):
    for stem in ("b", "c"):
        (source / "ir" / f"{stem}.png").unlink()
    assert convert(toy(), source, destination)["doubts"] == [
        "2 of 4 pairs were left out, most of them for this reason: pair: no ir image"
    ]


def test_a_set_of_which_a_quarter_is_gone_is_none(source, destination):
    (source / "ir" / "b.png").unlink()
    assert convert(toy(), source, destination)["doubts"] == []


def test_the_summary_ends_with_the_doubts(source, destination):
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(summary(convert(toy([]), source, destination)))
    assert "Doubt: no pair for val has an object" in console.export_text().splitlines()[-1]


# Summary -------------------------------------------------------------------------------------------------------------


def test_the_summary_shows_pairs_boxes_what_was_left_out_and_the_notes(source, destination):
    broken(source, "missing")
    record = convert(toy(classes=("[red]person", "car"), expected={"train": 4, "val": 1}), source, destination)
    record["splits"]["train"]["boxes"]["car"] = 12_345
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(summary(record))
    lines = [" ".join(line.replace("│", " ").split()) for line in console.export_text().splitlines()]
    assert "┃ ┃ train ┃ val ┃" in lines
    for line in ("pairs 2 1", "[red]person 2 1", "car 12,345 0", "pair: no ir image 1 train/b"):
        assert line in lines
    assert "Note: train: 2 pairs, the complete set has 4" in lines


def test_the_summary_of_a_faultless_conversion_has_one_table(source, destination):
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(summary(convert(toy(), source, destination)))
    text = console.export_text()
    assert "Converted from toy" in text
    assert "left out" not in text
    assert "Note" not in text
