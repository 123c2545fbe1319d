import json
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest
from sources import check_outline, labels_in, reasons, snapshot, write
from training import check_training, train_recipe
from ultralytics.cfg import get_cfg

from mwam_det import experiments
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.conversion.model import ConversionError, Label
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.dronevehicle import CLASSES, CROP, DRONEVEHICLE, SAME_OBJECT_IOU, SIZE, rotated_iou, union
from mwam_det.data.section import resolve_dataset

HEIGHT, WIDTH = 512, 640
FRAME = 100
GROUND, VEHICLE = 60, 240
SLANTED = ((250, 260), (290, 230), (302, 246), (262, 276))
UPRIGHT = ((400, 300), (440, 300), (440, 320), (400, 320))
RECIPE = Path(__file__).parents[3] / "cfg" / "dronevehicle.yaml"


def corners(points) -> str:
    return "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(points, 1))


def polygon(name: str, points) -> str:
    return thing(name, f"<polygon>{corners(points)}</polygon>")


def bndbox(name: str, x1, y1, x2, y2) -> str:
    return thing(name, f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>")


def thing(name: str | None, shape: str = "") -> str:
    named = "" if name is None else f"<name>{escape(name)}</name>"
    return f"<object>{named}<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>{shape}</object>"


def annotation(*objects: str, filename: str = "DJI_0312.jpg") -> str:
    """An annotation as the authors wrote them, with a path on the disk of the annotator."""
    return (
        f"<annotation><folder>T</folder><filename>{escape(filename)}</filename><path>E:\\label\\{filename}</path>"
        "<source><database>Unknown</database></source><size><width>840</width><height>712</height><depth>3</depth>"
        f"</size><segmented>0</segmented>{''.join(objects)}</annotation>"
    )


def image(*outlines) -> np.ndarray:
    """A scene in its white frame, vehicles bright on dark ground."""
    scene = np.full((*SIZE, 3), 255, np.uint8)
    scene[CROP[0] : CROP[1], CROP[2] : CROP[3]] = GROUND
    for outline in outlines:
        cv2.fillPoly(scene, [np.round(outline).astype(int)], (VEHICLE,) * 3)
    return scene


def add(root: Path, stem: str, *, rgb: str | None, ir: str | None, scene=None, split: str = "train") -> None:
    """Add a pair with the annotations of both images, None for no file."""
    scene = image() if scene is None else scene
    for part, content in (("img", scene), ("imgr", scene // 2)):
        write(root / split / f"{split}{part}" / f"{stem}.jpg", content)
    for part, text in (("label", rgb), ("labelr", ir)):
        (root / split / f"{split}{part}").mkdir(parents=True, exist_ok=True)
        if text is not None:
            write(root / split / f"{split}{part}" / f"{stem}.xml", text)


def one(root: Path, *objects: str, **arguments) -> Path:
    """A source of one pair with these objects in both annotations."""
    add(root, "00001", rgb=annotation(*objects), ir=annotation(*objects), **arguments)
    return root


def lines(
    root: Path, stem: str = "00001", folder: str = "labels", split: str = "train"
) -> list[tuple[int, np.ndarray]]:
    """Class and points, in pixels of the converted image, of each label of a pair."""
    return labels_in(root / folder / split / f"{stem}.txt", (WIDTH, HEIGHT))


def box_corners(centre_and_sides: np.ndarray) -> np.ndarray:
    """Two opposite corners, shape (2, 2)."""
    centre, sides = centre_and_sides
    return np.stack([centre - sides / 2, centre + sides / 2])


def names(root: Path, **arguments) -> list[str]:
    return [CLASSES[class_id] for class_id, _ in lines(root, **arguments)]


def section(root: Path, labels: str = "labels", **changes) -> dict:
    data = experiments.load(RECIPE).recipe.data
    return {**data, "path": str(root), "val": "train", "labels": labels, **changes}


def load(root: Path, labels: str = "labels", **changes):
    data = resolve_dataset(section(root, labels, **changes)).as_dict()
    args = get_cfg(overrides={"imgsz": 64, "deterministic": False})
    return build_paired_dataset(args, data["val"], 2, data, "val", rect=False, stride=32)


# Places --------------------------------------------------------------------------------------------------------------


def test_the_frame_is_cut_off_and_boxes_lie_on_their_vehicles(tmp_path):
    source = one(tmp_path / "raw", polygon("car", SLANTED), polygon("bus", UPRIGHT), scene=image(SLANTED, UPRIGHT))
    before = snapshot(source)
    record = convert(DRONEVEHICLE, source, tmp_path / "set")
    assert record["splits"] == {"train": {"pairs": 1, "boxes": dict.fromkeys(CLASSES, 0) | {"car": 1, "bus": 1}}}
    assert record["left_out"] == {}
    for folder, brightness in (("visible", 1), ("infrared", 2)):
        pixels = cv2.imread(str(tmp_path / "set" / folder / "train" / "00001.jpg"), cv2.IMREAD_GRAYSCALE)
        assert pixels.shape == (HEIGHT, WIDTH)
        bright = np.uint8(pixels > (GROUND + VEHICLE) / 2 / brightness)
        count, _, regions, _ = cv2.connectedComponentsWithStats(bright)
        assert count == 1 + 2  # ground and two vehicles, nothing of the frame
        for _, box in lines(tmp_path / "set"):
            low, high = box_corners(box)
            distance = np.abs(regions[1:, :4] - [*low, *(high - low)]).max(1)
            assert distance.min() < 1.5
        for _, outline in lines(tmp_path / "set", folder="labels_obb"):
            check_outline(bright, outline)
    assert snapshot(source) == before


def test_outlines_and_boxes_come_back_to_half_a_pixel(tmp_path):
    rng = np.random.default_rng(0)
    outlines = [
        cv2.boxPoints((rng.uniform(200, 500, 2).tolist(), rng.uniform(12, 60, 2).tolist(), rng.uniform(0, 90)))
        for _ in range(30)
    ]
    source = one(tmp_path / "raw", *(polygon("van", outline) for outline in outlines))
    convert(DRONEVEHICLE, source, tmp_path / "set")
    found = lines(tmp_path / "set", folder="labels_obb")
    boxes = lines(tmp_path / "set")
    assert len(found) == len(boxes) == 30
    for outline, (_, points), (_, box) in zip(outlines, found, boxes, strict=True):
        assert np.abs(points + FRAME - outline).max() < 0.01
        assert np.abs(box_corners(box) + FRAME - [outline.min(0), outline.max(0)]).max() < 0.01


def test_with_keep_frame_images_are_linked_and_boxes_count_from_its_corner(tmp_path):
    source = one(tmp_path / "raw", polygon("car", SLANTED))
    convert(DRONEVEHICLE, source, tmp_path / "set", {"keep_frame": True})
    target = tmp_path / "set" / "visible" / "train" / "00001.jpg"
    assert target.samefile(source / "train" / "trainimg" / "00001.jpg")
    ((_, points),) = lines(tmp_path / "set", folder="labels_obb")
    assert np.abs(points / (WIDTH, HEIGHT) * SIZE[::-1] - SLANTED).max() < 0.01


def test_vehicles_on_the_edge_of_the_image_are_cut_and_those_in_the_frame_are_left_out(tmp_path):
    half_in = ((80, 200), (140, 200), (140, 220), (80, 220))  # centre at 110, in the image
    half_out = ((60, 300), (120, 300), (120, 320), (60, 320))  # centre at 90, in the frame
    source = one(tmp_path / "raw", polygon("car", half_in), polygon("truck", half_out))
    record = convert(DRONEVEHICLE, source, tmp_path / "set")
    assert record["left_out"] == {"box: centre outside of the image": {"count": 1, "examples": ["train/00001"]}}
    ((class_id, points),) = lines(tmp_path / "set", folder="labels_obb")
    assert CLASSES[class_id] == "car"
    assert np.abs(points - [(0, 100), (40, 100), (40, 120), (0, 120)]).max() < 0.01
    assert len(load(tmp_path / "set", "labels_obb")) == 1  # Ultralytics rejects coordinates outside


# Annotations as they are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *((name, name) for name in CLASSES),
        *((typo, "freight car") for typo in ("feright_car", "feright car", "feright", "freight_car")),
        ("truvk", "truck"),
        (" car\n", "car"),
        ("Bus", "bus"),
    ],
)
def test_class_names_are_mended(tmp_path, spelling, name):
    record = convert(DRONEVEHICLE, one(tmp_path / "raw", polygon(spelling, SLANTED)), tmp_path / "set")
    assert names(tmp_path / "set") == [name]
    assert record["splits"]["train"]["boxes"][name] == 1


def test_names_that_say_nothing_are_counted_and_left_out(tmp_path):
    spellings = ["*", "", "tram", None, "*"]
    things = [thing(name, f"<polygon>{corners(SLANTED)}</polygon>") for name in spellings]
    record = convert(DRONEVEHICLE, one(tmp_path / "raw", *things, polygon("car", UPRIGHT)), tmp_path / "set")
    assert reasons(record) == {
        "box: class '*'": 2,
        "box: class ''": 2,
        "box: class 'tram'": 1,
    }
    assert names(tmp_path / "set") == ["car"]


def test_a_bndbox_becomes_an_upright_outline(tmp_path):
    convert(DRONEVEHICLE, one(tmp_path / "raw", bndbox("car", 300, 250, 340, 270)), tmp_path / "set")
    ((_, points),) = lines(tmp_path / "set", folder="labels_obb")
    assert np.abs(points - [(200, 150), (240, 150), (240, 170), (200, 170)]).max() < 0.01


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("<point><x>300</x><y>300</y></point>", "box: only a point"),
        ("", "box: no outline"),
        ("<polygon/>", "box: no usable coordinates"),
        (f"<polygon>{corners(SLANTED[:3])}</polygon>", "box: no usable coordinates"),
        (f"<polygon>{corners([('', 200), *SLANTED[1:]])}</polygon>", "box: no usable coordinates"),
        (f"<polygon>{corners([('nan', 200), *SLANTED[1:]])}</polygon>", "box: no usable coordinates"),
        (f"<polygon>{corners([(10**9, 200), *SLANTED[1:]])}</polygon>", "box: no usable coordinates"),
        ("<bndbox><xmin>300</xmin></bndbox>", "box: no usable coordinates"),
        (f"<polygon>{corners([(300, 300)] * 4)}</polygon>", "box: less than a pixel wide or high"),
    ],
)
def test_an_object_without_a_usable_outline_is_counted_and_left_out(tmp_path, shape, reason):
    record = convert(
        DRONEVEHICLE, one(tmp_path / "raw", thing("car", shape), polygon("bus", SLANTED)), tmp_path / "set"
    )
    assert reasons(record) == {reason: 1}
    assert names(tmp_path / "set") == ["bus"]


