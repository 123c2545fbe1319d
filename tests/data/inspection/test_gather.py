from pathlib import Path

import numpy as np
import pytest
from inspections import files, look_at

from mwam_det.data.errors import DatasetError


def test_a_split_without_a_usable_pair_is_an_error_that_shows_the_messages(section, log):
    for file in files(section, "ir", "val"):
        file.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="no usable pair"):
        look_at(section)
    assert any("pair left out" in text for _, text in log)


def test_nothing_is_written_into_the_dataset(section):
    before = {file: file.stat().st_mtime_ns for file in Path(section["path"]).rglob("*")}
    look_at(section)
    assert {file: file.stat().st_mtime_ns for file in Path(section["path"]).rglob("*")} == before


REAL = {
    "llvip_silver": {"modalities": {"rgb": "visible", "ir": "infrared"}, "names": ["person"]},
    "harbour_rgbt": {"modalities": {"rgb": "visible", "ir": "infrared"}, "names": ["boat", "ship", "person"]},
    "peach3_640": {"modalities": {"rgb": "rgb", "ir": "infrared", "depth": "depth"}, "names": list("abcd")},
    "dronevehicle6": {
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "ir_labels",
        "train": ".",
        "val": ".",
        "names": list("abcde"),
    },
    "nyuv2": {
        "modalities": {"rgb": "{split}/rgb", "depth": "{split}/depth"},
        "labels": "{split}/boxes",
        "train": "test",
        "val": "test",
        "names": [f"class {number}" for number in range(20)],
    },
}
PAIRS = {"llvip_silver": 149, "harbour_rgbt": 109, "peach3_640": 20, "dronevehicle6": 12, "nyuv2": 300}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_set_is_inspected_and_has_sane_figures(shared_data, name):
    section = {"labels": "labels", "train": "train", "val": "val", **REAL[name], "path": str(shared_data / name)}
    inspection = look_at(section, 320, sample=12)
    assert sum(split.pairs for split in inspection.splits.values()) == PAIRS[name]
    assert not any(split.left_out for split in inspection.splits.values())
    assert inspection.sampled <= 13
    assert inspection.modalities["rgb"].coloured == inspection.sampled
    assert sum(inspection.preference.share.values()) == pytest.approx(len(section["modalities"]), rel=1e-3)
    assert all(0.5 <= weight <= 1.5 for weight in inspection.preference.weight.values())
    for figures in inspection.alignment.values():
        assert (figures.swapped, figures.same_picture, figures.same_file, figures.view) == (0, {}, {}, None)
        assert figures.shift is not None
        assert np.abs(figures.shift).max() < 8
    assert not [
        f for f in inspection.findings if any(word in f for word in ("swapped", "same picture", "shifted", "view"))
    ]
    assert ("in both train and val" in " ".join(inspection.findings)) == (
        name in ("dronevehicle6", "nyuv2")
    )  # one folder for both splits


def test_swapped_folders_of_real_pairs_are_named(shared_data):
    section = {"labels": "labels", "train": "train", "val": "val", **REAL["llvip_silver"]}
    section |= {"path": str(shared_data / "llvip_silver"), "modalities": {"rgb": "infrared", "ir": "visible"}}
    assert "seem swapped" in look_at(section, 256, sample=12).findings[0]
