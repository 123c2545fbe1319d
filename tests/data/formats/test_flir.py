from pathlib import Path

import cv2
import numpy as np
import pytest
from sources import reasons, voc_objects
from training import check_training, train_recipe

from mwam_det.data.conversion.model import ConversionError
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.flir import FLIR
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

RECIPE = Path(__file__).parents[3] / "cfg" / "detect" / "flir.yaml"
SIZE = (32, 40)
LISTS = {
    "align_train.txt": "FLIR_00002_PreviewData\nFLIR_00003_PreviewData\n",
    "align_validation.txt": "FLIR_08864_PreviewData",
}


def annotation(*objects: tuple) -> str:
    """An annotation as FLIR-aligned's look, for objects (name, xmin, ymin, xmax, ymax)."""
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>1</depth></size>"
    return f"<Annotation><filename>FLIR_1.jpeg</filename>{size}{voc_objects(*objects)}</Annotation>"


def add_pair(folder: Path, stem: str, *objects: tuple) -> None:
    pixels = np.random.default_rng(int(stem[-2:])).integers(0, 256, (*SIZE, 3), np.uint8)
    for name, content in (("_RGB.jpg", pixels), ("_PreviewData.jpeg", pixels[..., 0])):
        (folder / "JPEGImages" / f"{stem}{name}").write_bytes(cv2.imencode(".jpg", content)[1].tobytes())
    (folder / "Annotations" / f"{stem}_PreviewData.xml").write_text(annotation(*objects))
    (folder / "Annotations" / f"{stem}_mask.jpg").write_bytes(b"a mask, which nobody needs here")


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "FLIR" / "align"
    for name in ("JPEGImages", "Annotations", "AnnotatedImages"):
        (folder / name).mkdir(parents=True)
    add_pair(folder, "FLIR_00002", ("person", 4, 8, 24, 24), ("car", 0, 0, 10, 10), ("dog", 1, 1, 9, 9))
    add_pair(folder, "FLIR_00003", ("bicycle", 4, 8, 24, 24), ("dog", 1, 1, 9, 9))
    add_pair(folder, "FLIR_08864", ("car", 4, 8, 24, 24))
    for name, text in LISTS.items():
        (folder / name).write_text(text)
    return folder.parent


@pytest.mark.parametrize("part", [".", "align"])
def test_pairs_go_where_the_lists_say_and_dogs_are_left_out_and_counted(source, tmp_path, part):
    record = convert(FLIR, source / part, tmp_path / "done")
    assert record["splits"] == {
        "train": {"pairs": 2, "boxes": {"person": 1, "car": 1, "bicycle": 1}},
        "val": {"pairs": 1, "boxes": {"person": 0, "car": 1, "bicycle": 0}},
    }
    assert reasons(record) == {"box: class 'dog'": 2}
    assert record["notes"] == ["train: 2 pairs, the complete set has 4129", "val: 1 pairs, the complete set has 1013"]
    rows = np.loadtxt(tmp_path / "done/labels/train/FLIR_00002.txt")
    assert np.allclose(rows * [1, 40, 32, 40, 32], [[0, 14, 16, 20, 16], [1, 5, 5, 10, 10]], atol=1e-4)
    images = source / "align" / "JPEGImages"
    for written, original in (
        ("visible/val/FLIR_08864.jpg", "FLIR_08864_RGB.jpg"),
        ("infrared/val/FLIR_08864.jpeg", "FLIR_08864_PreviewData.jpeg"),
    ):
        assert (tmp_path / "done" / written).read_bytes() == (images / original).read_bytes()


def test_the_recipe_fits_the_converted_set(source, tmp_path):
    convert(FLIR, source, tmp_path / "done")
    data = resolve_dataset(load(RECIPE, [f"data.path={tmp_path / 'done'}"]).recipe.data).as_dict()
    assert data["names"] == dict(enumerate(FLIR.classes))
    assert list(data["splits"]) == ["train", "val"]


