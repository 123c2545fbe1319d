"""What training says before it begins, of sets that are as they should be and of sets that are not."""

import os
import random
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inspections import files, look_at, rewrite, scene, write_pairs
from PIL import Image

from mwam_det.data.dataset import PairedDataset
from mwam_det.data.inspection import checks
from mwam_det.data.inspection.checks import look_before_training
from mwam_det.data.pairing import list_images
from mwam_det.data.section import resolve_dataset

SHIFTED = np.float32([[1, 0, 24], [0, 1, 0]])


def datasets_of(section: dict, imgsz: int) -> list[PairedDataset]:
    data = resolve_dataset(section).as_dict()
    return [
        PairedDataset(img_path=data[split], imgsz=imgsz, augment=False, cache=False, data=dict(data))
        for split in data["splits"]
    ]


def said_of(section: dict, imgsz: int = 160, views: bool = True) -> list[str]:
    """Return what is said of a set, without the way to its folder."""
    found = look_before_training(datasets_of(section, imgsz), imgsz, views)
    return [text.replace(str(section["path"]), "") for text in found]


def test_a_look_draws_no_random_number_that_training_would(tmp_path):
    datasets = datasets_of(write_pairs(tmp_path), 160)
    before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
    look_before_training(datasets, 160)
    assert before == (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist())


def tag(section: dict, name: str, orientation: int) -> None:
    for split in ("train", "val"):
        for file in files(section, name, split):
            with Image.open(file) as image:
                image.load()
                exif = Image.Exif()
                exif[274] = orientation
                image.save(file, exif=exif, **({"quality": 95} if file.suffix == ".jpg" else {}))


def part(top, left, height, width):
    def see(image, number):
        return cv2.resize(image[top : top + height, left : left + width], image.shape[1::-1])

    return see


def in_band(low, high, border=0):
    """Write what a radiometric camera gives: 16 bits of which the scene fills a band."""

    def see(image, number):
        values = (low + image / 255 * (high - low)).astype(np.uint16)
        values[:border] = 0
        return values

    return see


