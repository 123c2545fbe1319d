"""Sizes by headers, against files that OpenCV and Pillow wrote."""

import time

import cv2
import numpy as np
import pytest
from PIL import Image, features

from mwam_det.files.images import Header, check_pixels, read_header, stated_sizes

HEIGHT, WIDTH = 37, 300
COLOUR = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
SUFFIXES = ("jpg", "png", "bmp", "gif", "tif", "webp", "jp2", "avif")


@pytest.fixture(params=SUFFIXES)
def file(request, tmp_path):
    """An image in a format, under a name that says nothing of it."""
    if request.param == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    written = tmp_path / f"a.{request.param}"
    Image.fromarray(COLOUR).save(written)
    return written.rename(tmp_path / "image")


def test_the_size_that_pillow_wrote_is_found(file):
    assert list(stated_sizes(file)) == [(HEIGHT, WIDTH)]


@pytest.mark.parametrize(
    ("suffix", "depth"),
    [
        *((suffix, np.uint8) for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp", ".jp2")),
        *((suffix, np.uint16) for suffix in (".png", ".tif", ".jp2")),
        (".tif", np.float32),
        (".tif", np.float64),
    ],
)
def test_the_size_that_opencv_wrote_is_found(tmp_path, suffix, depth):
    file = tmp_path / "image"
    file.write_bytes(cv2.imencode(suffix, COLOUR.astype(depth))[1].tobytes())
    assert list(stated_sizes(file)) == [(HEIGHT, WIDTH)]


def test_the_limit_is_twice_pillows_in_every_format_and_none_is_no_limit(file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2)
    assert check_pixels(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(ValueError, match=f"image: .*(pixels are more than the|exceeds limit of) {HEIGHT * WIDTH - 2}"):
        check_pixels(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert check_pixels(file)


def test_every_page_of_a_tiff_counts(tmp_path, monkeypatch):
    file = tmp_path / "pages.tif"
    first, *others = (Image.new("L", size) for size in ((30, 40), (10, 20), (50, 5)))
    first.save(file, save_all=True, append_images=others)
    assert list(stated_sizes(file)) == [(40, 30), (20, 10), (5, 50)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 650)
    with pytest.raises(ValueError, match=r"pages.tif: 1400 pixels in 2 pages or more are more than the 1300"):
        check_pixels(file)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_a_small_file_of_many_pixels_is_refused_at_once(tmp_path, suffix):
    file = tmp_path / f"bomb.{suffix}"
    options = {"compression": "group4"} if suffix == "tif" else {}
    Image.new("1", (30_000, 30_000)).save(file, **options)
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="30000×30000 pixels are more than"):
        check_pixels(file)
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize("length", [0, 4, 12])
def test_a_header_that_is_cut_off_states_nothing(file, length):
    file.write_bytes(file.read_bytes()[:length])
    assert list(stated_sizes(file)) == [] and not check_pixels(file)


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"nothing of the kind", b"\0\0\0\x18ftypheic" + bytes(99), b"II*\0\x08\0\0\0" + b"\xff" * 40],
    ids=["a byte", "text", "HEIC without a codec", "a page beyond all files"],
)
def test_what_pillow_does_not_know_is_not_known(tmp_path, content):
    file = tmp_path / "other.png"
    file.write_bytes(content)
    assert not check_pixels(file)


def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_pixels(tmp_path / "gone.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_header_states_how_an_image_is_turned_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / f"turned{suffix}", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / f"plain{suffix}")
    assert read_header(tmp_path / f"turned{suffix}") == Header("RGB", False, 6, 1, 3 if suffix == ".tif" else 0)
    assert read_header(tmp_path / f"plain{suffix}") == Header("RGB", False, 1, 1, 3 if suffix == ".tif" else 0)


def test_a_header_states_transparency_and_pages(tmp_path):
    Image.new("RGBA", (30, 20)).save(tmp_path / "clear.png")
    assert read_header(tmp_path / "clear.png") == Header("RGBA", True, 1, 1)
    page, preview = Image.new("L", (30, 20)), Image.new("L", (15, 10))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, preview])
    assert read_header(tmp_path / "pages.tif") == Header("L", False, 1, 2, bands=1)  # a preview is no page


def test_what_is_no_image_states_nothing(tmp_path):
    (tmp_path / "text.png").write_bytes(b"no image")
    assert read_header(tmp_path / "text.png") == Header()
    exif = Image.Exif()
    exif[274] = 77
    Image.new("L", (30, 20)).save(tmp_path / "odd.jpg", exif=exif)
    assert read_header(tmp_path / "odd.jpg").orientation == 1
