from pathlib import Path

import cv2
import numpy as np
import pytest
from sources import check_outline, labels_in, reasons, snapshot, write
from training import check_training, train_recipe
from ultralytics.cfg import get_cfg

from mwam_det import experiments
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.conversion.model import ConversionError
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.vedai import CLASS_NAMES, VEDAI
from mwam_det.data.section import resolve_dataset

SIDE = 256
"""The published images have 512 or 1024; nothing depends on it."""

GROUND, VEHICLE = 60, 240
SLANTED = np.array([(110.5, 60.0), (150.0, 30.0), (162.0, 46.0), (122.5, 76.0)])
UPRIGHT = np.array([(40, 180), (80, 180), (80, 200), (40, 200)])
CLASSES = list(CLASS_NAMES.values())
RECIPE = Path(__file__).parents[3] / "cfg" / "detect" / "vedai.yaml"


def row(class_number, corners, contained: int = 1, occluded: int = 0) -> str:
    """A line as the authors wrote it: centre, orientation, class, flags, x of the corners, y of the corners."""
    centre = np.mean(corners, 0)
    numbers = [*centre, -0.6435, class_number, contained, occluded, *np.transpose(corners).ravel()]
    return " ".join(str(number) for number in numbers) + "\n"


def image(*outlines) -> np.ndarray:
    scene = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    for outline in outlines:
        cv2.fillPoly(scene, [np.round(outline).astype(int)], (VEHICLE,) * 3)
    return scene


