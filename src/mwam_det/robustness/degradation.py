"""Images of degraded sensors in five severities, and replacement values for a missing sensor.

`degrade` applies any degradation of `DEGRADATIONS`, which states for each the function, the physical parameter behind
the severities 1 to 5 with its five values, and the sensor it suits. The functions of a single image take that parameter
itself. Randomness depends on the key of an image alone, not on its batch, the device, the precision or the severity: a
curve over severities shows the same noise, the same position of a lamp, the same direction, growing stronger.

Lengths in pixels refer to the images as given; other lengths are relative to the shorter side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SEVERITIES = (1, 2, 3, 4, 5)
SUITS = ("rgb", "thermal", "any")
FILLS = ("zero", "mean", "noise")

GAMMA = 2.2
"""Cameras encode light by about this power; exposure, stray light and fog act on light, not on the encoded values."""

FULL_SCALE_ELECTRONS = 2000.0
"""Electrons at the largest value of a small sensor at high gain, as cameras use it in the dark."""

READ_NOISE_ELECTRONS = 3.0
"""Standard deviation of the read noise of such a sensor."""

LAMP_RADIUS = 0.02
"""Distance at which the stray light of a lamp falls to half its peak, relative to the shorter side of the image."""

MEAN_ALBEDO = 1 / 3
"""Mean share of light that a scene reflects, to estimate the brightness of fog from an image."""

NEAREST_DISTANCE = 0.4
"""Distance at the bottom row where no depth is known, in units of the distance at the top row."""

BACKGROUND_SIGMA = 1 / 12
"""Standard deviation of the Gaussian that separates objects from background, relative to the shorter side."""

HOTTEST = 4.0
"""Maximum factor by which saturation multiplies the difference of warm parts from their surroundings."""

GREY_TOLERANCE = 8 / 255
"""An image whose channels differ by at most this much is grey: one sensor element per pixel (JPEG adds a little)."""


def darkness(image: Tensor, stops: float, generator: torch.Generator) -> Tensor:
    """Reduce the exposure of an image, with the shot and read noise of the few electrons that are left.

    The variance of the noise, in electrons, is the signal plus the square of the read noise (the linear camera model of
    EMVA standard 1288), drawn as a Gaussian. The camera does not brighten the image afterwards.

    Args:
        image: Shape (C, H, W), float in [0, 1], gamma-encoded.
        stops: How many times the exposure is halved.
        generator: Source of the noise, on the CPU.

    Returns:
        Shape and dtype of `image`.
    """
    electrons = image.pow(GAMMA) * (FULL_SCALE_ELECTRONS * 2.0**-stops)
    noise = _normal(image, generator) * (electrons + READ_NOISE_ELECTRONS**2).sqrt()
    return _encode((electrons + noise) / FULL_SCALE_ELECTRONS)


def overexposure(image: Tensor, stops: float) -> Tensor:
    """Double the exposure of an image (C, H, W) `stops` times; values beyond the sensor's range are clipped."""
    return _encode(image.pow(GAMMA) * 2.0**stops)


def glare(image: Tensor, luminance: float, generator: torch.Generator) -> Tensor:
    """Add a lamp that shines into the lens, anywhere in the image.

    Its stray light is added to the light of the scene and falls with the inverse square of the distance from the lamp,
    as glare in the eye does (Stiles–Holladay): L / (1 + (r / R)²). All is white up to r = R √(L − 1).

    Args:
        image: Shape (C, H, W), float in [0, 1], gamma-encoded.
        luminance: L at the lamp, in multiples of the sensor's saturation.
        generator: Draws the position of the lamp, on the CPU.

    Returns:
        Shape and dtype of `image`.
    """
    height, width = image.shape[-2:]
    y, x = torch.rand(2, generator=generator).mul(torch.tensor([height, width])).tolist()
    rows, columns = _positions(height, image) + 0.5 - y, _positions(width, image) + 0.5 - x
    squares = (rows[:, None] ** 2 + columns**2) / (LAMP_RADIUS * min(height, width)) ** 2
    return _encode(image.pow(GAMMA) + luminance / (1 + squares))