@pytest.mark.parametrize(
    "line",
    [
        "FLIR_00002",
        "FLIR_00002_RGB",
        "FLIR_00002_PreviewData.jpeg",
        "FLIR_00002_PreviewData.xml",
        "JPEGImages/FLIR_00002_RGB.jpg",
        "JPEGImages\\FLIR_00002_RGB.jpg",
        "  FLIR_00002_PreviewData \r",
        "\ufeffFLIR_00002_PreviewData",
    ],
)
def test_lists_are_read_however_they_name_a_pair(source, tmp_path, line):
    (source / "align" / "align_train.txt").write_text(f"{line}\n\n", encoding="utf-8")
    convert(FLIR, source, tmp_path / "done")
    assert [file.name for file in (tmp_path / "done/labels/train").iterdir()] == ["FLIR_00002.txt"]


def test_lists_may_lie_in_imagesets_main(source, tmp_path):
    (source / "align" / "ImageSets" / "Main").mkdir(parents=True)
    for name in LISTS:
        (source / "align" / name).rename(source / "align" / "ImageSets" / "Main" / name)
    assert convert(FLIR, source, tmp_path / "done")["splits"]["train"]["pairs"] == 2


@pytest.mark.parametrize("line", ["../../../etc/passwd", "/etc/passwd", "C:\\secret_RGB.jpg", "..\\x", ".."])
def test_a_name_that_leaves_the_source_is_left_out_and_counted(source, tmp_path, line):
    (source / "align" / "align_train.txt").write_text(f"{line}\nFLIR_00002_PreviewData\n")
    record = convert(FLIR, source, tmp_path / "done")
    assert record["splits"]["train"]["pairs"] == 1
    assert record["left_out"]["pair: no annotation"]["count"] == 1


@pytest.mark.parametrize(
    "folder", ["/home/ann/FLIR/align/JPEGImages/", "D:\\FLIR\\align\\Annotations\\", "../JPEGImages/"]
)
def test_a_path_of_another_machine_is_matched_by_its_name(source, tmp_path, folder):
    (source / "align" / "align_train.txt").write_text(f"{folder}FLIR_00002_RGB.jpg\n")
    assert convert(FLIR, source, tmp_path / "done")["splits"]["train"]["pairs"] == 1


def test_a_list_that_is_no_text_is_refused(source, tmp_path):
    (source / "align" / "align_train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConversionError, match="align_train.txt cannot be read"):
        convert(FLIR, source, tmp_path / "done")


def test_pairs_listed_twice_are_taken_once_so_that_nothing_is_validated_that_was_trained(source, tmp_path):
    (source / "align" / "align_validation.txt").write_text("FLIR_08864\nFLIR_00002_PreviewData\nFLIR_08864_RGB\n")
    record = convert(FLIR, source, tmp_path / "done")
    assert reasons(record) == {"pair: listed before": 2, "box: class 'dog'": 2}
    assert record["left_out"]["pair: listed before"]["examples"][0].endswith("FLIR_00002, already in train")
    assert [record["splits"][split]["pairs"] for split in ("train", "val")] == [2, 1]


def test_what_is_missing_or_unlisted_is_left_out_and_reported(source, tmp_path):
    folder = source / "align"
    (folder / "align_train.txt").write_text("FLIR_00002\nFLIR_00003\nFLIR_00004\nFLIR_00005\nFLIR_00006")
    for i in (5, 6, 7):
        add_pair(folder, f"FLIR_0000{i}", ("car", 4, 8, 24, 24))
    (folder / "JPEGImages" / "FLIR_00005_RGB.jpg").unlink()
    (folder / "Annotations" / "FLIR_00006_PreviewData.xml").write_text("<Annotation>")
    assert reasons(convert(FLIR, source, tmp_path / "done")) == {
        "pair: no annotation": 1,
        "pair: no rgb image": 1,
        "pair: annotation unreadable": 1,
        "annotation: in neither list": 1,
        "box: class 'dog'": 2,
    }


@pytest.mark.parametrize("name", ["JPEGImages", "Annotations", "align_train.txt", "align_validation.txt"])
def test_another_folder_is_refused_with_what_it_lacks(source, tmp_path, name):
    (source / "align" / name).rename(source / "elsewhere")
    with pytest.raises(ConversionError, match=f"is not FLIR-aligned as published: there is no .*{name} in it"):
        convert(FLIR, source, tmp_path / "done")


@pytest.mark.slow
def test_training_starts_with_the_recipe_of_the_format(source, tmp_path):
    record = convert(FLIR, source, tmp_path / "set")
    trainer = train_recipe(RECIPE, tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    check_training(trainer, record)
