import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as run_lengths
from sources import labels_in, reasons, write
from training import check_training, train_recipe
from ultralytics.cfg import get_cfg

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.conversion.model import ConversionError
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.coco import COCO
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

HEIGHT, WIDTH = 48, 64
CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}, {"id": 90, "name": "dog"}]
TRIANGLE = [10, 8, 30, 8, 10, 28]


def picture(*boxes) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for x, y, w, h in boxes:
        image[y : y + h, x : x + w] = 250
    return image


def image(number: int, name: str, **others) -> dict:
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 1, **others}


def thing(image_id, category_id=3, bbox=(10, 8, 20, 20), **others) -> dict:
    box = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "area": 400, "iscrowd": 0, **others}


def make_set(root: Path, images, annotations, categories=CATEGORIES, split="train", draw=True, **others) -> Path:
    """Write a JSON and, if `draw`, a PNG in rgb/ and ir/ for every image in it, with a bright box for each object."""
    numbered = [{"id": 1000 + i, **entry} for i, entry in enumerate(annotations)]
    content = {"images": images, "annotations": numbered, "categories": categories, **others}
    write(root / f"annotations/{split}.json", json.dumps(content))
    for entry in images if draw else ():
        boxes = [a["bbox"] for a in annotations if a["image_id"] == entry["id"]]
        for folder in ("rgb", "ir"):
            write(root / folder / Path(entry["file_name"]), picture(*boxes))
    return root


def rows(file: Path) -> list[list[float]]:
    """Read a label file as rows of class and pixels."""
    return [[class_id, *points.ravel().round(3).tolist()] for class_id, points in labels_in(file, (WIDTH, HEIGHT))]


def test_boxes_lie_on_the_bright_objects_in_both_modalities(tmp_path):
    annotations = [thing(42, bbox=(10, 8, 20, 12)), thing(42, 90, (40, 20, 9, 25)), thing(7, 17, (1, 2, 30, 40))]
    root = make_set(tmp_path / "s", [image(42, "b/0001.png"), image(7, "a/0001.png")], annotations)
    convert(COCO, root, tmp_path / "out")
    found = rows(tmp_path / "out/labels/train/b/0001.txt")
    assert found == [[0, 20, 14, 20, 12], [2, 44.5, 32.5, 9, 25]]
    for folder in ("visible", "infrared"):
        pixels = cv2.imread(str(tmp_path / "out" / folder / "train/b/0001.png"), 0)
        for _, x, y, w, h in found:
            x1, y1, x2, y2 = (round(value) for value in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            assert pixels[y1:y2, x1:x2].min() == 250
            pixels[y1:y2, x1:x2] = 40
        assert pixels.max() == 40


def test_categories_are_numbered_by_ascending_id_over_all_splits(tmp_path):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, 90)], CATEGORIES[2:])
    make_set(tmp_path / "s", [image(1, "2.png")], [thing(1, 17)], CATEGORIES[:2], split="val")
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert record["splits"]["train"]["boxes"] == {"car": 0, "cat": 0, "dog": 1}
    assert record["splits"]["val"]["boxes"] == {"car": 0, "cat": 1, "dog": 0}
    assert rows(tmp_path / "out/labels/train/1.txt")[0][0] == 2