def test_the_stem_of_the_annotation_counts_not_the_file_name_in_it(tmp_path):
    source = tmp_path / "raw"
    for stem, other, name in (("00001", "00002", "car"), ("00002", "00001", "bus")):
        text = annotation(polygon(name, SLANTED), filename=f"{other}.jpg")
        add(source, stem, rgb=text, ir=text)
    convert(DRONEVEHICLE, source, tmp_path / "set")
    assert names(tmp_path / "set", stem="00001") == ["car"]
    assert names(tmp_path / "set", stem="00002") == ["bus"]


def test_a_pair_without_vehicles_is_a_background(tmp_path):
    record = convert(DRONEVEHICLE, one(tmp_path / "raw"), tmp_path / "set")
    assert record["splits"]["train"]["pairs"] == 1
    assert lines(tmp_path / "set") == lines(tmp_path / "set", folder="labels_obb") == []


def test_files_without_partner_and_damaged_files_are_counted_and_left_out(tmp_path):
    source, text = tmp_path / "raw", annotation(polygon("car", SLANTED))
    for stem in ("00001", "truncated", "no_ir", "no_rgb", "no_annotation", "broken"):
        add(source, stem, rgb=text, ir=text)
    truncated = source / "train" / "trainimgr" / "truncated.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    (source / "train" / "trainimgr" / "no_ir.jpg").unlink()
    (source / "train" / "trainimg" / "no_rgb.jpg").unlink()
    (source / "train" / "trainlabelr" / "no_annotation.xml").unlink()
    (source / "train" / "trainlabelr" / "broken.xml").write_text(text[:-20])
    write(source / "train" / "trainlabelr" / "no_image.xml", text)
    write(source / "train" / "trainimg" / "._00001.jpg", b"what a Mac adds to an archive")
    record = convert(DRONEVEHICLE, source, tmp_path / "set")
    assert reasons(record) == {
        "annotation: no image": 1,
        "pair: no annotation": 1,
        "pair: annotation unreadable": 1,
        "pair: ir image unreadable": 1,
        "pair: no ir image": 1,
        "pair: no rgb image": 1,
    }
    for reason, stem in (
        ("annotation: no image", "no_image"),
        ("pair: no annotation", "no_annotation"),
        ("pair: annotation unreadable", "broken"),
        ("pair: ir image unreadable", "truncated"),
    ):
        assert stem in record["left_out"][reason]["examples"][0]
    for folder in ("visible", "infrared", "labels", "labels_obb"):
        assert [file.stem for file in (tmp_path / "set" / folder / "train").iterdir()] == ["00001"]