FINE = {
    "as they should be": {},
    "PNG and TIFF": {"suffixes": (".png", ".tif")},
    "infrared of half the size": {"ir": lambda image, number: cv2.resize(image, (104, 80))},
    "16 bits that are used": {"ir": in_band(10_000, 60_000)},
    "opaque transparency": {
        "rgb": lambda image, number: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
        "suffixes": (".png", ".png"),
    },
    "dark nights among them": {"rgb": lambda image, number: image // 60 if number % 3 else image},
    "half of the pairs of other sizes": {
        "rgb": lambda image, number: cv2.resize(image, (300, 200)) if number % 2 else image,
        "ir": lambda image, number: cv2.resize(image, (300, 200)) if number % 2 else image,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", FINE.values(), ids=FINE)
@pytest.mark.parametrize("imgsz", [64, 640])
def test_nothing_is_said_of_pairs_that_are_as_they_should_be(tmp_path, changes, imgsz):
    assert said_of(write_pairs(tmp_path, **changes), imgsz) == []


@pytest.mark.slow
@pytest.mark.parametrize("tagged", ["rgb", "ir"])
def test_one_modality_that_exif_turns_is_named_with_the_matrix_that_turns_the_other(tmp_path, tagged):
    section = write_pairs(tmp_path)
    tag(section, tagged, 6)
    (sentence,) = said_of(section)
    assert "ir has another aspect ratio than rgb in 12 of 12 pairs" in sentence
    assert "is distorted to fit" in sentence
    other = {"rgb": "ir", "ir": "rgb"}[tagged]
    assert f"{tagged} is turned upright by the EXIF tag of its files, and {other} has no such tag" in sentence
    matrix = [[0, -1, 159], [1, 0, 0], [0, 0, 1]] if tagged == "rgb" else [[0, 1, 0], [-1, 0, 159], [0, 0, 1]]
    assert f"'align: {{ir: {[[float(v) for v in row] for row in matrix]}}}' maps it onto rgb" in sentence
    assert said_of({**section, "align": {"ir": matrix}}) == []


@pytest.mark.parametrize("size", [(160, 208), (160, 160)])
def test_a_modality_that_exif_turns_without_a_change_of_shape_is_named(tmp_path, size):
    crop = slice(0, size[1])
    section = write_pairs(tmp_path, lambda image, number: image[:, crop], lambda image, number: image[:, crop])
    tag(section, "rgb", 3)
    (sentence,) = said_of(section)
    assert "rgb is turned upright by the EXIF tag of its files" in sentence
    assert "ir is turned by 180° against rgb" in sentence


def test_modalities_that_exif_turns_alike_are_not_named(tmp_path):
    section = write_pairs(tmp_path)
    tag(section, "rgb", 6)
    tag(section, "ir", 6)
    assert said_of(section) == []


def test_a_modality_that_sees_a_middle_of_another_shape_is_named_with_the_matrix(tmp_path):
    section = write_pairs(tmp_path, ir=lambda image, number: image[:, 24:184])
    (sentence,) = said_of(section)
    assert "ir has another aspect ratio than rgb in 12 of 12 pairs (160×160 px beside 208×160" in sentence
    given = sentence.split("'align: {ir: ")[1].split("}'")[0]
    matrix = np.array([[float(v) for v in row.split(",")] for row in given.strip("[]").split("], [")])
    assert matrix == pytest.approx(np.array([[1, 0, 24], [0, 1, 0], [0, 0, 1]]), abs=3)


def test_a_modality_that_was_resized_to_another_shape_is_named_as_such(tmp_path):
    section = write_pairs(tmp_path, ir=lambda image, number: cv2.resize(image, (160, 160)))
    (sentence,) = said_of(section)
    assert "distorted to fit" in sentence
    assert "may have been resized before" in sentence


@pytest.mark.parametrize("wrong", ["rgb", "ir"])
def test_one_file_of_another_shape_is_named(tmp_path, wrong):
    section = write_pairs(tmp_path, count=24)
    file = files(section, wrong, "val")[2]
    rewrite(file, cv2.resize(cv2.imread(str(file)), (77, 100)))
    (sentence,) = said_of(section)
    assert "ir has another aspect ratio than rgb in 1 of 24 pairs, like /infrared/val/" in sentence
    assert f"{file.stem}.png (" in sentence
    assert "77×100" in sentence


def test_one_small_file_of_the_same_shape_is_named(tmp_path):
    section = write_pairs(tmp_path)
    file = files(section, "ir")[3]
    rewrite(file, cv2.resize(cv2.imread(str(file)), (52, 40)))
    (sentence,) = said_of(section)
    assert f"ir has a size unlike the others in 1 of 12 pairs, like /infrared/train/{file.name} with 52×40" in sentence


def test_one_pair_of_another_size_is_named(tmp_path):
    section = write_pairs(tmp_path)
    for name in ("rgb", "ir"):
        file = files(section, name)[3]
        rewrite(file, cv2.resize(cv2.imread(str(file)), (39, 30)))
    (sentence,) = said_of(section)
    assert "rgb has a size unlike the others in 1 of 12 pairs" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("low", "high", "border", "given"),
    [
        (0, 3000, 0, None),
        (29_000, 31_000, 0, None),
        (61_000, 63_500, 0, None),
        (0, 16_000, 0, None),
        (0, 255, 0, None),
        (29_000, 31_000, 20, None),
        (29_000, 31_000, 0, [0, 65_535]),
        (29_000, 31_000, 20, "minmax"),
        (29_000, 31_000, 20, "percentile"),
    ],
)
def test_a_narrow_band_of_16_bits_is_named_with_a_range_that_mends_it(tmp_path, suffix, low, high, border, given):
    section = write_pairs(tmp_path, ir=in_band(low, high, border), suffixes=(".jpg", suffix))
    if given is not None:
        section["range"] = {"ir": given}
    (sentence,) = said_of(section)
    assert "ir fills only levels" in sentence
    assert "in 12 of 12 sampled pairs" in sentence
    assert ("do not fit" in sentence) == (given is not None)
    assert ("'range: {ir: percentile}' spreads" in sentence) == (border == 0)  # it would count what was not measured
    first, last = (float(v) for v in sentence.split("'range: {ir: [")[-1].split("]")[0].split(", "))
    assert low <= first < last <= high + 0.1 * (high - low)
    assert last - first > 0.5 * (high - low)
    assert said_of({**section, "range": {"ir": [first, last]}}) == []


def test_some_files_of_16_bits_among_others_of_8_are_named(tmp_path):
    section = write_pairs(
        tmp_path, ir=lambda image, number: in_band(0, 4000)(image, number) if number % 3 == 0 else image
    )
    (sentence,) = said_of(section)
    assert "in 4 of 12 sampled pairs" in sentence


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_channel_that_is_not_read_is_named(tmp_path, suffix, dtype):
    section = write_pairs(
        tmp_path,
        lambda image, number: (
            np.dstack([image, 255 - image[..., 0]]).astype(dtype) * (257 if dtype == np.uint16 else 1)
        ),
        suffixes=(suffix, ".png"),
    )
    (sentence,) = said_of(section)
    assert f"rgb has 4 channels in 12 of 12 sampled pairs, like /visible/train/000{suffix}" in sentence
    assert "reads only the first 3" in sentence


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_of_a_tiff_that_no_decoder_gives_are_named_too(tmp_path, dtype):
    section = write_pairs(tmp_path, suffixes=(".png", ".tif"))
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(dtype) * (257 if dtype == np.uint16 else 1)
            write_bands(file, np.dstack([grey, grey[::-1]]))
    (sentence,) = said_of(section)
    assert "ir has 2 channels in 12 of 12 sampled pairs" in sentence


@pytest.mark.parametrize("varies", [True, False])
def test_an_unspecified_fourth_band_of_a_tiff_counts_if_it_varies(tmp_path, varies):
    section = write_pairs(tmp_path, suffixes=(".tif", ".png"))
    for split in ("train", "val"):
        for file in files(section, "rgb", split):
            image = Image.open(file).convert("RGB")
            band = image.getchannel(0) if varies else Image.new("L", image.size, 255)
            Image.merge("RGBX", (*image.split(), band)).save(file)
    assert [("rgb has 4 channels" in sentence) for sentence in said_of(section)] == [True] * varies


def write_bands(file, pixels):
    """Write a TIFF of one strip whose first band is grey and the others unspecified, little-endian."""
    height, width, bands = pixels.shape
    bits = pixels.dtype.itemsize * 8
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, bands, bits | bits << 16), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, 8), (277, 3, 1, bands), (278, 3, 1, height), (279, 4, 1, pixels.nbytes), (284, 3, 1, 1),
            (338, 3, 1, 0)]  # fmt: skip
    data = pixels.tobytes()
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    Path(file).write_bytes(head + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))


