import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sources import boxes_in, reasons, write
from training import check_training, train_recipe
from ultralytics.cfg import get_cfg

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.conversion.model import ConversionError
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.nyuv2 import CLASSES, NYU40, NYUV2, regions
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

RECIPE = Path(__file__).parents[3] / "cfg" / "detect" / "nyuv2.yaml"
HEIGHT, WIDTH = 48, 64
FAR = 3000
"""Depth of the background, in mm."""


def add(root: Path, place: str, things: dict[str, tuple[int, int, int, int]], boxes: str | None = None, suffix=".png"):
    """Write a pair like "train/0002": things by class name, (x1, y1, x2, y2), bright and near before a grey wall."""
    part, stem = place.split("/")
    rgb, depth = np.full((HEIGHT, WIDTH, 3), 60, np.uint8), np.full((HEIGHT, WIDTH), FAR, np.uint16)
    mask = np.full((HEIGHT, WIDTH), NYU40.index("wall"), np.uint8)
    mask[:2] = 0
    for name, (x1, y1, x2, y2) in things.items():
        rgb[y1:y2, x1:x2], depth[y1:y2, x1:x2], mask[y1:y2, x1:x2] = 240, 1000, NYU40.index(name)
    write(root / part / "rgb" / f"{stem}{suffix}", rgb)
    write(root / part / "depth" / f"{stem}.png", depth)
    write(root / part / "labels_40" / f"{stem}.png", mask)
    if boxes is not None:
        write(root / part / "boxes" / f"{stem}.txt", boxes)


def test_boxes_come_from_the_regions_of_things_and_lie_on_them(tmp_path):
    add(tmp_path / "n", "train/0002", {"chair": (10, 20, 30, 45), "floor": (0, 46, 64, 48), "lamp": (50, 5, 58, 20)})
    add(tmp_path / "n", "test/0001", {"bed": (4, 10, 40, 40)})
    record = convert(NYUV2, tmp_path / "n", tmp_path / "out")
    found = boxes_in(tmp_path / "out/labels/train/0002.txt", (WIDTH, HEIGHT))
    chair, lamp = CLASSES.index("chair"), CLASSES.index("lamp")
    assert np.abs(found - [(chair, 10, 20, 30, 45), (lamp, 50, 5, 58, 20)]).max() < 0.01
    image = cv2.imread(str(tmp_path / "out/visible/train/0002.png"), 0)
    for _, x1, y1, x2, y2 in found.round().astype(int):
        assert image[y1:y2, x1:x2].min() == 240
    assert record["splits"]["val"]["pairs"] == 1
    assert record["splits"]["val"]["boxes"]["bed"] == 1
    assert "train: 1 pairs, the complete set has 795" in record["notes"]