def test_an_entity_bomb_and_a_foreign_file_are_refused(tmp_path):
    source = one(tmp_path / "raw", polygon("car", SLANTED))
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 9))
    bomb = f'<!DOCTYPE annotation [<!ENTITY e0 "car">{levels}]>' + annotation(thing("NAME")).replace("NAME", "&e8;")
    secret = tmp_path / "secret"
    secret.write_text("car")
    foreign = f'<!DOCTYPE annotation [<!ENTITY s SYSTEM "{secret.as_uri()}">]>' + annotation(
        polygon("NAME", SLANTED)
    ).replace("NAME", "&s;")
    for stem, text in (("bomb", bomb), ("foreign", foreign)):
        add(source, stem, rgb=text, ir=text)
    record = convert(DRONEVEHICLE, source, tmp_path / "set")
    assert record["left_out"]["pair: annotation unreadable"]["count"] == 2
    assert all("is refused" in text for text in record["left_out"]["pair: annotation unreadable"]["examples"])
    assert record["splits"]["train"]["pairs"] == 1


# Which labels --------------------------------------------------------------------------------------------------------


def two_sets(root: Path) -> Path:
    """A van that RGB shows 5 px further right and calls a car, a car that only RGB shows, a bus that only IR shows."""
    only_rgb, only_ir = (((x, 500), (x + 40, 500), (x + 40, 520), (x, 520)) for x in (150, 600))
    seen = [(x + 5, y) for x, y in SLANTED]
    rgb = annotation(polygon("car", seen), polygon("car", only_rgb))
    ir = annotation(polygon("van", SLANTED), polygon("bus", only_ir))
    add(root, "00001", rgb=rgb, ir=ir)
    return root


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("ir", ["van", "bus"]), ("rgb", ["car", "car"]), ("union", ["van", "bus", "car"])],
)
def test_the_option_labels_chooses_the_set(tmp_path, labels, expected):
    record = convert(DRONEVEHICLE, two_sets(tmp_path / "raw"), tmp_path / "set", {"labels": labels})
    assert names(tmp_path / "set") == expected
    assert record["options"] == {"labels": labels, "keep_frame": False}
    said = [note for note in record["notes"] if note.startswith("union")]
    assert said == (["union: 1 boxes are in both label sets, 1 only in the RGB one"] if labels == "union" else [])
    place = lines(tmp_path / "set", folder="labels_obb")[0][1]
    shift = 5 if labels == "rgb" else 0
    assert np.abs(place + FRAME - SLANTED - (shift, 0)).max() < 0.01


