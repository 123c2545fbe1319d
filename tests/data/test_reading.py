from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mwam_det.data.levels import map_to_bytes
from mwam_det.data.modality import Modality
from mwam_det.data.reading import place, read_image, reduction_of, scaling

SIZE = (24, 40)
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
DEEP = RNG.integers(0, 65536, SIZE, np.uint16)
KELVIN = RNG.uniform(280, 320, SIZE).astype(np.float32)
RGB = Modality("rgb", 3, 0, visible=True)
GREY = Modality("ir", 1, 3)


def write(file: Path, image: np.ndarray, *options) -> Path:
    file.write_bytes(cv2.imencode(file.suffix, image, *options)[1].tobytes())
    return file


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 225, (height // 32 + 2, width // 32 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


# Range ---------------------------------------------------------------------------------------------------------------


def test_a_fixed_range_is_mapped_linearly_clipped_and_rounded():
    pixels = np.array([[[0], [999], [1000], [1002], [1500], [2000], [2001], [65535]]], np.uint16)
    assert map_to_bytes(pixels, (1000, 2000)).ravel().tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_a_range_takes_values_of_any_type(dtype):
    pixels = np.array([[[10], [20], [30], [110]]], dtype)
    for value_range in ((10, 110), "minmax"):
        mapped = map_to_bytes(pixels, value_range)
        assert mapped.dtype == np.uint8
        assert mapped.ravel().tolist() == [0, 26, 51, 255]


def test_a_fixed_range_means_the_same_in_every_image():
    image, brighter = KELVIN[..., None], KELVIN[..., None] + 5
    assert (map_to_bytes(brighter, (270, 340)).astype(int) - map_to_bytes(image, (270, 340))).mean() > 15
    assert np.abs(map_to_bytes(brighter, "minmax").astype(int) - map_to_bytes(image, "minmax")).max() <= 1


def test_minmax_spreads_the_values_of_an_image_over_all_bytes():
    mapped = map_to_bytes(DEEP[..., None] // 64, "minmax")
    assert (mapped.min(), mapped.max()) == (0, 255)


def test_a_percentile_is_not_moved_by_a_few_dead_pixels():
    pixels = RNG.integers(3000, 4000, (100, 100, 1)).astype(np.uint16)
    dead = pixels.copy()
    dead[0, :50] = 65535
    assert np.abs(map_to_bytes(dead, "percentile")[1:].astype(int) - map_to_bytes(pixels, "percentile")[1:]).max() <= 3
    assert map_to_bytes(dead, "minmax")[1:].max() < 5
    low, high = np.percentile(pixels, (1, 99))
    exact = np.clip(np.rint((pixels - low) * 255 / (high - low)), 0, 255)
    assert np.abs(map_to_bytes(pixels, "percentile") - exact).max() <= 1


@pytest.mark.parametrize("value_range", [(280, 320), "minmax", "percentile"])
def test_what_is_no_finite_number_becomes_0_and_moves_nothing_else(value_range):
    pixels = np.repeat(KELVIN, 4, axis=1)[..., None]
    holes = pixels.copy()
    holes[3, 4:7, 0] = np.nan, np.inf, -np.inf
    mapped, whole = map_to_bytes(holes, value_range), map_to_bytes(pixels, value_range)
    assert mapped[3, 4:7, 0].tolist() == [0, 0, 0]
    elsewhere = np.isfinite(holes)
    assert np.abs(mapped[elsewhere].astype(int) - whole[elsewhere]).max() <= 1


@pytest.mark.parametrize("value", [7, np.nan, np.inf])
@pytest.mark.parametrize("value_range", ["minmax", "percentile"])
def test_an_image_of_a_single_value_becomes_0(value_range, value):
    assert not map_to_bytes(np.full((12, 12, 1), value, np.float32), value_range).any()


def test_all_channels_are_mapped_alike_so_that_colours_stay():
    pixels = np.dstack([DEEP // 4, DEEP // 2, DEEP])
    for value_range in ("minmax", "percentile", (0, 65535)):
        mapped = map_to_bytes(pixels, value_range)
        assert np.abs(mapped[..., 2] - 2.0 * mapped[..., 1])[mapped[..., 2] < 250].max() <= 6


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_read_by_their_range_or_by_their_high_byte(tmp_path, name, channels):
    file = write(tmp_path / name, DEEP)
    modality = Modality("ir", channels, value_range=(1000, 5000))
    expected = map_to_bytes(DEEP[..., None], (1000, 5000))
    assert np.array_equal(read_image(file, modality), expected.repeat(channels, 2))
    high = (DEEP >> 8).astype(np.uint8)[..., None]
    assert np.array_equal(read_image(file, Modality("ir", channels)), high.repeat(channels, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_tiff_is_read_by_its_range(tmp_path, dtype):
    file = write(tmp_path / "kelvin.tiff", KELVIN.astype(dtype))
    image = read_image(file, Modality("ir", 1, value_range=(280, 320)))
    assert np.array_equal(image, map_to_bytes(KELVIN.astype(dtype)[..., None], (280, 320)))


@pytest.mark.parametrize("value_range", [None, "minmax", (0, 255)])
def test_colour_becomes_grey_where_one_channel_is_wanted(tmp_path, value_range):
    colour = COLOUR.copy()
    colour[0, 0], colour[0, 1] = 0, 255  # so that minmax changes nothing
    image = read_image(write(tmp_path / "c.png", colour), Modality("ir", 1, value_range=value_range))
    assert np.abs(image[..., 0].astype(int) - cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)).max() <= 1


def test_transparency_is_left_out_with_a_range_too(tmp_path):
    file = write(tmp_path / "t.png", np.dstack([COLOUR, np.zeros(SIZE, np.uint8)]))
    assert np.array_equal(read_image(file, Modality("rgb", 3, value_range=(0, 255))), COLOUR)


@pytest.mark.parametrize("modality", [RGB, GREY, Modality("ir", 3, value_range=(0, 255))], ids=["3", "1", "range"])
@pytest.mark.parametrize("reduction", [1, 2])
def test_a_turned_file_is_read_upright(tmp_path, modality, reduction):
    exif = Image.Exif()
    exif[274] = 6
    file = tmp_path / "turned.jpg"
    Image.fromarray(smooth(0, 64, 128)).save(file, exif=exif)
    divisor = 1 if modality.value_range else reduction
    assert read_image(file, modality, divisor).shape == (128 // divisor, 64 // divisor, modality.channels)


def test_a_file_that_cannot_be_read_is_none(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    for modality in (RGB, GREY, Modality("ir", 1, value_range="minmax")):
        assert read_image(tmp_path / "x.png", modality) is None
        assert read_image(tmp_path / "gone.png", modality) is None


# Reduced decoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "target", "divisor"),
    [
        ((1024, 1280), (512, 640), 2),
        ((1024, 1280), (513, 641), 1),
        ((1024, 1280), (256, 320), 4),
        ((1024, 1280), (300, 375), 2),
        ((1024, 1280), (64, 80), 8),
        ((1024, 1280), (20, 25), 8),
        ((512, 640), (512, 640), 1),
        ((512, 640), (1024, 1280), 1),
        ((1022, 1280), (200, 250), 2),  # a quarter of 1022 rows would be 255.5
        ((1023, 1280), (256, 320), 1),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_not_below_the_target(size, target, divisor):
    assert reduction_of("a.jpg", RGB, size, target) == reduction_of("A.JPEG", GREY, size, target) == divisor


def test_other_formats_and_files_with_a_range_are_decoded_in_full():
    assert reduction_of("a.png", RGB, (1024, 1280), (64, 80)) == 1
    assert reduction_of("a.jpg", Modality("ir", 3, value_range="minmax"), (1024, 1280), (64, 80)) == 1


@pytest.mark.parametrize("modality", [RGB, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_a_reduced_image_shows_the_same_in_the_same_place(tmp_path, modality, divisor):
    size, target = (256, 384), (256 // divisor, 384 // divisor)
    file = write(tmp_path / "a.jpg", smooth(1, *size), [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert reduction_of(file, modality, size, target) == divisor
    small = read_image(file, modality, divisor)
    assert small.shape == (*target, modality.channels)
    whole = place(read_image(file, modality), modality, size, size, target).astype(float)

    def distance(image):
        return np.abs(image - whole)[2:-2, 2:-2].mean()

    assert distance(small) < 1.5
    for axis in (0, 1):
        for step in (-1, 1):  # a pixel of the small image is `divisor` pixels of the file
            assert distance(np.roll(small, step, axis)) > 3 * distance(small)


def test_a_bright_square_is_where_its_box_says_at_any_divisor(tmp_path):
    size = (320, 480)
    image = np.zeros((*size, 3), np.uint8)
    image[80:160, 240:400] = 255
    file = write(tmp_path / "a.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    for target in ((320, 480), (160, 240), (120, 180), (80, 120), (40, 60), (32, 48)):
        divisor = reduction_of(file, RGB, size, target)
        found = place(read_image(file, RGB, divisor), RGB, size, size, target)[..., 0] > 127
        rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
        box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        scale = target[0] / size[0]
        assert box == pytest.approx([80 * scale, 160 * scale, 240 * scale, 400 * scale], abs=0.51)


# Place ---------------------------------------------------------------------------------------------------------------


def test_an_image_of_another_size_is_stretched_as_opencv_does():
    image = smooth(2, 96, 96)
    stretched = place(image, RGB, (96, 96), (48, 64), (48, 64))
    assert np.array_equal(stretched, cv2.resize(image, (64, 48), interpolation=cv2.INTER_LINEAR))
    assert place(image[..., :1], GREY, (96, 96), (48, 64), (48, 64)).shape == (48, 64, 1)
    assert place(image, RGB, (96, 96), (48, 64), (96, 96)) is image


def aligned(modality: Modality, matrix: np.ndarray) -> Modality:
    return Modality(modality.name, modality.channels, modality.start, align=tuple(map(tuple, matrix.tolist())))


def test_scaling_maps_pixels_as_opencv_resizes_them():
    ramp = np.tile(np.arange(64, dtype=np.float32), (8, 1))
    half = cv2.resize(ramp, (32, 8), interpolation=cv2.INTER_LINEAR)
    for x in range(32):
        old_x = (np.linalg.inv(scaling((8, 64), (8, 32))) @ [x, 0, 1])[0]
        assert old_x == pytest.approx(half[0, x])


@pytest.mark.parametrize("target", [(128, 192), (64, 96), (96, 144), (200, 300)])
def test_the_matrix_of_plain_stretching_gives_the_plain_result(target):
    image = smooth(3, 128, 192)
    warped = place(image, aligned(RGB, np.eye(3)), (128, 192), (128, 192), target)
    assert np.abs(warped.astype(int) - place(image, RGB, (128, 192), (128, 192), target)).max() <= 3
    other = smooth(4, 96, 160)
    matrix = scaling((96, 160), (128, 192))
    warped = place(other, aligned(RGB, matrix), (96, 160), (128, 192), target)
    assert np.abs(warped.astype(int) - place(other, RGB, (96, 160), (128, 192), target)).max() <= 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("target", [(120, 200), (60, 100), (90, 150)])
def test_marks_land_where_the_homography_says(channels, target):
    """Marks in an infrared image of another size, turned, scaled and in perspective, are found by their formula."""
    size, first_size = (100, 140), (120, 200)
    matrix = np.array([[1.25, 0.1, 6.0], [-0.08, 1.1, 9.0], [2e-4, -1e-4, 1.0]])
    for x, y in ((40, 30), (100, 35), (70, 70)):
        image = np.zeros((*size, channels), np.uint8)
        cv2.circle(image, (x, y), 6, (255,) * channels, -1)
        modality = aligned(GREY if channels == 1 else RGB, matrix)
        drawn = place(image, modality, size, first_size, target)
        assert drawn.shape == (*target, channels)
        u, v, w = matrix @ [x, y, 1]
        expected = (scaling(first_size, target) @ [u / w, v / w, 1])[:2]
        weights = drawn[..., 0].astype(float)
        rows, columns = np.indices(target)
        centre = (columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()
        assert centre == pytest.approx(expected, abs=0.4)


def test_an_image_that_was_decoded_small_is_aligned_to_the_same_place(tmp_path):
    size, target = (256, 384), (64, 96)
    matrix = np.array([[1.05, 0.02, -8.0], [0.01, 0.98, 5.0], [0, 0, 1.0]])
    file = write(tmp_path / "a.jpg", smooth(5, *size), [cv2.IMWRITE_JPEG_QUALITY, 95])
    modality = aligned(RGB, matrix)
    assert reduction_of(file, modality, size, target) == 4
    small, whole = (place(read_image(file, modality, d), modality, size, size, target).astype(float) for d in (4, 1))
    inner = np.s_[8:-8, 12:-12]
    assert np.abs(small - whole)[inner].mean() < 1.5
    assert np.abs(np.roll(small, 1, 1) - whole)[inner].mean() > 4


def test_beyond_its_own_view_an_aligned_image_is_mirrored_and_never_flat():
    shift = np.array([[1, 0, 30], [0, 1, 0], [0, 0, 1.0]])
    image = RNG.integers(0, 256, (64, 96, 3), np.uint8)
    moved = place(image, aligned(RGB, shift), (64, 96), (64, 96), (64, 96))
    assert np.abs(moved[:, 30:].astype(int) - image[:, :-30]).max() <= 1
    assert np.abs(moved[:, :30].astype(int) - image[:, 30:0:-1]).max() <= 1