def test_categories_of_one_name_are_one_class_and_ids_of_two_names_are_refused(tmp_path):
    twice = [{"id": 0, "name": "car"}, {"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, 0), thing(1, 1), thing(1, 2)], twice)
    assert convert(COCO, tmp_path / "s", tmp_path / "out")["splits"]["train"]["boxes"] == {"car": 2, "bus": 1}
    make_set(tmp_path / "s", [image(1, "2.png")], [], [{"id": 2, "name": "van"}], split="val")
    with pytest.raises(ConversionError, match=r"val.json: category 2 is 'van'.*'bus'"):
        convert(COCO, tmp_path / "s", tmp_path / "other")


def test_folders_and_json_can_be_named_and_suffixes_may_differ(tmp_path):
    root = tmp_path / "s"
    content = {"images": [image(5, "x.jpg")], "annotations": [thing(5)], "categories": CATEGORIES}
    for split in ("train", "val"):
        write(root / f"{split}/coco.json", json.dumps(content))
        write(root / f"{split}/colour/x.jpg", picture())
        write(root / "thermal" / split / "x.tiff", picture())
    options = {"json": "{split}/coco.json", "rgb": "{split}/colour", "ir": "thermal/{split}"}
    record = convert(COCO, root, tmp_path / "out", options)
    assert {split: entry["pairs"] for split, entry in record["splits"].items()} == {"train": 1, "val": 1}
    assert (tmp_path / "out/infrared/val/x.tiff").is_file()


def test_several_partners_of_a_name_are_left_out(tmp_path):
    root = make_set(tmp_path / "s", [image(1, "1.png"), image(2, "2.png")], [])
    (root / "ir/1.png").unlink()
    write(root / "ir/1.bmp", picture())
    write(root / "ir/1.jpg", picture())
    record = convert(COCO, root, tmp_path / "out")
    assert record["splits"]["train"]["pairs"] == 1
    assert reasons(record) == {"pair: several ir images of a name": 1}


def test_one_json_for_all_is_split_the_same_way_each_time_and_the_split_written_down(tmp_path):
    root = make_set(
        tmp_path / "s", [image(i, f"{i}.png") for i in range(10)], [thing(i) for i in range(10)], split="all"
    )
    options = {"json": "annotations/all.json", "val_share": 0.3}
    for name in ("out", "again"):
        record = convert(COCO, root, tmp_path / name, options)
        assert {split: entry["pairs"] for split, entry in record["splits"].items()} == {"train": 7, "val": 3}
    drawn = (tmp_path / "out/val.txt").read_text().split()
    assert sorted(drawn) == sorted(file.stem for file in (tmp_path / "again/visible/val").iterdir())
    with pytest.raises(ConversionError, match="val_share=1.5"):
        convert(COCO, root, tmp_path / "all", {**options, "val_share": 1.5})


def test_a_polygon_becomes_the_outline_and_the_box_lies_around_it(tmp_path):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, segmentation=[TRIANGLE]), thing(1, bbox=(40, 4, 10, 10))])
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert rows(tmp_path / "out/labels_seg/train/1.txt") == [[0, *TRIANGLE], [0, 40, 4, 50, 4, 50, 14, 40, 14]]
    assert rows(tmp_path / "out/labels/train/1.txt")[0] == [0, 20, 18, 20, 20]
    assert any("1 of 2 objects have no polygons" in note for note in record["notes"])


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_several_polygons_of_an_object_become_one_outline_of_the_same_pixels(tmp_path, parts):
    squares = [[x, 4, x + 10, 4, x + 10, 20, x, 20] for x in (2, 17, 32, 47)[:parts]]
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, bbox=(2, 4, 15 * parts - 5, 16), segmentation=squares)])
    convert(COCO, tmp_path / "s", tmp_path / "out")
    ((_, *outline),) = rows(tmp_path / "out/labels_seg/train/1.txt")
    joined, separate = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(joined, [np.array(outline).reshape(-1, 2).round().astype(int)], 1)
    cv2.fillPoly(separate, [np.array(square).reshape(-1, 2) for square in squares], 1)
    assert (joined >= separate).all()
    assert joined.sum() - separate.sum() <= 5 * parts  # the thin lines between them
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 2 + (15 * parts - 5) / 2, 12, 15 * parts - 5, 16]]


def test_crowds_are_left_out_and_run_lengths_keep_their_box(tmp_path):
    rle = {"counts": [10, 20], "size": [HEIGHT, WIDTH]}
    annotations = [
        thing(1, segmentation=rle),
        thing(1, segmentation=rle, iscrowd=1),
        thing(1, segmentation=[[1, 2, 3, 4]]),
    ]
    make_set(tmp_path / "s", [image(1, "1.png")], annotations)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]] * 2
    assert reasons(record) == {
        "outline: run lengths (RLE), replaced by the box": 1,
        "box: a crowd, not an object": 1,
        "outline: no usable polygons, replaced by the box": 1,
    }


def test_a_box_that_is_not_around_its_polygon_is_told(tmp_path):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, bbox=(0, 0, 60, 40), segmentation=[TRIANGLE])])
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]]
    assert reasons(record) == {"bbox: differs from its polygons, which are used": 1}