def fog(image: Tensor, optical_depth: float) -> Tensor:
    """Add fog as a camera for visible light sees it: I t + A (1 − t) with t = exp(−β d) (Koschmieder).

    Depth is not known. Instead, the distance d grows linearly from the bottom row to the top row, as on a road seen
    from a vehicle; in aerial views that is merely a gradient. A is grey: the light that a white scene would reflect, so
    that fog is dark at night. I and A are light, not encoded values.

    Args:
        image: Shape (C, H, W), float in [0, 1], gamma-encoded.
        optical_depth: β d at the top row; 3.0 is the limit of visibility (5 % of contrast left).

    Returns:
        Shape and dtype of `image`.
    """
    light = image.pow(GAMMA)
    return _encode(_veil(light, (light.mean() / MEAN_ALBEDO).clamp(max=1), optical_depth))


def thermal_fog(image: Tensor, optical_depth: float) -> Tensor:
    """Add fog as a thermal camera sees it.

    Long-wave infrared contains hardly any scattered daylight. Instead, droplets absorb and emit at the temperature of
    the air, estimated by the median: cold and warm parts alike move towards it. Distances are as in `fog`.

    Args:
        image: Shape (C, H, W), float in [0, 1], linear.
        optical_depth: β d at the top row, for long-wave infrared.

    Returns:
        Shape and dtype of `image`.
    """
    return _veil(image, image.median(), optical_depth)


def defocus(image: Tensor, radius: float) -> Tensor:
    """Blur an image (C, H, W) with a uniform disc of `radius` pixels; edges are replicated."""
    steps = _positions(2 * math.ceil(radius) + 1, image) - math.ceil(radius)
    distances = (steps[:, None] ** 2 + steps**2).sqrt()
    return _filter(image, (radius + 0.5 - distances).clamp(0, 1))