def test_the_second_channel_of_a_grey_image_is_named_as_such(tmp_path):
    section = write_pairs(tmp_path, suffixes=(".png", ".png"))
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            grey = Image.open(file).convert("L")
            Image.merge("LA", (grey, grey.rotate(180))).save(file)
    (sentence,) = said_of(section)
    assert "ir has 2 channels in 12 of 12 sampled pairs" in sentence and "reads only the first" in sentence


def test_a_fourth_channel_is_named_where_there_is_one_modality(tmp_path):
    section = write_pairs(
        tmp_path, lambda image, number: np.dstack([image, 255 - image[..., 0]]), suffixes=(".png", ".png")
    )
    (sentence,) = said_of({**section, "modalities": {"rgbt": "visible"}})
    assert "rgbt has 4 channels" in sentence


def test_pages_that_are_not_read_are_named(tmp_path):
    section = write_pairs(tmp_path, suffixes=(".png", ".tif"))
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            first = Image.open(file)
            first.load()
            first.save(file, save_all=True, append_images=[first.transpose(Image.Transpose.FLIP_TOP_BOTTOM)])
    (sentence,) = said_of(section)
    assert "ir has 2 pages in 12 of 12 sampled pairs" in sentence
    assert "reads only the first" in sentence


@pytest.mark.parametrize("how", ["copied", "linked", "encoded anew"])
def test_files_of_one_modality_in_the_place_of_another_are_named(tmp_path, how):
    section = write_pairs(tmp_path, suffixes=(".png", ".png"))
    for split in ("train", "val"):
        for rgb, ir in zip(files(section, "rgb", split), files(section, "ir", split), strict=True):
            ir.unlink()
            if how == "copied":
                shutil.copy(rgb, ir)
            elif how == "linked":
                os.symlink(rgb, ir)
            else:
                assert cv2.imwrite(str(ir.with_suffix(".jpg")), cv2.imread(str(rgb), cv2.IMREAD_GRAYSCALE))
    (sentence,) = said_of(section)
    known = "shows the same picture as rgb" if how == "encoded anew" else "is the same file as rgb in 12 of 12 pairs"
    assert f"ir {known}" in sentence


