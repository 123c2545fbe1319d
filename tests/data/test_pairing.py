import hashlib
import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features
from ultralytics.utils.patches import imread

from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality, modalities_of
from mwam_det.data.pairing import (
    find_partners,
    image_size,
    list_images,
    read_mode,
    select_files,
    stem_of,
    verify_pair,
)
from mwam_det.data.reading import decode
from mwam_det.data.sources import read_pair
from mwam_det.files.values import parse_value

SIZE = (24, 40)
COLOUR = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
GREY = COLOUR[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, SIZE, np.uint16)
EXIF_ORIENTATION, TURNED_RIGHT = 274, 6


def encoded(suffix: str, image: np.ndarray = COLOUR) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def write(file: Path, content: bytes | np.ndarray) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else encoded(file.suffix, content))
    return str(file)


def digest(file: str | Path) -> tuple[str, int]:
    file = Path(file)
    return hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns


def huge_png() -> bytes:
    """A few bytes that claim to be an image of 900 megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch):
    """Pillow, as Ultralytics patches it, installs a codec when it meets unknown bytes."""

    def refuse(requirements, *args, **kwargs):
        pytest.fail(f"there was an attempt to install {requirements}")

    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", refuse)


# Partners ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    return {"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}


def partners_of(folders: dict[str, Path], rgb: list[str], suffixes: dict | None = None, **others: list[str]):
    """Write files with these names and find the partners of those of `rgb`, told by name again."""
    for name, files in {"rgb": rgb, **others}.items():
        for file in files:
            write(folders[name] / file, b"not looked into")
    found, left_over = find_partners([str(folders["rgb"] / file) for file in rgb], folders, suffixes)

    def short(modality: str, file: str) -> str:
        return Path(file).relative_to(folders[modality]).as_posix()

    by_name = {
        short("rgb", file): {name: [short(name, f) for f in candidates] for name, candidates in modalities.items()}
        for file, modalities in found.items()
    }
    return by_name, left_over


def test_a_stem_is_the_path_below_the_folder_without_the_suffix(tmp_path):
    assert stem_of(tmp_path / "night" / "0001.a.jpg", tmp_path) == "night/0001.a"


def test_partners_are_found_whatever_their_suffix(folders):
    found, left_over = partners_of(folders, ["a.jpg", "b.png", "c.v2.JPG"], ir=["a.PNG", "b.tiff", "c.v2.bmp"])
    assert found == {
        "a.jpg": {"rgb": ["a.jpg"], "ir": ["a.PNG"]},
        "b.png": {"rgb": ["b.png"], "ir": ["b.tiff"]},
        "c.v2.JPG": {"rgb": ["c.v2.JPG"], "ir": ["c.v2.bmp"]},
    }
    assert left_over == {"ir": 0}


def test_files_of_one_name_in_different_subfolders_are_not_confused(folders):
    found, _ = partners_of(folders, ["day/1.jpg", "night/1.jpg", "1.jpg"], ir=["1.png", "night/1.png", "day/1.png"])
    assert {file: candidates["ir"] for file, candidates in found.items()} == {
        "day/1.jpg": ["day/1.png"],
        "night/1.jpg": ["night/1.png"],
        "1.jpg": ["1.png"],
    }


def test_a_missing_partner_is_an_empty_list(folders):
    found, left_over = partners_of(folders, ["a.jpg", "b.jpg"], ir=["a.jpg"])
    assert found["b.jpg"] == {"rgb": ["b.jpg"], "ir": []}
    assert left_over == {"ir": 0}


def test_an_ambiguous_partner_is_a_list_of_all(folders):
    found, _ = partners_of(folders, ["a.jpg"], ir=["a.jpg", "a.png"])
    assert found["a.jpg"]["ir"] == ["a.jpg", "a.png"]


def test_an_ambiguous_image_of_the_first_modality_is_a_list_of_all(folders):
    found, _ = partners_of(folders, ["a.jpg", "a.png"], ir=["a.jpg"])
    assert found["a.jpg"]["rgb"] == found["a.png"]["rgb"] == ["a.jpg", "a.png"]


def test_images_without_a_partner_in_the_first_modality_are_counted(folders):
    _, left_over = partners_of(folders, ["a.jpg"], ir=["a.jpg", "b.jpg", "c.jpg", "c.png"])
    assert left_over == {"ir": 2}


def test_other_files_beside_the_images_are_no_partners(folders):
    found, left_over = partners_of(folders, ["a.jpg"], ir=["a.jpg", "a.txt", "a.npy", "b.json"])
    assert found["a.jpg"]["ir"] == ["a.jpg"]
    assert left_over == {"ir": 0}


def test_partners_in_a_linked_subfolder_are_found_as_ultralytics_finds_images_there(tmp_path, folders):
    for name, folder in folders.items():
        write(tmp_path / "store" / name / "1.png", b"not looked into")
        folder.mkdir()
        (folder / "night").symlink_to(tmp_path / "store" / name, target_is_directory=True)
    image, partner = (str(folders[name] / "night/1.png") for name in ("rgb", "ir"))
    found, _ = find_partners([image], folders)
    assert found == {image: {"rgb": [image], "ir": [partner]}}


def test_hidden_files_are_no_partners_as_they_are_no_images_for_ultralytics(folders):
    _, left_over = partners_of(folders, ["a.jpg"], ir=["a.jpg", "._a.jpg", ".trash/b.jpg"])
    assert left_over == {"ir": 0}


def test_three_modalities_are_paired(tmp_path):
    folders = {name: tmp_path / name for name in ("rgb", "ir", "depth")}
    found, left_over = partners_of(folders, ["a.jpg", "b.jpg"], ir=["a.jpg"], depth=["b.png", "x.png"])
    assert found == {
        "a.jpg": {"rgb": ["a.jpg"], "ir": ["a.jpg"], "depth": []},
        "b.jpg": {"rgb": ["b.jpg"], "ir": [], "depth": ["b.png"]},
    }
    assert left_over == {"ir": 0, "depth": 1}


def test_no_partner_at_all_is_refused_with_an_example_of_both_names(folders):
    with pytest.raises(DatasetError) as caught:
        partners_of(folders, ["sub/FLIR_0001_RGB.jpg"], ir=["sub/FLIR_0001_IR.jpg"])
    message = str(caught.value)
    assert "'sub/FLIR_0001_RGB'" in message
    assert "'sub/FLIR_0001_IR'" in message
    assert str(folders["rgb"]) in message
    assert str(folders["ir"]) in message


def test_a_stem_ends_before_the_suffix_of_the_modality(tmp_path):
    assert stem_of(tmp_path / "night" / "0001_co.png", tmp_path, "_co") == "night/0001"
    assert stem_of(tmp_path / "_co" / "0001.png", tmp_path, "_co") == "_co/0001"


def test_partners_whose_stems_differ_by_their_suffix_are_found(folders):
    suffixes = {"rgb": "_co", "ir": "_ir"}
    found, left_over = partners_of(
        folders, ["a_co.png", "day/b_co.png"], suffixes, ir=["a_ir.tif", "day/b_ir.png", "c_ir.png", "a.png"]
    )
    assert {file: candidates["ir"] for file, candidates in found.items()} == {
        "a_co.png": ["a_ir.tif"],
        "day/b_co.png": ["day/b_ir.png"],
    }
    assert left_over == {"ir": 1}


def test_one_modality_alone_may_have_a_suffix(folders):
    found, _ = partners_of(folders, ["a.jpg"], {"ir": "_PreviewData"}, ir=["a_PreviewData.jpeg", "b_PreviewData.jpeg"])
    assert found["a.jpg"]["ir"] == ["a_PreviewData.jpeg"]


@pytest.mark.parametrize("suffixes", [{"rgb": "_co", "ir": "_ir"}, {"rgb": "_co"}, {"ir": "_ir"}])
def test_modalities_in_one_folder_are_told_apart_by_the_longest_suffix_that_fits(tmp_path, suffixes):
    folders = {"rgb": tmp_path, "ir": tmp_path}
    ending = {"rgb": "", "ir": "", **suffixes}
    files = [write(tmp_path / f"{stem}{ending[name]}.png", b"not looked into") for stem in "ab" for name in folders]
    chosen = {name: select_files(name, files, folders, suffixes) for name in folders}
    assert {name: [Path(file).stem for file in found] for name, found in chosen.items()} == {
        name: [f"{stem}{ending[name]}" for stem in "ab"] for name in folders
    }
    found, left_over = find_partners(chosen["rgb"], folders, suffixes)
    assert [candidates["ir"] for candidates in found.values()] == [[file] for file in chosen["ir"]]
    assert left_over == {"ir": 0}


def test_a_file_that_is_called_like_a_suffix_and_nothing_else_has_no_stem(tmp_path):
    files = [str(tmp_path / name) for name in ("_ir.png", "1_ir.png")]
    assert select_files("ir", files, {"ir": tmp_path}, {"ir": "_ir"}) == files[1:]


def test_a_suffix_that_no_file_carries_is_refused_with_a_file_that_is_there(folders):
    with pytest.raises(DatasetError) as caught:
        partners_of(folders, ["a.jpg"], {"ir": "_thermal"}, ir=["a_ir.jpg"])
    message = str(caught.value)
    assert message.startswith("suffix: ")
    assert all(words in message for words in ("'_thermal'", "of ir", "'a_ir.jpg'", str(folders["ir"])))


def test_partners_whose_names_differ_at_their_beginning_are_found_by_expressions(folders):
    namings = {"rgb": re.compile("RGB_(.+)"), "ir": re.compile("T(.+)")}
    found, left_over = partners_of(
        folders, ["RGB_1.jpg", "night/RGB_1.jpg"], namings, ir=["T1.png", "night/T1.png", "T2.png", "1.png"]
    )
    assert found == {
        "RGB_1.jpg": {"rgb": ["RGB_1.jpg"], "ir": ["T1.png"]},
        "night/RGB_1.jpg": {"rgb": ["night/RGB_1.jpg"], "ir": ["night/T1.png"]},
    }
    assert left_over == {"ir": 1}


def test_hashes_in_names_are_told_from_what_partners_share(folders):
    naming = re.compile(r"(.+)\.rf\.[0-9a-f]+")
    found, _ = partners_of(
        folders, ["a_jpg.rf.0af.jpg"], {"rgb": naming, "ir": naming}, ir=["a_jpg.rf.77.jpg", "b_jpg.rf.1.jpg"]
    )
    assert found == {"a_jpg.rf.0af.jpg": {"rgb": ["a_jpg.rf.0af.jpg"], "ir": ["a_jpg.rf.77.jpg"]}}


def test_modalities_in_one_folder_are_told_apart_by_expressions(tmp_path):
    files = [str(tmp_path / name) for name in ("RGB_1.png", "T_1.png", "1.png", "X_.png")]
    folders = {"rgb": tmp_path, "ir": tmp_path, "x": tmp_path}
    namings = {"rgb": re.compile("RGB_(.+)"), "ir": re.compile("T_(.+)")}
    assert select_files("rgb", files, folders, namings) == files[:1]
    assert select_files("ir", files, folders, namings) == files[1:2]
    assert select_files("x", files, folders, namings) == files[2:]
    with pytest.raises(DatasetError, match=r"match: no image in .* fits 'D_\(.\+\)', as those of ir should"):
        select_files("ir", files, folders, {**namings, "ir": re.compile("D_(.+)")})
    with pytest.raises(DatasetError, match="match: 'RGB_1.png' fits both rgb and ir"):
        select_files("rgb", files, folders, {**namings, "ir": re.compile("(.+)")})


@pytest.mark.parametrize(
    ("rgb", "ir", "hint"),
    [
        (["0001_co.png", "0002_co.png"], ["0001_ir.png", "0002_ir.png"], "try suffix: {rgb: _co, ir: _ir}"),
        (["1.png", "2.png"], ["1-thermal.png", "2-thermal.png"], "try suffix: {ir: "),
        (["RGB_1.png", "RGB_2.png"], ["T1.png", "T2.png"], 'try match: {rgb: "RGB_(.+)", ir: "T(.+)"}'),
        (["a.rf.1.png", "b.rf.2.png"], ["a.rf.3.png", "b.rf.4.png"], "try match: {rgb: "),
        (["a.png"], ["b.png"], None),
    ],
)
def test_names_that_do_not_fit_are_told_with_the_key_that_would_make_them(folders, rgb, ir, hint):
    with pytest.raises(DatasetError) as caught:
        partners_of(folders, rgb, ir=ir)
    _, tried, keys = str(caught.value).partition(": try ")
    assert f"try {keys}".startswith(hint) if hint else not tried
    if hint:
        data = {"modalities": {"rgb": 3, "ir": 3}, "visible": None, **parse_value(f"{{{keys}}}")}
        namings = {modality.name: modality.naming for modality in modalities_of(data)}
        found, _ = partners_of(folders, rgb, namings, ir=ir)
        assert all(len(candidates["ir"]) == 1 for candidates in found.values())


def test_a_folder_without_images_is_refused_by_name(folders):
    with pytest.raises(DatasetError, match="there is no image of ir in") as caught:
        partners_of(folders, ["a.jpg"], ir=["a.txt"])
    assert str(folders["ir"]) in str(caught.value)


# Images --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("colour.jpg", COLOUR),
        ("grey.jpg", GREY),
        ("colour.png", COLOUR),
        ("grey.png", GREY),
        ("deep.png", DEEP),
        ("colour.tif", COLOUR),
        ("grey.tiff", GREY),
        ("deep.tif", DEEP),
        ("colour.bmp", COLOUR),
        ("colour.webp", COLOUR),
        ("UPPER.JPG", COLOUR),
    ],
)
def test_the_size_of_a_whole_image_is_height_and_width(tmp_path, name, image):
    file = write(tmp_path / name, cv2.imencode(Path(name).suffix.lower(), image)[1].tobytes())
    before = digest(file)
    assert image_size(file) == SIZE
    assert digest(file) == before


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_size_of_a_turned_image_is_that_of_the_pixels_as_they_are_read(tmp_path, suffix):
    file = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_RIGHT
    Image.fromarray(COLOUR).save(file, exif=exif)
    assert image_size(file) == imread(file).shape[:2] == SIZE[::-1]


@pytest.mark.parametrize(
    ("suffix", "image"),
    [(".jpg", COLOUR), (".jpg", GREY), (".png", COLOUR), (".png", DEEP), (".png", np.dstack([COLOUR, GREY]))],
)
def test_a_whole_jpeg_or_png_is_measured_by_its_header(tmp_path, monkeypatch, suffix, image):
    file = write(tmp_path / f"whole{suffix}", image)
    shape = decode(file).shape[:2]
    monkeypatch.setattr("mwam_det.data.pairing.read_image", None)
    assert image_size(file) == image_size(file, Modality("ir", 1, value_range="minmax")) == shape == SIZE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_turns_an_image_or_not_as_it_is_read(tmp_path, suffix, orientation):
    file = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(COLOUR).save(file, exif=exif)
    assert image_size(file) == imread(file).shape[:2]


def test_a_changed_byte_in_a_png_is_noticed_by_its_checksum(tmp_path):
    content = bytearray(encoded(".png"))
    content[content.index(b"IDAT") + 20] ^= 1
    with pytest.raises(ValueError, match="changed.png cannot be read"):
        image_size(write(tmp_path / "changed.png", bytes(content)))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_a_truncated_image_is_refused_by_name(tmp_path, suffix, share):
    content = encoded(suffix)
    file = write(tmp_path / f"cut{suffix}", content[: int(len(content) * share)])
    before = digest(file)
    with pytest.raises(ValueError, match="cut"):
        image_size(file)
    assert digest(file) == before


def test_a_jpeg_with_bytes_after_its_end_is_accepted_and_left_as_it_is(tmp_path):
    file = write(tmp_path / "padded.jpg", encoded(".jpg") + b"\0" * 17 + b"camera's notes")
    before = digest(file)
    assert image_size(file) == SIZE
    assert digest(file) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["padded.jpg"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"this is no image " * 20, b"GIF89a" + bytes(40)],
    ids=["empty", "one byte", "text", "broken gif"],
)
def test_bytes_that_are_no_image_are_refused_and_nothing_is_installed_to_read_them(tmp_path, suffix, content):
    file = write(tmp_path / f"fake{suffix}", content)
    with pytest.raises(ValueError, match="fake"):
        image_size(file)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_garbage_behind_a_true_signature_is_refused_and_nothing_is_installed_to_read_it(tmp_path, suffix):
    noise = np.random.default_rng(2).integers(0, 256, 300, np.uint8).tobytes()
    file = write(tmp_path / f"fake{suffix}", encoded(suffix)[:8] + noise)
    with pytest.raises(ValueError, match="fake"):
        image_size(file)


FLOAT = np.random.default_rng(2).uniform(280, 320, SIZE).astype(np.float32)


@pytest.mark.parametrize(
    "image",
    [
        FLOAT,
        np.dstack([FLOAT] * 3),
        *(FLOAT.astype(dtype) for dtype in (np.int32, np.float64, np.int16)),
        (FLOAT - 300).astype(np.int8),
    ],
)
def test_values_that_have_no_8_bit_reading_are_refused_with_the_key_that_says_how(tmp_path, image):
    file = write(tmp_path / "kelvin.tif", image)
    with pytest.raises(ValueError, match=f"kelvin.tif has values of type {image.dtype}: set the key 'range'"):
        image_size(file)
    with pytest.raises(ValueError, match=f"kelvin.tif has values of type {image.dtype}"):
        read_pair({"ir": str(file)}, [Modality("ir", 1)], (), (64, 64), "pair")
    for channels in (1, 3):
        assert image_size(file, Modality("ir", channels, value_range=(280, 320))) == SIZE


def test_a_truncated_image_is_refused_with_a_range_too(tmp_path):
    content = encoded(".png", DEEP)
    file = write(tmp_path / "cut.png", content[: len(content) // 2])
    with pytest.raises(ValueError, match="cut"):
        image_size(file, Modality("ir", 1, value_range="minmax"))


def test_an_image_that_is_too_large_to_be_decoded_is_refused_by_name(tmp_path):
    file = write(tmp_path / "huge.png", huge_png())
    with pytest.raises(ValueError, match="huge"):
        image_size(file)


@pytest.mark.parametrize("size", [(9, 40), (40, 9), (1, 1)])
def test_a_tiny_image_is_refused_with_its_size(tmp_path, size):
    file = write(tmp_path / "tiny.png", np.zeros(size, np.uint8))
    with pytest.raises(ValueError, match=f"{size[1]}×{size[0]} pixels, smaller than 10"):
        image_size(file)


def test_the_smallest_image_has_sides_of_ten_pixels(tmp_path):
    assert image_size(write(tmp_path / "small.png", np.zeros((10, 10), np.uint8))) == (10, 10)


@pytest.mark.parametrize(
    ("suffix", "image"),
    [
        (".png", np.dstack([COLOUR, GREY])),  # with transparency
        (".png", np.dstack([DEEP] * 3)),
        (".tif", np.dstack([DEEP] * 3)),
        (".tif", DEEP.astype(np.float32)),  # temperatures, as some thermal cameras write them
        (".tif", DEEP.astype(np.int16)),
        (".tif", COLOUR.astype(np.float32)),
        (".tif", COLOUR.astype(np.int16)),
    ],
)
def test_an_unusual_image_either_fails_the_check_or_can_be_read_for_training(tmp_path, suffix, image):
    file = write(tmp_path / f"unusual{suffix}", image)
    try:
        size = image_size(file)
    except ValueError as error:
        assert "unusual" in str(error)
        return
    pixels = imread(file, flags=cv2.IMREAD_COLOR)
    assert pixels is not None, "the image passed the check, but training could not read it"
    assert (pixels.shape, pixels.dtype) == ((*size, 3), np.uint8)


# Pairs ---------------------------------------------------------------------------------------------------------------


def pair(folder: Path, labels: str | None, rgb=COLOUR, ir=GREY, classes: int = 2, single: bool = False) -> tuple:
    """Write a pair and return the arguments of `verify_pair`."""
    image, partner = write(folder / "rgb" / "7.jpg", rgb), write(folder / "ir" / "7.jpg", ir)
    label_file = folder / "labels" / "7.txt"
    if labels is not None:
        write(label_file, labels.encode())
    modalities = Modality("rgb", 3, 0, visible=True), Modality("ir", 3, 3)
    return (
        image,
        {"rgb": [image], "ir": [partner]},
        str(label_file),
        "train: ",
        classes,
        single,
        modalities,
        (False, 0, 0),
    )


def left_out(result: list) -> str:
    """Check that a pair is left out as one corrupt pair, and return the message."""
    assert list(result[:5]) == [None] * 5
    assert result[8] == 1
    assert result[10] == ()
    return result[9]


def test_a_good_pair_gives_what_ultralytics_own_check_gives(tmp_path):
    arguments = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n1 0.25 0.75 0.1 0.1\n")
    image, labels, shape, segments, keypoints, missing, found, empty, corrupt, message, sizes = verify_pair(arguments)
    assert (image, shape, segments, keypoints, sizes) == (arguments[0], SIZE, [], None, (SIZE, SIZE))
    assert np.array_equal(labels, np.float32([[0, 0.5, 0.5, 0.2, 0.4], [1, 0.25, 0.75, 0.1, 0.1]]))
    assert (missing, found, empty, corrupt, message) == (0, 1, 0, 0, "")


def test_a_missing_label_file_means_background(tmp_path):
    arguments = pair(tmp_path, None)
    image, labels, shape, _, _, missing, found, empty, corrupt, message, _ = verify_pair(arguments)
    assert (image, labels.shape, shape) == (arguments[0], (0, 5), SIZE)
    assert (missing, found, empty, corrupt, message) == (1, 0, 0, 0, "")


def test_an_empty_label_file_means_background(tmp_path):
    _, labels, _, _, _, missing, found, empty, corrupt, *_ = verify_pair(pair(tmp_path, "\n"))
    assert labels.shape == (0, 5)
    assert (missing, found, empty, corrupt) == (0, 1, 1, 0)


def test_duplicate_rows_are_removed_and_told(tmp_path):
    arguments = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    result = verify_pair(arguments)
    assert len(result[1]) == 2
    assert result[9] == f"train: {arguments[0]}: 1 duplicate labels removed"


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("0 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4\n", "Label class 2 exceeds dataset class count 2"),
        ("0 0.5 1.5 0.2 0.4\n", "1.5"),
        ("0 -0.5 0.5 0.2 0.4\n", "negative"),
        ("0 0.5 0.5 -0.2 0.4\n", "negative"),
        ("0.5 0.5 0.5 0.2 0.4\n", "non-integer class"),
        ("0 0.5 0.5 0.2\n", "4 columns"),
        ("person 0.5 0.5 0.2 0.4\n", "person"),
        ("0 0.5 0.5 0.2 0.4\n1 0.5\n", ""),
    ],
)
def test_a_wrong_label_leaves_the_pair_out_and_names_file_and_reason(tmp_path, labels, reason):
    arguments = pair(tmp_path, labels)
    message = left_out(verify_pair(arguments))
    assert message.startswith(f"train: {arguments[2]}: pair left out, ")
    assert reason in message
    assert len(message) > len(f"train: {arguments[2]}: pair left out, ")


def test_a_class_out_of_range_is_no_mistake_where_all_classes_count_as_one(tmp_path):
    result = verify_pair(pair(tmp_path, "7 0.5 0.5 0.2 0.4\n", classes=1, single=True))
    assert len(result[1]) == 1
    assert result[8] == 0


def test_a_damaged_image_leaves_the_pair_out_and_is_named(tmp_path):
    arguments = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n", rgb=encoded(".jpg")[:200])
    message = left_out(verify_pair(arguments))
    assert message.startswith(f"train: {arguments[0]}: pair left out, ")


def test_a_damaged_partner_leaves_the_pair_out_and_both_are_named(tmp_path):
    arguments = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n", ir=encoded(".jpg", GREY)[:200])
    message = left_out(verify_pair(arguments))
    assert message.startswith(f"train: {arguments[0]}: pair left out, ")
    assert arguments[1]["ir"][0] in message


def test_a_missing_partner_leaves_the_pair_out_and_its_modality_is_named(tmp_path):
    image, candidates, *rest = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n")
    message = left_out(verify_pair((image, {**candidates, "ir": []}, *rest)))
    assert message == f"train: {image}: pair left out, it has no partner of ir"


def test_an_ambiguous_partner_leaves_the_pair_out_and_all_candidates_are_named(tmp_path):
    image, candidates, *rest = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n")
    both = [*candidates["ir"], write(tmp_path / "ir" / "7.png", GREY)]
    message = left_out(verify_pair((image, {**candidates, "ir": both}, *rest)))
    assert all(file in message for file in (image, *both))


def test_partners_of_another_size_are_accepted_and_the_first_size_counts(tmp_path):
    result = verify_pair(pair(tmp_path, "0 0.5 0.5 0.2 0.4\n", ir=np.zeros((50, 60), np.uint8)))
    assert result[2] == SIZE
    assert result[10] == (SIZE, (50, 60))
    assert result[8] == 0


def test_checking_a_pair_changes_no_file(tmp_path):
    arguments = pair(tmp_path, "0 0.5 0.5 0.2 0.4\n", rgb=encoded(".jpg") + b"tail", ir=encoded(".jpg", GREY)[:-2])
    before = {file: digest(file) for file in tmp_path.rglob("*.*")}
    verify_pair(arguments)
    assert {file: digest(file) for file in tmp_path.rglob("*.*")} == before


# What is decoded, listed and installed -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_tiff_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    file = tmp_path / "bomb.tif"
    Image.new("1", (30_000, 30_000)).save(file, compression="group4")
    monkeypatch.setattr(cv2, "imdecodemulti", None)
    with pytest.raises(ValueError, match="bomb.tif: 30000×30000 pixels are more than"):
        image_size(file)
    with pytest.raises(ValueError, match="bomb.tif: 30000×30000 pixels are more than"):
        read_mode(file)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_pillows_limit_may_be_taken_away(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert image_size(write(tmp_path / f"colour{suffix}", COLOUR)) == SIZE


HEIF = b"\0\0\0\x10ftyp%b\0\0\0\0\0\0\0\x24meta\0\0\0\0\0\0\0\x14ispe\0\0\0\0\0\0\0\x20\0\0\0\x20"


@pytest.mark.parametrize("suffix", [".heic", ".heif", ".avif", ".HEIC"])
@pytest.mark.parametrize("content", [b"noise " * 500, HEIF % b"heic" + bytes(900), HEIF % b"avif" + bytes(900)])
def test_garbage_that_is_called_heic_or_avif_makes_nothing_be_installed(tmp_path, monkeypatch, suffix, content):
    asked = []
    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", lambda *args, **kwargs: asked.append(args))
    file = write(tmp_path / f"fake{suffix}", content)
    for modality in (Modality("rgb"), Modality("rgb", value_range="minmax")):
        with pytest.raises(ValueError, match=f"fake{suffix} cannot be read"):
            image_size(file, modality)
    assert decode(file) is None and not asked


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_true_avif_is_read(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "true.avif")
    assert image_size(tmp_path / "true.avif") == SIZE
    assert decode(tmp_path / "true.avif").shape == (*SIZE, 3)


def test_links_that_lead_round_in_a_circle_are_no_more_images(tmp_path):
    files = [write(tmp_path / name, COLOUR) for name in ("1.png", "a/2.png")]
    for name in ("l1", "l2", "a/l3"):
        (tmp_path / name).symlink_to(tmp_path)
    assert list_images(tmp_path) == files


def test_a_pipe_that_is_called_like_an_image_is_none(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    assert list_images(tmp_path) == []