@pytest.mark.parametrize(
    ("damage", "reason", "example"),
    [
        ({"image_id": 99}, "box: unknown image_id", "annotations[0].image_id is 99"),
        ({"image_id": "x1"}, "box: unknown image_id", 'annotations[0].image_id is "x1"'),
        ({"image_id": 1.5}, "box: unknown image_id", "annotations[0].image_id is 1.5"),
        ({"image_id": [1]}, "box: unknown image_id", "annotations[0].image_id is [1]"),
        ({"category_id": 4}, "box: unknown category_id", "annotations[0].category_id is 4"),
        ({"category_id": None}, "box: unknown category_id", "annotations[0].category_id is null"),
        ({"bbox": None}, "box: no usable coordinates", "annotations[0].bbox is null"),
        ({"bbox": [1, 2, 3]}, "box: no usable coordinates", "annotations[0].bbox is [1, 2, 3]"),
        ({"bbox": [1, 2, "3,5", 4]}, "box: no usable coordinates", "annotations[0].bbox[2] is '3,5'"),
        ({"bbox": [1, 2, "1_0", 4]}, "box: no usable coordinates", "annotations[0].bbox[2] is '1_0'"),
        ({"bbox": "1 2 3 4"}, "box: no usable coordinates", 'annotations[0].bbox is "1 2 3 4"'),
        ({"iscrowd": "no"}, "box: iscrowd is neither 0 nor 1", 'annotations[0].iscrowd is "no"'),
        ({"bbox": [1, True, 3, 4]}, "box: no usable coordinates", "annotations[0].bbox[1] is true"),
        ({"bbox": [1, 2, float("nan"), 4]}, "box: no usable coordinates", "annotations[0].bbox[2] is nan"),
        ({"bbox": [1e300, 2, 3, 4]}, "box: no usable coordinates", "annotations[0].bbox[0] is 1e+300"),
        ({"bbox": [10**400, 2, 3, 4]}, "box: no usable coordinates", "annotations[0].bbox[0] is 1000"),
        ({"bbox": [1, 2, -3, 4]}, "box: no usable coordinates", "annotations[0].bbox is -3×4"),
        ({"bbox": {"x": 1}}, "box: no usable coordinates", "annotations[0].bbox is {"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6x"]]}, "outline: no usable polygons, replaced by the box", "[0][5]"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "outline: no usable polygons, replaced by the box", "segmentation[0] is"),
        (
            {"segmentation": [1, 2, 3, 4, 5]},
            "outline: no usable polygons, replaced by the box",
            "segmentation[0] is [1, 2, 3, 4, 5]",
        ),
        ({"segmentation": "x"}, "outline: no usable polygons, replaced by the box", "segmentation[0]"),
        (
            {"segmentation": [[0, 1] * 3000] * 2},
            "outline: no usable polygons, replaced by the box",
            "6000 points, too many",
        ),
    ],
)
def test_what_is_wrong_with_one_annotation_leaves_that_one_out_and_names_the_key(tmp_path, damage, reason, example):
    root = tmp_path / "s"
    make_set(root, [image(1, "1.png")], [thing(1)])
    make_set(root, [image(1, "1.png")], [{**thing(1), **damage}, thing(1)], draw=False)
    record = convert(COCO, root, tmp_path / "out")
    assert reasons(record) == {reason: 1}
    assert example in record["left_out"][reason]["examples"][0]
    assert "train.json" in record["left_out"][reason]["examples"][0]
    assert record["splits"]["train"]["boxes"]["car"] == 1 + reason.startswith("outline")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "train.json cannot be read as JSON"),
        ("[" * 100_000, "train.json cannot be read as JSON"),
        ('{"images": ' + "9" * 5000 + "}", "train.json cannot be read as JSON"),
        (b'{"images": "\xff"}', "train.json cannot be read as JSON"),
        ("[]", "must hold an object with images"),
        ('{"images": []}', "train.json: annotations is missing"),
        ('{"images": {}, "annotations": [], "categories": []}', "images is missing or not a list"),
        ('{"images": [], "annotations": [], "categories": []}', "categories is empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": ""}]}', "not a valid name"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1.5, "name": "a"}]}', r"categories\[0\].id is 1.5"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "several categories have the id 1",
        ),
    ],
)
def test_a_json_that_is_useless_is_refused_with_file_and_key(tmp_path, text, message):
    root = make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    write(root / "annotations/train.json", text)
    with pytest.raises(ConversionError, match=message):
        convert(COCO, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "example"),
    [
        (3, "images[0] is 3"),
        ({"file_name": "a"}, "images[0].id is missing"),
        ({"id": True, "file_name": "a"}, "images[0].id is true"),
        ({"id": 1.5, "file_name": "a"}, "images[0].id is 1.5"),
        ({"id": "", "file_name": "a"}, 'images[0].id is ""'),
        ({"id": 2}, "images[0].file_name is missing"),
        ({"id": 2, "file_name": 3}, "images[0].file_name is 3, not a text"),
        ({"id": 2, "file_name": "\ud800"}, "not a valid name"),
        ({"id": 2, "file_name": "a/" * 600}, "not a valid name"),
        ({"id": 2, "file_name": "a" * 300}, "not a valid name"),
        ({"id": 2, "file_name": "a\0b.png"}, "not a valid name"),
    ],
)
def test_what_is_wrong_with_one_image_leaves_that_one_out_and_names_the_key(tmp_path, entry, example):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    make_set(tmp_path / "s", [entry, image(1, "1.png")], [thing(1)], draw=False)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert record["splits"]["train"]["boxes"]["car"] == 1
    assert reasons(record) == {"image: no usable entry": 1}
    assert example in record["left_out"]["image: no usable entry"]["examples"][0]


