from pathlib import Path

import cv2
import numpy as np
import pytest
from sources import boxes_in, reasons
from training import check_training, train_recipe
from ultralytics.cfg import get_cfg

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.conversion.model import ConversionError
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.kaist import CLASSES, KAIST
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

HEADER = "% bbGt version=3\n"
ROOT = Path(__file__).parents[3]
ALL = {"train_step": 1, "val_step": 1}


def line(label: str, x=20, y=10, w=12, h=30, occlusion=0, ignore=0) -> str:
    return f"{label} {x} {y} {w} {h} {occlusion} 0 0 0 0 {ignore} 0\n"


def xml(*things: tuple) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><x>{x}</x><y>{y}</y><w>{w}</w><h>{h}</h></bndbox><pose>unknown</pose>"
        "<truncated>0</truncated><difficult>0</difficult><occlusion>0</occlusion></object>"
        for name, x, y, w, h in things
    )
    return f"<?xml version='1.0'?><annotation><folder>KAIST</folder>{objects}</annotation>"


def picture(*boxes, grey=40) -> np.ndarray:
    image = np.full((64, 80, 3), grey, np.uint8)
    for x, y, w, h in boxes:
        image[y : y + h, x : x + w] = 250
    return image


def add(root, frame: str, text: str | None = HEADER, boxes=(), annotation: str | None = None, lwir=True) -> None:
    """Write a frame like "set00/V000/I00001": both images, and its annotation unless `text` is None."""
    video, name = frame.rsplit("/", 1)
    for folder in ("visible", "lwir")[: 1 + lwir]:
        file = root / video / folder / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".jpg", picture(*boxes), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    if text is not None:
        file = root / (annotation or f"annotations/{frame}.txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def labels(folder, frame: str) -> np.ndarray:
    """Read converted labels as rows of class, x1, y1, x2, y2 in pixels."""
    return boxes_in(folder / f"labels/train/{frame}.txt", (80, 64))


def test_boxes_lie_on_the_bright_persons_to_half_a_pixel(tmp_path):
    boxes = [(20, 10, 12, 30), (50, 20, 9, 25)]
    add(tmp_path / "k", "set00/V000/I00001", HEADER + "".join(line("person", *box) for box in boxes), boxes)
    convert(KAIST, tmp_path / "k", tmp_path / "out")
    found = labels(tmp_path / "out", "set00/V000/I00001")
    expected = [(0, x, y, x + w, y + h) for x, y, w, h in boxes]
    assert np.abs(found - expected).max() < 0.01
    for folder in ("visible", "infrared"):
        image = cv2.imread(str(tmp_path / "out" / folder / "train/set00/V000/I00001.jpg"), 0)
        for _, x1, y1, x2, y2 in found.round().astype(int):
            assert image[y1:y2, x1:x2].mean() > 240
            assert image[y1:y2, x2 + 2 : x2 + 6].mean() < 60


def test_sets_0_to_5_train_and_6_to_11_validate(tmp_path):
    for number in range(12):
        add(tmp_path / "k", f"set{number:02}/V000/I00019")
    record = convert(KAIST, tmp_path / "k", tmp_path / "out")
    assert {split: entry["pairs"] for split, entry in record["splits"].items()} == {"train": 6, "val": 6}
    found = {folder.name for folder in (tmp_path / "out/visible/val").iterdir()}
    assert found == {f"set{number:02}" for number in range(6, 12)}


def test_by_default_the_frames_are_those_of_the_benchmark(tmp_path):
    for frame in range(45):
        for number in (0, 6):
            add(tmp_path / "k", f"set{number:02}/V000/I{frame:05}")
    convert(KAIST, tmp_path / "k", tmp_path / "out")
    train = sorted(file.stem for file in (tmp_path / "out/visible/train").rglob("*.jpg"))
    val = sorted(file.stem for file in (tmp_path / "out/visible/val").rglob("*.jpg"))
    assert train == [f"I{frame:05}" for frame in range(1, 45, 2)]
    assert val == ["I00019", "I00039"]


def test_a_step_of_one_takes_every_frame_and_of_zero_is_refused(tmp_path):
    for frame in range(3):
        add(tmp_path / "k", f"set00/V000/I{frame:05}")
    assert convert(KAIST, tmp_path / "k", tmp_path / "out", {"train_step": 1})["splits"]["train"]["pairs"] == 3
    with pytest.raises(ConversionError, match="val_step=0"):
        convert(KAIST, tmp_path / "k", tmp_path / "out0", {"val_step": 0})


@pytest.mark.parametrize(
    ("policy", "pairs", "boxes"),
    [
        ("drop", 2, {"person": 2}),
        ("image", 1, {"person": 1}),
        ("keep", 2, {"person": 6}),
        ("classes", 2, {"person": 2, "people": 1, "cyclist": 1, "person?": 1}),
    ],
)
def test_the_ignore_policy_decides_over_boxes_that_are_not_surely_one_person(tmp_path, policy, pairs, boxes):
    mixed = [line(name, x) for name, x in zip(CLASSES, (1, 15, 30, 45), strict=True)] + [line("person", 60, ignore=1)]
    add(tmp_path / "k", "set00/V000/I00001", HEADER + "".join(mixed))
    add(tmp_path / "k", "set00/V000/I00003", HEADER + line("person"))
    record = convert(KAIST, tmp_path / "k", tmp_path / "out", {"ignore": policy})
    assert record["splits"]["train"] == {"pairs": pairs, "boxes": boxes}
    assert any("set data.names" in note for note in record["notes"]) == (policy == "classes")
    expected = {
        "drop": {f"box: to ignore, {name}": 1 for name in CLASSES},
        "image": {"pair: with a box to ignore": 1},
        "keep": {},
        "classes": {"box: to ignore, person": 1},
    }
    assert reasons(record) == expected[policy]


def test_other_spellings_are_mapped_and_unknown_labels_counted(tmp_path):
    add(tmp_path / "k", "set00/V000/I00001", HEADER + line("person?a") + line("unpaired", 50) + line("person", 60))
    record = convert(KAIST, tmp_path / "k", tmp_path / "out")
    assert record["splits"]["train"]["boxes"] == {"person": 1}
    assert reasons(record) == {"box: to ignore, person?": 1, "box: class 'unpaired'": 1}


@pytest.mark.parametrize("header", [HEADER, "", "% bbGt version=3\r\n\r\n"], ids=["header", "none", "Windows"])
def test_a_frame_without_people_is_a_pair_without_boxes(tmp_path, header):
    add(tmp_path / "k", "set00/V000/I00001", header)
    record = convert(KAIST, tmp_path / "k", tmp_path / "out")
    assert record["splits"]["train"] == {"pairs": 1, "boxes": {"person": 0}}
    assert reasons(record) == {}


@pytest.mark.parametrize(
    "damaged",
    ["person 1 2 3\n", "person a 2 3 4 0\n", "person 1 2 nan 4\n", "person 1 2 1e300 4\n", "person 9 9 -4 5\n"],
)
def test_a_line_that_holds_no_box_is_counted_and_the_others_stay(tmp_path, damaged):
    add(tmp_path / "k", "set00/V000/I00001", HEADER + damaged + "person 20 10 12 30 0\n")
    record = convert(KAIST, tmp_path / "k", tmp_path / "out")
    assert record["splits"]["train"]["boxes"] == {"person": 1}
    assert reasons(record) == {"box: no usable coordinates": 1}


def test_boxes_beyond_the_border_are_clipped_or_left_out_by_their_centre(tmp_path):
    add(tmp_path / "k", "set00/V000/I00001", HEADER + line("person", -4, 30, 12, 60) + line("person", 78, 5, 12, 20))
    record = convert(KAIST, tmp_path / "k", tmp_path / "out")
    assert np.abs(labels(tmp_path / "out", "set00/V000/I00001") - (0, 0, 30, 8, 64)).max() < 0.01
    assert reasons(record) == {"box: centre outside of the image": 1}


def test_missing_damaged_and_oddly_named_files_are_left_out_and_named(tmp_path):
    root = tmp_path / "k"
    add(root, "set00/V000/I00001")
    add(root, "set00/V000/I00003", lwir=False)
    add(root, "set00/V000/I00005")
    file = root / "set00/V000/visible/I00005.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    add(root, "set00/V000/I00007", text=None)
    add(root, "set00/V000/copy of I00009")
    add(root, "set00/V000/I00011")
    (root / "annotations/set00/V000/I00011.txt").write_bytes(b"\xff\xfe\x00person")
    record = convert(KAIST, root, tmp_path / "out")
    assert record["splits"]["train"]["pairs"] == 1
    assert reasons(record) == {
        "pair: no ir image": 1,
        "pair: rgb image unreadable": 1,
        "pair: no annotation": 1,
        "pair: name is not I and five digits": 1,
        "pair: annotation unreadable": 1,
    }
    assert "I00007" in record["left_out"]["pair: no annotation"]["examples"][0]


def test_images_may_lie_in_a_folder_of_their_own(tmp_path):
    add(tmp_path / "k/images", "set00/V000/I00001", text=None)
    (tmp_path / "k/annotations/set00/V000").mkdir(parents=True)
    (tmp_path / "k/annotations/set00/V000/I00001.txt").write_text(HEADER + line("person"))
    assert convert(KAIST, tmp_path / "k", tmp_path / "out")["splits"]["train"]["boxes"] == {"person": 1}


def test_sanitised_annotations_lie_flat_and_the_first_folder_that_has_a_frame_counts(tmp_path):
    root = tmp_path / "k"
    add(root, "set00/V000/I00001", HEADER + line("person") + line("person", 50))
    add(root, "set00/V000/I00003", HEADER + line("person"))
    (root / "sanitized").mkdir()
    (root / "sanitized/set00_V000_I00001.txt").write_text("person 30 12 10 28 0 0 0 0 0 0 0\n")
    record = convert(KAIST, root, tmp_path / "out", {"annotations": "sanitized"})
    assert record["splits"]["train"] == {"pairs": 1, "boxes": {"person": 1}}
    assert reasons(record) == {"pair: no annotation": 1}
    record = convert(KAIST, root, tmp_path / "both", {"annotations": "sanitized, annotations"})
    assert record["splits"]["train"] == {"pairs": 2, "boxes": {"person": 2}}
    assert np.abs(labels(tmp_path / "both", "set00/V000/I00001") - (0, 30, 12, 40, 40)).max() < 0.01


def test_xml_annotations_with_x_y_w_h_are_read_too(tmp_path):
    root, folder = tmp_path / "k", "annotations-xml-new-sanitized"
    text = xml(("person", 30, 12, 10, 28), ("cyclist", 5, 5, 9, 20), ("person", "", 1, 2, 3))
    add(root, "set00/V000/I00001", text, annotation=f"{folder}/set00/V000/I00001.xml")
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'
    add(root, "set00/V000/I00003", bomb, annotation=f"{folder}/set00/V000/I00003.xml")
    record = convert(KAIST, root, tmp_path / "out", {"annotations": folder})
    assert np.abs(labels(tmp_path / "out", "set00/V000/I00001") - (0, 30, 12, 40, 40)).max() < 0.01
    assert reasons(record) == {
        "box: to ignore, cyclist": 1,
        "box: no usable coordinates": 1,
        "pair: annotation unreadable": 1,
    }


@pytest.mark.parametrize("name", ["set00/V000/{}/I00001.txt", "set00_V000_{}_I00001.txt"])
def test_of_a_label_set_for_each_image_one_is_taken_and_that_is_told(tmp_path, name):
    add(tmp_path / "k", "set00/V000/I00001", None)
    for image, x in (("visible", 20), ("lwir", 24)):
        file = tmp_path / "k/paired" / name.format(image)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HEADER + line("person", x, 10, 12, 30))
    for options, x in (({}, 20), ({"labels": "lwir"}, 24)):
        out = tmp_path / f"out{x}"
        record = convert(KAIST, tmp_path / "k", out, {"annotations": "paired", **options})
        assert np.abs(labels(out, "set00/V000/I00001") - (0, x, 10, x + 12, 40)).max() < 0.01
        assert any(f"those of {options.get('labels', 'visible')} were taken" in note for note in record["notes"])


