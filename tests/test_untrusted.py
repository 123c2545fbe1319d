"""Recipes, labels, annotations and images that nobody checked: errors of the package alone, and no file elsewhere."""

import json
from itertools import count

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sections import people

from mwam_det.core.config import MWAMConfig
from mwam_det.data.conversion.model import ConversionError, Report
from mwam_det.data.conversion.write import convert
from mwam_det.data.errors import DatasetError
from mwam_det.data.formats.coco import COCO
from mwam_det.data.formats.voc import boxes, read_xml, size
from mwam_det.data.inspection.splits import label_fault
from mwam_det.data.modality import Modality
from mwam_det.data.names import check_modality_names, class_folders
from mwam_det.data.pairing import image_size, verify_pair
from mwam_det.data.section import SECTION_KEYS, resolve_dataset
from mwam_det.engine.experiment import KEYS
from mwam_det.experiments import load
from mwam_det.files.yaml_text import parse_yaml
from mwam_det.hosts.data.layout import SECTION_KEYS as HOST_KEYS
from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.experiment import HostExperiment
from mwam_det.recipe import RecipeError, read_recipe

some = settings(
    deadline=None, derandomize=True, max_examples=60, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip

ODD_TEXTS = st.sampled_from(
    [
        "",
        ".",
        "..",
        "../up",
        "/",
        "a/b",
        "a\\b",
        "a\nb",
        "~",
        "rgb",
        "RGB",
        "train",
        "{split}",
        "é",
        "%s",
        "x" * 300,
        "0",
    ]
)
NUMBERS = st.sampled_from([0, -1, 1, 3, 255, 10**400, -(10**400), 0.5, 1e308, float("nan"), float("inf"), True, None])
PLAIN = st.one_of(NUMBERS, ODD_TEXTS, st.text(max_size=8))
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(["rgb", "ir", "a", 0, 1]), ODD_TEXTS), inner, max_size=3),
    ),
    max_leaves=6,
)
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder beside which nothing may appear."""
    inside = tmp_path / "outer" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    yield inside
    assert [path.name for path in tmp_path.rglob("*") if inside not in (path, *path.parents)] == ["outer"]


def in_a_line(error):
    """Whether the message of an error is one line that somebody may read."""
    return "\n" not in str(error) and 0 < len(str(error)) < 5000


# Recipes -------------------------------------------------------------------------------------------------------------

DATA = people("set")
MWAM_KEYS = tuple(MWAMConfig().to_dict())
PLACES = st.one_of(
    st.tuples(st.sampled_from([*KEYS, "zz"])),
    st.tuples(st.just("data"), st.sampled_from([*(key for key in SECTION_KEYS if key != "synthetic"), "zz"])),
    st.tuples(st.just("mwam"), st.sampled_from(MWAM_KEYS)),
    st.tuples(st.just("incomplete"), st.sampled_from(["views", "level", "weights", "p", "start", "distill", "zz"])),
    st.tuples(st.just("report"), st.sampled_from(["split", "imgsz", "batch", "fill", "degradations"])),
    st.tuples(
        st.just("train"),
        st.sampled_from(["epochs", "imgsz", "batch", "lr0", "classes", "cache", "amp", "name", "freeze"]),
    ),
)


def with_value(content, place, value):
    *sections, key = place
    for section in sections:
        before = content.get(section)
        content = content.setdefault(section, {}) if isinstance(before, dict | None) else before
    content[key] = value


def make_folders(folder, splits=("train", "val")):
    for name in ("visible", "infrared", "labels"):
        for split in splits:
            (folder / "set" / name / split).mkdir(parents=True, exist_ok=True)


@some
@given(place=PLACES, value=VALUES)
def test_a_recipe_with_any_value_anywhere_is_read_or_refused_in_a_line(folder, place, value):
    make_folders(folder)
    content = {"task": "detect", "model": "yolov8n.yaml", "data": {**DATA}, "train": {"epochs": 1}}
    with_value(content, place, value)
    (folder / "r.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        resolve_dataset(load("r.yaml").recipe.data)
    except (RecipeError, DatasetError) as error:
        assert in_a_line(error)


@some
@given(key=st.sampled_from([*HOST_KEYS, "zz"]), value=VALUES)
def test_so_is_one_of_another_host(folder, key, value):
    make_folders(folder)
    data = {**{k: DATA[k] for k in ("path", "modalities", "train", "val")}, "names": ["a", "b"], key: value}
    content = {"task": "multimodal-classification", "data": data}
    (folder / "r.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ValueError):  # there are no pictures, whatever the section says
        find_samples(HostExperiment.from_dict("r", read_recipe("r.yaml")).data, segmentation=False)


@pytest.mark.slow
@some
@given(
    at=st.integers(0, 250),
    what=st.one_of(
        st.sampled_from(["&a ", "*a", "[", "{", ": ", "- ", "'", "\t", "\0", "!!", "<<: "]), st.text(max_size=6)
    ),
)
def test_text_in_the_midst_of_a_recipe_is_read_or_refused_in_a_line(folder, at, what):
    text = yaml.safe_dump({"data": DATA, "train": {"epochs": 1}})
    (folder / "r.yaml").write_text(text[:at] + what + text[at:], encoding="utf-8", errors="replace")
    try:
        load("r.yaml")
    except RecipeError as error:
        assert in_a_line(error)


@some
@given(text=st.text(alphabet="ab01&*[]{}:-!<'\"\\|>?,# \n\t.eEx~", max_size=40))
def test_any_text_is_yaml_or_refused_in_a_line(text):
    try:
        parse_yaml(text)
    except ValueError as error:
        assert in_a_line(error)


@some
@given(
    override=st.one_of(
        st.text(max_size=20), st.builds("{}={}".format, st.text("abdt.=", max_size=9), st.text(max_size=9))
    )
)
def test_any_override_is_read_or_refused(folder, override):
    (folder / "r.yaml").write_text(yaml.safe_dump({"data": DATA}))
    try:
        load("r.yaml", [override])
    except RecipeError as error:
        assert str(error)


# Names ---------------------------------------------------------------------------------------------------------------


@some
@given(names=st.lists(st.one_of(ODD_TEXTS, st.text(max_size=12)), min_size=1, max_size=4, unique=True))
def test_names_that_are_accepted_are_folders_of_their_own_in_the_folder(folder, names):
    try:
        found = class_folders(dict(enumerate(names)))
    except ValueError as error:
        assert in_a_line(error)
    else:
        for name in found.values():
            (folder / name).mkdir(exist_ok=True)
            assert (folder / name).resolve().parent == folder.resolve()
        assert len({name.casefold() for name in found.values()}) == len(names)
    try:
        check_modality_names(names)
    except ValueError as error:
        assert in_a_line(error)
    else:
        assert all((folder / name).resolve().parent == folder.resolve() for name in names)


# Labels and annotations ----------------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(
        ["0", "1", "0.5", "-0.1", "1.01", "2", "nan", "inf", "-inf", "1e400", "9" * 400, "x", "0x1", "é", "1_0"]
    ),
    st.text(max_size=4),
)
LINES = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=4).map("\n".join)


@some
@given(
    text=LINES,
    keypoints=st.sampled_from([(False, 0, 0), (True, 1, 2), (True, 1, 3), (False, 1, 3)]),
    single=st.booleans(),
)
def test_any_label_file_gives_labels_or_leaves_the_pair_out(folder, text, keypoints, single):
    label_file, image = folder / "1.txt", folder / "1.png"
    label_file.write_bytes(text.encode(errors="replace"))
    cv2.imwrite(str(image), PICTURE)
    files = {"rgb": [str(image)], "ir": [str(image)]}
    modalities = (Modality("rgb"), Modality("ir", 3, 3))
    result = verify_pair((str(image), files, str(label_file), "train: ", 2, single, modalities, keypoints))
    if result[0] is None:
        assert f"{label_file}: pair left out, " in result[9]
    else:
        assert result[1].shape[1] == 5 and np.isfinite(result[1]).all() and result[10] == (PICTURE.shape[:2],) * 2
    assert label_fault(label_file, 2)


ENTRIES = {
    "images": {"id": 1, "file_name": "1.png", "width": 48, "height": 40},
    "annotations": {
        "image_id": 1, "category_id": 1, "bbox": [2, 3, 9, 8], "segmentation": [[2, 3, 9, 3, 9, 9]], "iscrowd": 0,
    },
    "categories": {"id": 1, "name": "car"},
}  # fmt: skip
FIELDS = st.sampled_from([(kind, key) for kind, entry in ENTRIES.items() for key in (*entry, None)])
numbers = count()


@some
@given(field=FIELDS, value=VALUES, inside=st.booleans())
def test_any_coco_file_is_converted_or_refused_and_nothing_is_written_elsewhere(folder, field, value, inside):
    kind, key = field
    content = {name: [{**entry}] for name, entry in ENTRIES.items()}
    if key is None:
        content[kind] = value
    elif inside and isinstance(content[kind][0][key], list):
        content[kind][0][key][0] = value
    else:
        content[kind][0][key] = value
    source, destination = folder / "source", folder / f"out{next(numbers)}"
    for name in ("annotations", "rgb", "ir"):
        (source / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(source / name / "1.png"), PICTURE)
    (source / "annotations" / "train.json").write_text(json.dumps(content))
    before = sorted(source.rglob("*"))
    try:
        record = convert(COCO, source, destination)
    except ConversionError as error:
        assert in_a_line(error) and not destination.exists()
    else:
        assert record["splits"]["train"]["pairs"] == 1
    assert sorted(source.rglob("*")) == before


TAGS = st.sampled_from(["width", "height", "name", "xmin", "ymin", "xmax", "ymax", "bndbox", "size", "object"])
XML_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="<&"), max_size=6)


@some
@given(
    tag=TAGS,
    value=st.one_of(
        WORDS.filter(str.isascii), XML_TEXTS, st.sampled_from(["<x/>", "&amp;", "<!DOCTYPE x>", "]]>", "&x;"])
    ),
)
def test_any_voc_annotation_gives_boxes_or_is_refused_in_a_line(folder, tag, value):
    text = (
        "<annotation><size><width>48</width><height>40</height></size><object><name>car</name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    start, end = text.index(f"<{tag}>") + len(tag) + 2, text.index(f"</{tag}>")
    file, report = folder / "1.xml", Report()
    file.write_bytes((text[:start] + value + text[end:]).encode())
    try:
        root = read_xml(file)
    except ValueError as error:
        assert in_a_line(error)
        return
    stated = size(root)
    assert stated is None or min(stated) > 0
    for label in boxes(root, ["car"], file, report):
        assert np.isfinite(label.points).all()


# Images --------------------------------------------------------------------------------------------------------------

FILES = {kind: cv2.imencode(kind, PICTURE)[1].tobytes() for kind in (".png", ".jpg", ".bmp", ".tif", ".webp", ".jp2")}


@some
@given(
    kind=st.sampled_from(list(FILES)),
    name=st.sampled_from([".png", ".jpg", ".tif", ".heic", ".avif"]),
    changes=st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=4)), max_size=3),
    length=st.integers(0, 4000),
)
def test_any_image_has_a_size_or_is_refused_in_a_line(folder, kind, name, changes, length):
    content = bytearray(FILES[kind])
    for place, new in changes:
        content[place : place + len(new)] = new
    (folder / f"1{name}").write_bytes(content[:length])
    try:
        assert min(image_size(folder / f"1{name}")) >= 10
    except ValueError as error:
        assert in_a_line(error)