def test_an_annotation_that_is_no_object_is_left_out(tmp_path):
    root = make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    content = json.loads((root / "annotations/train.json").read_text())
    content["annotations"].append("a")
    write(root / "annotations/train.json", json.dumps(content))
    record = convert(COCO, root, tmp_path / "out")
    assert record["left_out"]["box: not a JSON object"]["examples"][0].endswith('annotations[1] is "a"')


@pytest.mark.parametrize("write_number", [str, float, lambda number: f"{float(number)}", lambda n: f" {n} "])
def test_numbers_that_a_tool_writes_as_text_or_with_a_point_are_numbers(tmp_path, write_number):
    def as_written(value):
        if isinstance(value, dict):
            return {key: item if key == "license" else as_written(item) for key, item in value.items()}
        if isinstance(value, list):
            return [as_written(item) for item in value]
        return write_number(value) if isinstance(value, int) else value

    root = make_set(tmp_path / "s", [image(7, "1.png")], [thing(7, segmentation=[TRIANGLE]), thing(7)])
    content = json.loads((root / "annotations/train.json").read_text())
    write(root / "annotations/train.json", json.dumps(as_written(content)))
    record = convert(COCO, root, tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]] * 2
    assert rows(tmp_path / "out/labels_seg/train/1.txt")[0] == [0, *TRIANGLE]
    assert not reasons(record)


def test_an_image_may_have_an_id_that_is_no_number(tmp_path):
    root = make_set(tmp_path / "s", [image("a-1", "1.png"), image("7", "2.png")], [thing("a-1"), thing("7", 17)])
    assert convert(COCO, root, tmp_path / "out")["splits"]["train"]["boxes"] == {"car": 1, "cat": 1, "dog": 0}


@pytest.mark.parametrize("compressed", [True, False])
def test_a_mask_without_an_outline_has_the_box_around_it(tmp_path, compressed):
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[8:28, 10:30] = 1
    pixels[8:20, 10:15] = 0  # the box is that of all its pixels
    if compressed:
        encoded = run_lengths.encode(np.asfortranarray(pixels))
        mask = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    else:
        flat = pixels.T.ravel()
        borders = np.flatnonzero(np.diff(flat)) + 1
        mask = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *borders, flat.size]).tolist()}
    for bbox in (None, [], [0, 0, 0, 0]):
        root = make_set(tmp_path / f"s{bbox}", [image(1, "1.png")], [thing(1)])
        make_set(root, [image(1, "1.png")], [{**thing(1), "bbox": bbox, "segmentation": mask}], draw=False)
        convert(COCO, root, tmp_path / f"out{bbox}")
        assert rows(tmp_path / f"out{bbox}/labels/train/1.txt") == [[0, 20, 18, 20, 20]]


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [5, HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [5, -1]},
        {"size": [HEIGHT, WIDTH], "counts": [5, "x"]},
        {"size": [HEIGHT, WIDTH], "counts": "0oooooO"},
        {"size": [0, 0], "counts": [5]},
        {"size": [10**9, 10**9], "counts": [5, 5]},
        {"size": 5, "counts": [5]},
        {"size": [5, 5, 5], "counts": 7},
    ],
)
def test_a_mask_that_cannot_be_read_leaves_its_object_out(tmp_path, mask):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    broken = {"image_id": 1, "category_id": 3, "segmentation": mask or {"size": None}}
    make_set(tmp_path / "s", [image(1, "1.png")], [broken, thing(1)], draw=False)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert reasons(record) == {"box: no usable coordinates": 1}
    assert record["splits"]["train"]["boxes"]["car"] == 1