def test_a_third_modality_that_is_the_second_is_named(tmp_path):
    section = write_pairs(tmp_path)
    shutil.copytree(tmp_path / "infrared", tmp_path / "depth")
    (sentence,) = said_of({**section, "modalities": {**section["modalities"], "depth": "depth"}})
    assert "depth is the same file as ir in 12 of 12 pairs" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("imgsz", [64, 640])
@pytest.mark.parametrize("seen", [(24, 31, 112, 146), (32, 0, 80, 104)], ids=str)
@pytest.mark.parametrize("narrow", ["rgb", "ir"])
def test_another_field_of_view_is_named_with_the_matrix_that_mends_it(tmp_path, imgsz, seen, narrow):
    section = write_pairs(tmp_path, **{narrow: part(*seen)})
    (sentence,) = said_of(section, imgsz)
    assert "ir has another field of view than rgb" in sentence
    given = sentence.split("'align: {ir: ")[1].split("}'")[0]
    matrix = [[float(v) for v in row.split(",")] for row in given.strip("[]").split("], [")]
    assert said_of({**section, "align": {"ir": matrix}}, imgsz) == []


def test_labels_of_whole_images_do_not_mind_another_field_of_view(tmp_path):
    assert said_of(write_pairs(tmp_path, ir=part(24, 31, 112, 146)), views=False) == []


def test_mixed_up_pairs_are_named_with_the_key_that_aligns(tmp_path):
    section = write_pairs(tmp_path)
    for split in ("train", "val"):
        infrared = files(section, "ir", split)
        contents = [file.read_bytes() for file in infrared]
        for file, content in zip(infrared, contents[1:] + contents[:1], strict=True):
            file.write_bytes(content)
    (sentence,) = said_of(section)
    assert "no more than by chance" in sentence
    assert "'align: {ir: " in sentence
    assert "mwam-det inspect" in sentence


def test_scenes_without_a_common_edge_are_named_too(tmp_path):
    section = write_pairs(
        tmp_path, ir=lambda image, number: scene(500 + number, image.shape).clip(0, 255).astype(np.uint8)
    )
    (sentence,) = said_of(section)
    assert "common edges in only" in sentence


@pytest.mark.slow
def test_training_and_inspection_say_the_same(tmp_path):
    section = write_pairs(
        tmp_path, ir=lambda image, number: in_band(0, 3000)(cv2.warpAffine(image, SHIFTED, (208, 160)), 0)
    )
    said = said_of(section, 128)
    assert len(said) == 2
    findings = [text.replace(str(tmp_path), "") for text in look_at(section, 128).findings]
    assert [text for text in findings if text in said] == said


