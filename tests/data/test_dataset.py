import hashlib
import pickle
import random
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Format, LetterBox
from ultralytics.data.build import build_dataloader
from ultralytics.data.dataset import YOLODataset

from mwam_det.data import dataset
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.dataset import PairedDataset
from mwam_det.data.errors import DatasetError
from mwam_det.data.filtering import WindowFilter, apply_filter
from mwam_det.data.pairing import verify_pair
from mwam_det.data.reading import read_image
from mwam_det.data.section import resolve_dataset

IMGSZ = 64
LABEL = "0 0.5 0.5 0.25 0.25\n"
MOVES = "mosaic", "mixup", "cutmix", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr"
STILL = dict.fromkeys(MOVES, 0.0)
NO_COLOUR = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
FILL = 114
"""What Ultralytics fills the rest of an image with."""


def write(file: Path, content: bytes | str | np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = cv2.imencode(file.suffix, content)[1].tobytes()
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def flat(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def noise(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Blobs of colour, in 0..228 so that 228 minus a value is one, too."""
    coarse = np.random.default_rng(seed).integers(0, 2 * FILL + 1, (height // 4, width // 4, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def mirrored(rgb: np.ndarray) -> np.ndarray:
    """An infrared image that is a known function of the RGB image, one that maps the fill colour to itself."""
    return 2 * FILL - rgb[..., 1]


def make_set(root: Path, rgb, ir=None, labels=LABEL, suffixes=(".png", ".png"), split: str = "train") -> dict:
    """Write a split, pair i called 'i', and return the resolved dataset.

    Args:
        rgb: Its images.
        ir: Their partners; None for `mirrored`.
        labels: A text for all, or one for each pair, None for no file.
    """
    ir = [mirrored(image) for image in rgb] if ir is None else ir
    labels = [labels] * len(rgb) if labels is None or isinstance(labels, str) else labels
    for folder in ("visible", "infrared", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    for i, (image, partner, text) in enumerate(zip(rgb, ir, labels, strict=True)):
        write(root / "visible" / split / f"{i}{suffixes[0]}", image)
        if partner is not None:
            write(root / "infrared" / split / f"{i}{suffixes[1]}", partner)
        if text is not None:
            write(root / "labels" / split / f"{i}.txt", text)
    return resolved(root, split)


def resolved(root: Path, split: str = "train", **changes) -> dict:
    modalities = {"rgb": "visible", "ir": "infrared"}
    section = {"path": str(root), "modalities": modalities, "labels": "labels", "names": ["person", "car"]}
    return resolve_dataset({**section, "train": split, "val": split, **changes}).as_dict()


def build(data: dict, mode: str = "train", batch: int = 4, rect: bool = False, **arguments) -> PairedDataset:
    args = get_cfg(overrides={"imgsz": IMGSZ, "deterministic": False, **arguments})
    return build_paired_dataset(args, data[mode], batch, data, mode, rect=rect, stride=32)


def sample(dataset, i: int, seed: int = 0) -> dict:
    random.seed(seed)
    np.random.seed(seed)
    return dataset[i]


def channels(dataset, i: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw a sample and return its RGB and infrared image, (3, H, W), as signed numbers."""
    image = sample(dataset, i, seed)["img"].numpy().astype(int)
    assert image.shape[0] == 6
    return image[:3], image[3:]


def snapshot(root: Path) -> dict:
    """Everything below a folder: content and times of files, and which folders there are."""

    def state(path: Path):
        return path.is_file() and (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)

    return {str(path): state(path) for path in root.rglob("*")}


@pytest.fixture(autouse=True)
def scans(monkeypatch, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    monkeypatch.setattr("mwam_det.data.dataset.SCANS", folder)
    return folder


@pytest.fixture
def scanned(monkeypatch) -> list[str]:
    """The images that are checked from now on; a result from the cache checks none."""
    images = []

    def check(args):
        images.append(Path(args[0]).name)
        return verify_pair(args)

    monkeypatch.setattr("mwam_det.data.dataset.verify_pair", check)
    return images


def texts(log, level: str | None = None) -> str:
    return "\n".join(text for at, text in log if level in (None, at))


# Stacking ------------------------------------------------------------------------------------------------------------


def test_a_sample_stacks_the_modalities_in_their_order_and_in_rgb(tmp_path):
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:] = (10, 20, 30)  # BGR
    ir = np.zeros((64, 64, 3), np.uint8)
    ir[:] = (40, 50, 60)
    dataset = build(make_set(tmp_path, [rgb], [ir]), **STILL, **NO_COLOUR)
    image = dataset[0]["img"]
    assert image.shape == (6, IMGSZ, IMGSZ)
    assert image.dtype == torch.uint8
    assert image[:, 32, 32].tolist() == [30, 20, 10, 60, 50, 40]


def test_the_order_in_the_dataset_is_the_order_of_the_channels(tmp_path):
    make_set(tmp_path, [flat(10, 64)], [flat(200, 64)])
    dataset = build(resolved(tmp_path, modalities={"ir": "infrared", "rgb": "visible"}), **STILL, **NO_COLOUR)
    assert dataset[0]["img"][:, 32, 32].tolist() == [200] * 3 + [10] * 3
    assert Path(dataset.im_files[0]).parts[-3:] == ("infrared", "train", "0.png")


def test_three_modalities_give_nine_channels(tmp_path):
    make_set(tmp_path, [flat(10, 64)], [flat(200, 64)])
    write(tmp_path / "depth/train/0.png", flat(70, 64)[..., 0])
    data = resolved(tmp_path, modalities={"rgb": "visible", "ir": "infrared", "depth": "depth"})
    image = build(data, **STILL, **NO_COLOUR)[0]["img"]
    assert image[:, 32, 32].tolist() == [10] * 3 + [200] * 3 + [70] * 3


@pytest.mark.parametrize(
    ("partner", "suffix", "read"),
    [
        (np.full((64, 64), 80, np.uint8), ".jpg", [80] * 3),
        (np.full((64, 64), 80, np.uint8), ".png", [80] * 3),
        (np.uint8(np.tile((40, 50, 60), (64, 64, 1))), ".png", [60, 50, 40]),
        (np.uint8(np.tile((40, 50, 60, 0), (64, 64, 1))), ".png", [60, 50, 40]),
        (np.full((64, 64), 0xA1B2, np.uint16), ".png", [0xA1] * 3),
        (np.full((64, 64), 0xA1B2, np.uint16), ".tif", [0xA1] * 3),
    ],
    ids=["grey JPEG", "grey PNG", "colour", "transparent", "16-bit PNG", "16-bit TIFF"],
)
def test_grey_colour_and_16_bit_partners_load_as_three_channels(tmp_path, partner, suffix, read):
    data = make_set(tmp_path, [flat(10, 64)], [partner], suffixes=(".jpg", suffix))
    image = build(data, **STILL, **NO_COLOUR)[0]["img"]
    assert image[:, 32, 32].tolist() == [10] * 3 + read


def test_a_partner_of_another_size_is_stretched_to_the_first_one(tmp_path):
    rgb, ir = noise(0, 48, 64), noise(1, 96, 96)
    dataset = build(make_set(tmp_path, [rgb], [ir]))
    stack, original, size = dataset.load_image(0)
    assert (original, size, stack.shape) == ((48, 64), (48, 64), (48, 64, 6))
    assert np.array_equal(stack[..., :3], rgb)
    assert np.array_equal(stack[..., 3:], cv2.resize(ir, (64, 48), interpolation=cv2.INTER_LINEAR))


def test_labels_follow_the_first_modality_whatever_the_partners_size(tmp_path):
    dataset = build(make_set(tmp_path, [flat(9, 32, 64)], [flat(9, 64, 64)]), mode="val", rect=True)
    drawn = dataset[0]
    assert drawn["ori_shape"] == (32, 64)
    assert drawn["cls"].tolist() == [[0]]


def test_a_turned_jpeg_is_read_upright_and_so_is_its_size(tmp_path):
    data = make_set(tmp_path, [flat(9, 48, 64)], [flat(9, 64, 48)])
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "visible/train/0.png").unlink()
    Image.fromarray(flat(9, 48, 64)).save(tmp_path / "visible/train/0.jpg", exif=exif)
    dataset = build(data)
    assert dataset.labels[0]["shape"] == (64, 48)
    assert dataset.load_image(0)[0].shape == (64, 48, 6)


def one_modality(root: Path, size: tuple[int, int], mode: str, **arguments) -> tuple[PairedDataset, YOLODataset]:
    """Build a dataset of a single modality, and the stock dataset of the same images."""
    for i in range(4):
        write(root / "images/train" / f"{i}.png", noise(i, *size))
        write(root / "labels/train" / f"{i}.txt", LABEL)
    data = resolved(root, modalities={"rgb": "images"})
    stock = YOLODataset(
        img_path=data[mode],
        imgsz=IMGSZ,
        batch_size=4,
        augment=mode == "train",
        hyp=get_cfg(overrides={"imgsz": IMGSZ, **arguments}),
        rect=mode == "val",
        stride=32,
        pad=0.0 if mode == "train" else 0.5,
        data={"names": data["names"], "channels": 3},
    )
    return build(data, mode, rect=mode == "val", **arguments), stock


SIZES = [(48, 64), (64, 48), (30, 100), (97, 31), (64, 64), (20, 20), (113, 128)]


@pytest.mark.parametrize("mode", ["train", "val"])
@pytest.mark.parametrize("size", SIZES)
def test_with_one_modality_samples_equal_those_of_ultralytics_bit_for_bit(tmp_path, mode, size):
    ours, stock = one_modality(tmp_path, size, mode, degrees=10, mixup=0.5, flipud=0.5, bgr=0.5)
    for i in range(4):
        a, b = sample(ours, i, seed=i), sample(stock, i, seed=i)
        assert a.keys() == b.keys()
        assert torch.equal(a["img"], b["img"])
        assert torch.equal(a["bboxes"], b["bboxes"])
        assert (a["im_file"], a["ori_shape"]) == (b["im_file"], b["ori_shape"])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "how", [{}, {"rect_mode": False}, {"resize_short": True}], ids=["long side", "stretched", "short side"]
)
def test_images_are_brought_to_the_size_that_ultralytics_brings_them_to(tmp_path, size, how):
    for imgsz in (IMGSZ, (48, 80)):
        ours, stock = one_modality(tmp_path, size, "val")
        ours.imgsz = stock.imgsz = imgsz
        (a, *a_sizes), (b, *b_sizes) = ours.load_image(0, **how), stock.load_image(0, **how)
        assert a_sizes == b_sizes
        assert np.array_equal(a, b)


def test_samples_are_collated_into_a_batch(tmp_path):
    dataset = build(make_set(tmp_path, [noise(i) for i in range(3)]), **STILL)
    batch = dataset.collate_fn([dataset[i] for i in range(3)])
    assert batch["img"].shape == (3, 6, IMGSZ, IMGSZ)
    assert batch["batch_idx"].tolist() == [0, 1, 2]


def unfused(dataset: PairedDataset, indices: list[int]) -> dict:
    """Make a batch by Ultralytics' own transforms and collation alone, and turn BGR to RGB by hand."""
    order = [
        c for m in dataset.modalities for c in list(range(dataset.channels))[m.slice][:: -1 if m.channels == 3 else 1]
    ]
    box = LetterBox(new_shape=dataset.imgsz, scaleup=False)
    formatting = Format(bbox_format="xywh", normalize=True, batch_idx=True, bgr=1.0)
    samples = []
    for i in indices:
        labels = dataset.get_image_and_label(i)
        labels = box({**labels, "img": np.ascontiguousarray(labels["img"])})
        samples.append(formatting({**labels, "img": labels["img"][..., order]}))
    return YOLODataset.collate_fn(samples)


ALL = {"rgb": "visible", "ir": "infrared", "depth": "depth"}


@pytest.mark.parametrize("cache", [False, "ram", "disk"])
@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": {"ir": 1}},
        {"modalities": ALL},
        {"modalities": {"ir": "infrared"}, "channels": {"ir": 1}},
    ],
    ids=["colour", "one grey", "three", "one alone, grey"],
)
def test_batches_equal_those_of_ultralytics_transforms_and_collation_bit_for_bit(tmp_path, cache, rect, changes):
    sizes = [(40, 64), (64, 30), (30, 64), (64, 64), (128, 100), (48, 33), (20, 20)]
    labels = ["".join(f"{j % 2} 0.5 0.{i + 1} 0.3 0.2{j}\n" for j in range(i)) for i in range(len(sizes))]
    make_set(tmp_path, [noise(i, *size) for i, size in enumerate(sizes)], labels=labels)
    for i, size in enumerate(sizes):
        write(tmp_path / f"depth/train/{i}.png", noise(50 + i, *size))
    dataset = build(resolved(tmp_path, **changes), "val", batch=3, rect=rect, cache=cache)
    for workers in (0, 1) if cache == "ram" and not rect else (0,):
        for _ in range(2):  # again, so that a batch that spoils the cache is noticed
            batches = list(build_dataloader(dataset, 3, workers=workers, shuffle=False))
            assert [len(batch["img"]) for batch in batches] == [3, 3, 1]
            for batch, indices in zip(batches, ([0, 1, 2], [3, 4, 5], [6]), strict=True):
                expected = unfused(dataset, indices)
                assert list(batch) == list(expected)
                for key, value in expected.items():
                    same = torch.equal if isinstance(value, torch.Tensor) else np.array_equal
                    assert same(batch[key], value), key