def test_where_no_frame_has_an_annotation_what_was_looked_for_and_what_is_there_is_told(tmp_path):
    add(tmp_path / "k", "set00/V000/I00001", HEADER, annotation="annotations/set00/V000/thermal/I00001.txt")
    with pytest.raises(ConversionError) as caught:
        convert(KAIST, tmp_path / "k", tmp_path / "out")
    for name in ("set00/V000/I00001.txt", "set00_V000_I00001.txt", "set00/V000/visible/I00001.xml"):
        assert name in str(caught.value)
    assert f"the first file is {tmp_path / 'k/annotations/set00/V000/thermal/I00001.txt'}" in str(caught.value)


def test_a_folder_that_is_not_kaist_is_refused_with_what_was_looked_for(tmp_path):
    (tmp_path / "k/train").mkdir(parents=True)
    with pytest.raises(ConversionError, match="set00/V000/visible"):
        convert(KAIST, tmp_path / "k", tmp_path / "out")
    add(tmp_path / "k", "set00/V000/I00001", text=None)
    (tmp_path / "k/annotations-xml").mkdir()
    with pytest.raises(ConversionError, match=r"annotations is not a folder \(.* has annotations-xml, set00, train\)"):
        convert(KAIST, tmp_path / "k", tmp_path / "out")


