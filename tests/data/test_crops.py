"""Objects cut out of pairs for classifiers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mwam_det.cli import main
from mwam_det.data.crops import cut_objects
from mwam_det.data.errors import DatasetError
from mwam_det.data.section import resolve_dataset
from mwam_det.files.locks import LOCK, FolderInUse, Hold
from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.experiment import HostExperiment

HEIGHT, WIDTH = 60, 80
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
DEPTH = np.random.default_rng(1).integers(0, 4000, (HEIGHT, WIDTH), np.uint16)


def box(number, left, top, width, height):
    """A line of a label file, of a box in pixels."""
    return f"{number} {(left + width / 2) / WIDTH} {(top + height / 2) / HEIGHT} {width / WIDTH} {height / HEIGHT}\n"


def section_of(root, labels, depth=DEPTH):
    for split in ("train", "val"):
        for stem in ("day_1", "a/night_1"):
            for folder, image in (("visible", RGB), ("depth", depth)):
                file = root / folder / split / f"{stem}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), image)
            file = root / "labels" / split / f"{stem}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(labels)
    return {
        "path": str(root), "modalities": {"rgb": "visible", "depth": "depth"}, "labels": "labels", "train": "train",
        "val": "val", "names": ["chair", "car/van", "cup"], "channels": {"depth": 1}, "range": {"depth": [0, 4000]},
    }  # fmt: skip


def cut(tmp_path, labels, depth=DEPTH, **options):
    data = resolve_dataset(section_of(tmp_path / "set", labels, depth))
    return cut_objects(data, tmp_path / "crops", **options)


def test_a_cut_is_the_square_around_the_box_with_the_values_of_the_files(tmp_path):
    counts = cut(tmp_path, box(1, 30, 20, 20, 16))
    assert {split: count.total() for split, count in counts.items()} == {"train": 2, "val": 2}
    place = np.s_[16:40, 28:52]  # 20 and a tenth of it on each side, around (40, 28)
    for stem in ("day_1_0", "a%2Fnight_1_0"):
        of_class = {name: tmp_path / "crops/train" / name / "car-van" / f"{stem}.png" for name in ("rgb", "depth")}
        assert np.array_equal(cv2.imread(str(of_class["rgb"])), RGB[place])
        assert np.array_equal(cv2.imread(str(of_class["depth"]), cv2.IMREAD_UNCHANGED), DEPTH[place])


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ((0, 0, 20, 20), np.s_[0:24, 0:24]),
        ((60, 40, 20, 20), np.s_[36:60, 56:80]),
        ((0, 10, 80, 20), np.s_[0:60, 0:80]),
    ],
)
def test_a_cut_that_reaches_beyond_the_image_is_moved_into_it(tmp_path, at, place):
    cut(tmp_path, box(0, *at))
    assert np.array_equal(cv2.imread(str(tmp_path / "crops/val/rgb/chair/day_1_0.png")), RGB[place])


def test_a_partner_of_another_size_is_cut_at_the_same_place(tmp_path):
    cut(tmp_path, box(0, 20, 20, 20, 20), depth=cv2.resize(DEPTH, (2 * WIDTH, 2 * HEIGHT), interpolation=0), margin=0)
    assert cv2.imread(str(tmp_path / "crops/val/depth/chair/day_1_0.png"), cv2.IMREAD_UNCHANGED).shape == (20, 20)


def test_small_objects_are_left_out_and_none_at_all_is_an_error(tmp_path):
    counts = cut(tmp_path, box(0, 10, 10, 15, 9) + box(2, 10, 10, 16, 9))
    assert counts["train"] == {"chair": 0, "car-van": 0, "cup": 2}
    with pytest.raises(DatasetError, match="no object of train, val has a side of 17 pixels"):
        cut_objects(resolve_dataset(section_of(tmp_path / "set", box(0, 10, 10, 16, 9))), tmp_path / "no", smallest=17)
    assert not (tmp_path / "no").exists()


def test_what_is_there_is_not_overwritten(tmp_path):
    cut(tmp_path, box(0, 10, 10, 20, 20))
    with pytest.raises(DatasetError, match="already exists"):
        cut_objects(resolve_dataset(section_of(tmp_path / "set", "")), tmp_path / "crops")


def test_what_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    section = section_of(tmp_path / "set", box(0, 10, 10, 20, 20))
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(yaml, "safe_dump", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cut_objects(resolve_dataset(section), tmp_path / "crops")
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_dead_process_left_is_taken_away_and_what_is_not_ours_stays(tmp_path):
    data = resolve_dataset(section_of(tmp_path / "set", box(0, 10, 10, 20, 20)))
    folder = tmp_path / "crops.unfinished"
    (folder / "crops").mkdir(parents=True)
    (folder / "crops" / "half.png").touch()
    with pytest.raises(DatasetError, match="crops.unfinished is in the way"):
        cut_objects(data, tmp_path / "crops")
    (folder / LOCK).touch()  # as a process that was killed leaves it
    cut_objects(data, tmp_path / "crops")
    assert not folder.exists() and not list((tmp_path / "crops").rglob("half.png"))


def test_an_empty_folder_of_a_process_that_died_before_it_locked_it_is_taken_over(tmp_path):
    data = resolve_dataset(section_of(tmp_path / "set", box(0, 10, 10, 20, 20)))
    folder = tmp_path / "crops.unfinished"
    folder.mkdir()
    cut_objects(data, tmp_path / "crops")
    assert (tmp_path / "crops/recipe.yaml").is_file() and not folder.exists()
    (tmp_path / "others.unfinished").touch()
    with pytest.raises(DatasetError, match="others.unfinished is in the way"):
        cut_objects(data, tmp_path / "others")


def test_two_processes_do_not_cut_into_one_folder(tmp_path):
    data = resolve_dataset(section_of(tmp_path / "set", box(0, 10, 10, 20, 20)))
    with Hold(tmp_path / "crops.unfinished"), pytest.raises(FolderInUse):
        cut_objects(data, tmp_path / "crops")


def test_the_recipe_beside_the_cuts_describes_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = section_of(tmp_path / "set", box(0, 10, 10, 20, 20) + box(2, 40, 30, 20, 20))
    (tmp_path / "detect.yaml").write_text(
        yaml.safe_dump({"task": "detect", "model": "yolov8n.yaml", "data": section}, sort_keys=False)
    )
    assert main(["crops", "detect.yaml", "crops", "margin=0.2"]) == 0
    assert "crops/recipe.yaml" in capsys.readouterr().out
    experiment = HostExperiment.from_dict("x", yaml.safe_load((tmp_path / "crops/recipe.yaml").read_text()))
    data = find_samples(experiment.data, segmentation=False)
    assert (data.classes, [m.channels for m in data.modalities]) == (("chair", "cup"), [3, 1])
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 4, "val": 4}
    assert data.modalities[1].value_range == (0, 4000)


@pytest.mark.parametrize("value_range", ["percentile", "minmax"])
def test_ranges_by_the_image_and_filters_stay_in_the_recipe(tmp_path, value_range):
    section = section_of(tmp_path / "set", box(0, 10, 10, 20, 20))
    changes = {"range": {"depth": value_range}, "filter": {"depth": {"low": 3}}}
    cut_objects(resolve_dataset({**section, **changes}), tmp_path / "crops")
    written = yaml.safe_load((tmp_path / "crops/recipe.yaml").read_text())["data"]
    assert {key: written[key] for key in changes} == changes
    depth = resolve_dataset(written).modalities[1]
    assert (depth.value_range, depth.filter.keeps) == (value_range, "low")


@pytest.mark.parametrize("words", [["margin=-1"], ["smallest=many"]])
def test_a_wrong_option_is_named(tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    section = section_of(tmp_path / "set", box(0, 10, 10, 20, 20))
    (tmp_path / "detect.yaml").write_text(
        yaml.safe_dump({"task": "detect", "model": "yolov8n.yaml", "data": section}, sort_keys=False)
    )
    assert main(["crops", "detect.yaml", "crops", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_values_that_png_cannot_hold_stay_what_they_are(tmp_path):
    section = section_of(tmp_path / "set", box(0, 20, 20, 20, 20))
    warm = np.linspace(-20, 40, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    for file in (tmp_path / "set/depth").rglob("*.png"):
        cv2.imwrite(str(file.with_suffix(".tiff")), warm)
        file.unlink()
    cut_objects(resolve_dataset({**section, "range": {"depth": [-20, 40]}}), tmp_path / "crops", margin=0)
    found = cv2.imread(str(tmp_path / "crops/val/depth/chair/day_1_0.tiff"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found, warm[20:40, 20:40])


@pytest.mark.parametrize("cause", ["encoder", "disk"])
def test_a_picture_that_cannot_be_written_ends_in_an_error_and_no_folder(tmp_path, monkeypatch, cause):
    data = resolve_dataset(section_of(tmp_path / "set", box(0, 20, 20, 20, 20)))

    def disk_is_full(file, content):
        raise OSError(28, "No space left on device", str(file))

    words = r"_0\.png cannot be written" if cause == "encoder" else r"No space left on device: .*_0\.png"
    with monkeypatch.context() as patch, pytest.raises(OSError, match=words):
        if cause == "encoder":
            patch.setattr(cv2, "imencode", lambda *args: (False, None))
        else:
            patch.setattr(Path, "write_bytes", disk_is_full)
        cut_objects(data, tmp_path / "crops")
    assert not (tmp_path / "crops").exists()


def test_names_in_no_encoding_are_kept(tmp_path):
    section = section_of(tmp_path / "set", box(0, 20, 20, 20, 20))
    try:
        for file in (tmp_path / "set").rglob("day_1.*"):
            file.rename(file.with_name(f"\udcfc{file.name}"))
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system takes no such names")
    assert cut_objects(resolve_dataset(section), tmp_path / "crops")["val"].total() == 2
    assert (tmp_path / "crops/val/rgb/chair/\udcfcday_1_0.png").is_file()


def test_of_one_class_it_is_said_that_there_is_nothing_to_classify(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = section_of(tmp_path / "set", box(0, 10, 10, 20, 20))
    content = {"task": "detect", "model": "yolov8n.yaml", "data": section}
    (tmp_path / "detect.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(["crops", "detect.yaml", "crops"]) == 0
    said = capsys.readouterr().out
    assert "a classifier needs at least two classes" in said and "Train on them" not in said


def test_stems_with_folders_and_dashes_never_share_a_file(tmp_path):
    section = section_of(tmp_path / "set", box(0, 20, 20, 20, 20))
    stems = ["x/y", "x-y", "x%2Fy", "x%y"]
    for file in (tmp_path / "set").rglob("day_1.*"):
        for stem in stems:
            copy = file.parent / f"{stem}{file.suffix}"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    counts = cut_objects(resolve_dataset(section), tmp_path / "crops")
    written = {file.stem for file in (tmp_path / "crops/train/rgb/chair").iterdir()}
    assert written == {"day_1_0", "a%2Fnight_1_0", "x%2Fy_0", "x-y_0", "x%252Fy_0", "x%25y_0"}
    assert counts["train"]["chair"] == len(written)


def test_a_class_called_like_a_place_is_written_below_the_destination(tmp_path):
    section = {**section_of(tmp_path / "set", box(1, 20, 20, 20, 20)), "names": ["chair", "..", "../../up"]}
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    cut_objects(resolve_dataset(section), tmp_path / "o/crops")
    written = set(tmp_path.rglob("*.png")) - before
    assert {str(file.parent.relative_to(tmp_path / "o/crops")) for file in written} == {
        f"{split}/{name}/--" for split in ("train", "val") for name in ("rgb", "depth")
    }


@pytest.mark.parametrize("names", [["a/b", "a-b", "x"], ["x", "Car", "car"]])
def test_classes_that_would_share_a_folder_are_refused_before_anything_is_written(tmp_path, names):
    section = {**section_of(tmp_path / "set", box(0, 20, 20, 20, 20)), "names": names}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match="names: the classes '.*' and '.*' would share the folder"):
        cut_objects(resolve_dataset(section), tmp_path / "o/crops")
    assert sorted(tmp_path.rglob("*")) == before


def test_two_pairs_that_a_system_writes_to_one_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mwam_det.data.crops._flat", lambda stem: "same")
    data = resolve_dataset(section_of(tmp_path / "set", box(0, 20, 20, 20, 20)))
    with pytest.raises(DatasetError, match="two pairs would be written to same_0.png"):
        cut_objects(data, tmp_path / "crops")
    assert not (tmp_path / "crops").exists()


def test_a_modality_that_leads_away_is_refused_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = section_of(tmp_path / "set", box(0, 10, 10, 20, 20))
    section["modalities"] = {"../../../up": "visible", "depth": "depth"}
    (tmp_path / "detect.yaml").write_text(yaml.safe_dump({"data": section}, sort_keys=False))
    before = sorted(tmp_path.rglob("*"))
    for command in (["crops", "detect.yaml", "crops"], ["inspect", "detect.yaml"], ["train", "detect.yaml"]):
        assert main(command) == 2
        assert "a modality may not be called '../../../up'" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