def test_polygons_need_no_box(tmp_path):
    root = make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    polygon = {"image_id": 1, "category_id": 3, "segmentation": [TRIANGLE]}
    make_set(root, [image(1, "1.png")], [polygon], draw=False)
    record = convert(COCO, root, tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]]
    assert not reasons(record)


@pytest.mark.parametrize(
    "name", ["../1.png", "/etc/passwd", "a/../../1.png", "..\\1.png", "C:/1.png", ".", "https://x.org/1.png"]
)
def test_a_file_name_that_leaves_the_folder_leaves_its_image_out_and_reads_nothing(tmp_path, name):
    make_set(tmp_path / "s", [image(1, "a/2.png")], [thing(1)])
    write(tmp_path / "s/1.png", picture())
    make_set(tmp_path / "s", [image(1, "a/2.png"), image(2, name)], [thing(1)], draw=False)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert record["splits"]["train"]["pairs"] == 1
    reason = "image: its name leads out of the folder, and not to one file in it"
    assert record["left_out"][reason] == {
        "count": 1,
        "examples": [f"{tmp_path / 's/annotations/train.json'}: {name!r}"],
    }


@pytest.mark.parametrize(
    "name",
    [
        "/home/ann/set/rgb/a/1.png",
        "C:\\Users\\ann\\rgb\\a\\1.png",
        "../rgb/a/1.png",
        "https://x.org/a/1.png",
        "/1.jpg",
        "a\\1.png",
    ],
)
def test_a_path_of_another_machine_is_found_by_its_end(tmp_path, name):
    make_set(tmp_path / "s", [image(1, "a/1.png"), image(2, "b/2.png")], [thing(1), thing(2, 17)])
    make_set(tmp_path / "s", [image(1, name), image(2, "b/2.png")], [thing(1), thing(2, 17)], draw=False)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert not reasons(record)
    assert rows(tmp_path / "out/labels/train/a/1.txt")[0][0] == 0
    assert (tmp_path / "out/infrared/train/a/1.png").is_file()


def test_a_path_of_another_machine_that_may_mean_several_files_is_left_out(tmp_path):
    names = ["a/1.png", "b/1.png", "val/3.png", "4.png"]
    make_set(tmp_path / "s", [image(i, name) for i, name in enumerate(names)], [thing(i) for i in range(4)])
    asked = ["/x/c/1.png", "/x/train/3.png", "/x/4.png", "/y/4.png", "a/1.png"]
    images = [image(i, name) for i, name in enumerate(asked)]
    make_set(tmp_path / "s", images, [thing(i) for i in range(5)], draw=False)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out/labels/train").rglob("*.txt")] == ["1.txt"]
    assert reasons(record) == {
        "image: its name leads out of the folder, and not to one file in it": 2,
        "image: several entries name it": 2,
    }


def test_of_two_entries_of_a_pair_that_of_rgb_counts(tmp_path):
    images = [
        image(i, f"{folder}/{n}.png") for i, (folder, n) in enumerate((f, n) for n in "12" for f in ("rgb", "ir"))
    ]
    root = make_set(tmp_path / "s", images, [thing(0), thing(3), thing(2)], draw=False)
    for folder in ("rgb", "ir"):
        for number in "12":
            write(root / folder / f"{number}.png", picture())
    record = convert(COCO, root, tmp_path / "out", {"rgb": "rgb", "ir": "ir"})
    assert record["splits"]["train"]["pairs"] == 2
    assert reasons(record) == {"image: an entry of ir, of a pair that has one of rgb": 2}
    assert [len(rows(tmp_path / f"out/labels/train/{number}.txt")) for number in "12"] == [1, 1]


def test_several_entries_of_every_image_are_the_reason_that_none_is_left(tmp_path):
    images = [image(0, "1.png"), image(1, "/x/1.png")]
    root = make_set(tmp_path / "s", images, [thing(0)], draw=False)
    write(root / "rgb" / "1.png", picture())
    write(root / "ir" / "1.png", picture())
    with pytest.raises(ConversionError, match="several entries name each image in .*rgb: keep one of each"):
        convert(COCO, root, tmp_path / "out", {"rgb": "rgb", "ir": "ir"})


