from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from ultralytics.cfg import get_cfg

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.section import resolve_dataset

SIZE = (48, 64)


def picture(folder: Path, place: str, seed: int = 0, size=SIZE) -> None:
    """Write a pair; the infrared image is the visible one, upside down in its values."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    for kind, own in (("rgb", image), ("ir", 255 - image)):
        file = folder / "train" / kind / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), own)


def dataset(folder: Path, mode: str = "val", arguments=(), **keys):
    section = {
        "path": str(folder), "modalities": {"rgb": "{split}/rgb", "ir": "{split}/ir"}, "train": "train", "val": "train",
        **keys,
    }  # fmt: skip
    args = get_cfg(overrides={"task": "classify", "imgsz": 32, **dict(arguments)})
    data = resolve_dataset(section).as_dict()
    return build_paired_dataset(args, data["train"], 2, data, mode, rect=True, stride=32)


def test_a_sample_is_the_middle_of_the_stack_with_the_class_of_its_folder(tmp_path):
    picture(tmp_path, "car/1", 1, (32, 48))
    picture(tmp_path, "van/1", 2, (48, 32))
    own = dataset(tmp_path)
    samples = {Path(label["im_file"]).parent.name: own[place] for place, label in enumerate(own.labels)}
    assert {name: sample["cls"].tolist() for name, sample in samples.items()} == {"car": [0], "van": [1]}
    whole = torch.from_numpy(cv2.imread(str(tmp_path / "train/rgb/car/1.png"))[..., ::-1].copy()).permute(2, 0, 1)
    assert torch.equal(samples["car"]["img"], torch.cat([whole, 255 - whole])[..., 8:40])
    assert samples["van"]["img"].shape == (6, 32, 32)


def test_images_are_resized_by_their_shorter_side(tmp_path):
    picture(tmp_path, "car/1", size=(64, 96))
    sample = dataset(tmp_path)[0]
    assert sample["img"].shape == (6, 32, 32) and sample["ratio_pad"] == ((0.5, 0.5), (-8, 0))


def test_a_batch_has_a_class_for_each_image(tmp_path):
    for place in ("car/1", "van/1", "van/2"):
        picture(tmp_path, place)
    own = dataset(tmp_path)
    batch = own.collate_fn(own.__getitems__([0, 1, 2]))
    assert batch["img"].shape == (3, 6, 32, 32) and batch["img"].dtype == torch.uint8
    assert batch["cls"].tolist() == [0, 1, 1] and batch["cls"].dtype == torch.int64


def test_augmentation_crops_mirrors_and_erases_all_modalities_alike_and_colours_the_visible_one(tmp_path):
    picture(tmp_path, "car/1")
    still = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "erasing": 0.0, "scale": 0.5}
    own = dataset(tmp_path, "train", still)
    torch.manual_seed(0)
    samples = [own[0]["img"].int() for _ in range(8)]
    for image in samples:  # interpolation rounds
        assert (image[:3] + image[3:] - 255).abs().max() <= 1
    assert not torch.equal(samples[0], samples[1])

    erased = dataset(tmp_path, "train", {**still, "erasing": 1.0})[0]["img"]
    gone = (erased == 0).all(0)
    assert 0.01 < gone.float().mean() < 0.5

    coloured = dataset(tmp_path, "train", {**still, "hsv_v": 0.9, "scale": 0.0, "fliplr": 0.0})
    mean = [[part.float().mean() for part in coloured[0]["img"].split(3)] for _ in range(6)]
    visible, infrared = torch.tensor(mean).std(0)
    assert visible > 10 * infrared


def test_the_middle_is_torchvisions(tmp_path):
    for seed, size in enumerate([(35, 52), (61, 33), (32, 33)]):
        picture(tmp_path, f"car/{seed}", seed, size)
    own = dataset(tmp_path)
    for place in range(3):
        stack = torch.from_numpy(own.load_image(place)[0].copy()).permute(2, 0, 1)[[2, 1, 0, 5, 4, 3]]
        assert torch.equal(own[place]["img"], v2.CenterCrop(32)(stack))


def test_folders_of_no_class_are_left_out_and_named(tmp_path, log):
    for place in ("car/1", "bus/1", "bus/2", "3"):
        picture(tmp_path, place)
    own = dataset(tmp_path, names=["car", "van"])
    assert len(own) == 1
    (warning,) = (text for level, text in log if level == "WARNING")
    assert "3 of 4 images" in warning and "in no folder of a class but in 3.png, bus: left out" in warning
    with pytest.raises(DatasetError, match="the classes are van, lorry"):
        dataset(tmp_path, names=["van", "lorry"])


def test_another_order_of_the_classes_counts_although_the_set_was_scanned_before(tmp_path):
    for place in ("cat/1", "dog/1"):
        picture(tmp_path, place)
    for names in (["cat", "dog"], ["dog", "cat"], ["cat", "dog"]):
        own = dataset(tmp_path, names=names)
        classes = {Path(label["im_file"]).parent.name: names[int(label["cls"][0, 0])] for label in own.labels}
        assert classes == {"cat": "cat", "dog": "dog"}


def test_a_pair_that_cannot_be_read_is_left_out_and_named(tmp_path, log):
    picture(tmp_path, "car/1")
    picture(tmp_path, "car/2")
    picture(tmp_path, "car/3")
    (tmp_path / "train/ir/car/2.png").write_bytes(b"no picture at all")
    (tmp_path / "train/ir/car/3.png").unlink()
    assert [Path(file).stem for file in dataset(tmp_path).im_files] == ["1"]
    said = "".join(text for _, text in log)
    assert "2.png: pair left out" in said and "it has no partner of ir" in said