def test_samples_of_a_batch_are_written_where_the_batch_has_them(tmp_path):
    data = make_set(tmp_path, [noise(i) for i in range(3)])
    dataset = build(data, "val")
    samples = dataset.__getitems__([0, 2])
    assert dataset.collate_fn(samples)["img"].data_ptr() == samples[0]["img"].data_ptr()
    for others in (samples[::-1], samples[:1], [dataset[0], dataset[2]]):
        batch = dataset.collate_fn(others)["img"]
        assert torch.equal(batch, torch.stack([sample["img"] for sample in others]))
        assert batch.data_ptr() != others[0]["img"].data_ptr()
    augmented = build(data, "train", **STILL).__getitems__([0, 2])
    assert augmented[0]["img"].untyped_storage().data_ptr() != augmented[1]["img"].untyped_storage().data_ptr()


def test_a_dataset_can_be_sent_to_workers(tmp_path):
    dataset = build(make_set(tmp_path, [noise(i) for i in range(3)]))
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(sample(copy, 1)["img"], sample(dataset, 1)["img"])


# Augmentation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moves",
    [
        {"mosaic": 1.0},
        {"flipud": 1.0, "fliplr": 1.0},
        {"degrees": 30.0, "translate": 0.3, "scale": 0.5, "shear": 10.0},
        {"perspective": 0.001},
        {"mixup": 1.0},
        {"cutmix": 1.0},
        {"mosaic": 1.0, "mixup": 1.0, "degrees": 20.0, "scale": 0.4, "flipud": 1.0, "fliplr": 1.0},
    ],
    ids=lambda moves: "+".join(moves),
)
def test_what_moves_pixels_moves_all_modalities_alike(tmp_path, moves):
    labels = [f"0 {0.2 + 0.6 * (i % 2)} {0.25 + 0.25 * (i % 3)} 0.1 0.1\n" for i in range(6)]
    data = make_set(tmp_path, [noise(i) for i in range(6)], labels=labels)
    dataset, still = build(data, **{**STILL, **NO_COLOUR, **moves}), build(data, **STILL, **NO_COLOUR)
    augmented = 0
    for draw in range(18):
        i = draw % 6
        rgb, ir = channels(dataset, i, seed=draw)
        expected = 2 * FILL - rgb[1]
        assert np.abs(ir - expected).max() <= 3, "more than the rounding of warp and MixUp"
        assert np.abs(ir[0] - np.roll(expected, 1, axis=1)).max() > 50, "a shift of a pixel would not be noticed"
        augmented += not np.array_equal(rgb, channels(still, i)[0])
    assert augmented > 2  # MixUp may draw the image itself, CutMix spares objects