def test_infrared_labels_are_the_default(tmp_path):
    convert(DRONEVEHICLE, two_sets(tmp_path / "raw"), tmp_path / "set")
    assert names(tmp_path / "set") == ["van", "bus"]


@pytest.mark.parametrize(("labels", "needless"), [("ir", "label"), ("rgb", "labelr")])
def test_only_the_folder_of_the_labels_that_are_asked_for_must_be_there(tmp_path, labels, needless):
    source = two_sets(tmp_path / "raw")
    folder = source / "train" / f"train{needless}"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    convert(DRONEVEHICLE, source, tmp_path / "set", {"labels": labels})
    with pytest.raises(ConversionError, match=rf"there is no folder train/train{needless} in it$"):
        convert(DRONEVEHICLE, source, tmp_path / "union", {"labels": "union"})


def upright(x: float, y: float = 0, width: float = 20, height: float = 40, class_id: int = 0) -> Label:
    return Label(class_id, ((x, y), (x + width, y), (x + width, y + height), (x, y + height)))


def turned(label: Label, degrees: float) -> Label:
    matrix = cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2]
    return Label(label.class_id, tuple(map(tuple, (np.array(label.points) @ matrix.T).tolist())))


@pytest.mark.parametrize("degrees", [0, 30, 45, 77])
@pytest.mark.parametrize(("shift", "iou"), [(0, 1), (5, 15 / 25), (10, 10 / 30), (19, 1 / 39), (20, 0), (300, 0)])
def test_rotated_iou_of_shifted_rectangles_is_the_share_they_have_in_common(degrees, shift, iou):
    a, b = (turned(label, degrees).points for label in (upright(0), upright(shift)))
    assert rotated_iou(a, b) == pytest.approx(iou, abs=2e-4)
    assert rotated_iou(b, a) == pytest.approx(iou, abs=2e-4)


