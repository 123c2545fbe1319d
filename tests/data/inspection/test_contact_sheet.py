from pathlib import Path

import cv2
import numpy as np

from mwam_det.data.inspection.contact_sheet import Picture, draw_contact_sheet
from mwam_det.data.inspection.gather import inspect_dataset
from mwam_det.data.section import resolve_dataset


def test_pictures_are_spread_over_the_splits_and_have_their_boxes(demo_section, tmp_path):
    _, pictures = inspect_dataset(resolve_dataset(demo_section), imgsz=128, pictures=6)
    assert [picture.title.split(":")[0] for picture in pictures] == ["train"] * 4 + ["val"] * 2
    for picture in pictures:
        assert list(picture.images) == ["rgb", "ir"]
        assert picture.images["rgb"].shape == (96, 128, 3)
        stem = picture.title.split()[1]
        split = picture.title.split(":")[0]
        rows = np.loadtxt(Path(demo_section["path"]) / "labels" / split / f"{stem}.txt", ndmin=2)
        centres = (picture.boxes[:, :2] + picture.boxes[:, 2:]) / 2
        assert np.allclose(np.sort(centres, 0), np.sort(rows[:, 1:3] * (128, 96), 0), atol=0.5)
        assert len(picture.classes) == len(rows)
        original = cv2.imread(str(Path(demo_section["path"]) / "visible" / split / f"{stem}.png"))
        if original is not None:
            assert np.array_equal(picture.images["rgb"], original[..., ::-1])
    draw_contact_sheet(pictures, tmp_path / "pairs.png")
    assert cv2.imread(str(tmp_path / "pairs.png")) is not None


def test_a_sheet_has_a_row_for_every_pair_and_a_column_for_every_modality(tmp_path):
    images = {"rgb": np.zeros((48, 64, 3), np.uint8), "ir": np.zeros((48, 64), np.uint8)}
    images["depth"] = np.full((48, 64), 200, np.uint8)
    picture = Picture("train: a", images, np.array([[4.0, 4, 20, 30]]), ["$person"])
    sizes = []
    for pictures in ([picture], [picture] * 2, [Picture("train: b", {"rgb": images["rgb"]}, np.zeros((0, 4)), [])]):
        draw_contact_sheet(pictures, tmp_path / "pairs.png")
        sizes.append(cv2.imread(str(tmp_path / "pairs.png")).shape[:2])
    one_row, two_rows, one_column = sizes
    assert 1.8 < two_rows[0] / one_row[0] < 2
    assert two_rows[1] == one_row[1]
    assert 2.8 < one_row[1] / one_column[1] < 3


def test_a_title_in_no_encoding_is_drawn(tmp_path):
    picture = Picture("val: \udcfc0", {"rgb": np.zeros((20, 20, 3), np.uint8)}, np.zeros((0, 4)), [])
    draw_contact_sheet([picture], tmp_path / "pairs.png")
    assert cv2.imread(str(tmp_path / "pairs.png")) is not None