def test_hsv_changes_the_visible_modality_alone(tmp_path):
    data = make_set(tmp_path, [noise(i) for i in range(4)])
    colourful = build(data, **STILL, hsv_h=0.5, hsv_s=0.9, hsv_v=0.9)
    plain = build(data, **STILL, **NO_COLOUR)
    for i in range(4):
        (rgb, ir), (plain_rgb, plain_ir) = channels(colourful, i, seed=i), channels(plain, i, seed=i)
        assert np.array_equal(ir, plain_ir)
        assert not np.array_equal(rgb, plain_rgb)


def test_hsv_changes_nothing_where_no_modality_is_visible(tmp_path):
    make_set(tmp_path, [noise(i) for i in range(2)])
    data = resolved(tmp_path, modalities={"a": "visible", "b": "infrared"})
    colourful = build(data, **STILL, hsv_h=0.5, hsv_s=0.9, hsv_v=0.9)
    assert torch.equal(sample(colourful, 0)["img"], sample(build(data, **STILL, **NO_COLOUR), 0)["img"])


def test_validation_augments_nothing(tmp_path):
    data = make_set(tmp_path, [noise(i, 64, 64) for i in range(3)])
    dataset = build(data, "val", hsv_h=0.5, hsv_s=0.9, hsv_v=0.9, fliplr=1.0, mosaic=1.0, bgr=1.0)
    for i in range(3):
        rgb, ir = channels(dataset, i, seed=i)
        assert np.array_equal(rgb.transpose(1, 2, 0)[..., ::-1], noise(i, 64, 64))
        assert np.array_equal(ir[0], mirrored(noise(i, 64, 64)))


def test_closing_the_mosaic_keeps_colour_on_the_visible_modality(tmp_path):
    data = make_set(tmp_path, [noise(i) for i in range(4)])
    dataset = build(data, **{**STILL, "mosaic": 1.0}, hsv_h=0.5, hsv_s=0.9, hsv_v=0.9)
    dataset.close_mosaic(get_cfg(overrides={**STILL, "hsv_h": 0.5, "hsv_s": 0.9, "hsv_v": 0.9}))
    plain = build(data, **STILL, **NO_COLOUR)
    (rgb, ir), (plain_rgb, plain_ir) = channels(dataset, 1), channels(plain, 1)
    assert np.array_equal(ir, plain_ir)
    assert not np.array_equal(rgb, plain_rgb)


# Names, channels, place ----------------------------------------------------------------------------------------------


def one_folder(root: Path, count: int = 3) -> None:
    for i in range(count):
        write(root / "images/train" / f"{i}_co.png", flat(10 * i, 64))
        write(root / "images/train" / f"{i}_ir.png", flat(10 * i + 100, 64))
        write(root / "labels/train" / f"{i}.txt", f"0 0.5 0.5 0.5 0.{i + 1}\n")


BOTH = {"rgb": "images", "ir": "images"}


@pytest.mark.parametrize("suffix", [{"rgb": "_co", "ir": "_ir"}, {"ir": "_ir"}])
def test_modalities_in_one_folder_are_told_apart_by_their_suffix(tmp_path, log, suffix):
    one_folder(tmp_path)
    if "rgb" not in suffix:
        for file in (tmp_path / "images/train").glob("*_co.png"):
            file.rename(file.with_name(file.name.replace("_co", "")))
    dataset = build(resolved(tmp_path, modalities=BOTH, suffix=suffix), **STILL, **NO_COLOUR)
    assert len(dataset) == 3
    for i in range(3):
        assert dataset[i]["img"][:, 32, 32].tolist() == [10 * i] * 3 + [10 * i + 100] * 3
        assert dataset.labels[i]["bboxes"][0, 3] == pytest.approx(0.1 * (i + 1))
    assert "no partner" not in texts(log)


@pytest.mark.parametrize("ending", ["_co", "_ir"])
def test_labels_that_are_called_like_an_image_are_found(tmp_path, ending):
    one_folder(tmp_path)
    for i in range(3):
        file = tmp_path / "labels/train" / f"{i}.txt"
        file.rename(file.with_name(f"{i}{ending}.txt"))
    data = resolved(tmp_path, modalities=BOTH, suffix={"rgb": "_co", "ir": "_ir"})
    for built in (build(data, "val"), build(data, "val")):  # scanned, and from the cache
        assert [label["bboxes"][0, 3] for label in built.labels] == pytest.approx([0.1, 0.2, 0.3])


def test_a_label_file_with_the_shared_name_counts_before_one_called_like_an_image(tmp_path):
    one_folder(tmp_path, 1)
    for ending, height in (("_co", 0.7), ("_ir", 0.8)):
        write(tmp_path / "labels/train" / f"0{ending}.txt", f"0 0.5 0.5 0.5 {height}\n")
    data = resolved(tmp_path, modalities=BOTH, suffix={"rgb": "_co", "ir": "_ir"})
    assert build(data, "val").labels[0]["bboxes"][0, 3] == pytest.approx(0.1)
    (tmp_path / "labels/train/0.txt").unlink()
    assert build(data, "val").labels[0]["bboxes"][0, 3] == pytest.approx(0.7)