def test_the_number_of_files_that_are_opened_is_bounded(tmp_path, monkeypatch):
    section = write_pairs(tmp_path, count=20)
    opened = []
    measure = checks.measure_pair
    monkeypatch.setattr(checks, "measure_pair", lambda *args: opened.append(args) or measure(*args))
    monkeypatch.setattr(checks, "TRAINING_SAMPLE", 6)
    assert said_of(section) == []
    assert len(opened) == 6
    assert len({dataset.img_path for dataset, _ in opened}) == 2


SETS = {
    "llvip_silver": ("visible", "infrared"),
    "harbour_rgbt": ("visible", "infrared"),
    "dronevehicle6": ("visible", "infrared"),
    "peach3_640": ("rgb", "infrared"),
    "nyuv2": ("test/rgb", "test/depth"),
}


def real_section(shared_data: Path, name: str) -> dict:
    folders = [folder if name == "nyuv2" else f"{folder}/{{split}}" for folder in SETS[name]]
    split = {"dronevehicle6": ".", "llvip_silver": "train"}.get(name, "val")
    labels = {"dronevehicle6": "ir_labels", "nyuv2": "test/boxes"}.get(name, "labels/{split}")
    return {
        "path": str(shared_data / name),
        "modalities": dict(zip(("rgb", "ir"), [folder.replace("{split}", split) for folder in folders], strict=True)),
        "labels": labels.replace("{split}", split),
        "train": ".",
        "val": ".",
        "names": [f"class {number}" for number in range(20)],
    }


@pytest.mark.parametrize("imgsz", [256, 640])
@pytest.mark.parametrize("name", SETS)
def test_of_real_pairs_nothing_is_said_but_that_16_bits_are_read_as_black(shared_data, name, imgsz):
    said = said_of(real_section(shared_data, name), imgsz)
    assert ["fills only levels" in text for text in said] == ([True] if name == "peach3_640" else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_view_cut_out_of_real_pairs_is_named_and_mended(shared_data, tmp_path, name):
    real = real_section(shared_data, name)
    for modality, folder in real["modalities"].items():
        (tmp_path / modality).mkdir()
        for file in list_images(Path(real["path"]) / folder)[:12]:
            pixels = cv2.imread(file, cv2.IMREAD_UNCHANGED if modality == "ir" else cv2.IMREAD_COLOR)
            if modality == "ir":
                height, width = pixels.shape[:2]
                seen = pixels[height // 8 : height // 8 + 2 * height // 3, width // 5 : width // 5 + 2 * width // 3]
                pixels = cv2.resize(seen, (width, height))
            assert cv2.imwrite(str(tmp_path / modality / f"{Path(file).stem}.png"), pixels)
    section = {**real, "path": str(tmp_path), "modalities": {"rgb": "rgb", "ir": "ir"}, "labels": "labels"}
    section |= {"range": {"ir": "percentile"}} if name == "peach3_640" else {}
    (tmp_path / "labels").mkdir()
    for file in (tmp_path / "rgb").iterdir():
        (tmp_path / "labels" / f"{file.stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    sentence = next(text for text in said_of(section, 640) if "another field of view" in text)
    given = sentence.split("'align: {ir: ")[1].split("}'")[0]
    matrix = [[float(v) for v in row.split(",")] for row in given.strip("[]").split("], [")]
    assert matrix[0][0] == pytest.approx(2 / 3, rel=0.05)
    assert not [
        text for text in said_of({**section, "align": {"ir": matrix}}, 640) if "view" in text or "shift" in text
    ]


@pytest.mark.parametrize("orientation", [3, 6])
def test_some_pairs_whose_exif_tags_differ_are_named(tmp_path, orientation):
    section = write_pairs(tmp_path, suffixes=(".jpg", ".png"))
    for file in files(section, "rgb", "train")[:3]:
        image = Image.open(file)
        exif = image.getexif()
        exif[274] = orientation
        image.save(file, exif=exif)
    (sentence,) = [text for text in said_of(section) if "EXIF" in text]
    assert "The EXIF tags of ir and rgb turn them differently in 3 of 12 sampled pairs" in sentence
