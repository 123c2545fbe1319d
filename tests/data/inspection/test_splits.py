import shutil
from pathlib import Path

from inspections import files, finding_with, look_at

from mwam_det.data.inspection.splits import label_fault


def test_missing_partners_are_counted_and_one_is_shown(section):
    gone = files(section, "ir")[::2]
    for file in gone:
        file.unlink()
    finding = finding_with(look_at(section), "left out")
    assert finding.startswith("train: 4 of 8 images are left out: no partner of ir (4, like ")
    assert gone[0].stem in finding


def test_every_reason_to_leave_a_pair_out_is_told(section):
    rgb, ir = files(section, "rgb"), files(section, "ir")
    labels = Path(section["path"]) / "labels" / "train"
    rgb[0].write_bytes(rgb[0].read_bytes()[:300])
    ir[1].write_bytes(b"no image")
    shutil.copy(ir[2], ir[2].with_name(f"{ir[2].stem}.tif"))
    (labels / f"{rgb[3].stem}.txt").write_text("0 1.2 0.5 0.1 0.1\n")
    (labels / f"{rgb[4].stem}.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    (labels / f"{rgb[5].stem}.txt").write_text("0 zero 0.5 0.1 0.1\n")
    shutil.copy(ir[7], ir[7].with_name(f"alone{ir[7].suffix}"))
    (labels / "nobody.txt").write_text("")
    inspection = look_at(section)
    left_out = {reason: entry["count"] for reason, entry in inspection.splits["train"].left_out.items()}
    assert left_out == {
        "rgb cannot be read": 1,
        "ir cannot be read": 1,
        "several files of ir share a name": 1,
        "labels outside of the image (a coordinate not in 0 to 1)": 1,
        "labels of a class that 'names' lacks": 1,
        "labels cannot be read": 1,
    }
    assert "6 of 8 images" in finding_with(inspection, "left out")
    assert finding_with(inspection, "without a partner").endswith("1.")
    assert finding_with(inspection, "label files without an image").endswith("1.")


def test_a_label_that_is_refused_for_another_reason_is_told_so(tmp_path):
    (tmp_path / "x.txt").write_text("0 0.5 0.5 0.2\n")
    assert label_fault(tmp_path / "x.txt", 1) == "labels of fewer than five columns"
    (tmp_path / "x.txt").write_text("0.5 0.5 0.5 0.2 0.2\n")
    assert label_fault(tmp_path / "x.txt", 1) == "labels rejected"


def test_boxes_past_the_border_and_thin_boxes_are_counted(section):
    label = Path(section["path"]) / "labels" / "train" / f"{files(section, 'rgb')[0].stem}.txt"
    label.write_text("0 0.95 0.5 0.3 0.2\n0 0.5 0.5 0.001 0.2\n0 0.5 0.5 0.2 0.2\n")
    inspection = look_at(section)
    assert (inspection.splits["train"].past_border, inspection.splits["train"].thin) == (1, 1)
    assert "1 reach past the border" in finding_with(inspection, "past the border")
    assert "1 are thinner than 1 px" in finding_with(inspection, "thinner")


def test_images_without_objects_and_without_label_files_are_counted(section):
    labels = sorted((Path(section["path"]) / "labels" / "train").glob("*.txt"))
    for file in labels[:2]:
        file.unlink()
    labels[2].write_text("")
    figures = look_at(section).splits["train"]
    assert (figures.without_objects, figures.without_label_file) == (3, 2)


def test_label_files_in_a_linked_folder_are_found(section):
    labels = Path(section["path"]) / "labels" / "train"
    store = Path(section["path"]) / "store"
    store.mkdir()
    for kind in ("rgb", "ir"):
        file = files(section, kind)[0]
        (file.parent / "night").mkdir()
        file.rename(file.parent / "night" / file.name)
    moved = labels / f"{file.stem}.txt"
    moved.rename(store / moved.name)
    (labels / "night").symlink_to(store)
    (store / "nobody.txt").write_text("")
    figures = look_at(section).splits["train"]
    assert (figures.without_label_file, figures.stray_labels) == (0, 1)