def test_rotated_iou_of_a_square_and_its_half_turned_copy_is_that_of_the_octagon():
    square = cv2.boxPoints(((0, 0), (2, 2), 0))
    diamond = cv2.boxPoints(((0, 0), (2, 2), 45))
    octagon = 8 * (2**0.5 - 1)
    assert rotated_iou(square, diamond) == pytest.approx(octagon / (8 - octagon), abs=1e-5)


def test_rotated_iou_agrees_with_the_intersection_of_polygons():
    """OpenCV's is right for rectangles in general positions."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        a, b = (
            cv2.boxPoints((rng.uniform(300, 330, 2).tolist(), rng.uniform(8, 60, 2).tolist(), rng.uniform(0, 180)))
            for _ in range(2)
        )
        common = cv2.intersectConvexConvex(a, b)[0]
        whole = cv2.contourArea(a) + cv2.contourArea(b) - common
        assert rotated_iou(a, b) == pytest.approx(common / whole, abs=1e-4)


def test_rotated_iou_of_copies_pushed_along_one_side_is_exact():
    """Here OpenCV's is not: sides lie on one line."""
    rng = np.random.default_rng(2)
    for _ in range(2000):
        centre, sides, degrees, share = (
            rng.uniform(100, 600, 2),
            rng.uniform(8, 60, 2),
            rng.uniform(0, 180),
            rng.random(),
        )
        along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        a, b = (
            cv2.boxPoints((place.tolist(), sides.tolist(), degrees))
            for place in (centre, centre + along * sides[0] * (1 - share))
        )
        assert rotated_iou(a, b) == pytest.approx(share / (2 - share), abs=1e-4)


def test_outlines_without_area_have_nothing_in_common():
    point = [(5, 5)] * 4
    assert rotated_iou(point, point) == 0
    assert rotated_iou(point, upright(0).points) == 0


def test_the_union_merges_what_overlaps_enough_and_keeps_the_first_box_and_class():
    limit = 20 * (1 - SAME_OBJECT_IOU) / (1 + SAME_OBJECT_IOU)  # this shift leaves just so much of a width of 20
    infrared = upright(0, class_id=3)
    assert union([infrared], [upright(limit - 0.1)]) == [infrared]
    apart = upright(limit + 0.1)
    assert union([infrared], [apart]) == [infrared, apart]


def test_the_union_tells_rotated_boxes_apart_whose_horizontal_boxes_overlap():
    """Cars parked slanted, side by side: the boxes around them share a lot, the cars nothing."""
    cars = [turned(upright(24 * i), 45) for i in range(6)]
    assert union(cars[::2], cars[1::2]) == [*cars[::2], *cars[1::2]]