@pytest.mark.parametrize("word", ["valid", "validation"])
def test_a_split_for_validation_may_be_called_as_roboflow_calls_it(tmp_path, word):
    for split in ("train", word):
        write(tmp_path / f"s/{split}/_annotations.coco.json", json.dumps(
            {"images": [image(1, "1.png")], "annotations": [thing(1)], "categories": CATEGORIES}))  # fmt: skip
        for folder in (split, f"thermal/{split}"):
            write(tmp_path / "s" / folder / "1.png", picture())
    options = {"json": "{split}/_annotations.coco.json", "rgb": "{split}", "ir": "thermal/{split}"}
    record = convert(COCO, tmp_path / "s", tmp_path / "out", options)
    assert {split: entry["pairs"] for split, entry in record["splits"].items()} == {"train": 1, "val": 1}


def test_partners_with_hashes_in_their_names_are_found_by_an_expression(tmp_path):
    make_set(tmp_path / "s", [image(1, "a_jpg.rf.0a1.png"), image(2, "b_jpg.rf.0a2.png")], [thing(1), thing(2)])
    for old, new in (("a_jpg.rf.0a1", "a_jpg.rf.fff"), ("b_jpg.rf.0a2", "b_jpg.rf.eee")):
        (tmp_path / "s/ir" / f"{old}.png").rename(tmp_path / "s/ir" / f"{new}.png")
    with pytest.raises(ConversionError, match=r"no usable pair .*: pair: no ir image \(2\)"):
        convert(COCO, tmp_path / "s", tmp_path / "out")
    record = convert(COCO, tmp_path / "s", tmp_path / "out", {"match": r"(.+)_jpg\.rf\.[0-9a-f]+"})
    assert record["splits"]["train"]["pairs"] == 2
    for folder, suffix in (("visible", "png"), ("infrared", "png"), ("labels", "txt")):
        assert sorted(file.name for file in (tmp_path / "out" / folder / "train").iterdir()) == [
            f"a.{suffix}",
            f"b.{suffix}",
        ]
    with pytest.raises(ConversionError, match=r"match='x' has 0 groups"):
        convert(COCO, tmp_path / "s", tmp_path / "other", {"match": "x"})


@pytest.mark.parametrize("option", ["json", "rgb", "ir"])
@pytest.mark.parametrize("value", ["../s", "/tmp", "."])
def test_options_that_leave_the_source_are_refused(tmp_path, option, value):
    make_set(tmp_path / "s", [image(1, "1.png")], [])
    with pytest.raises(ConversionError, match=f"{option}='{value}' must be a path below"):
        convert(COCO, tmp_path / "s", tmp_path / "out", {option: value})


def test_missing_and_damaged_images_are_left_out_and_named(tmp_path):
    root = make_set(tmp_path / "s", [image(i, f"{i}.jpg") for i in range(4)], [thing(i) for i in range(4)])
    (root / "rgb/1.jpg").unlink()
    (root / "ir/2.jpg").unlink()
    (root / "ir/3.jpg").write_bytes((root / "ir/3.jpg").read_bytes()[:-100])
    record = convert(COCO, root, tmp_path / "out")
    assert record["splits"]["train"]["pairs"] == 1
    assert reasons(record) == {"pair: no rgb image": 1, "pair: no ir image": 1, "pair: ir image unreadable": 1}


def test_what_is_not_there_is_named_with_what_is(tmp_path):
    root = make_set(tmp_path / "s", [image(1, "rgb/7.png")], [], draw=False)
    with pytest.raises(ConversionError, match=r"rgb is not a folder.*option rgb .*there are: annotations"):
        convert(COCO, root, tmp_path / "out")
    for folder in ("rgb", "ir"):
        write(root / folder / "1.png", picture())
    with pytest.raises(ConversionError, match="none of the images.*the first is 'rgb/7.png'"):
        convert(COCO, root, tmp_path / "out")
    with pytest.raises(ConversionError, match=r"no .*test.json: .*option json.*there are: annotations/train.json"):
        convert(COCO, root, tmp_path / "out", {"json": "test.json"})


def test_boxes_follow_the_image_whose_size_the_json_states(tmp_path):
    root = make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, bbox=(10, 8, 20, 20))])
    write(root / "rgb/1.png", cv2.resize(picture((10, 8, 20, 20)), None, fx=2, fy=2))
    convert(COCO, root, tmp_path / "out")
    text = (tmp_path / "out/labels/train/1.txt").read_text().split()
    assert np.abs(np.array(text[1:], float) * (WIDTH, HEIGHT, WIDTH, HEIGHT) - (20, 18, 20, 20)).max() < 0.01