def test_pairs_with_hashes_in_their_names_and_labels_are_read_by_an_expression(tmp_path):
    for i, (rgb, ir) in enumerate((("a1", "b2"), ("c3", "d4"))):
        write(tmp_path / f"visible/train/{i}_png.rf.{rgb}.png", flat(10 * i))
        write(tmp_path / f"infrared/train/{i}_png.rf.{ir}.png", flat(100 + 10 * i))
        write(tmp_path / f"labels/train/{i}_png.rf.{rgb}.txt", f"0 0.5 0.5 0.5 0.{i + 1}\n")
    dataset = build(resolved(tmp_path, match=r"(.+)\.rf\.[0-9a-f]+"), "val")
    assert [dataset.stem(file) for file in dataset.im_files] == ["0_png", "1_png"]
    for i in range(2):
        assert dataset[i]["img"][:, 32, 32].tolist() == [10 * i] * 3 + [100 + 10 * i] * 3
        assert dataset.labels[i]["bboxes"][0, 3] == pytest.approx(0.1 * (i + 1))


def test_a_fraction_counts_pairs_where_modalities_share_a_folder(tmp_path):
    one_folder(tmp_path, 6)
    data = resolved(tmp_path, modalities=BOTH, suffix={"rgb": "_co", "ir": "_ir"})
    assert [Path(f).name for f in build(data, fraction=0.5).im_files] == [f"{i}_co.png" for i in range(3)]
    assert len(build(data)) == 6


def test_a_suffix_that_no_file_of_the_first_modality_carries_is_refused(tmp_path):
    one_folder(tmp_path)
    with pytest.raises(DatasetError, match="ends in '_rgb', as those of rgb should; there is '0_co.png'"):
        build(resolved(tmp_path, modalities=BOTH, suffix={"rgb": "_rgb", "ir": "_ir"}))


GREY_IR = {"channels": {"ir": 1}}


@pytest.mark.parametrize("mode", ["train", "val"])
@pytest.mark.parametrize("cache", [False, "ram", "disk"])
def test_a_modality_of_one_channel_is_one_plane_of_the_stack(tmp_path, mode, cache):
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:] = (10, 20, 30)  # BGR
    make_set(tmp_path, [rgb] * 2, [np.full((64, 64), 80, np.uint8), flat(90, 64)])
    dataset = build(resolved(tmp_path, **GREY_IR), mode, cache=cache, **STILL, **NO_COLOUR)
    assert [dataset[i]["img"][:, 32, 32].tolist() for i in range(2)] == [[30, 20, 10, 80], [30, 20, 10, 90]]
    assert dataset.load_image(0)[0].shape == (64, 64, 4)


def test_the_grey_modality_may_come_first_and_all_may_be_grey(tmp_path):
    make_set(tmp_path, [flat(10, 64)], [flat(200, 64)])
    order = {"ir": "infrared", "rgb": "visible"}
    for changes, expected in (
        ({"modalities": order, "channels": {"ir": 1}}, [200, 10, 10, 10]),
        ({"channels": {"rgb": 1, "ir": 1}}, [10, 200]),
        ({"modalities": {"ir": "infrared"}, "channels": {"ir": 1}}, [200]),
    ):
        for mode in ("train", "val"):
            dataset = build(resolved(tmp_path, **changes), mode, **STILL, hsv_h=0.5, hsv_s=0.9)
            assert dataset[0]["img"][:, 32, 32].tolist() == expected


def test_hsv_spares_a_grey_modality(tmp_path):
    make_set(tmp_path, [noise(i) for i in range(4)])
    data = resolved(tmp_path, **GREY_IR)
    colourful, plain = build(data, **STILL, hsv_h=0.5, hsv_s=0.9, hsv_v=0.9), build(data, **STILL, **NO_COLOUR)
    for i in range(4):
        a, b = sample(colourful, i, seed=i)["img"], sample(plain, i, seed=i)["img"]
        assert a.shape == (4, IMGSZ, IMGSZ)
        assert torch.equal(a[3], b[3])
        assert not torch.equal(a[:3], b[:3])


@pytest.mark.parametrize("moves", [{"mosaic": 1.0}, {"degrees": 30.0, "translate": 0.3, "scale": 0.5, "flipud": 1.0}])
def test_a_grey_modality_moves_with_the_others_and_is_filled_like_them(tmp_path, moves):
    make_set(tmp_path, [noise(i) for i in range(6)])
    dataset = build(resolved(tmp_path, **GREY_IR), **{**STILL, **NO_COLOUR, **moves})
    filled = 0
    for i in range(6):
        image = sample(dataset, i, seed=i)["img"].numpy().astype(int)
        assert np.abs(image[3] - (2 * FILL - image[1])).max() <= 3
        filled += (image == FILL).all(0).sum()
    assert filled > 100


def test_a_modality_is_aligned_with_the_first_one(tmp_path):
    rgb, moved = noise(0), np.roll(noise(0), 4, axis=1)
    matrix = [[1, 0, -4], [0, 1, 0], [0, 0, 1]]
    make_set(tmp_path, [rgb], [moved])
    aligned = build(resolved(tmp_path, align={"ir": matrix}), "val").load_image(0)[0]
    assert np.array_equal(aligned[..., :3], rgb)
    assert np.abs(aligned[:, :-4, 3:].astype(int) - rgb[:, :-4]).max() <= 1
    plain = build(resolved(tmp_path), "val").load_image(0)[0]
    assert np.array_equal(plain[..., 3:], moved)