def add(root: Path, stem: str, text: str | None, scene=None, size: int = 1024) -> None:
    scene = image() if scene is None else scene
    write(root / f"Vehicules{size}" / f"{stem}_co.png", scene)
    write(root / f"Vehicules{size}" / f"{stem}_ir.png", scene[..., 0] // 2)
    if text is not None:
        write(root / f"Annotations{size}" / f"{stem}.txt", text)


def add_fold(root: Path, train, val, fold: int = 1, size: int = 1024) -> None:
    for suffix, stems in (("", train), ("test", val)):
        write(root / f"Annotations{size}" / f"fold{fold:02}{suffix}.txt", "".join(f"{stem}\n" for stem in stems))


def one(root: Path, text: str, scene=None, size: int = 1024) -> Path:
    """A source of one pair to train with and an empty one to validate with."""
    add(root, "00000000", text, scene, size)
    add(root, "00000001", "", size=size)
    add_fold(root, ["00000000"], ["00000001"], size=size)
    write(root / f"Annotations{size}" / f"annotation{size}.txt", f"00000000 {row(1, UPRIGHT)}")
    return root


def lines(root: Path, stem: str = "00000000", folder: str = "labels", split: str = "train"):
    """Class and points, in pixels, of each label of a pair."""
    found = labels_in(root / folder / split / f"{stem}.txt", (SIDE, SIDE))
    return [(CLASSES[class_id], points) for class_id, points in found]


def load(root: Path, split: str = "train", labels: str = "labels"):
    data = resolve_dataset({**experiments.load(RECIPE).recipe.data, "path": str(root), "labels": labels}).as_dict()
    args = get_cfg(overrides={"imgsz": 64, "deterministic": False})
    return build_paired_dataset(args, data[split], 2, data, "val", rect=False, stride=32)


def test_both_images_of_a_pair_get_one_name_and_the_labels_lie_on_their_vehicles(tmp_path):
    source = one(tmp_path / "raw", row(1, SLANTED) + row(23, UPRIGHT), image(SLANTED, UPRIGHT))
    before = snapshot(source)
    record = convert(VEDAI, source, tmp_path / "set")
    assert record["splits"] == {
        "train": {"pairs": 1, "boxes": dict.fromkeys(CLASSES, 0) | {"car": 1, "boat": 1}},
        "val": {"pairs": 1, "boxes": dict.fromkeys(CLASSES, 0)},
    }
    assert record["left_out"] == {}
    boxes, outlines = lines(tmp_path / "set"), lines(tmp_path / "set", folder="labels_obb")
    assert [name for name, _ in boxes] == [name for name, _ in outlines] == ["car", "boat"]
    for folder, part, brightness in (("visible", "co", 1), ("infrared", "ir", 2)):
        target = tmp_path / "set" / folder / "train" / "00000000.png"
        assert target.samefile(source / "Vehicules1024" / f"00000000_{part}.png")
        bright = np.uint8(cv2.imread(str(target), cv2.IMREAD_GRAYSCALE) > (GROUND + VEHICLE) / 2 / brightness)
        regions = cv2.connectedComponentsWithStats(bright)[2][1:, :4]
        for _, (centre, sides) in boxes:
            assert np.abs(regions - [*(centre - sides / 2), *sides]).max(1).min() < 1.5
        for _, outline in outlines:
            check_outline(bright, outline)
    assert snapshot(source) == before


def test_outlines_and_boxes_come_back_to_half_a_pixel(tmp_path):
    rng = np.random.default_rng(0)
    corners = [
        cv2.boxPoints((rng.uniform(50, 200, 2).tolist(), rng.uniform(10, 50, 2).tolist(), rng.uniform(0, 90)))
        for _ in range(30)
    ]
    convert(VEDAI, one(tmp_path / "raw", "".join(row(11, outline) for outline in corners)), tmp_path / "set")
    outlines, boxes = (lines(tmp_path / "set", folder=folder) for folder in ("labels_obb", "labels"))
    for outline, (_, points), (_, (centre, sides)) in zip(corners, outlines, boxes, strict=True):
        assert np.abs(points - outline).max() < 0.01
        assert (
            np.abs([centre - sides / 2, centre + sides / 2] - np.stack([outline.min(0), outline.max(0)])).max() < 0.01
        )


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "car"),
        (2, "truck"),
        (4, "tractor"),
        (5, "camping car"),
        (7, "motorcycle"),
        (8, "bus"),
        (9, "van"),
        (10, "other"),
        (11, "pickup"),
        (23, "boat"),
        (31, "plane"),
    ],
)
def test_each_class_number_gets_its_name_in_the_set_and_in_the_recipe(tmp_path, number, name):
    record = convert(VEDAI, one(tmp_path / "raw", row(number, SLANTED)), tmp_path / "set")
    assert record["splits"]["train"]["boxes"] == dict.fromkeys(CLASSES, 0) | {name: 1}
    class_id = int((tmp_path / "set" / "labels" / "train" / "00000000.txt").read_text().split()[0])
    assert experiments.load(RECIPE).recipe.data["names"][class_id] == name
    assert len(experiments.load(RECIPE).recipe.data["names"]) == 11


def test_a_number_that_is_no_class_is_counted_and_left_out(tmp_path):
    text = row(1, SLANTED) + row(201, SLANTED) + row(3, SLANTED) + row(1.5, SLANTED)
    record = convert(VEDAI, one(tmp_path / "raw", text), tmp_path / "set")
    assert reasons(record) == {"box: class 201": 1, "box: class 3": 1, "box: class 1.5": 1}
    assert [name for name, _ in lines(tmp_path / "set")] == ["car"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2 3\n", "box: line without 14 columns"),
        (f"00000000 {row(1, SLANTED)}", "box: line without 14 columns"),
        (row(1, SLANTED).replace("\n", " 7\n"), "box: line without 14 columns"),
        (row("car", SLANTED), "box: no usable numbers"),
        (row("nan", SLANTED), "box: no usable numbers"),
        (row(1, SLANTED).replace("110.5", "x"), "box: no usable numbers"),
        (row(1, SLANTED).replace("110.5", "inf"), "box: no usable numbers"),
        (row(1, SLANTED).replace("110.5", "1e9"), "box: no usable numbers"),
        (row(1, SLANTED - 200), "box: centre outside of the image"),
        (row(1, SLANTED * 0 + 9), "box: less than a pixel wide or high"),
    ],
)
def test_a_malformed_line_is_counted_and_the_others_stay(tmp_path, text, reason):
    record = convert(VEDAI, one(tmp_path / "raw", f"{text}\n{row(9, UPRIGHT)}"), tmp_path / "set")
    assert reasons(record) == {reason: 1}
    assert [name for name, _ in lines(tmp_path / "set")] == ["van"]