def test_the_numbers_of_the_benchmark_are_expected_where_its_frames_are_taken(tmp_path):
    add(tmp_path / "k", "set06/V000/I00019")
    notes = convert(KAIST, tmp_path / "k", tmp_path / "out")["notes"]
    assert "val: 1 pairs, the complete set has 2252" in notes
    assert any("25086" in note for note in notes)
    assert not any("complete" in note for note in convert(KAIST, tmp_path / "k", tmp_path / "all", ALL)["notes"])


def test_the_recipe_loads_the_converted_set_with_nested_stems(tmp_path):
    root = tmp_path / "k"
    for frame in ("set00/V000/I00001", "set00/V001/I00001", "set06/V000/I00019"):
        add(root, frame, HEADER + line("person", 20, 10, 12, 30), [(20, 10, 12, 30)])
    convert(KAIST, root, tmp_path / "out")
    recipe = load(ROOT / "cfg/detect/kaist.yaml", [f"data.path={tmp_path / 'out'}"]).recipe
    data = resolve_dataset(recipe.data).as_dict()
    assert data["names"] == {0: "person"}
    dataset = build_paired_dataset(
        get_cfg(overrides={"imgsz": 64}), data["train"], 2, data, "val", rect=False, stride=32
    )
    assert len(dataset) == 2
    for label in dataset.labels:
        assert np.abs(label["bboxes"] * (80, 64, 80, 64) - (26, 25, 12, 30)).max() < 0.01
    assert dataset[0]["img"].shape[0] == 6


@pytest.mark.slow
def test_training_starts_with_the_recipe_of_the_format(tmp_path):
    boxes = [(20, 10, 12, 30), (50, 20, 9, 25)]
    text = HEADER + "".join(line("person", *box) for box in boxes)
    train = ("set00/V000/I00001", "set00/V000/I00003", "set00/V001/I00001", "set05/V000/I00001")
    for frame in (*train, "set06/V000/I00019", "set11/V001/I00039"):
        add(tmp_path / "k", frame, text, boxes)
    record = convert(KAIST, tmp_path / "k", tmp_path / "set")
    trainer = train_recipe(ROOT / "cfg/detect/kaist.yaml", tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    check_training(trainer, record)
