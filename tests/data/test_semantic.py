from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics.cfg import get_cfg

from mwam_det.data.build import build_paired_dataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.section import resolve_dataset

SIZE = (48, 64)
NAMES = ["ground", "roof"]


def scene(folder: Path, name: str, mask: np.ndarray | bytes | None, split: str = "train") -> None:
    """Write a pair of noise and its PNG, if there is one."""
    random = np.random.default_rng(0)
    for kind in ("visible", "infrared"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / kind / split / f"{name}.png"), random.integers(0, 256, (*SIZE, 3), np.uint8))
    (folder / "masks" / split).mkdir(parents=True, exist_ok=True)
    file = folder / "masks" / split / f"{name}.png"
    if isinstance(mask, bytes):
        file.write_bytes(mask)
    elif mask is not None:
        cv2.imwrite(str(file), mask)


def numbers(value: int = 1, size=SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[10:20, 12:40] = value
    return mask


def dataset(folder: Path, mode: str = "val", **keys):
    section = {
        "path": str(folder), "modalities": {"rgb": "visible", "ir": "infrared"}, "labels": "masks",
        "train": "train", "val": "train", "names": NAMES, **keys,
    }  # fmt: skip
    args = get_cfg(overrides={"task": "semantic", "imgsz": 64, "mosaic": 1.0, "degrees": 10.0})
    data = resolve_dataset(section).as_dict()
    return build_paired_dataset(args, data["train"], 2, data, mode, rect=False, stride=32)


def test_a_sample_holds_the_stack_and_the_class_of_every_pixel_at_the_same_place(tmp_path):
    scene(tmp_path, "a", numbers())
    sample = dataset(tmp_path)[0]
    mask = sample["semantic_mask"].numpy()
    assert sample["img"].shape == (6, 64, 64) and mask.shape == (64, 64)
    inside = mask[8:56]  # 48 rows in a square of 64
    assert np.array_equal(inside, numbers()) and (mask[:8] == 255).all() and (mask[56:] == 255).all()


def test_augmentation_moves_images_and_classes_alike(tmp_path):
    for name in "abcd":
        scene(tmp_path, name, numbers())
        bright = cv2.merge([numbers(255)] * 3)
        for kind in ("visible", "infrared"):
            cv2.imwrite(str(tmp_path / kind / "train" / f"{name}.png"), bright)
    sample = dataset(tmp_path, "train")[0]
    bright, roof = sample["img"][3] > 127, sample["semantic_mask"] == 1
    counts = sample["semantic_mask"] != 255
    assert roof.any() and ((bright == roof) | ~counts).float().mean() > 0.95


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (None, "there is no"),
        (b"no picture at all", "pair left out"),
        (cv2.imencode(".png", numbers())[1].tobytes()[:-40], "pair left out"),
        (numbers(2), "holds 2, not a class"),
        (numbers(size=(24, 32)), "is 32×24 pixels, the image 64×48"),
    ],
    ids=["missing", "text", "truncated", "unknown", "size"],
)
def test_a_pair_whose_png_cannot_be_used_is_left_out_and_named(tmp_path, log, mask, said):
    scene(tmp_path, "good", numbers())
    scene(tmp_path, "bad", mask)
    assert [Path(file).stem for file in dataset(tmp_path).im_files] == ["good"]
    assert any("bad" in text and said in text for _, text in log)


def test_numbers_are_read_through_the_label_mapping(tmp_path):
    scene(tmp_path, "a", numbers(7))
    assert set(np.unique(dataset(tmp_path, label_mapping={7: 1, 0: 255}).load_mask(0))) == {1, 255}
    with pytest.raises(DatasetError, match="no usable pair"):
        dataset(tmp_path)


def test_stacks_are_cached_on_disk_at_the_size_that_training_asks_for(tmp_path):
    scene(tmp_path, "a", numbers())
    built = dataset(tmp_path, "train")
    assert built.load_image(0)[2] == (64, 86)  # the shorter side, as Ultralytics trains this task
    built.cache = "disk"
    assert built.check_cache_disk()
    built.cache_images_to_disk(0)
    assert built.npy_files[0].is_file()
    built.ims[0] = None
    assert np.array_equal(
        built._kept_stack(built.im_files[0], (64, 86)), built._read_stack(built.im_files[0], (64, 86))
    )