def test_objects_that_are_occluded_or_reach_out_of_the_image_stay(tmp_path):
    over_the_edge = UPRIGHT - (50, 0)
    text = row(1, over_the_edge, contained=0) + row(2, SLANTED, occluded=1)
    convert(VEDAI, one(tmp_path / "raw", text), tmp_path / "set")
    (first, points), (second, _) = lines(tmp_path / "set", folder="labels_obb")
    assert (first, second) == ("car", "truck")
    assert np.abs(points - [(0, 180), (30, 180), (30, 200), (0, 200)]).max() < 0.01
    assert len(load(tmp_path / "set", labels="labels_obb")) == 1  # Ultralytics rejects coordinates outside


# Folds and sizes -----------------------------------------------------------------------------------------------------


def ten_folds(root: Path) -> Path:
    """Ten pairs, one of which each fold validates with, and one pair that is in no fold."""
    stems = [f"{i:08}" for i in range(10)]
    for i, stem in enumerate([*stems, "00001272"]):
        add(root, stem, row(1, UPRIGHT + i))
    for i, stem in enumerate(stems):
        add_fold(root, [other for other in stems if other != stem], [stem], fold=i + 1)
    return root


@pytest.mark.parametrize("fold", [1, 4, 10])
def test_the_option_fold_chooses_what_is_validated_with(tmp_path, fold):
    source = ten_folds(tmp_path / "raw")
    record = convert(VEDAI, source, tmp_path / "set", {"fold": fold})
    there = {
        split: [file.stem for file in sorted((tmp_path / "set" / "infrared" / split).iterdir())]
        for split in ("train", "val")
    }
    assert there["val"] == [f"{fold - 1:08}"]
    assert there["train"] == [f"{i:08}" for i in range(10) if i != fold - 1]
    assert reasons(record) == {"pair: in no list of the fold": 1}
    assert record["notes"] == [
        "train: 9 pairs, the complete set has 1089",
        "val: 1 pairs, the complete set has 121",
    ]


@pytest.mark.parametrize("fold", [0, 11, "1"])
def test_a_fold_that_does_not_exist_is_refused(tmp_path, fold):
    with pytest.raises(ConversionError, match=r"fold='?\d+'? is unknown: choose from 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"):
        convert(VEDAI, ten_folds(tmp_path / "raw"), tmp_path / "set", {"fold": fold})


def test_numbers_in_a_list_may_lack_their_zeros_and_what_is_no_number_is_counted(tmp_path):
    source = one(tmp_path / "raw", row(1, SLANTED))
    outside = tmp_path / "outside_co.png"
    write(outside, image())
    add_fold(source, ["0", "", "../../outside", "0"], ["1\r"])
    record = convert(VEDAI, source, tmp_path / "set")
    assert {split: counts["pairs"] for split, counts in record["splits"].items()} == {"train": 1, "val": 1}
    assert reasons(record) == {"pair: no image number in the list": 1}


def test_an_image_in_both_lists_of_a_fold_is_refused(tmp_path):
    source = one(tmp_path / "raw", row(1, SLANTED))
    add_fold(source, ["00000000", "00000001"], ["00000001"])
    with pytest.raises(ConversionError, match=r"fold01\.txt and fold01test\.txt in .* share 1 images: 00000001"):
        convert(VEDAI, source, tmp_path / "set")


def test_both_published_sizes_convert_and_1024_is_the_default(tmp_path):
    source = one(tmp_path / "raw", row(1, SLANTED))
    one(source, row(2, UPRIGHT), size=512)
    for size, name in ((1024, "car"), (512, "truck")):
        convert(VEDAI, source, tmp_path / str(size), {"size": size})
        assert [found for found, _ in lines(tmp_path / str(size))] == [name]
    convert(VEDAI, source, tmp_path / "default")
    assert [name for name, _ in lines(tmp_path / "default")] == ["car"]


