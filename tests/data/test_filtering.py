"""Low- and high-pass filters, against the paper's words restated as sums over sines, and against what must hold."""

import numpy as np
import pytest

from mwam_det.data.filtering import WindowFilter, apply_filter, high_pass, low_pass, read_filters

SIDES = [(16, 16), (15, 21), (12, 17), (9, 8)]


def picture(height, width, channels=3):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels)).astype(np.uint8)


def restated(plane, window, keep_inside):
    """Appendix A.5 word by word, without an FFT: transform, DC to the middle, n×n points kept or discarded, back."""
    height, width = plane.shape
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2  # frequencies in shifted order
    forward = [np.exp(-2j * np.pi * np.outer(f, np.arange(len(f))) / len(f)) for f in (rows, columns)]
    spectrum = forward[0] @ plane @ forward[1].T
    inside = np.zeros((height, width), bool)
    top, left = height // 2 - window // 2, width // 2 - window // 2
    inside[max(top, 0) : top + window, max(left, 0) : left + window] = True
    spectrum[inside != keep_inside] = 0
    back = forward[0].conj().T @ spectrum @ forward[1].conj() / (height * width)
    return back.real


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 8])
def test_both_filters_are_the_papers_window_of_the_shifted_spectrum(size, window):
    pixels = picture(*size)
    for channel in range(3):
        plane = pixels[..., channel]
        np.testing.assert_allclose(low_pass(pixels, window)[..., channel], restated(plane, window, True), atol=1e-9)
        np.testing.assert_allclose(high_pass(pixels, window)[..., channel], restated(plane, window, False), atol=1e-9)


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("window", [1, 2, 5, 8, 40])
def test_low_and_high_frequencies_add_up_to_the_image(size, window):
    pixels = picture(*size)
    np.testing.assert_allclose(low_pass(pixels, window) + high_pass(pixels, window), pixels, atol=1e-9)


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("more", [0, 1, 50])
def test_a_window_of_the_whole_image_keeps_everything(size, more):
    pixels = picture(*size)
    whole = max(size) + more
    assert np.array_equal(apply_filter(pixels, WindowFilter("low", whole)), pixels)
    assert (apply_filter(pixels, WindowFilter("high", whole)) == 128).all()


def test_a_window_of_one_holds_the_mean_alone():
    pixels = picture(16, 12)
    assert np.allclose(low_pass(pixels, 1), pixels.mean((0, 1)))
    assert np.allclose(high_pass(pixels, 1).mean((0, 1)), 0)


def test_a_wave_passes_a_window_that_reaches_to_its_frequency_and_no_other():
    wave = np.cos(2 * np.pi * 3 * np.arange(32) / 32)[None, :, None].repeat(32, 0)  # three cycles
    assert np.allclose(low_pass(wave, 5), 0)  # reaches to 2 cycles
    assert np.allclose(low_pass(wave, 6), wave / 2)  # −3 is in, 3 is not
    assert np.allclose(low_pass(wave, 7), wave)


def test_the_wider_the_window_the_less_is_left_of_the_high_frequencies():
    pixels = picture(16, 16)
    power = [np.square(high_pass(pixels, window)).sum() for window in range(1, 17)]
    assert all(wider <= narrower for narrower, wider in zip(power, power[1:], strict=False)) and power[-1] < 1e-9


def test_8_bit_images_are_rounded_and_clipped_and_high_pass_ones_lie_around_mid_grey():
    pixels = np.zeros((16, 16, 1), np.uint8)
    pixels[8, 8] = 255
    high = apply_filter(pixels, WindowFilter("high", 1))
    assert high.dtype == np.uint8 and high[8, 8] == 255 and high[0, 0] == 127  # 128 + 254 is clipped
    low = apply_filter(pixels, WindowFilter("low", 3))
    assert low[8, 8, 0] == round(255 * 9 / 256) and low.min() == 0


@pytest.mark.parametrize("value", [None, False, {}, {"ir": None}, {"ir": False}])
def test_no_filter_is_told_in_several_ways(value):
    assert read_filters(value, ("rgb", "ir")) == {}


def test_filters_come_in_the_order_of_the_modalities():
    found = read_filters({"ir": {"low": 16}, "rgb": {"high": 3}}, ("rgb", "ir"))
    assert list(found.items()) == [("rgb", WindowFilter("high", 3)), ("ir", WindowFilter("low", 16))]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (4, r"filter=4 must map modalities to values, like {rgb: {low: 16}}"),
        (True, r"filter=True must map"),
        ({"thermal": {"low": 4}}, "filter: thermal is not a modality: choose from rgb, ir"),
        ({"ir": 16}, r"filter: ir=16 must be {low: n} or {high: n}"),
        ({"ir": {}}, r"filter: ir={} must be {low: n} or {high: n}"),
        ({"ir": {"low": 4, "high": 2}}, "must be {low: n} or {high: n}"),
        ({"ir": {"band": 4}}, "filter: ir has the key 'band': choose from low, high"),
        ({"ir": {"low": 0}}, "filter: ir.low=0 must be a whole number of coefficients, at least 1"),
        ({"ir": {"high": -3}}, "filter: ir.high=-3 must be a whole number"),
        ({"ir": {"low": 2.5}}, "filter: ir.low=2.5 must be a whole number"),
        ({"ir": {"low": True}}, "filter: ir.low=True must be a whole number"),
        ({"ir": {"low": "16"}}, "filter: ir.low='16' must be a whole number"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_choices(value, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("}", r"\}")):
        read_filters(value, ("rgb", "ir"))