def test_depth_in_mm_and_the_class_map_arrive_unchanged(tmp_path):
    for place in ("train/0002", "test/0001"):
        add(tmp_path / "n", place, {"chair": (10, 20, 30, 45)})
    convert(NYUV2, tmp_path / "n", tmp_path / "out")
    depth = cv2.imread(str(tmp_path / "out/depth/train/0002.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert (depth[30, 20], depth[5, 5]) == (1000, FAR)
    mask = cv2.imread(str(tmp_path / "out/masks/train/0002.png"), cv2.IMREAD_UNCHANGED)
    assert (mask[0, 0], mask[30, 20]) == (0, NYU40.index("chair"))


def test_splinters_are_no_objects_and_narrow_gaps_do_not_part_one():
    class_map = np.zeros((240, 320), np.uint8)
    class_map[100:180, 50:150] = NYU40.index("table")
    class_map[100:180, 99:101] = NYU40.index("wall")
    class_map[20:30, 20:35] = NYU40.index("bed")
    (table,) = regions(class_map)
    assert (CLASSES[table.class_id], table.points) == ("table", ((50, 100), (150, 180)))
    class_map[20:30, 20:36] = NYU40.index("bed")  # 160 of 76,800 pixels
    assert [CLASSES[label.class_id] for label in regions(class_map)] == ["bed", "table"]


def test_regions_that_touch_at_a_corner_are_one_and_others_are_not():
    class_map = np.zeros((240, 320), np.uint8)
    class_map[50:100, 50:100] = class_map[100:150, 100:150] = NYU40.index("sofa")
    assert len(regions(class_map)) == 1
    class_map[100:150, 100:110] = 0
    assert len(regions(class_map)) == 2


def test_yolo_boxes_are_taken_where_both_parts_have_them(tmp_path):
    box = "2 0.5 0.5 0.25 0.5\n"
    add(tmp_path / "n", "train/0002", {"bed": (1, 10, 30, 30)}, box, ".jpg")
    add(tmp_path / "n", "test/0001", {}, "", ".jpg")
    record = convert(NYUV2, tmp_path / "n", tmp_path / "out")
    assert np.abs(boxes_in(tmp_path / "out/labels/train/0002.txt", (WIDTH, HEIGHT)) - (2, 24, 12, 40, 36)).max() < 0.01
    assert sum(record["splits"]["val"]["boxes"].values()) == 0
    regions_instead = convert(NYUV2, tmp_path / "n", tmp_path / "again", {"boxes": "labels_40"})
    assert regions_instead["splits"]["train"]["boxes"]["bed"] == 1
    shutil.rmtree(tmp_path / "n/test/boxes")
    assert convert(NYUV2, tmp_path / "n", tmp_path / "one")["splits"]["train"]["boxes"]["bed"] == 1
    with pytest.raises(ConversionError, match="no folder test/boxes"):
        convert(NYUV2, tmp_path / "n", tmp_path / "none", {"boxes": "files"})


def test_box_classes_txt_names_the_classes_of_the_yolo_boxes(tmp_path):
    for place in ("train/0002", "test/0001"):
        add(tmp_path / "n", place, {}, "1 0.5 0.5 0.25 0.5\n")
    write(tmp_path / "n/box_classes.txt", "cup\nplate\n")
    record = convert(NYUV2, tmp_path / "n", tmp_path / "out")
    assert record["splits"]["train"]["boxes"] == {"cup": 0, "plate": 1}
    assert any("set data.names" in note for note in record["notes"])
    write(tmp_path / "n/box_classes.txt", "cup\ncup\n")
    with pytest.raises(ConversionError, match="each once"):
        convert(NYUV2, tmp_path / "n", tmp_path / "twice")


@pytest.mark.parametrize(
    "damaged",
    [
        *("20 .5 .5 .2 .2", "-1 .5 .5 .2 .2", "1.5 .5 .5 .2 .2", "0 .5 .5 .2", "0 .5 x .2 .2", "0 nan .5 .2 .2"),
        "0 320 240 64 48",
    ],
)
def test_a_line_that_holds_no_box_is_counted_and_the_others_stay(tmp_path, damaged):
    for place in ("train/0002", "test/0001"):
        add(tmp_path / "n", place, {}, f"0 0.5 0.5 0.25 0.5\n{damaged}\n")
    record = convert(NYUV2, tmp_path / "n", tmp_path / "out")
    assert sum(record["splits"]["train"]["boxes"].values()) == 1
    assert reasons(record) == {"box: not readable": 2}


def test_missing_and_damaged_files_are_left_out_and_named(tmp_path):
    root = tmp_path / "n"
    for stem in ("0001", "0002", "0003", "0004", "0005", "0006"):
        add(root, f"train/{stem}", {"bed": (4, 10, 40, 40)}, suffix=".jpg")
    add(root, "test/0007", {})
    (root / "train/depth/0002.png").unlink()
    (root / "train/labels_40/0003.png").unlink()
    image = root / "train/rgb/0004.jpg"
    image.write_bytes(image.read_bytes()[:-100])
    write(root / "train/labels_40/0005.png", np.zeros((24, 32), np.uint8))
    write(root / "train/labels_40/0006.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    record = convert(NYUV2, root, tmp_path / "out")
    assert record["splits"]["train"]["pairs"] == 1
    assert reasons(record) == {
        "pair: annotation unreadable": 2,
        "pair: no annotation": 1,
        "pair: rgb image unreadable": 1,
        "pair: no depth image": 1,
    }


def test_raw_depth_can_be_chosen_and_must_be_there(tmp_path):
    for place in ("train/0002", "test/0001"):
        add(tmp_path / "n", place, {"bed": (4, 10, 40, 40)})
    with pytest.raises(ConversionError, match="train/depth_raw"):
        convert(NYUV2, tmp_path / "n", tmp_path / "out", {"depth": "depth_raw"})
    for place in ("train/depth_raw/0002.png", "test/depth_raw/0001.png"):
        write(tmp_path / "n" / place, np.full((HEIGHT, WIDTH), 777, np.uint16))
    convert(NYUV2, tmp_path / "n", tmp_path / "raw", {"depth": "depth_raw"})
    assert cv2.imread(str(tmp_path / "raw/depth/train/0002.png"), cv2.IMREAD_UNCHANGED).max() == 777


def test_the_recipe_loads_the_converted_set_with_depth_as_one_channel_in_mm(tmp_path):
    for place in ("train/0002", "test/0001"):
        add(tmp_path / "n", place, {"chair": (10, 20, 30, 45)})
    convert(NYUV2, tmp_path / "n", tmp_path / "out")
    data = resolve_dataset(load(RECIPE, [f"data.path={tmp_path / 'out'}"]).recipe.data).as_dict()
    assert tuple(data["names"].values()) == CLASSES
    dataset = build_paired_dataset(get_cfg(overrides={"imgsz": 64}), data["train"], 1, data, "val", False, 32)
    sample = dataset[0]
    assert sample["img"].shape == (4, 64, 64)
    assert np.abs(dataset.labels[0]["bboxes"] * (64, 48, 64, 48) - (20, 32.5, 20, 25)).max() < 0.01
    top = (64 - HEIGHT) // 2
    near, far = sample["img"][3, top + 30, 20], sample["img"][3, top + 5, 5]
    assert abs(int(near) - 1000 / 10_000 * 255) <= 1
    assert abs(int(far) - FAR / 10_000 * 255) <= 1


def test_real_boxes_come_through_to_a_tenth_of_a_pixel(tmp_path, shared_data):
    source = shared_data / "nyuv2"
    for part, count in (("train", 6), ("test", 3)):
        for stem in sorted(file.stem for file in (source / part / "boxes").iterdir())[:count]:
            for folder, suffix in (("rgb", "jpg"), ("depth", "png"), ("labels_40", "png"), ("boxes", "txt")):
                link = tmp_path / "n" / part / folder / f"{stem}.{suffix}"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source / part / folder / link.name)
    (tmp_path / "n/box_classes.txt").symlink_to(source / "box_classes.txt")
    record = convert(NYUV2, tmp_path / "n", tmp_path / "out")
    assert {split: entry["pairs"] for split, entry in record["splits"].items()} == {"train": 6, "val": 3}
    assert tuple(record["splits"]["train"]["boxes"]) == CLASSES
    assert any("data.range.depth=[0,255]" in note for note in record["notes"])
    for part, split in (("train", "train"), ("test", "val")):
        for file in (tmp_path / "n" / part / "boxes").iterdir():
            before = boxes_in(file, (320, 240))
            after = boxes_in(tmp_path / "out/labels" / split / file.name, (320, 240))
            assert np.abs(before - after).max() < 0.1


def test_regions_find_the_boxes_that_others_made_of_the_same_class_maps(shared_data):
    source, found, given, made = shared_data / "nyuv2/train", 0, 0, 0
    for file in sorted((source / "boxes").iterdir())[:100]:
        boxes = boxes_in(file, (320, 240))
        ours = regions(cv2.imread(str(source / "labels_40" / f"{file.stem}.png"), cv2.IMREAD_UNCHANGED))
        given, made = given + len(boxes), made + len(ours)
        for label in ours:
            (x1, y1), (x2, y2) = label.points
            same = boxes[boxes[:, 0] == label.class_id]
            shared = np.prod(
                np.clip(np.minimum(same[:, 3:], (x2, y2)) - np.maximum(same[:, 1:3], (x1, y1)), 0, None), 1
            )
            union = np.prod(same[:, 3:] - same[:, 1:3], 1) + (x2 - x1) * (y2 - y1) - shared
            found += bool((shared / union > 0.75).any())
    assert found > 0.95 * given
    assert found > 0.95 * made


@pytest.mark.slow
def test_training_starts_with_the_recipe_of_the_format(tmp_path):
    for place in ("train/0002", "train/0003", "train/0004", "train/0006", "test/0001", "test/0005"):
        add(tmp_path / "n", place, {"chair": (10, 20, 30, 45), "lamp": (50, 5, 58, 20)})
    record = convert(NYUV2, tmp_path / "n", tmp_path / "set")
    trainer = train_recipe(RECIPE, tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    check_training(trainer, record, {"rgb": 3, "depth": 1})


@pytest.mark.slow
def test_the_classes_of_pixels_train_with_their_recipe_and_void_counts_for_nothing(tmp_path):
    for place in ("train/0002", "train/0003", "test/0001"):
        add(tmp_path / "n", place, {"chair": (10, 20, 30, 45), "lamp": (50, 5, 58, 20)})
    convert(NYUV2, tmp_path / "n", tmp_path / "set")
    recipe = RECIPE.parents[1] / "semantic" / "nyuv2_semantic.yaml"
    trainer = train_recipe(recipe, tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    dataset = trainer.test_loader.dataset
    mask = dataset.load_mask(0)
    assert set(np.unique(mask)) == {255, NYU40.index("wall") - 1, NYU40.index("chair") - 1, NYU40.index("lamp") - 1}
    assert (mask[:2] == 255).all() and dataset.data["names"][mask[30, 20]] == "chair"
    assert trainer.losses and np.isfinite(trainer.losses).all() and trainer.last.is_file()