@pytest.mark.parametrize("mode", ["train", "val"])
def test_large_jpegs_are_decoded_at_reduced_size_and_boxes_stay_where_they_are(tmp_path, monkeypatch, mode):
    image = np.zeros((256, 384, 3), np.uint8)
    image[64:128, 192:320] = 255
    make_set(tmp_path, [image], [255 - image], [f"0 {256 / 384} 0.375 {128 / 384} 0.25\n"], suffixes=(".jpg", ".jpg"))
    divisors = []

    def read(file, modality, reduction):
        divisors.append(reduction)
        return read_image(file, modality, reduction)

    monkeypatch.setattr("mwam_det.data.dataset.read_image", read)
    dataset = build(resolved(tmp_path), mode, rect=mode == "val", imgsz=96, **STILL, **NO_COLOUR)
    drawn = dataset[0]
    assert divisors == [4, 4]
    assert drawn["ori_shape"] == (256, 384)
    _, height, width = drawn["img"].shape
    x, y, w, h = drawn["bboxes"][0].tolist()
    for bright in (drawn["img"][0] > 127, drawn["img"][3] < 60):
        rows, columns = torch.where(bright.any(1))[0], torch.where(bright.any(0))[0]
        found = [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        assert [float(value) for value in found] == pytest.approx(box, abs=1 / width)


# Caches and order ----------------------------------------------------------------------------------------------------


def test_a_ram_cache_gives_the_same_samples_as_none(tmp_path):
    # without mosaics, whose other images Ultralytics draws from all that is cached, or else from what was read of late
    data = make_set(tmp_path, [noise(i, 40 + 8 * i, 64) for i in range(5)], [noise(9 + i, 32, 32) for i in range(5)])
    moves = {"mosaic": 0.0, "mixup": 0.5, "degrees": 10.0, "flipud": 0.5}
    cached, plain = build(data, cache="ram", **moves), build(data, **moves)
    assert cached.cache == "ram"
    for _ in range(2):  # again, so that a sample that spoils the cache is noticed
        for i in range(5):
            a, b = sample(cached, i, seed=i), sample(plain, i, seed=i)
            assert torch.equal(a["img"], b["img"])
            assert torch.equal(a["bboxes"], b["bboxes"])
            assert a["ori_shape"] == b["ori_shape"]


@pytest.mark.parametrize("cache", ["ram", False])
def test_augmenting_leaves_the_images_in_memory_as_they_are(tmp_path, cache):
    dataset = build(make_set(tmp_path, [noise(i) for i in range(3)]), cache=cache, **STILL, hsv_s=0.9, hsv_v=0.9)
    before = [dataset.load_image(i)[0].copy() for i in range(3)]
    for i in range(3):
        dataset[i]
    assert all(np.array_equal(dataset.load_image(i)[0], before[i]) for i in range(3))


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The files that are decoded for a stack from now on."""
    files = []

    def read(file, *args):
        files.append("/".join(Path(file).parts[-3:]))
        return read_image(file, *args)

    monkeypatch.setattr("mwam_det.data.dataset.read_image", read)
    return files


@pytest.mark.parametrize("mode", ["train", "val"])
@pytest.mark.parametrize("cache", ["disk", "DISK"])
def test_a_disk_cache_gives_the_same_samples_as_none_and_decodes_each_file_once(tmp_path, decoded, mode, cache):
    rgb, ir = [noise(i, 40 + 8 * i, 64) for i in range(5)], [noise(9 + i, 32, 32) for i in range(5)]
    data = make_set(tmp_path, rgb, ir)
    moves = {"mosaic": 0.0, "mixup": 0.0, "degrees": 10.0, "flipud": 0.5}
    before = snapshot(tmp_path)
    kept = build(data, mode, cache=cache, rect=mode == "val", **moves)
    assert kept.cache == "disk"
    assert sorted(decoded) == sorted(f"{f}/train/{i}.png" for f in ("visible", "infrared") for i in range(5))
    again = build(data, mode, cache=cache, rect=mode == "val", **moves)
    plain = build(data, mode, rect=mode == "val", **moves)
    decoded.clear()
    for i in range(5):
        a, b = sample(kept, i, seed=i), sample(again, i, seed=i)
        assert decoded == []
        c = sample(plain, i, seed=i)
        decoded.clear()
        assert torch.equal(a["img"], c["img"]) and torch.equal(b["img"], c["img"])
        assert torch.equal(a["bboxes"], c["bboxes"])
        assert (a["im_file"], a["ori_shape"]) == (c["im_file"], c["ori_shape"])
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("when", ["between runs", "during a run"])
@pytest.mark.parametrize("changed", ["visible/train/1.png", "infrared/train/1.png"])
def test_a_changed_file_of_either_modality_is_not_taken_from_the_disk_cache(tmp_path, decoded, changed, when):
    data = make_set(tmp_path, [flat(10), flat(20)], [flat(110), flat(120)])
    dataset = build(data, "val", cache="disk")
    write(tmp_path / changed, flat(77))
    if when == "between runs":
        decoded.clear()
        dataset = build(data, "val", cache="disk")
        assert sorted(decoded) == ["infrared/train/1.png", "visible/train/1.png"]
    expected = [77] * 3 + [120] * 3 if changed.startswith("visible") else [20] * 3 + [77] * 3
    assert dataset[1]["img"][:, 32, 32].tolist() == expected
    assert dataset[0]["img"][:, 32, 32].tolist() == [10] * 3 + [110] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": {"ir": 1}},
        {"range": {"ir": [0, 200]}},
        {"align": {"ir": [[1, 0, 3], [0, 1, 0], [0, 0, 1]]}},
        {"filter": {"ir": {"low": 8}}},
        {"modalities": {"ir": "infrared", "rgb": "visible"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_was_read_in_another_way_is_not_taken_from_the_disk_cache(tmp_path, decoded, changes):
    make_set(tmp_path, [noise(0)])
    build(resolved(tmp_path), "val", cache="disk")
    decoded.clear()
    data = resolved(tmp_path, **changes)
    assert torch.equal(build(data, "val", cache="disk")[0]["img"], build(data, "val")[0]["img"])
    assert len(decoded) == 4
    decoded.clear()
    build(resolved(tmp_path), "val", cache="disk")[0]
    assert decoded == []


def test_another_image_size_has_files_of_its_own_in_the_disk_cache(tmp_path, decoded):
    data = make_set(tmp_path, [noise(0)])
    for imgsz in (64, 96):
        build(data, "val", cache="disk", imgsz=imgsz)
    decoded.clear()
    assert [build(data, "val", cache="disk", imgsz=imgsz)[0]["img"].shape[-1] for imgsz in (64, 96)] == [64, 96]
    assert decoded == []


@pytest.mark.parametrize("damage", [b"", b"no array", None], ids=["empty", "text", "cut off"])
def test_a_damaged_file_of_the_disk_cache_is_not_taken(tmp_path, scans, damage):
    data = make_set(tmp_path, [noise(0)])
    expected = build(data, "val", cache="disk")[0]["img"]
    (file,) = scans.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    assert torch.equal(build(data, "val", cache="disk")[0]["img"], expected)


@pytest.mark.parametrize("free", [0, 64 * 48 * 6 * 2 * 1.09])
def test_where_the_disk_is_full_pairs_are_decoded_each_time(tmp_path, log, monkeypatch, free, scans):
    data = make_set(tmp_path, [noise(0), noise(1)])
    usage = SimpleNamespace(total=10**12, used=0, free=free)
    monkeypatch.setattr("mwam_det.data.dataset.shutil.disk_usage", lambda folder: usage)
    dataset = build(data, "val", cache="disk")
    assert dataset.cache is None
    assert dataset[1]["img"].shape == (6, IMGSZ, IMGSZ)
    assert not list(scans.rglob("*.npy"))
    assert "pairs are not kept in" in texts(log, "WARNING")


def test_space_is_asked_for_what_is_not_kept_yet(tmp_path, monkeypatch):
    data = make_set(tmp_path, [noise(0), noise(1)])
    usage = SimpleNamespace(total=10**12, used=0, free=64 * 48 * 6 * 2 * 1.11)
    monkeypatch.setattr("mwam_det.data.dataset.shutil.disk_usage", lambda folder: usage)
    assert build(data, "val", cache="disk").cache == "disk"
    usage.free = 0
    assert build(data, "val", cache="disk").cache == "disk"


def test_where_stacks_cannot_be_kept_the_dataset_works_without(tmp_path, monkeypatch, log):
    data = make_set(tmp_path, [noise(0), noise(1)])
    blocked = write(tmp_path / "a file", "not a folder")
    monkeypatch.setattr("mwam_det.data.dataset.SCANS", blocked / "scans")
    dataset = build(data, cache="disk")
    assert dataset.cache is None
    assert "not writable" in texts(log, "WARNING")
    assert dataset[0]["img"].shape == (6, IMGSZ, IMGSZ)


def test_a_stack_that_cannot_be_written_is_a_warning_and_leaves_nothing_behind(tmp_path, monkeypatch, log, scans):
    def full(stream, array):
        raise OSError(28, "No space left on device")

    data = make_set(tmp_path, [noise(0)])
    monkeypatch.setattr("mwam_det.data.stacks.np.save", full)
    dataset = build(data, "val", cache="disk")
    assert "No space left" in texts(log, "WARNING")
    assert dataset[0]["img"].shape == (6, IMGSZ, IMGSZ)
    assert not [path for path in (scans / "stacks").rglob("*") if path.is_file()]


def test_arrays_beside_the_images_are_ignored(tmp_path):
    data = make_set(tmp_path, [flat(10, 64), flat(20, 64)], [flat(110, 64), flat(120, 64)])
    for i in range(2):
        np.save(tmp_path / "visible/train" / f"{i}.npy", flat(255, 64))  # newer than the image, as Ultralytics wants it
        np.save(tmp_path / "infrared/train" / f"{i}.npy", np.zeros((64, 64, 6), np.uint8))
    before = snapshot(tmp_path)
    dataset = build(data, **STILL, **NO_COLOUR)
    assert [dataset[i]["img"][:, 32, 32].tolist() for i in range(2)] == [[10] * 3 + [110] * 3, [20] * 3 + [120] * 3]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("cache", [False, "ram"])
@pytest.mark.parametrize("mode", ["train", "val"])
def test_partners_stay_right_when_rectangular_batches_reorder_the_images(tmp_path, mode, cache):
    sizes = [(40, 64), (64, 30), (30, 64), (64, 64), (64, 40), (50, 64), (64, 50)]
    rgb = [flat(10 * (i + 1), *size) for i, size in enumerate(sizes)]
    ir = [flat(10 * (i + 1) + 100, *size) for i, size in enumerate(sizes)]
    labels = [f"0 0.5 0.5 0.5 0.{i + 1}\n" for i in range(len(sizes))]
    data = make_set(tmp_path, rgb, ir, labels)
    dataset = build(data, mode, batch=2, rect=True, cache=cache, **{**STILL, **NO_COLOUR})
    order = [int(Path(file).stem) for file in dataset.im_files]
    assert order != sorted(order), "nothing was reordered"
    for place, i in enumerate(order):
        drawn = sample(dataset, place)
        _, height, width = drawn["img"].shape
        assert drawn["img"][:, height // 2, width // 2].tolist() == [10 * (i + 1)] * 3 + [10 * (i + 1) + 100] * 3
        assert Path(drawn["im_file"]).stem == str(i)
        assert dataset.labels[place]["bboxes"][0, 3] == pytest.approx(0.1 * (i + 1))


def test_partners_stay_right_when_bad_pairs_are_left_out(tmp_path):
    rgb, ir = [flat(10 * i) for i in range(5)], [flat(10 * i + 100) for i in range(5)]
    ir[1] = None
    dataset = build(make_set(tmp_path, rgb, ir), **STILL, **NO_COLOUR)
    centres = [dataset[i]["img"][:, 32, 32].tolist() for i in range(4)]
    assert centres == [[10 * i] * 3 + [10 * i + 100] * 3 for i in (0, 2, 3, 4)]


def test_a_fraction_of_the_pairs_is_used_without_a_word_about_partners_left_over(tmp_path, log):
    data = make_set(tmp_path, [flat(10 * i) for i in range(6)])
    assert len(build(data, fraction=0.5)) == 3
    assert "have no partner" not in texts(log)


def test_only_the_classes_asked_for_are_kept(tmp_path):
    data = make_set(tmp_path, [flat(9)] * 2, labels=["0 0.5 0.5 0.2 0.2\n1 0.4 0.4 0.2 0.2\n", LABEL])
    assert [label["cls"].tolist() for label in build(data, classes=[1]).labels] == [[[1]], []]
    assert [label["cls"].tolist() for label in build(data, single_cls=True).labels] == [[[0], [0]], [[0]]]


# Bad files -----------------------------------------------------------------------------------------------------------


def damaged(root: Path) -> dict:
    """Write six pairs of which 1, 2, 3 and 4 are bad, each in a way of its own."""
    labels = [LABEL] * 6
    labels[3] = "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n"
    data = make_set(root, [noise(i) for i in range(6)], labels=labels)
    (root / "infrared/train/1.png").unlink()
    whole = (root / "infrared/train/2.png").read_bytes()
    write(root / "infrared/train/2.png", whole[: len(whole) // 2])
    write(root / "infrared/train/4.jpg", noise(4))  # beside 4.png
    return data


def test_bad_pairs_are_left_out_and_the_others_kept(tmp_path):
    dataset = build(damaged(tmp_path))
    assert [Path(file).stem for file in dataset.im_files] == ["0", "5"]
    assert len(dataset) == len(dataset.labels) == 2
    assert sample(dataset, 1)["img"].shape == (6, IMGSZ, IMGSZ)


@pytest.mark.parametrize("again", [False, True], ids=["first scan", "from the cache"])
def test_every_bad_pair_is_named_with_its_reason(tmp_path, log, again):
    data = damaged(tmp_path)
    build(data)
    if again:
        log.clear()
        build(data)
    said = texts(log).splitlines()

    def lines_about(path: str) -> list[str]:
        return [line for line in said if str(tmp_path / path) in line]

    (missing,) = lines_about("visible/train/1.png")
    assert "no partner of ir" in missing
    (unreadable,) = lines_about("visible/train/2.png")
    assert str(tmp_path / "infrared/train/2.png") in unreadable
    (label,) = lines_about("labels/train/3.txt")
    assert "class 7" in label
    (ambiguous,) = lines_about("visible/train/4.png")
    assert str(tmp_path / "infrared/train/4.jpg") in ambiguous
    assert not lines_about("visible/train/0.png")


def test_partners_without_a_first_image_are_counted_in_a_warning(tmp_path, log):
    data = make_set(tmp_path, [noise(0)])
    write(tmp_path / "infrared/train/8.png", noise(8))
    write(tmp_path / "infrared/train/9.png", noise(9))
    build(data)
    assert f"2 images of ir in {tmp_path / 'infrared/train'} have no partner of rgb" in texts(log, "WARNING")


def test_no_usable_pair_is_refused_with_the_folders(tmp_path, log):
    data = make_set(tmp_path, [noise(0), noise(1)], labels="9 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DatasetError, match="no usable pair among 2 images") as caught:
        build(data)
    assert str(tmp_path / "visible/train") in str(caught.value)
    assert str(tmp_path / "labels/train") in str(caught.value)
    assert str(tmp_path / "labels/train/1.txt") in texts(log)


def test_an_empty_split_is_refused_with_its_folder(tmp_path):
    data = make_set(tmp_path, [])
    with pytest.raises(DatasetError, match="there is no image of rgb in") as caught:
        build(data)
    assert str(tmp_path / "visible/train") in str(caught.value)


def test_an_empty_partner_folder_is_refused_by_name(tmp_path):
    data = make_set(tmp_path, [noise(0)], [None])
    with pytest.raises(DatasetError, match="there is no image of ir in") as caught:
        build(data)
    assert str(tmp_path / "infrared/train") in str(caught.value)


def test_partners_of_other_names_are_refused_with_both(tmp_path):
    data = make_set(tmp_path, [noise(0)], [None])
    write(tmp_path / "infrared/train/0_ir.png", noise(0))
    with pytest.raises(DatasetError, match="'0' and '0_ir'"):
        build(data)


def test_a_folder_that_is_no_split_is_refused(tmp_path):
    data = make_set(tmp_path, [noise(0)])
    with pytest.raises(DatasetError, match="is not the folder of rgb in any split"):
        build({**data, "train": str(tmp_path / "infrared/train")})


def test_labels_with_other_names_are_told_with_what_was_looked_for_and_what_is_there(tmp_path):
    data = make_set(tmp_path, [noise(0)])
    (tmp_path / "labels/train/0.txt").rename(tmp_path / "labels/train/label_0.txt")
    with pytest.raises(DatasetError) as caught:
        build(data)
    folder = tmp_path / "labels/train"
    assert f"expected {folder / '0.txt'}, found {folder / 'label_0.txt'}" in str(caught.value)


def test_of_many_unreadable_label_files_three_are_named_and_the_others_counted(tmp_path, log):
    bad = ["0 0.5 0.5 2 2\n", "person 1 1 1 1\n", "0 0.5\n", b"\xff\xfe\x00".decode("latin-1"), "7 0.5 0.5 0.1 0.1\n"]
    data = make_set(tmp_path, [noise(i) for i in range(10)], labels=[LABEL, *bad, LABEL + LABEL, *bad[:3]])
    (tmp_path / "infrared/train/9.png").unlink()
    for _ in range(2):  # scanned, and from the cache
        log.clear()
        assert len(build(data, "val")) == 2
        said = texts(log)
        assert [f"{i}.txt: pair left out" in said for i in range(1, 6)] == [True] * 3 + [False] * 2
        assert "val: \x1b[0m4 more of 7 label files that cannot be used" in said
        assert "9.png: pair left out, it has no partner of ir" in said
        assert "1 duplicate labels removed" in said


def test_a_training_split_without_labels_is_refused_with_their_folder(tmp_path):
    data = make_set(tmp_path, [noise(0), noise(1)], labels=None)
    with pytest.raises(DatasetError, match="no labels among 2 images") as caught:
        build(data)
    assert str(tmp_path / "labels/train") in str(caught.value)


def test_a_validation_split_without_labels_is_a_warning(tmp_path, log):
    data = make_set(tmp_path, [noise(0), noise(1)], labels=None)
    assert len(build(data, "val")) == 2
    assert "No labels found" in texts(log, "WARNING")


def test_a_pair_without_label_file_is_background(tmp_path):
    dataset = build(make_set(tmp_path, [noise(0), noise(1)], labels=[LABEL, None]), **STILL)
    assert [len(label["cls"]) for label in dataset.labels] == [1, 0]
    assert dataset[1]["bboxes"].shape == (0, 4)


@pytest.mark.parametrize("folder", ["visible", "infrared"])
def test_a_file_that_vanishes_after_the_scan_is_named(tmp_path, folder):
    dataset = build(make_set(tmp_path, [noise(0), noise(1)]), **STILL)
    gone = tmp_path / folder / "train/1.png"
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=str(gone)):
        dataset[1]


def test_a_dark_modality_with_a_range_is_bright(tmp_path):
    make_set(tmp_path, [flat(90)] * 2, [np.full((48, 64), 1000, np.uint16)] * 2)
    dataset = build(resolved(tmp_path, range={"ir": [0, 2000]}), "val")
    assert dataset[0]["img"][:, 32, 32].tolist() == [90] * 3 + [128] * 3


def test_float_files_without_a_range_are_refused_with_the_key_that_says_how(tmp_path, log):
    kelvin = np.full((48, 64), 300.0, np.float32)
    make_set(tmp_path, [flat(90)] * 2, [kelvin] * 2, suffixes=(".png", ".tif"))
    with pytest.raises(DatasetError, match="no usable pair among 2 images.*type float32: set the key 'range'"):
        build(resolved(tmp_path))
    dataset = build(resolved(tmp_path, range={"ir": [290, 310]}, channels={"ir": 1}), "val")
    assert dataset[0]["img"][:, 32, 32].tolist() == [90] * 3 + [128]


# Scans ---------------------------------------------------------------------------------------------------------------


def test_files_and_folders_of_the_user_are_as_before_the_scan(tmp_path):
    data = damaged(tmp_path)
    jpeg = cv2.imencode(".jpg", noise(7))[1].tobytes()
    write(tmp_path / "visible/train/7.jpg", jpeg + b"after the end")
    write(tmp_path / "infrared/train/7.jpg", jpeg[:-2])
    before = snapshot(tmp_path)
    for mode in ("train", "val"):
        dataset = build(data, mode, cache="ram")
        dataset[0]
    assert snapshot(tmp_path) == before


def test_paths_and_sizes_that_occur_in_many_places_are_held_once(tmp_path):
    data = make_set(tmp_path, [flat(90)] * 3)
    for pairs in (build(data), build(data)):  # by a scan, and from its cache
        for first, listed, label in zip(pairs.im_files, pairs.listed, pairs.labels, strict=True):
            assert first is listed is label["im_file"] is pairs.files(first)[0]
        assert len({id(sizes) for sizes in pairs.sizes.values()}) == 1


def test_samples_from_memory_are_the_same_each_time_so_that_no_warning_says_otherwise(tmp_path, log):
    data = make_set(tmp_path, [noise(i) for i in range(5)])
    dataset = build(data, cache="ram", deterministic=True, mosaic=1.0, mixup=1.0, degrees=10.0)
    first, second = ([sample(dataset, i, seed=i)["img"] for i in range(5)] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not any("deterministic" in text for _, text in log)


def test_a_second_dataset_uses_the_scan_of_the_first(tmp_path, scans, scanned, log):
    data = make_set(tmp_path, [noise(i) for i in range(3)])
    first = build(data)
    assert sorted(scanned) == ["0.png", "1.png", "2.png"]
    assert list(scans.iterdir())
    scanned.clear()
    log.clear()
    second = build(data)
    assert scanned == []
    assert any("3 images" in text and "scanned before" in text for _, text in log)
    assert not any(".cache" in text for _, text in log)
    assert second.im_files == first.im_files
    assert torch.equal(sample(second, 2)["img"], sample(first, 2)["img"])


@pytest.mark.parametrize("changed", ["infrared/train/1.png", "visible/train/1.png", "labels/train/1.txt"])
def test_a_changed_file_of_any_modality_or_label_is_scanned_again(tmp_path, scanned, changed):
    data = make_set(tmp_path, [noise(i) for i in range(3)])
    build(data)
    scanned.clear()
    time.sleep(0.01)
    write(tmp_path / changed, "9 9 9 9 9\n")
    assert [Path(file).stem for file in build(data).im_files] == ["0", "2"]
    assert len(scanned) == 3


def test_a_new_partner_is_found_by_the_next_scan(tmp_path, scanned):
    data = make_set(tmp_path, [noise(0), noise(1)], [mirrored(noise(0)), None])
    assert len(build(data)) == 1
    write(tmp_path / "infrared/train/1.png", mirrored(noise(1)))
    assert len(build(data)) == 2


def test_a_partner_that_has_gone_is_noticed_by_the_next_scan(tmp_path):
    data = make_set(tmp_path, [noise(0), noise(1)])
    build(data)
    (tmp_path / "infrared/train/1.png").unlink()
    assert len(build(data)) == 1


def test_a_scan_for_other_modalities_is_not_taken(tmp_path, scanned):
    make_set(tmp_path, [noise(0), noise(1)])
    write(tmp_path / "depth/train/0.png", noise(5))
    build(resolved(tmp_path))
    data = resolved(tmp_path, modalities={"rgb": "visible", "ir": "infrared", "depth": "depth"})
    assert len(build(data)) == 1


def test_a_scan_for_fewer_classes_is_not_taken(tmp_path):
    make_set(tmp_path, [noise(0), noise(1)], labels=[LABEL, "4 0.5 0.5 0.2 0.2\n"])
    assert len(build(resolved(tmp_path))) == 1
    assert len(build(resolved(tmp_path, names=list("abcde")))) == 2


def test_a_damaged_scan_is_made_anew(tmp_path, scans, scanned):
    data = make_set(tmp_path, [noise(0), noise(1)])
    build(data)
    scanned.clear()
    for file in scans.iterdir():
        file.write_bytes(b"damaged")
    assert len(build(data)) == 2
    assert len(scanned) == 2


def test_datasets_in_different_places_have_scans_of_their_own(tmp_path, scans):
    for place in ("a", "b"):
        build(make_set(tmp_path / place, [noise(0)]))
    assert len(list(scans.glob("*.cache"))) == 2


def test_where_scans_cannot_be_kept_the_dataset_works_without(tmp_path, monkeypatch):
    data = make_set(tmp_path, [noise(0), noise(1)])
    blocked = write(tmp_path / "a file", "not a folder")
    monkeypatch.setattr("mwam_det.data.dataset.SCANS", blocked / "scans")
    assert len(build(data)) == 2


# Building ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "pad", "augment"), [("train", 0.0, True), ("val", 0.5, False)])
def test_a_dataset_is_built_for_training_or_validation_as_ultralytics_does(tmp_path, mode, pad, augment):
    dataset = build(make_set(tmp_path, [noise(0)]), mode, batch=3)
    assert (dataset.pad, dataset.augment, dataset.batch_size, dataset.stride) == (pad, augment, 3, 32)
    assert dataset.imgsz == IMGSZ
    assert mode in dataset.prefix


def test_a_file_object_of_arguments_is_not_changed_by_building(tmp_path):
    args = get_cfg(overrides={"imgsz": IMGSZ, "mosaic": 1.0, "mixup": 1.0})
    before = dict(vars(args))
    data = make_set(tmp_path, [noise(0)])
    build_paired_dataset(SimpleNamespace(**vars(args)), data["train"], 2, data, "train", rect=True, stride=32)
    assert dict(vars(args)) == before


def test_what_is_kept_for_a_folder_near_the_root_stays_in_the_cache():
    chinese = Path("/", *(sign * 80 for sign in "红外图"))
    for folder in (Path("/data/rgb_train"), Path("/rgb"), Path("/a", "x" * 250, "y" * 250, "z" * 250), chinese):
        name = dataset._cache_name(folder)
        assert "/" not in name and len(name.encode()) < 200
        assert name != dataset._cache_name(folder, "another reading")


@pytest.mark.parametrize("cache", [None, "disk"])
def test_names_in_no_encoding_are_read(tmp_path, cache):
    data = make_set(tmp_path, [noise(0), noise(1)])
    try:
        for folder in ("visible", "infrared", "labels"):
            below = tmp_path / folder / "train"
            (below / "K\udcfcste").mkdir()
            for file in list(below.glob("1.*")):
                file.rename(below / "K\udcfcste" / f"\udcfc{file.name}")
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system takes no such names")
    own = build(data, cache=cache)
    assert [len(label["cls"]) for label in own.labels] == [1, 1]
    assert np.array_equal(own.load_image(1)[0].shape, (48, 64, 6))
    both = resolved(tmp_path, "train/K\udcfcste")
    assert [len(label["cls"]) for label in build(both, cache=cache).labels] == [1]


@pytest.mark.parametrize(("image", "label"), [("K\u00fcste.png", "Ku\u0308ste.txt"), ("a.png", "a.TXT")])
def test_a_label_is_found_in_another_spelling_of_its_name(tmp_path, image, label):
    data = make_set(tmp_path, [noise(0), noise(1)])
    for folder in ("visible", "infrared"):
        (tmp_path / folder / "train/1.png").rename(tmp_path / folder / "train" / image)
    (tmp_path / "labels/train/1.txt").rename(tmp_path / "labels/train" / label)
    assert [len(each["cls"]) for each in build(data).labels] == [1, 1]


def test_a_scan_that_another_process_replaces_at_the_same_time_is_read_again(tmp_path, monkeypatch):
    data, stock, calls = make_set(tmp_path, [noise(0)]), YOLODataset._load_or_scan_cache, []

    def gone_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise FileNotFoundError("deleted by another process")
        return stock(self, *arguments)

    monkeypatch.setattr(YOLODataset, "_load_or_scan_cache", gone_once)
    assert len(build(data).labels) == 1 and len(calls) == 2


def test_links_round_in_a_circle_add_no_pair_and_end(tmp_path):
    data = make_set(tmp_path, [noise(0), noise(1)])
    for folder in ("visible", "infrared"):
        for name in ("l1", "l2"):
            (tmp_path / folder / "train" / name).symlink_to(".")
    begun = time.perf_counter()
    assert [Path(file).name for file in build(data).im_files] == ["0.png", "1.png"]
    assert time.perf_counter() - begun < 30


# Filters --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [None, "ram", "disk"])
@pytest.mark.parametrize("mode", ["train", "val"])
def test_a_filtered_modality_is_the_filtered_file_in_training_and_validation_alike(tmp_path, mode, cache):
    make_set(tmp_path, [noise(0, 64, 64)], [noise(1, 64, 64)])
    still = {"mosaic": 0.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
    plain = build(resolved(tmp_path), mode, cache=cache, **still)[0]["img"]
    image = build(resolved(tmp_path, filter={"ir": {"low": 8}}), mode, cache=cache, **still)[0]["img"]
    expected = apply_filter(noise(1, 64, 64), WindowFilter("low", 8))[..., ::-1].transpose(2, 0, 1)
    assert np.array_equal(image[3:].numpy(), expected)
    assert torch.equal(image[:3], plain[:3])
    again = build(resolved(tmp_path, filter=False), mode, cache=cache, **still)[0]["img"]
    assert torch.equal(again, plain)