def motion_blur(image: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Blur an image (C, H, W) along a straight line of `length` pixels in a random direction."""
    angle = math.pi * torch.rand(1, generator=generator).item()
    reach = math.ceil(length / 2)
    steps = _positions(2 * reach + 1, image) - reach
    along = math.cos(angle) * steps + math.sin(angle) * steps[:, None]
    across = math.cos(angle) * steps[:, None] - math.sin(angle) * steps
    return _filter(image, (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(min=0))


def noise(image: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to an image (C, H, W); the same noise in all channels of a grey image."""
    return image + deviation * _normal(image, generator)


def dead_lines(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set a share of the rows and of the columns of an image (C, H, W), at least one of each, to 0."""
    image = image.clone()
    for dim in (-2, -1):
        size = image.shape[dim]
        dead = torch.randperm(size, generator=generator)[: max(1, round(share * size))]
        image.index_fill_(dim, dead.to(image.device), 0)
    return image


def thermal_saturation(image: Tensor, share: float) -> Tensor:
    """Heat the warm parts of a scene beyond the range of a thermal camera: the warmest share of the pixels is white.

    A microbolometer is linear up to the end of its range and flat beyond it, so parts that are not heated stay the
    same. The median represents the surroundings: the difference of everything warmer is multiplied, by at most
    `HOTTEST`, so that the share reaches the end of the range. Where the surroundings are even and the warm parts are
    smaller than the share, the limit keeps noise from being taken for heat, and fewer pixels saturate.

    Args:
        image: Shape (C, H, W), float in [0, 1], linear.
        share: Share of pixels that saturate; more if many are exactly equally warm.

    Returns:
        Shape and dtype of `image`.
    """
    warmth = image.mean(0)
    surroundings = warmth.median()
    span = (warmth.quantile(1 - share) - surroundings).clamp(min=torch.finfo(image.dtype).tiny)
    heated = surroundings + ((1 - surroundings) / span).clamp(max=HOTTEST) * (image - surroundings)
    return torch.where(image > surroundings, heated, image).clamp(0, 1)


def thermal_crossover(image: Tensor, contrast: float) -> Tensor:
    """Reduce and invert the contrast between objects and background of a thermal image, as at dusk and dawn.

    The background is a Gaussian mean with a standard deviation of a twelfth of the shorter side, so no boxes are
    needed; much larger objects keep their inside and lose their edges.

    Args:
        image: Shape (C, H, W), float in [0, 1], linear.
        contrast: Factor of the difference from the background: 1 keeps, 0 removes, −1 inverts it.

    Returns:
        Shape and dtype of `image`.
    """
    background = _smooth(image, BACKGROUND_SIGMA * min(image.shape[-2:]))
    return background + contrast * (image - background)


def frozen_frame(image: Tensor, share: float, other: Tensor) -> Tensor:
    """Take the lower share of rows of an image (C, H, W) from `other`, an earlier frame: the readout stopped there."""
    kept = image.shape[-2] - round(share * image.shape[-2])
    return torch.cat([image[..., :kept, :], other[..., kept:, :]], dim=-2)


def shift(image: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Shift an image (C, H, W) by whole pixels left, right, up or down at random; the edge is replicated."""
    direction = int(torch.randint(4, (1,), generator=generator))
    dim, step = -1 - direction // 2, pixels if direction % 2 else -pixels
    size = image.shape[dim]
    sources = (torch.arange(size, device=image.device) - step).clamp(0, size - 1)
    return image.index_select(dim, sources)


@dataclass(frozen=True)
class Degradation:
    """A degradation in five severities.

    Attributes:
        function: Degrades one image: function(image, level, …), see `needs`.
        levels: The physical parameter at severity 1 to 5.
        parameter: Name of that parameter, with its unit.
        suits: The sensor that it affects: "rgb", "thermal" or "any".
        source: Where the levels come from.
        needs: The further argument of `function`: "generator", "other" or None.
    """

    function: Callable[..., Tensor]
    levels: tuple[float, float, float, float, float]
    parameter: str
    suits: str
    source: str = "own choice"
    needs: str | None = None


_HENDRYCKS = "Hendrycks and Dietterich 2019 (ImageNet-C), used for detection by Michaelis et al. 2019"

DEGRADATIONS: dict[str, Degradation] = {
    "darkness": Degradation(
        darkness, (2, 3, 4, 5, 6), "exposure lost, stops", "rgb", "own choice, noise as in EMVA 1288", "generator"
    ),
    "overexposure": Degradation(overexposure, (1, 1.75, 2.5, 3.25, 4), "exposure gained, stops", "rgb"),
    "glare": Degradation(
        glare, (5, 17, 50, 120, 257), "luminance of the lamp, multiples of saturation", "rgb", needs="generator"
    ),
    "fog": Degradation(fog, (0.3, 0.6, 1, 1.7, 3), "optical depth at the top row, visible light", "rgb"),
    "thermal_fog": Degradation(
        thermal_fog,
        (0.05, 0.2, 0.5, 1.7, 3),
        "optical depth at the top row, long-wave infrared",
        "thermal",
        "the weather of fog at the same severity: light fog absorbs long waves less than light, dense fog as much",
    ),
    "thermal_saturation": Degradation(
        thermal_saturation,
        (0.002, 0.005, 0.02, 0.05, 0.15),
        "share of pixels beyond the range",
        "thermal",
        "own choice: gain control cuts off less than 1 % as FLIR recommends (Tau 2, Camera Adjustments, 2014)",
    ),
    "thermal_crossover": Degradation(
        thermal_crossover, (0.5, 0.25, 0, -0.5, -1), "contrast left between object and background", "thermal"
    ),
    "defocus": Degradation(defocus, (3, 4, 6, 8, 10), "radius of the blur disc, pixels", "any", _HENDRYCKS),
    "motion_blur": Degradation(
        motion_blur, (6, 10, 15, 20, 30), "length of the movement, pixels", "any", needs="generator"
    ),
    "noise": Degradation(
        noise, (0.08, 0.12, 0.18, 0.26, 0.38), "standard deviation, of a range of 1", "any", _HENDRYCKS, "generator"
    ),
    "dead_lines": Degradation(
        dead_lines, (0.01, 0.03, 0.06, 0.12, 0.25), "share of dead rows, and of dead columns", "any", needs="generator"
    ),
    "frozen_frame": Degradation(
        frozen_frame, (0.2, 0.4, 0.6, 0.8, 1), "share of the rows that come from an earlier frame", "any", needs="other"
    ),
    "shift": Degradation(shift, (2, 4, 8, 16, 32), "displacement, pixels", "any", needs="generator"),
}
"""All degradations by name. The worst severity for a detector need not be 5: cross-over hides objects at 3."""


def degradations_for(sensor: str) -> list[str]:
    """List the names of the degradations that suit a sensor.

    Args:
        sensor: "rgb", "thermal" or, for others such as depth, "any".

    Raises:
        ValueError: If the sensor is unknown.
    """
    _check_choice(sensor, "sensor", SUITS)
    return [name for name, degradation in DEGRADATIONS.items() if degradation.suits in ("any", sensor)]


def degrade(
    images: Tensor,
    name: str,
    severity: int,
    *,
    keys: Sequence[int | str],
    other: Tensor | None = None,
    areas: Sequence[tuple[int, int, int, int]] | None = None,
    seed: int = 0,
) -> Tensor:
    """Degrade the images of one modality, each independently of the others.

    Args:
        images: Shape (B, C, H, W), float in [0, 1].
        name: One of `DEGRADATIONS`. It need not suit the modality.
        severity: 1 to 5.
        keys: A unique key of each image in the dataset: its index or the path of its file. All randomness follows from
            the key, `name` and `seed`.
        other: For frozen_frame only: the frame that each image is frozen to, shape of `images`; normally the previous
            image of the split, and for the first one the last.
        areas: The area of each image that the sensor captured, as (top, bottom, left, right) in pixels. The rest, such
            as the border of a letterbox, is unchanged. The whole image if left out.
        seed: Another seed draws other noise, positions or directions for the same keys.

    Returns:
        New tensor in [0, 1], with the shape, dtype and device of `images`.

    Raises:
        ValueError: If the name or severity is unknown, `images` are not floats in [0, 1], `keys` or `areas` do not
            match `images`, or `other` is missing, superfluous or of another shape.
    """
    _check_images(images)
    _check_choice(name, "degradation", DEGRADATIONS)
    if isinstance(severity, bool) or not isinstance(severity, int) or severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}: choose from {', '.join(map(str, SEVERITIES))}")
    _check_length(keys, "keys", images)
    degradation, level = DEGRADATIONS[name], DEGRADATIONS[name].levels[severity - 1]
    if (degradation.needs == "other") != (other is not None):
        problem = "needs the images to freeze to as 'other'" if other is None else "takes no 'other' images"
        raise ValueError(f"{name} {problem}")
    if other is not None and other.shape != images.shape:
        raise ValueError(f"other has the shape {tuple(other.shape)}, the images have {tuple(images.shape)}")
    if areas is not None:
        _check_areas(areas, images)

    degraded = images.clone()
    # Some processors have no convolution in half precision, and 11 bits are too few for linear light.
    dtype = torch.promote_types(images.dtype, torch.float32)
    for index, key in enumerate(keys):
        top, bottom, left, right = areas[index] if areas is not None else (0, images.shape[-2], 0, images.shape[-1])
        area = (index, slice(None), slice(top, bottom), slice(left, right))
        extra: dict[str, Tensor | torch.Generator] = {}
        if degradation.needs == "generator":
            extra["generator"] = _generator(name, key, seed)
        elif other is not None:
            extra["other"] = other[area].to(images.device, dtype)
        image = images[area].to(dtype).contiguous()  # the last digit may depend on the memory layout
        degraded[area] = degradation.function(image, level, **extra).clamp(0, 1).to(images.dtype)
    return degraded


def fill(
    images: Tensor,
    name: str,
    *,
    mean: Sequence[float] | Tensor | None = None,
    keys: Sequence[int | str] | None = None,
    seed: int = 0,
) -> Tensor:
    """Return the input of a detector in place of a missing modality, without using the content of its images.

    Args:
        images: The missing modality, shape (B, C, H, W), float; determines shape, dtype and device.
        name: "zero"; "mean", one value per channel; or "noise", every value uniform in [0, 1].
        mean: For "mean": the mean of each channel over a set of images, shape (C,), in [0, 1] (a report takes the split
            that it evaluates); not that of the image, which a missing sensor does not deliver.
        keys: For "noise": as in `degrade`. Images with equal keys get equal noise.
        seed: As in `degrade`.

    Returns:
        New tensor with the shape, dtype and device of `images`.

    Raises:
        ValueError: If the name is unknown or `mean` or `keys` is missing or of the wrong length.
    """
    _check_choice(name, "fill", FILLS)
    if name == "mean":
        if mean is None or len(mean) != images.shape[1]:
            given = "none" if mean is None else len(mean)
            raise ValueError(f"the fill 'mean' needs one mean for each of the {images.shape[1]} channels, got {given}")
        values = torch.as_tensor(mean, dtype=images.dtype, device=images.device)
        return values[None, :, None, None].expand_as(images).clone()
    filled = torch.zeros_like(images)
    if name == "noise":
        keys = () if keys is None else keys
        _check_length(keys, "keys", images)
        for index, key in enumerate(keys):
            filled[index] = torch.rand(images.shape[1:], generator=_generator("fill", key, seed)).to(images)
    return filled


def _generator(name: str, key: int | str, seed: int) -> torch.Generator:
    """Return a generator on the CPU for one image; its state is the same in every process and on every machine."""
    digest = hashlib.sha256(f"{seed}/{name}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _normal(image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal noise for an image, shape (C, H, W), or (1, H, W) if the image is grey."""
    grey = bool((image.amax(0) - image.amin(0) <= GREY_TOLERANCE).all())
    return torch.randn((1 if grey else image.shape[0], *image.shape[1:]), generator=generator).to(image)


def _encode(light: Tensor) -> Tensor:
    """Gamma-encode light, clipped to [0, 1]."""
    return light.clamp(0, 1).pow(1 / GAMMA)


def _veil(image: Tensor, air: Tensor, optical_depth: float) -> Tensor:
    """Blend an image with the air in front of it, more strongly towards the top row."""
    height = image.shape[-2]
    above_bottom = 1 - (_positions(height, image) + 0.5) / height
    distances = NEAREST_DISTANCE + (1 - NEAREST_DISTANCE) * above_bottom
    transmission = (-optical_depth * distances).exp()[:, None]
    return image * transmission + air * (1 - transmission)


def _positions(size: int, image: Tensor) -> Tensor:
    return torch.arange(size, dtype=image.dtype, device=image.device)


def _filter(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of an image (C, H, W) with a kernel of odd sides, scaled to a sum of 1."""
    height, width = kernel.shape
    padded = F.pad(image[None], (width // 2, width // 2, height // 2, height // 2), mode="replicate")
    channels = len(image)
    return F.conv2d(padded, (kernel / kernel.sum()).expand(channels, 1, height, width), groups=channels)[0]


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (C, H, W) with a Gaussian; a wide one is computed on a smaller copy, as no detail remains."""
    height, width = image.shape[-2:]
    factor = max(1, int(sigma / 3))
    padded = F.pad(image[None], (0, -width % factor, 0, -height % factor), mode="replicate")
    small = F.avg_pool2d(padded, factor)[0]
    reach = math.ceil(3 * sigma / factor)
    kernel = (-0.5 * ((_positions(2 * reach + 1, image) - reach) * factor / sigma) ** 2).exp()
    small = _filter(_filter(small, kernel[:, None]), kernel[None])
    return F.interpolate(small[None], padded.shape[-2:], mode="bilinear", align_corners=False)[0, :, :height, :width]


def _check_choice(name: str, what: str, choices: Sequence[str] | dict[str, Degradation]) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}: choose from {', '.join(choices)}")


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (B, C, H, W), got {images.dtype} of {tuple(images.shape)}")
    if images.numel() and not (images.amin() >= 0 and images.amax() <= 1):  # NaN fails as well
        raise ValueError(f"images must be in [0, 1], got values from {images.amin():g} to {images.amax():g}")


def _check_length(values: Sequence[object], what: str, images: Tensor) -> None:
    if len(values) != len(images):
        raise ValueError(f"{what} has {len(values)} entries for {len(images)} images")


def _check_areas(areas: Sequence[tuple[int, int, int, int]], images: Tensor) -> None:
    _check_length(areas, "areas", images)
    height, width = images.shape[-2:]
    for top, bottom, left, right in areas:
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            area = f"(top, bottom, left, right) = {(top, bottom, left, right)}"
            raise ValueError(f"areas: {area} is not inside an image of {height} × {width} pixels")