def test_the_recipe_that_is_written_loads_the_converted_set(tmp_path):
    box = (10, 8, 20, 12)
    make_set(tmp_path / "s", [image(900, "a/1.png"), image(3, "b/1.png")], [thing(900, 17, box), thing(3, 90, box)])
    make_set(tmp_path / "s", [image(1, "c/2.png")], [thing(1, 3, box)], split="val")
    convert(COCO, tmp_path / "s", tmp_path / "out")
    data = resolve_dataset(load(tmp_path / "out/recipe.yaml").recipe.data).as_dict()
    assert data["names"] == {0: "car", 1: "cat", 2: "dog"}
    dataset = build_paired_dataset(get_cfg(overrides={"imgsz": 64}), data["train"], 2, data, "val", False, 32)
    assert [label["cls"].tolist() for label in dataset.labels] == [[[1]], [[2]]]
    for label in dataset.labels:
        assert np.abs(label["bboxes"] * (64, 48, 64, 48) - (20, 14, 20, 12)).max() < 0.01
    assert dataset[0]["img"].shape == (6, 64, 64)


@pytest.mark.slow
def test_training_starts_with_the_recipe_of_the_format(tmp_path):
    for split, numbers in (("train", (900, 3, 12, 5)), ("val", (1, 2))):
        things = [thing(i, *what) for i in numbers for what in ((17, (10, 8, 20, 12)), (90, (40, 20, 9, 25)))]
        make_set(tmp_path / "s", [image(i, f"{split}/{i}.png") for i in numbers], things, split=split)
    record = convert(COCO, tmp_path / "s", tmp_path / "set")
    trainer = train_recipe(tmp_path / "set" / "recipe.yaml", tmp_path / "runs")
    check_training(trainer, record)


@pytest.mark.parametrize(
    "size",
    [
        {"width": 0, "height": 0},
        {"width": -64, "height": 48},
        {"width": float("nan"), "height": 48},
        {"width": float("inf"), "height": 48},
        {"width": 10**400, "height": 10**400},
        {"width": 64.5, "height": 48},
        {"width": "64 px", "height": "48"},
        {"width": None, "height": 48},
        {"width": True, "height": [48]},
    ],
    ids=lambda size: str(size)[:40],
)
def test_a_size_that_no_image_has_counts_as_none_and_is_told(tmp_path, size):
    make_set(tmp_path / "s", [image(1, "1.png", **size), image(2, "2.png")], [thing(1), thing(2)])
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == rows(tmp_path / "out/labels/train/2.txt") != []
    (note,) = [note for note in record["notes"] if "state a size" in note]
    assert "train.json: 1 images state a size that none can have, for example " in note and "of '1.png'" in note


def test_a_size_that_is_left_out_or_a_whole_number_with_a_point_is_no_mistake(tmp_path):
    stated = [image(1, "1.png", width=64.0, height=48.0), {"id": 2, "file_name": "2.png"}]
    make_set(tmp_path / "s", stated, [thing(1), thing(2)])
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert not any("state a size" in note for note in record["notes"])
    assert rows(tmp_path / "out/labels/train/1.txt") == rows(tmp_path / "out/labels/train/2.txt")


def test_images_that_share_an_id_are_left_out_and_repeated_entries_count_once(tmp_path):
    images = [image(1, "1.png"), image(2, "2.png"), image(2, "3.png"), image(4, "4.png"), image(4, " 4.png")]
    make_set(tmp_path / "s", images, [thing(1), thing(2), thing(4)], [*CATEGORIES, CATEGORIES[0]])
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert reasons(record) == {"image: several have its id": 2, "box: unknown image_id": 1}
    assert sorted(file.name for file in (tmp_path / "out/labels/train").iterdir()) == ["1.txt", "4.txt"]
    assert rows(tmp_path / "out/labels/train/4.txt") == [[0, 20, 18, 20, 20]]


@pytest.mark.slow
def test_an_id_that_is_there_twice_among_many_is_found_at_once(tmp_path):
    images = [{"id": min(number, 59_998), "file_name": f"{number}.png"} for number in range(60_000)]
    root = make_set(tmp_path / "s", images, [], draw=False)
    for folder in ("rgb", "ir"):
        write(root / folder / "7.png", picture())
    record = convert(COCO, root, tmp_path / "out")
    assert reasons(record)["image: several have its id"] == 2
    assert record["left_out"]["image: several have its id"]["examples"][0].endswith("'59998.png' with the id 59998")


