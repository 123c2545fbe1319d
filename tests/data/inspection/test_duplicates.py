import shutil
from pathlib import Path

from inspections import finding_with, look_at

from mwam_det.data.inspection.duplicates import repeated_files


def test_repeated_files_are_counted_by_content(tmp_path):
    contents = {"a": b"x" * 9000, "b": b"x" * 9000, "c": b"y" * 9000, "d": b"x" * 4000 + b"y" * 5000, "e": b"z"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    path = {name: str(tmp_path / name) for name in contents}
    assert repeated_files({"train": [path["a"], path["b"], path["e"]], "val": [path["c"], path["d"]]}) == {"train": 1}
    assert repeated_files({"train": [path["a"], path["c"]], "val": [path["b"]]}) == {"train, val": 1}
    assert repeated_files({"train": [path["c"], path["d"]]}) == {}


def test_files_that_are_in_both_splits_are_named(section):
    root = Path(section["path"])
    for name in ("visible", "infrared", "labels"):
        file = sorted((root / name / "train").iterdir())[0]
        shutil.copy(file, root / name / "val" / f"leaked{file.suffix}")
    inspection = look_at(section)
    assert inspection.repeated == {"rgb": {"train, val": 1}, "ir": {"train, val": 1}}
    assert "1 file of rgb in both train and val" in finding_with(inspection, "of rgb in both train and val")


def test_copies_of_the_colour_files_are_named(section):
    root = Path(section["path"])
    shutil.rmtree(root / "infrared")
    shutil.copytree(root / "visible", root / "infrared")
    assert "same file as rgb in 12 of 12 pairs" in look_at(section).findings[0]