def test_the_union_pairs_boxes_one_to_one_and_the_best_first():
    """RGB shows two cars, displaced so that each of them overlaps the one that infrared shows."""
    infrared = upright(0)
    near, far = upright(2), upright(-9)
    for second in ([near, far], [far, near]):
        assert union([infrared], second) == [infrared, far]


def test_a_horizontal_box_and_an_outline_of_one_vehicle_are_merged():
    boxed = Label(2, ((0, 0), (20, 40)))
    assert union([boxed], [upright(1)]) == [boxed]


@pytest.mark.parametrize(("first", "second"), [([], []), ([upright(0)], []), ([], [upright(0)])])
def test_the_union_with_an_empty_set_is_the_other(first, second):
    assert union(first, second) == [*first, *second]


# Layout --------------------------------------------------------------------------------------------------------------


def test_the_splits_that_are_there_are_converted_and_the_others_told(tmp_path):
    source = one(tmp_path / "raw", polygon("car", SLANTED))
    one(source, polygon("bus", SLANTED), split="test")
    record = convert(DRONEVEHICLE, source, tmp_path / "set")
    assert {split: counts["pairs"] for split, counts in record["splits"].items()} == {"train": 1, "test": 1}
    assert names(tmp_path / "set", split="test") == ["bus"]
    assert "val: there is no folder val in the source, this split is not converted" in record["notes"]
    assert "train: 1 pairs, the complete set has 17990" in record["notes"]
    assert "test: 1 pairs, the complete set has 8980" in record["notes"]
    assert json.loads((tmp_path / "set" / "conversion.json").read_text()) == record


@pytest.mark.parametrize("part", ["img", "imgr", "labelr"])
def test_a_missing_folder_is_named(tmp_path, part):
    source = one(tmp_path / "raw", split="val")
    (source / "val" / f"val{part}").rename(source / "elsewhere")
    with pytest.raises(
        ConversionError, match=rf"raw is not DroneVehicle as published: .* no folder val/val{part} in it"
    ):
        convert(DRONEVEHICLE, source, tmp_path / "set")


def test_a_folder_without_any_split_is_refused(tmp_path):
    source = one(tmp_path / "raw") / "train"
    with pytest.raises(ConversionError, match=r"no folder train, val or test in it \(looked for train/trainimg"):
        convert(DRONEVEHICLE, source, tmp_path / "set")


@pytest.mark.parametrize("keep_frame", [False, True])
def test_images_whose_frame_is_cut_off_already_are_refused(tmp_path, keep_frame):
    source = one(tmp_path / "raw", scene=image()[CROP[0] : CROP[1], CROP[2] : CROP[3]])
    with pytest.raises(ConversionError, match=r"00001\.jpg is 640×512, but the published images are 840×712"):
        convert(DRONEVEHICLE, source, tmp_path / "set", {"keep_frame": keep_frame})


def test_the_converted_set_loads_with_its_recipe(tmp_path):
    scene = image(SLANTED, UPRIGHT)
    source = one(tmp_path / "raw", polygon("car", SLANTED), polygon("feright_car", UPRIGHT), scene=scene)
    one(source, polygon("van", SLANTED), split="val")
    convert(DRONEVEHICLE, source, tmp_path / "set")
    assert tuple(experiments.load(RECIPE).recipe.data["names"].values()) == CLASSES
    boxes, outlines = (load(tmp_path / "set", labels) for labels in ("labels", "labels_obb"))
    assert boxes[0]["img"].shape == (6, 64, 64)
    assert boxes[0]["cls"].ravel().tolist() == outlines[0]["cls"].ravel().tolist() == [0, 4]
    assert np.allclose(boxes.labels[0]["bboxes"], outlines.labels[0]["bboxes"], atol=1e-4)
    upright_box = boxes.labels[0]["bboxes"][1] * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    assert np.allclose(upright_box, [320, 210, 40, 20], atol=0.01)