@pytest.mark.parametrize(
    "name",
    [
        "train\\ü 1.png",
        "images/ü 1.png",
        "rgb/train/ü 1.png",
        "https://host/a/%C3%BC%201.png?w=640#x",
        "a/%C3%BC%201.png",
        " ü 1.png ",
        "u\u0308 1.png",
        "C:\\data\\ü 1.png",
        "\\\\nas\\share\\ü 1.jpeg",
    ],
)
def test_a_name_that_is_no_place_in_the_folder_is_looked_up_by_its_end(tmp_path, name):
    make_set(tmp_path / "s", [image(1, name), image(2, "2.png")], [thing(1), thing(2)], draw=False)
    for folder in ("rgb", "ir"):
        write(tmp_path / "s" / folder / "ü 1.png", picture())
        write(tmp_path / "s" / folder / "2.png", picture())
    record = convert(COCO, tmp_path / "s", tmp_path / "out", {"val_share": 0.5})
    assert not record["left_out"]
    assert rows(tmp_path / "out/labels/train/ü 1.txt") == [[0, 20, 18, 20, 20]]


def mask_of_box(size=(HEIGHT, WIDTH), times: int = 1) -> dict:
    """The mask of the box (10, 8, 20, 20), each side so many times as long."""
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[8 * times : 28 * times, 10 * times : 30 * times] = 1
    encoded = run_lengths.encode(pixels)
    return {"size": list(size), "counts": encoded["counts"].decode()}


@pytest.mark.parametrize(
    "segmentation",
    [
        mask_of_box(),
        [mask_of_box()],
        json.dumps(mask_of_box()),
        mask_of_box((2 * HEIGHT, 2 * WIDTH), 2),
        {"size": [str(HEIGHT), float(WIDTH)], "counts": [488, *[20, 28] * 19, 20, 1652]},
        [[10, 8, 30, 8, 30, 28]],
        [10, 8, 30, 8, 30, 28],
        ["10", "8.0", "30", "8", "30", "28"],
        [[10, 8], [30, 8], [30, 28]],
        [[[10, 8], [30, 8], [30, 28]]],
        "[[10, 8, 30, 8, 30, 28]]",
    ],
)
def test_an_outline_or_a_mask_without_a_bbox_has_a_box(tmp_path, segmentation):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, bbox=None, segmentation=segmentation)], draw=False)
    convert(COCO, tmp_path / "s", tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]]


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [WIDTH, HEIGHT], "counts": mask_of_box()["counts"]}, "but the image is 48×64"),
        ({"size": [HEIGHT, WIDTH], "counts": "zzz~~"}, 'segmentation.counts is "zzz~~"'),
        ({"size": [HEIGHT, WIDTH], "counts": mask_of_box()["counts"][:-1] + "o"}, "segmentation.counts is"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "segmentation.counts is"),
    ],
)
def test_a_mask_that_cannot_be_one_of_its_image_is_refused(tmp_path, segmentation, words):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1), thing(1)])
    annotations = [thing(1), thing(1, bbox=None, segmentation=segmentation)]
    make_set(tmp_path / "s", [image(1, "1.png")], annotations, draw=False)
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert words in record["left_out"]["box: no usable coordinates"]["examples"][0]
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]]


@pytest.mark.parametrize("bbox", ["[10, 8, 20, 20]", ' ["10", "8.0", 20, "2e1"]', ["10", " 8 ", "20.0", 20]])
def test_numbers_of_a_box_may_be_texts(tmp_path, bbox):
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1)])
    make_set(tmp_path / "s", [image(1, "1.png")], [thing(1, bbox=bbox)], draw=False)
    convert(COCO, tmp_path / "s", tmp_path / "out")
    assert rows(tmp_path / "out/labels/train/1.txt") == [[0, 20, 18, 20, 20]]


def test_many_pairs_without_an_object_are_told(tmp_path):
    make_set(tmp_path / "s", [image(number, f"{number}.png") for number in range(4)], [thing(0)])
    record = convert(COCO, tmp_path / "s", tmp_path / "out")
    assert "3 of 4 pairs have no object: check that all of them are annotated" in record["notes"]
