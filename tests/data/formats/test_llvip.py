import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sources import reasons
from training import check_training, train_recipe

from mwam_det.data.conversion.model import ConversionError
from mwam_det.data.conversion.write import convert
from mwam_det.data.formats.llvip import LLVIP
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load

RECIPE = Path(__file__).parents[3] / "cfg" / "detect" / "llvip.yaml"
SIZE = (32, 40)


def image(file: Path, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    file.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def annotation(*objects: tuple, size: tuple[int, int] = SIZE) -> str:
    """An annotation as LLVIP's look, for objects (name, xmin, ymin, xmax, ymax)."""
    nodes = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for name, x1, y1, x2, y2 in objects
    )
    return (
        "<annotation>\n<folder>day</folder>\n<filename>elsewhere.jpg</filename>\n<path>C:\\Users\\x\\elsewhere.jpg</path>"
        f"\n<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>\n{nodes}</annotation>\n"
    )


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "LLVIP"
    for part, stems in {"train": ("010001", "010002"), "test": ("190001",)}.items():
        for stem in stems:
            image(folder / "visible" / part / f"{stem}.jpg", int(stem))
            image(folder / "infrared" / part / f"{stem}.jpg", int(stem) + 1)
    (folder / "Annotations").mkdir()
    for stem in ("010001", "010002", "190001"):
        (folder / "Annotations" / f"{stem}.xml").write_text(annotation(("person", 4, 8, 24, 24)))
    return folder


def test_the_authors_parts_become_train_and_val_and_the_recipe_finds_them(source, tmp_path):
    record = convert(LLVIP, source, tmp_path / "done")
    assert record["splits"] == {
        "train": {"pairs": 2, "boxes": {"person": 2}},
        "val": {"pairs": 1, "boxes": {"person": 1}},
    }
    assert record["left_out"] == {}
    assert record["notes"] == [
        "train: 2 pairs, the complete set has 12025",
        "val: 1 pairs, the complete set has 3463",
    ]
    box = np.loadtxt(tmp_path / "done/labels/val/190001.txt")
    assert np.allclose(box * [1, 40, 32, 40, 32], [0, 14, 16, 20, 16], atol=1e-4)
    for folder in ("visible", "infrared"):
        written = tmp_path / "done" / folder / "val/190001.jpg"
        assert written.read_bytes() == (source / folder / "test/190001.jpg").read_bytes()
    recipe = load(RECIPE, [f"data.path={tmp_path / 'done'}"]).recipe
    assert resolve_dataset(recipe.data).names == {0: "person"}


def test_what_is_missing_or_strange_is_left_out_and_reported(source, tmp_path):
    annotations = source / "Annotations"
    (annotations / "010002.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    (annotations / "190001.xml").write_text(annotation(("person", 4, 8, 24, 24), ("persn", 1, 1, 9, 9)))
    (annotations / "260001.xml").write_text(annotation())
    (annotations / "._010001.xml").write_bytes(b"a Mac's notes")
    for folder in ("visible", "infrared"):
        image(source / folder / "train" / "010003.JPG")
        (source / folder / "train" / "._010001.jpg").write_bytes(b"a Mac's notes")
    image(source / "infrared" / "train" / "010004.jpg")
    for stem in ("010004", "010005"):
        (annotations / f"{stem}.xml").write_text(annotation())
    image(source / "visible" / "train" / "010005.jpg")
    record = convert(LLVIP, source, tmp_path / "done")
    assert reasons(record) == {
        "pair: annotation unreadable": 1,
        "box: class 'persn'": 1,
        "annotation: no image": 1,
        "pair: no annotation": 1,
        "pair: no rgb image": 1,
        "pair: no ir image": 1,
    }
    assert "an annotation needs no document type" in record["left_out"]["pair: annotation unreadable"]["examples"][0]
    assert record["left_out"]["pair: no annotation"]["examples"] == ["train/010003"]
    assert record["left_out"]["annotation: no image"]["examples"] == [str(annotations / "260001.xml")]
    assert [record["splits"][split]["pairs"] for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize("folder", ["visible/train", "infrared/test", "Annotations"])
def test_another_folder_is_refused_with_what_it_lacks(source, tmp_path, folder):
    (source / folder).rename(source / "elsewhere")
    with pytest.raises(ConversionError, match=f"is not LLVIP as published: there is no folder {folder} in it"):
        convert(LLVIP, source, tmp_path / "done")


def test_real_pairs_come_back_with_the_boxes_that_they_had(shared_data, tmp_path):
    silver, folder = shared_data / "llvip_silver", tmp_path / "LLVIP"
    (folder / "Annotations").mkdir(parents=True)
    boxes, stems = {}, {}
    for part, split in {"train": "train", "test": "val"}.items():
        stems[split] = sorted(file.stem for file in (silver / "labels" / split).glob("*.txt"))[:10]
        for stem in stems[split]:
            for modality in ("visible", "infrared"):
                (file,) = (silver / modality / split).glob(f"{stem}.*")
                (folder / modality / part).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / modality / part / f"{stem}.jpg")
            size = cv2.imread(str(file)).shape[1::-1]
            rows = np.loadtxt(silver / "labels" / split / f"{stem}.txt", ndmin=2).reshape(-1, 5)
            low, high = ((rows[:, 1:3] + sign * rows[:, 3:] / 2) * size for sign in (-1, 1))
            corners = np.hstack([low, high])
            boxes[stem] = corners
            text = annotation(*(("person", *row) for row in corners), size=size[::-1])
            (folder / "Annotations" / f"{stem}.xml").write_text(text)
    record = convert(LLVIP, folder, tmp_path / "done")
    assert [record["splits"][split]["pairs"] for split in ("train", "val")] == [10, 10]
    assert not any("state a size" in note for note in record["notes"])
    assert sum(map(len, boxes.values())) > 20
    for split, names in stems.items():
        for stem in names:
            rows = np.loadtxt(tmp_path / f"done/labels/{split}/{stem}.txt", ndmin=2).reshape(-1, 5)
            size = cv2.imread(str(tmp_path / f"done/visible/{split}/{stem}.jpg")).shape[1::-1]
            corners = np.hstack([(rows[:, 1:3] + sign * rows[:, 3:] / 2) * size for sign in (-1, 1)])
            assert np.abs(corners - boxes[stem]).max() < 0.5


@pytest.mark.slow
def test_training_starts_with_the_recipe_of_the_format(source, tmp_path):
    record = convert(LLVIP, source, tmp_path / "set")
    trainer = train_recipe(RECIPE, tmp_path / "runs", f"data.path={tmp_path / 'set'}")
    check_training(trainer, record)