@pytest.mark.parametrize(
    ("size", "missing", "message"),
    [
        (512, "Vehicules1024", r"no folder Vehicules1024 in it; for Vehicules512 set size=512$"),
        (1024, "Vehicules1024", r"no folder Vehicules1024 in it$"),
        (1024, "Annotations1024", r"no folder Annotations1024 in it$"),
    ],
)
def test_a_missing_folder_is_named(tmp_path, size, missing, message):
    source = one(tmp_path / "raw", row(1, SLANTED), size=size)
    if (source / missing).exists():
        (source / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ConversionError, match=message):
        convert(VEDAI, source, tmp_path / "set")


def test_a_missing_list_is_named(tmp_path):
    source = one(tmp_path / "raw", row(1, SLANTED))
    with pytest.raises(ConversionError, match=r"no file fold07\.txt in it"):
        convert(VEDAI, source, tmp_path / "set", {"fold": 7})


def test_files_without_partner_and_damaged_files_are_counted_and_left_out(tmp_path):
    source = one(tmp_path / "raw", row(1, SLANTED))
    stems = {name: f"{i:08}" for i, name in enumerate(("truncated", "no_ir", "no_text", "no_utf8"), 2)}
    for stem in stems.values():
        add(source, stem, row(1, SLANTED))
    add_fold(source, ["00000000", *stems.values(), "00000099"], ["00000001"])
    truncated = source / "Vehicules1024" / f"{stems['truncated']}_co.png"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    (source / "Vehicules1024" / f"{stems['no_ir']}_ir.png").unlink()
    (source / "Annotations1024" / f"{stems['no_text']}.txt").unlink()
    write(source / "Annotations1024" / f"{stems['no_utf8']}.txt", b"\xff\xfe\x00")
    write(source / "Annotations1024" / "00000099.txt", row(1, SLANTED))
    record = convert(VEDAI, source, tmp_path / "set")
    assert reasons(record) == {
        "pair: no annotation": 1,
        "pair: annotation unreadable": 1,
        "pair: rgb image unreadable": 1,
        "pair: no ir image": 1,
        "pair: no rgb image": 1,
    }
    assert record["splits"]["train"]["pairs"] == 1


def test_the_converted_set_loads_with_its_recipe(tmp_path):
    convert(VEDAI, one(tmp_path / "raw", row(4, SLANTED) + row(31, UPRIGHT)), tmp_path / "set")
    boxes, outlines = (load(tmp_path / "set", labels=labels) for labels in ("labels", "labels_obb"))
    assert boxes[0]["img"].shape == (6, 64, 64)
    assert boxes[0]["img"][:, 0, 0].tolist() == [GROUND] * 3 + [GROUND // 2] * 3
    assert boxes[0]["cls"].ravel().tolist() == outlines[0]["cls"].ravel().tolist() == [2, 10]
    assert np.allclose(boxes.labels[0]["bboxes"], outlines.labels[0]["bboxes"], atol=1e-4)
    assert np.allclose(boxes.labels[0]["bboxes"][1] * SIDE, [60, 190, 40, 20], atol=0.01)
    assert load(tmp_path / "set", "val")[0]["cls"].numel() == 0


@pytest.mark.slow
def test_training_starts_with_the_recipe_of_the_format(tmp_path):
    source, stems = tmp_path / "raw", [f"{i:08}" for i in range(6)]
    for i, stem in enumerate(stems):
        add(source, stem, row(1, SLANTED) + row((31, 23)[i % 2], UPRIGHT), image(SLANTED, UPRIGHT))
    add_fold(source, stems[:4], stems[4:])
    record = convert(VEDAI, source, tmp_path / "set")
    trainer = train_recipe(RECIPE, tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    check_training(trainer, record)