# The real pairs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["ir", "rgb"])
def test_both_label_sets_of_the_real_pairs_load_and_outlines_enclose_the_boxes(shared_data, tmp_path, labels):
    root = linked(shared_data / "dronevehicle6", tmp_path, f"{labels}_labels", f"{labels}_obb_labels")
    boxes, outlines = (load(root, folder) for folder in ("labels", "labels_obb"))
    assert len(boxes) == len(outlines) == 6
    for box, outline in zip(boxes.labels, outlines.labels, strict=True):
        assert len(box["cls"]) == len(outline["cls"]) > 0
        assert np.array_equal(box["cls"], outline["cls"])
        assert np.abs((box["bboxes"] - outline["bboxes"]) * (WIDTH, HEIGHT, WIDTH, HEIGHT)).max() < 1


def linked(source: Path, root: Path, boxes: str, outlines: str) -> Path:
    """The real pairs in the layout of a converted set, by links."""
    for folder, part in (("visible",) * 2, ("infrared",) * 2, ("labels", boxes), ("labels_obb", outlines)):
        (root / folder).mkdir()
        (root / folder / "train").symlink_to(source / part)
    return root


@pytest.mark.parametrize("labels", ["ir", "rgb"])
def test_real_pairs_put_back_into_their_frame_convert_to_the_labels_they_had(shared_data, tmp_path, labels):
    real, source = shared_data / "dronevehicle6", tmp_path / "raw"
    kept = {
        part: {
            file.stem: labels_in(file, (WIDTH, HEIGHT)) for file in sorted((real / f"{part}_obb_labels").glob("*.txt"))
        }
        for part in ("ir", "rgb")
    }
    for stem in kept["ir"]:
        texts = {
            part: annotation(*(polygon(CLASSES[class_id], points + FRAME) for class_id, points in kept[part][stem]))
            for part in kept
        }
        add(source, stem, **texts)
        for folder, part in (("visible", "img"), ("infrared", "imgr")):
            framed = image()
            framed[CROP[0] : CROP[1], CROP[2] : CROP[3]] = cv2.imread(str(real / folder / f"{stem}.jpg"))
            write(source / "train" / f"train{part}" / f"{stem}.jpg", framed)
    record = convert(DRONEVEHICLE, source, tmp_path / "set", {"labels": labels})
    assert record["splits"]["train"]["pairs"] == 6
    assert record["left_out"] == {}
    for stem, expected in kept[labels].items():
        found = lines(tmp_path / "set", stem=stem, folder="labels_obb")
        boxes = lines(tmp_path / "set", stem=stem)
        assert [class_id for class_id, _ in found] == [class_id for class_id, _ in expected]
        for (_, points), (_, box), (_, original) in zip(found, boxes, expected, strict=True):
            assert np.abs(points - original).max() < 0.5
            assert np.abs(box_corners(box) - [original.min(0), original.max(0)]).max() < 0.5
        for folder in ("visible", "infrared"):
            before, after = (
                cv2.imread(str(file / f"{stem}.jpg")).astype(int)
                for file in (real / folder, tmp_path / "set" / folder / "train")
            )
            assert np.abs(before - after).mean() < 3  # compressed twice, at the same place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "options", "boxes"),
    [
        ("dronevehicle", {}, 2),
        ("dronevehicle", {"keep_frame": True}, 2),
        ("dronevehicle", {"labels": "union"}, 3),
        ("obb/dronevehicle_obb", {}, 2),
    ],
    ids=["default", "keep_frame", "union", "rotated"],
)
def test_training_starts_with_the_recipes_of_the_format(tmp_path, recipe, options, boxes):
    only_rgb = [(x, y + 150) for x, y in UPRIGHT]
    infrared = annotation(polygon("feright_car", SLANTED), bndbox("car", 400, 300, 440, 320))
    visible = annotation(polygon("car", UPRIGHT), polygon("bus", only_rgb))
    for split, pairs in (("train", 4), ("val", 2)):
        for i in range(pairs):
            scene = image(SLANTED, UPRIGHT, only_rgb)
            add(tmp_path / "raw", f"{i:05}", rgb=visible, ir=infrared, scene=scene, split=split)
    record = convert(DRONEVEHICLE, tmp_path / "raw", tmp_path / "set", options)
    assert sum(record["splits"]["train"]["boxes"].values()) == 4 * boxes
    trainer = train_recipe(RECIPE.parent / f"{recipe}.yaml", tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    check_training(trainer, record)
