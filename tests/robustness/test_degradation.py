import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from mwam_det.robustness.degradation import (
    BACKGROUND_SIGMA,
    DEGRADATIONS,
    FULL_SCALE_ELECTRONS,
    GAMMA,
    LAMP_RADIUS,
    NEAREST_DISTANCE,
    READ_NOISE_ELECTRONS,
    SEVERITIES,
    SUITS,
    darkness,
    dead_lines,
    defocus,
    degradations_for,
    degrade,
    fill,
    fog,
    frozen_frame,
    glare,
    motion_blur,
    noise,
    overexposure,
    shift,
    thermal_crossover,
    thermal_fog,
    thermal_saturation,
)

NAMES = list(DEGRADATIONS)
KEYS = ["a.jpg", "b.jpg", 7]


def pictures(count=3, channels=3, size=(64, 80), seed=0):
    """Smooth scenes with small bright objects, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 6, 7, generator=generator) * 0.6 + 0.05
    images = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    for image in images:
        for row, column in (torch.rand(6, 2, generator=generator) * 0.9).tolist():
            top, left = int(row * size[0]), int(column * size[1])
            image[:, top : top + 5, left : left + 4] += 0.3
    return images.clamp(0, 1)


def others(images, name):
    return images.roll(1, 0) if DEGRADATIONS[name].needs == "other" else None


def run(images, name, severity=3, keys=KEYS, **options):
    return degrade(images, name, severity, keys=keys, other=options.pop("other", others(images, name)), **options)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def place_of_the_peak(image):
    index = int(image[0].argmax())
    return divmod(index, image.shape[-1])


# The door


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_is_a_new_tensor_in_range_with_the_shape_and_dtype_of_the_images(name, channels, dtype):
    images = pictures(channels=channels, size=(32, 40)).to(dtype)
    before = images.clone()
    for severity in (1, 5):
        result = run(images, name, severity)
        assert result.shape == images.shape and result.dtype == dtype
        assert result.amin() >= 0 and result.amax() <= 1  # and no NaN
        assert result.data_ptr() != images.data_ptr() and not result.equal(images)
    assert images.equal(before)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gives_what_single_precision_gives(name):
    images = pictures(size=(32, 40)).half()
    assert run(images, name, 4).equal(run(images.float(), name, 4).half())


@pytest.mark.parametrize("name", NAMES)
def test_an_image_gets_the_same_in_any_batch_and_every_time(name):
    images = pictures()
    partners = others(images, name)
    together = run(images, name)
    assert together.equal(run(images, name))
    for order in ([2, 0, 1], [1], [0, 2]):
        part = None if partners is None else partners[order]
        alone = run(images[order], name, keys=[KEYS[i] for i in order], other=part)
        assert alone.equal(together[order])


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_seeds_decide_what_is_random_and_nothing_else(name):
    images = pictures(1).expand(20, -1, -1, -1)
    if DEGRADATIONS[name].needs == "generator":
        first = run(images, name, keys=range(20))
        assert len({image.numpy().tobytes() for image in first}) > 1
        assert not first.equal(run(images, name, keys=range(20), seed=1))
        assert not first.equal(run(images, name, keys=range(100, 120)))
    else:
        first = run(images, name, keys=range(20))
        assert first.equal(run(images, name, keys=range(50, 70), seed=1))
        assert all(image.equal(first[0]) for image in first)


@pytest.mark.slow
def test_another_process_draws_the_same():
    code = (
        "import torch; from mwam_det.robustness.degradation import degrade;"
        "print(degrade(torch.full((1, 1, 2, 2), 0.5), 'noise', 1, keys=['street/1.jpg']).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    here = degrade(torch.full((1, 1, 2, 2), 0.5), "noise", 1, keys=["street/1.jpg"])
    assert output.stdout.strip() == str(here.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_the_distance_from_the_clean_image_grows_with_severity(name):
    images = pictures(12, size=(96, 120))
    distances = [(run(images, name, severity, keys=range(12)) - images).abs().mean().item() for severity in SEVERITIES]
    assert distances[0] > 0 and all(low < high for low, high in zip(distances, distances[1:], strict=False)), distances


@pytest.mark.parametrize("name", NAMES)
def test_only_the_area_of_the_sensor_is_degraded_and_as_if_it_were_the_image(name):
    images = pictures(2)
    areas = [(8, 56, 0, 80), (0, 64, 10, 70)]
    result = run(images, name, 4, keys=KEYS[:2], areas=areas)
    for i, (top, bottom, left, right) in enumerate(areas):
        inside = (slice(i, i + 1), slice(None), slice(top, bottom), slice(left, right))
        partner = others(images, name)
        cut = run(images[inside], name, 4, keys=KEYS[i : i + 1], other=None if partner is None else partner[inside])
        assert result[inside].equal(cut)
        border = torch.ones(64, 80, dtype=torch.bool)
        border[top:bottom, left:right] = False
        assert result[i][:, border].equal(images[i][:, border])


@pytest.mark.parametrize("name", NAMES)
def test_tiny_black_and_white_images_survive(name):
    for value in (0.0, 1.0):
        result = run(torch.full((1, 3, 2, 3), value), name, 5, keys=[0])
        assert result.isfinite().all()


@pytest.mark.parametrize("severity", [0, 6, -1, 2.5, 3.0, True, "3", None])
def test_other_severities_are_refused_with_the_choices(severity):
    with pytest.raises(ValueError, match="choose from 1, 2, 3, 4, 5"):
        run(pictures(), "noise", severity)


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown degradation 'rain': choose from darkness, overexposure, .*shift"):
        degrade(pictures(), "rain", 1, keys=KEYS)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 3, 8, 8, dtype=torch.uint8), r"floats of shape \(B, C, H, W\), got torch.uint8"),
        (torch.zeros(3, 8, 8), r"floats of shape .* of \(3, 8, 8\)"),
        (torch.full((3, 3, 8, 8), 114.0), "values from 114 to 114"),
        (torch.full((3, 3, 8, 8), math.nan), "nan"),
    ],
)
def test_images_that_are_no_floats_from_0_to_1_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        degrade(images, "shift", 1, keys=KEYS)


def test_arguments_that_do_not_belong_to_the_images_are_refused():
    images = pictures()
    with pytest.raises(ValueError, match="keys has 2 entries for 3 images"):
        degrade(images, "noise", 1, keys=KEYS[:2])
    with pytest.raises(ValueError, match="frozen_frame needs the images to freeze to as 'other'"):
        degrade(images, "frozen_frame", 1, keys=KEYS)
    with pytest.raises(ValueError, match="noise takes no 'other'"):
        degrade(images, "noise", 1, keys=KEYS, other=images)
    with pytest.raises(ValueError, match=r"other has the shape \(2, 3, 64, 80\)"):
        degrade(images, "frozen_frame", 1, keys=KEYS, other=images[:2])
    with pytest.raises(ValueError, match="areas has 1 entries"):
        degrade(images, "noise", 1, keys=KEYS, areas=[(0, 1, 0, 1)])
    with pytest.raises(ValueError, match=r"\(0, 65, 0, 80\) is not inside an image of 64 × 80 pixels"):
        degrade(images, "noise", 1, keys=KEYS, areas=[(0, 65, 0, 80)] * 3)


def test_every_degradation_says_whom_it_suits_and_has_five_levels():
    for degradation in DEGRADATIONS.values():
        assert degradation.suits in SUITS and len(degradation.levels) == 5 and degradation.parameter
        assert degradation.needs in (None, "generator", "other")
    rgb, thermal, rest = (set(degradations_for(sensor)) for sensor in SUITS)
    assert rgb | thermal == set(NAMES) and rgb & thermal == rest
    assert {"darkness", "fog", "glare", "overexposure"} == rgb - rest
    assert {"thermal_fog", "thermal_saturation", "thermal_crossover"} == thermal - rest
    with pytest.raises(ValueError, match="unknown sensor 'lidar': choose from rgb, thermal, any"):
        degradations_for("lidar")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_gives_what_the_processor_gives():
    images = pictures().half()
    for name in NAMES:
        result = run(images.cuda(), name, 4)
        assert result.is_cuda and result.dtype == torch.float16
        assert (result.cpu() - run(images, name, 4)).abs().max() <= 2**-9, name


# What each one claims to be


def test_darkness_halves_the_light_a_stop_with_the_noise_of_that_few_electrons():
    image = torch.full((3, 200, 200), 0.9)
    image[0] = 0.8  # so that it is not grey
    for stops in (2, 4):
        light = darkness(image, stops, generator())[1:].double() ** GAMMA * FULL_SCALE_ELECTRONS
        signal = 0.9**GAMMA * FULL_SCALE_ELECTRONS * 2.0**-stops
        assert light.mean().item() == pytest.approx(signal, rel=0.01)
        assert light.var().item() == pytest.approx(signal + READ_NOISE_ELECTRONS**2, rel=0.05)


def test_darkness_is_not_a_mere_factor_the_dark_parts_lose_more_of_their_signal_to_noise():
    image = torch.cat([torch.full((1, 100, 200), 0.9), torch.full((1, 100, 200), 0.3)], dim=1)
    light = darkness(image, 4, generator()) ** GAMMA
    bright, dark = light[:, :100], light[:, 100:]
    assert bright.mean() / bright.std() > 4 * dark.mean() / dark.std()


def test_overexposure_doubles_the_light_a_stop_and_cuts_off():
    image = torch.tensor([0.0, 0.2, 0.5, 0.9]).reshape(1, 1, 4)
    assert overexposure(image, 1) ** GAMMA == pytest.approx((2 * image**GAMMA).clamp(max=1), abs=1e-6)
    assert overexposure(image, 1)[0, 0, 3] == 1


@pytest.mark.parametrize("luminance", [17, 50])
def test_glare_saturates_a_disc_of_the_documented_radius_and_fades_with_the_square_of_the_distance(luminance):
    size = 300
    result = glare(torch.zeros(1, size, size), luminance, generator(0))  # a seed whose disc is inside
    white = (result[0] == 1).nonzero().double()
    unit = LAMP_RADIUS * size
    assert len(white) == pytest.approx(math.pi * unit**2 * (luminance - 1), rel=0.03)
    y, x = white.mean(0).round().int().tolist()
    far = 130 if y < size / 2 else -130
    assert result[0, y + far, x].item() ** GAMMA == pytest.approx(luminance / (1 + (130 / unit) ** 2), rel=0.03)


def test_glare_only_adds_light():
    image = pictures(1)[0]
    assert (glare(image, 5, generator()) >= image - 1e-6).all()


def test_fog_fades_the_contrast_by_its_transmission_more_at_the_top():
    image = torch.rand(3, 50, 60, generator=generator())
    light, result = image**GAMMA, fog(image, 3.0) ** GAMMA
    contrast = (result.amax((0, 2)) - result.amin((0, 2))) / (light.amax((0, 2)) - light.amin((0, 2)))
    assert contrast[0].item() == pytest.approx(math.exp(-3), rel=0.03)
    assert contrast[-1].item() == pytest.approx(math.exp(-3 * NEAREST_DISTANCE), rel=0.03)
    assert (contrast.diff() > 0).all()


def test_fog_takes_its_brightness_from_the_scene():
    day, night = torch.full((3, 20, 20), 0.5), torch.full((3, 20, 20), 0.1)
    for image in (day, night):
        light = fog(image, 50.0)[:, :5].mean() ** GAMMA
        assert light.item() == pytest.approx(3 * image.mean().item() ** GAMMA, rel=0.01)
    assert fog(torch.ones(3, 20, 20), 1.0).amax() == 1


def test_thermal_fog_moves_cold_and_warm_parts_towards_the_temperature_of_the_air():
    image = torch.full((1, 30, 30), 0.4)
    image[:, :, :5], image[:, :, 5:9] = 0.9, 0.1
    result = thermal_fog(image, 1.0)
    assert (result[:, :, 20] - 0.4).abs().max() < 1e-6
    for column, value in ((0, 0.9), (6, 0.1)):
        left = (result[0, :, column] - 0.4) / (value - 0.4)
        assert left[0].item() == pytest.approx(math.exp(-1), rel=0.02)
        assert left[-1].item() == pytest.approx(math.exp(-NEAREST_DISTANCE), rel=0.02)


def test_dense_fog_is_as_bad_for_both_sensors_and_light_fog_spares_the_thermal_one():
    visible, thermal = DEGRADATIONS["fog"].levels, DEGRADATIONS["thermal_fog"].levels
    assert thermal[0] < visible[0] / 2 and thermal[4] == visible[4]


@pytest.mark.parametrize("radius", [3, 4, 6])
def test_defocus_spreads_a_point_over_a_disc_of_the_documented_area(radius):
    image = torch.zeros(3, 41, 41)
    image[:, 20, 20] = 1
    result = defocus(image, radius)
    assert result.sum((1, 2)) == pytest.approx(torch.ones(3), rel=1e-5)
    assert 1 / result.amax().item() == pytest.approx(math.pi * radius**2, rel=0.1)
    assert result[0, 20, 20 + radius + 1] == 0 and result[0, 20, 20 + radius - 1] == result.amax()


@pytest.mark.parametrize("seed", range(4))
def test_motion_spreads_a_point_over_a_straight_line_of_the_documented_length(seed):
    image = torch.zeros(1, 61, 61)
    image[:, 30, 30] = 1
    result = motion_blur(image, 21, generator(seed))[0].double()
    assert result.sum().item() == pytest.approx(1, rel=1e-5)
    points = result.nonzero().double() - 30
    masses = result[result > 0]
    values, _ = torch.linalg.eigh((points * masses[:, None]).T @ points)
    # An even line of length n has the variance (n² − 1) / 12 along it.
    assert values[1].item() == pytest.approx((21**2 - 1) / 12, rel=0.1) and values[0] < 0.5


def test_a_flat_image_has_nothing_to_blur():
    image = torch.full((3, 30, 20), 0.37)
    for result in (defocus(image, 10), motion_blur(image, 30, generator()), thermal_crossover(image, -1)):
        assert result == pytest.approx(image, abs=1e-5)


def test_noise_has_the_documented_deviation():
    image = torch.full((1, 200, 200), 0.5)
    difference = noise(image, 0.12, generator()) - image
    assert difference.std().item() == pytest.approx(0.12, rel=0.02) and abs(difference.mean().item()) < 0.003


@pytest.mark.parametrize("function", [lambda i, g: noise(i, 0.1, g), lambda i, g: darkness(i, 2, g)])
def test_a_grey_image_keeps_equal_channels_and_a_coloured_one_gets_noise_in_each(function):
    grey = torch.rand(1, 20, 20, generator=generator()).expand(3, -1, -1)
    result = function(grey, generator())
    assert result == pytest.approx(result[:1].expand(3, -1, -1), abs=1e-6)
    tinted = torch.full((3, 20, 20), 0.5)
    tinted[2] = 0.4
    result = function(tinted, generator())
    assert (result[0] - result[1]).abs().mean() > 0.01


@pytest.mark.parametrize("severity", SEVERITIES)
def test_exactly_the_documented_share_of_rows_and_columns_is_dead(severity):
    share = DEGRADATIONS["dead_lines"].levels[severity - 1]
    images = torch.rand(2, 3, 100, 200, generator=generator()) * 0.9 + 0.1
    result = run(images, "dead_lines", severity, keys=[0, 1])
    for image, clean in zip(result, images, strict=True):
        rows, columns = (image == 0).all(2).all(0), (image == 0).all(1).all(0)
        assert rows.sum() == round(100 * share) and columns.sum() == round(200 * share)
        alive = ~rows[:, None] & ~columns
        assert image[:, alive].equal(clean[:, alive])


def test_lines_that_are_dead_stay_dead_as_severity_grows():
    image = torch.ones(1, 100, 100)
    few, many = (dead_lines(image, share, generator()) == 0 for share in (0.06, 0.25))
    assert (many | ~few).all()


@pytest.mark.parametrize("share", DEGRADATIONS["thermal_saturation"].levels)
def test_exactly_the_documented_share_of_pixels_saturates_and_they_are_the_warmest(share):
    image = torch.randperm(10000, generator=generator()).reshape(1, 100, 100).float() / 10000
    result = thermal_saturation(image, share)
    saturated = result == 1
    assert saturated.float().mean().item() == pytest.approx(share, abs=2e-4)
    assert image[saturated].min() > image[~saturated].max()


@pytest.mark.parametrize("share", DEGRADATIONS["thermal_saturation"].levels)
def test_what_is_colder_than_the_median_does_not_saturate_or_change(share):
    image = torch.rand(1, 90, 110, generator=generator()).double()
    result, median = thermal_saturation(image, share), image.median()
    assert torch.equal(result[image <= median], image[image <= median])
    warm = (image > median) & (result < 1)
    gains = (result[warm] - median) / (image[warm] - median)
    assert gains == pytest.approx(gains.median().expand_as(gains), rel=1e-3)
    assert gains.median() > 1


def test_the_noise_of_even_surroundings_is_no_heat():
    image = 0.4 + 0.01 * torch.randn(1, 100, 100, generator=generator())
    image[:, 50:55, 50:55] = 0.7  # 0.25 % of the pixels, fewer than are to saturate
    result = thermal_saturation(image, 0.02)
    assert (result[:, 50:55, 50:55] == 1).all()
    assert result[:, :40].std() < 4 * 0.01
    assert (result == 1).sum() == 25


def test_an_even_image_does_not_saturate():
    assert torch.equal(thermal_saturation(torch.full((1, 8, 8), 0.3), 0.05), torch.full((1, 8, 8), 0.3))


def test_mild_saturation_is_mild_and_every_severity_is_harsher():
    smooth = F.interpolate(torch.rand(4, 1, 6, 8, generator=generator()), (96, 128), mode="bicubic").clamp(0, 1)
    images = 0.2 + 0.7 * smooth**2
    change = [
        (run(images, "thermal_saturation", severity, keys=range(4)) - images).abs().mean().item()
        for severity in SEVERITIES
    ]
    assert change[0] < 0.04
    assert change == sorted(change) and change[4] > 2 * change[0]


def test_at_the_crossover_objects_vanish_and_then_turn_round():
    images = torch.full((1, 1, 120, 160), 0.4)
    images[..., 50:58, 70:76] = 0.8
    contrasts = []
    for severity in SEVERITIES:
        result = run(images, "thermal_crossover", severity, keys=[0])[0, 0]
        contrasts.append((result[50:58, 70:76].mean() - result[30:80, 50:60].mean()).item())
    assert 0.15 < contrasts[0] < 0.3 and 0 < contrasts[1] < contrasts[0]
    assert abs(contrasts[2]) < 0.1 * 0.4
    assert contrasts[3] < -0.1 and contrasts[4] < -0.3


def test_the_background_of_a_crossover_stays():
    image = torch.linspace(0.2, 0.8, 160).expand(1, 120, 160)
    result = thermal_crossover(image, -1)
    assert (result - image)[..., 40:120].abs().max() < 0.01


@pytest.mark.parametrize("size", [(120, 150), (243, 250)])
def test_the_background_of_a_crossover_is_a_gaussian_mean_of_the_documented_width(size):
    image = torch.zeros(1, *size)
    image[:, size[0] // 2, size[1] // 2] = 1
    mean = thermal_crossover(image, 0)[0].double()
    assert mean.sum().item() == pytest.approx(1, rel=0.02)
    columns = torch.arange(size[1]) - size[1] // 2
    spread = (mean.sum(0) * columns**2).sum().sqrt().item()
    assert spread == pytest.approx(BACKGROUND_SIGMA * min(size), rel=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_frozen_frame_shows_the_documented_share_of_rows_of_the_other_image(severity):
    images, other = pictures(size=(50, 40)), pictures(size=(50, 40), seed=1)
    result = run(images, "frozen_frame", severity, other=other)
    renewed = 50 - 10 * severity
    assert result[:, :, :renewed].equal(images[:, :, :renewed]) and result[:, :, renewed:].equal(other[:, :, renewed:])
    assert frozen_frame(images[0], 1, other[0]).equal(other[0])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_shift_moves_every_pixel_by_exactly_that_many_and_repeats_the_edge(severity):
    pixels = int(DEGRADATIONS["shift"].levels[severity - 1])
    images = torch.rand(30, 1, 70, 90, generator=generator())
    images[:, :, 35, 45] = 2  # found again by its value
    seen = set()
    for seed, image in enumerate(images):
        result = shift(image, pixels, generator(seed))
        row, column = place_of_the_peak(result)
        down, right = row - 35, column - 45
        seen.add((down, right))
        expected = F.pad(image[None], [pixels] * 4, mode="replicate")[0]
        top, left = pixels - down, pixels - right
        assert result.equal(expected[:, top : top + 70, left : left + 90])
    assert seen == {(pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)}


# Fills


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_fill_has_the_shape_and_dtype_of_the_images_and_nothing_of_their_content(channels, dtype):
    images, different = (pictures(channels=channels, seed=seed).to(dtype) for seed in (0, 1))
    mean = [0.25, 0.5, 0.75][:channels]
    for name in ("zero", "mean", "noise"):
        options = {"mean": mean, "keys": KEYS}
        result = fill(images, name, **options)
        assert result.shape == images.shape and result.dtype == dtype
        assert result.equal(fill(different, name, **options))
        assert result.amin() >= 0 and result.amax() <= 1
    assert fill(images, "zero").eq(0).all()
    assert fill(images, "mean", mean=torch.tensor(mean))[1, :, 3, 4].tolist() == mean


def test_noise_as_a_fill_follows_the_keys_and_is_uniform():
    images = torch.zeros(3, 3, 100, 100)
    result = fill(images, "noise", keys=KEYS)
    assert result[[2, 0]].equal(fill(images[:2], "noise", keys=[KEYS[2], KEYS[0]]))
    assert not result[0].equal(result[1])
    assert fill(images, "noise", keys=[0, 0, 0])[2].equal(fill(images, "noise", keys=[1, 0, 1])[1])
    assert not result.equal(fill(images, "noise", keys=KEYS, seed=1))
    assert result.mean().item() == pytest.approx(0.5, abs=0.01)
    assert result.var().item() == pytest.approx(1 / 12, rel=0.03)


def test_a_filled_tensor_can_be_written_to():
    images = torch.zeros(2, 3, 4, 4)
    result = fill(images, "mean", mean=[0.1, 0.2, 0.3])
    result[0] += 0.5
    assert result[1, 0, 0, 0].item() == pytest.approx(0.1)


def test_fills_that_lack_something_are_refused():
    images = pictures()
    with pytest.raises(ValueError, match="unknown fill 'median': choose from zero, mean, noise"):
        fill(images, "median")
    with pytest.raises(ValueError, match="one mean for each of the 3 channels, got none"):
        fill(images, "mean")
    with pytest.raises(ValueError, match="one mean for each of the 3 channels, got 1"):
        fill(images, "mean", mean=[0.5])
    with pytest.raises(ValueError, match="keys has 0 entries for 3 images"):
        fill(images, "noise")
